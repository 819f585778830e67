"""Small random checkpoints of the architectures that rewards read texts with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers.models import WordLevel, WordPiece
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    GPT2Config,
    PreTrainedTokenizerFast,
    RobertaConfig,
    T5Config,
    XLNetConfig,
)

torch.set_num_threads(1)

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "<eos>"]
WORDS = ["the", "a", "cat", "dog", "mat", "sat", "ran", "on", "good", "bad", "very", "not", "movie"]
WORDS += ["was", "it", "!", ".", ",", "film", "great"]
VOCABULARY = [*SPECIAL, *WORDS, "##s", "##ing", "##ly"]
SEP = VOCABULARY.index("[SEP]")
EOS = VOCABULARY.index("<eos>")
CONTEXT = 16


def write_tokenizer(folder: Path, kind: str, **options: Any) -> None:
    table = {word: at for at, word in enumerate(VOCABULARY)}
    if kind == "gpt2":  # No padding token, and nothing around a text.
        backend = tokenizers.Tokenizer(WordLevel(table, unk_token="[UNK]"))
        names = {"unk_token": "[UNK]", "eos_token": "<eos>", "bos_token": "<eos>"}
    else:
        backend = tokenizers.Tokenizer(WordPiece(table, unk_token="[UNK]"))
        backend.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", VOCABULARY.index("[CLS]")), ("[SEP]", SEP)],
        )
        names = {
            "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]",
        }  # fmt: skip
        if kind == "bert":
            options = {
                "model_input_names": ["input_ids", "token_type_ids", "attention_mask"], **options
            }  # fmt: skip
    backend.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=backend, **names, **options).save_pretrained(folder)


def config_of(kind: str, **options: Any) -> Any:
    """Weights are drawn far apart, so that a wrong token changes the result visibly."""
    common = {"vocab_size": len(VOCABULARY), "initializer_range": 0.5, **options}
    encoder = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 24, "pad_token_id": 0, **common,
    }  # fmt: skip
    if kind == "bert":
        return BertConfig(max_position_embeddings=CONTEXT, **encoder)
    if kind == "roberta":  # Its positions begin at 1 + the padding token.
        return RobertaConfig(max_position_embeddings=CONTEXT + 1, **encoder)
    if kind == "xlnet":
        return XLNetConfig(d_model=16, n_layer=2, n_head=2, d_inner=24, pad_token_id=0, **common)
    if kind == "t5":
        return T5Config(
            d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, pad_token_id=0,
            eos_token_id=EOS, decoder_start_token_id=0, **common,
        )  # fmt: skip
    common = {"n_positions": CONTEXT, "bos_token_id": EOS, "eos_token_id": EOS, **common}
    return GPT2Config(n_embd=16, n_layer=2, n_head=2, **common)


HEADS = {
    "body": AutoModel,
    "lm": AutoModelForCausalLM,
    "classes": AutoModelForSequenceClassification,
}


def write(folder: Path, kind: str, head: str, tokenizer: dict[str, Any] | None = None, **options):
    """Write a checkpoint; returns its folder."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = HEADS[head].from_config(config_of(kind, **options))
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    write_tokenizer(folder, kind, **(tokenizer or {}))
    return str(folder)

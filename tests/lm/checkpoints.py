"""Small random checkpoints of several architectures, written with plain transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BartConfig,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    Mamba2Config,
    MambaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    T5Config,
)

from textgym.lm.lstm import LSTMConfig

WORDS = [f"w{index}" for index in range(22)] + ["<eos>"]
EOS = len(WORDS) - 1
BOS = EOS - 1
CONTEXT = 32
ENCODER_DECODERS = ["t5", "bart"]
# What the tokenizers of encoder-decoders put around a prompt, as T5's and BART's do.
TEMPLATES = {"t5": "$A <eos>", "bart": f"{WORDS[BOS]} $A <eos>"}


def config_of(kind: str, vocab_size: int = len(WORDS)) -> Any:
    """Weights are drawn far apart, so that a wrong position or key changes the logits visibly."""
    common = {
        "vocab_size": vocab_size,
        "bos_token_id": EOS,
        "eos_token_id": EOS,
        "initializer_range": 0.25,
    }
    rope = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": CONTEXT,
        **common,
    }
    if kind == "gpt2":
        return GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=CONTEXT, **common)
    if kind == "llama":
        return LlamaConfig(num_key_value_heads=4, **rope)
    if kind == "grouped":
        return LlamaConfig(num_key_value_heads=2, tie_word_embeddings=True, **rope)
    if kind == "sliding":
        return MistralConfig(num_key_value_heads=2, sliding_window=4, **rope)
    if kind == "qwen":
        return Qwen2Config(num_key_value_heads=2, **rope)
    if kind == "alternating":
        # Every other layer attends within a window.
        layers = ["sliding_attention", "full_attention"]
        return Gemma2Config(
            num_key_value_heads=2, head_dim=8, sliding_window=4, layer_types=layers, **rope
        )
    recurrent = {"hidden_size": 32, "num_hidden_layers": 2, **common}
    if kind == "mamba":
        return MambaConfig(state_size=4, **recurrent)
    if kind == "mamba2":
        # Chunks that are shorter than the texts.
        return Mamba2Config(
            state_size=4, num_heads=4, head_dim=16, n_groups=2, chunk_size=4, **recurrent
        )
    if kind == "lstm":
        return LSTMConfig(**recurrent)
    if kind == "t5":
        # Distances beyond the largest bucket.
        return T5Config(
            d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
            relative_attention_num_buckets=6, relative_attention_max_distance=8,
            decoder_start_token_id=0, **common,
        )  # fmt: skip
    if kind == "bart":
        return BartConfig(
            d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
            decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, init_std=0.25,
            max_position_embeddings=CONTEXT, decoder_start_token_id=EOS, pad_token_id=1,
            forced_eos_token_id=None, **common,
        )  # fmt: skip
    raise ValueError(kind)


def write_tokenizer(
    folder: Path, words: list[str] | None = None, template: str | None = None
) -> None:
    words = WORDS if words is None else words
    backend = tokenizers.Tokenizer(WordLevel({word: at for at, word in enumerate(words)}))
    backend.pre_tokenizer = WhitespaceSplit()
    if template is not None:
        special = [(word, at) for at, word in enumerate(words) if word in template.split()]
        backend.post_processor = TemplateProcessing(single=template, special_tokens=special)
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>").save_pretrained(folder)


def write_checkpoint(
    folder: Path, kind: str = "gpt2", seed: int = 0, vocab_size: int = len(WORDS)
) -> str:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = config_of(kind, vocab_size)
        seq2seq = config.is_encoder_decoder
        model = (AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM).from_config(config)
    model.save_pretrained(folder)
    write_tokenizer(folder, template=TEMPLATES.get(kind))
    return str(folder)


def write_good_bad(folder: Path) -> str:
    """A random model of the closed vocabulary of GoodBad: two words, and no special token."""
    config = GPT2Config(
        vocab_size=2, n_embd=16, n_layer=1, n_head=2, n_positions=4, bos_token_id=0,
        eos_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    backend = tokenizers.Tokenizer(WordLevel({"good": 0, "bad": 1}))
    backend.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(folder)
    return str(folder)

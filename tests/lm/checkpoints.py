"""Small random checkpoints of several architectures, written with plain transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    T5Config,
    T5ForConditionalGeneration,
)

WORDS = [f"w{index}" for index in range(22)] + ["<eos>"]
EOS = len(WORDS) - 1
CONTEXT = 32


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
    raise ValueError(kind)


def write_tokenizer(folder: Path, words: list[str] | None = None) -> None:
    words = WORDS if words is None else words
    backend = tokenizers.Tokenizer(WordLevel({word: at for at, word in enumerate(words)}))
    backend.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>").save_pretrained(folder)


def write_checkpoint(
    folder: Path, kind: str = "gpt2", seed: int = 0, vocab_size: int = len(WORDS)
) -> str:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config_of(kind, vocab_size))
    model.save_pretrained(folder)
    write_tokenizer(folder)
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


def write_encoder_decoder(folder: Path) -> str:
    config = T5Config(vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    write_tokenizer(folder)
    return str(folder)

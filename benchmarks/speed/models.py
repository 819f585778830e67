"""Random models, their tokenizer, and prompts, shared by all sides."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tokenizers
import torch
from stable_baselines3.common.vec_env import VecEnv
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedTokenizerFast

from textgym.lm.loading.files import no_progress_bars
from textgym.sb3 import make_vec_env

PROMPT_TOKENS = 16


@dataclass(frozen=True)
class Shape:
    """The sizes of a model."""

    kind: Literal["gpt2", "llama"]
    layers: int
    width: int
    heads: int
    vocabulary: int
    context: int = 1024

    def __str__(self) -> str:
        kind = {"gpt2": "GPT-2", "llama": "Llama"}[self.kind]
        return f"{kind} {self.layers} x {self.width}, V={self.vocabulary:,}"

    @property
    def eos(self) -> int:
        """The last token of the vocabulary."""
        return self.vocabulary - 1

    @cached_property
    def config(self) -> Any:
        """The transformers configuration, without dropout."""
        ends: dict[str, Any] = {"bos_token_id": self.eos, "eos_token_id": self.eos}
        if self.kind == "gpt2":
            return GPT2Config(
                vocab_size=self.vocabulary,
                n_positions=self.context,
                n_embd=self.width,
                n_layer=self.layers,
                n_head=self.heads,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                **ends,
            )
        return LlamaConfig(
            vocab_size=self.vocabulary,
            max_position_embeddings=self.context,
            hidden_size=self.width,
            # Three matrices of 8/3 the width are as many weights as GPT-2's two of 4 times.
            intermediate_size=self.width * 8 // 3,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            tie_word_embeddings=True,
            **ends,
        )


TINY = Shape("gpt2", 2, 32, 2, 64, 64)
TINY_LLAMA = Shape("llama", 2, 32, 2, 64, 64)
SMALL = Shape("gpt2", 4, 256, 4, 2048)
SMALL_LLAMA = Shape("llama", 4, 256, 4, 2048)
SMALL_WIDE = Shape("gpt2", 4, 256, 4, 50_257)
GPT2_124M = Shape("gpt2", 12, 768, 12, 50_257)


def write_model(folder: Path, shape: Shape, seed: int, dtype: torch.dtype = torch.float32) -> str:
    """Write a checkpoint of random weights with a tokenizer of as many words; returns its path.

    Like GPT-2's, the tokenizer decodes context-free (``ByteLevel``). A word ends in ";", so that no
    word is part of another and each can be a stop string.
    """
    path = folder / f"{shape.kind}-{shape.layers}x{shape.width}-{shape.vocabulary}-{seed}-{dtype}"
    if path.is_dir():
        return str(path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = AutoModelForCausalLM.from_config(shape.config, dtype=dtype)  # type: ignore[no-untyped-call]
    words = {f"w{index};": index for index in range(shape.eos)} | {"<eos>": shape.eos}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<eos>"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    backend.decoder = tokenizers.decoders.ByteLevel()
    with no_progress_bars():
        model.save_pretrained(path)
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<eos>")  # type: ignore[no-untyped-call]
    fast.save_pretrained(path)
    return str(path)


@dataclass(frozen=True)
class Case:
    """Sizes of a batch.

    Attributes:
        shape: The model.
        rows: Texts side by side.
        tokens: Budget of new tokens.
        ragged: Episodes end early, at a geometric length with a mean of half the budget (before the
            cut at the budget): some words of the vocabulary end a text, as a full stop or eos does.
            Prompts are of 4 to 16 tokens then, and else of 16.
    """

    shape: Shape
    rows: int
    tokens: int
    ragged: bool = False

    def __str__(self) -> str:
        kind = "ragged" if self.ragged else "fixed"
        return f"{self.shape}; {self.rows} x {self.tokens}, {kind}"

    @property
    def width(self) -> int:
        """Longest text in tokens."""
        return PROMPT_TOKENS + self.tokens

    @property
    def stops(self) -> list[int]:
        """The tokens that end a text."""
        if not self.ragged:
            return []
        return list(range(max(1, round(2 * self.shape.vocabulary / self.tokens))))

    def prompts(self, seed: int, count: int = 256) -> list[list[int]]:
        """Random prompts as token ids."""
        rng = np.random.default_rng(seed)
        shortest = 4 if self.ragged else PROMPT_TOKENS
        lengths = rng.integers(shortest, PROMPT_TOKENS + 1, count)
        return [rng.integers(0, self.shape.eos, length).tolist() for length in lengths]


def spell(prompt: list[int]) -> str:
    """The text of a prompt."""
    return " ".join(f"w{index};" for index in prompt)


def text_length(completions: list[str]) -> list[float]:
    """A reward with nearly no cost."""
    return [float(len(text)) for text in completions]


def environment(case: Case, lm: str, seed: int) -> VecEnv:
    """The text environment of a case."""
    return make_vec_env(
        "TextGen-v0",
        n_envs=case.rows,
        seed=seed,
        prompts=[spell(prompt) for prompt in case.prompts(seed)],
        reward=text_length,
        tokenizer=lm,
        max_prompt_tokens=PROMPT_TOKENS,
        max_new_tokens=case.tokens,
        stop=[f"w{index};" for index in case.stops],
        stop_at_eos=case.ragged,
    )

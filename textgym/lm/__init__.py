"""Language models: loading, decoding with a KV cache, sampling, and scoring of whole sequences.

* :mod:`~textgym.lm.model`: `LanguageModel`, body and head of a transformers model;
  :mod:`~textgym.lm.loading` reads its files; :mod:`~textgym.lm.architectures` has what differs
  between architectures; :mod:`~textgym.lm.seq2seq`, :mod:`~textgym.lm.lstm` and
  :mod:`~textgym.lm.pictures` are special kinds.
* :mod:`~textgym.lm.decoding`: the KV cache; a cache for a new architecture goes there.
* :mod:`~textgym.lm.sampling`: temperature, top-k, ...; a new sampling option goes there.
* :mod:`~textgym.lm.scoring`: log-probs and entropies of whole sequences, for the update.
* Training: :mod:`~textgym.lm.engine` (precision, LoRA, checkpointing), :mod:`~textgym.lm.lora`,
  :mod:`~textgym.lm.kl`, :mod:`~textgym.lm.weights` (have weights changed?).

Importing this package does not import torch; using one of its names does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textgym.lm.decoding.cache import SlotCache
    from textgym.lm.decoding.memo import MemoDecoder
    from textgym.lm.lstm import LSTMConfig, LSTMForCausalLM
    from textgym.lm.model import LanguageModel
    from textgym.lm.sampling.decision import Decision
    from textgym.lm.sampling.draw import Sampling, sample_tokens
    from textgym.lm.sampling.kept_sets import KeptSets
    from textgym.lm.sampling.processing import Sampler
    from textgym.lm.scoring import SequenceBatch, last_hidden, score_actions

_HOMES = {
    "Decision": "sampling.decision",
    "KeptSets": "sampling.kept_sets",
    "LSTMConfig": "lstm",
    "LSTMForCausalLM": "lstm",
    "LanguageModel": "model",
    "MemoDecoder": "decoding.memo",
    "Sampler": "sampling.processing",
    "Sampling": "sampling.draw",
    "SequenceBatch": "scoring",
    "SlotCache": "decoding.cache",
    "last_hidden": "scoring",
    "sample_tokens": "sampling.draw",
    "score_actions": "scoring",
}

__all__ = [
    "Decision",
    "KeptSets",
    "LSTMConfig",
    "LSTMForCausalLM",
    "LanguageModel",
    "MemoDecoder",
    "Sampler",
    "Sampling",
    "SequenceBatch",
    "SlotCache",
    "last_hidden",
    "sample_tokens",
    "score_actions",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

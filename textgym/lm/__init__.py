"""Language models: load one, decode with a cache that is only a memo, score whole sequences.

Importing this package does not import torch; using one of its names does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textgym.lm.cache import SlotCache
    from textgym.lm.decision import Decision
    from textgym.lm.decoding import MemoDecoder
    from textgym.lm.kept import KeptSets
    from textgym.lm.lstm import LSTMConfig, LSTMForCausalLM
    from textgym.lm.model import LanguageModel
    from textgym.lm.processing import Sampler
    from textgym.lm.sampling import Sampling, sample_tokens
    from textgym.lm.scoring import SequenceBatch, last_hidden, score_actions

_HOMES = {
    "Decision": "decision",
    "KeptSets": "kept",
    "LSTMConfig": "lstm",
    "LSTMForCausalLM": "lstm",
    "LanguageModel": "model",
    "MemoDecoder": "decoding",
    "Sampler": "processing",
    "Sampling": "sampling",
    "SequenceBatch": "scoring",
    "SlotCache": "cache",
    "last_hidden": "scoring",
    "sample_tokens": "sampling",
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

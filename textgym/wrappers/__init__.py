"""Wrappers of text environments.

:class:`TopKActions` and :class:`SegmentActions` let the agent choose among tokens or pieces of text
that a language model proposes, :class:`ActionMasks` forbids tokens, :class:`RecordEpisodes` stores
episodes as JSON lines, and :class:`NumericInfos` leaves strings out of infos. All but the last wrap
both the single environment (``gymnasium.make``) and the batch (``gymnasium.make_vec``)::

    env = TopKActions(gymnasium.make("TextGen/Sentiment-v0"), lm="textgym/tiny", k=8)
    envs = TopKActions(gymnasium.make_vec("TextGen/Sentiment-v0", num_envs=64), k=8)

**A new wrapper** is a file with its two classes, one for each kind of environment, which
:func:`textgym.wrappers.nesting.new_of_kind` chooses between; copy
:mod:`textgym.wrappers.episodes`. Its names are listed below.

Importing this package does not import torch, but using one of its names may.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textgym.wrappers.episodes import (
        RecordEpisodes,
        RecordEpisodesEnv,
        RecordEpisodesVectorEnv,
    )
    from textgym.wrappers.masks import ActionMasks, ActionMasksEnv, ActionMasksVectorEnv
    from textgym.wrappers.numeric_infos import NumericInfos
    from textgym.wrappers.segments import SegmentActions, SegmentEnv, SegmentVectorEnv
    from textgym.wrappers.topk import TopKActions, TopKEnv, TopKVectorEnv

_MODULES = {
    "ActionMasks": "masks",
    "ActionMasksEnv": "masks",
    "ActionMasksVectorEnv": "masks",
    "NumericInfos": "numeric_infos",
    "RecordEpisodes": "episodes",
    "RecordEpisodesEnv": "episodes",
    "RecordEpisodesVectorEnv": "episodes",
    "SegmentActions": "segments",
    "SegmentEnv": "segments",
    "SegmentVectorEnv": "segments",
    "TopKActions": "topk",
    "TopKEnv": "topk",
    "TopKVectorEnv": "topk",
}

__all__ = [
    "ActionMasks",
    "ActionMasksEnv",
    "ActionMasksVectorEnv",
    "NumericInfos",
    "RecordEpisodes",
    "RecordEpisodesEnv",
    "RecordEpisodesVectorEnv",
    "SegmentActions",
    "SegmentEnv",
    "SegmentVectorEnv",
    "TopKActions",
    "TopKEnv",
    "TopKVectorEnv",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

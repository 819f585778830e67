"""Wrappers that change what an agent may do, or keep what it did.

With :class:`TopKActions` it chooses among a language model's likeliest tokens, with
:class:`SegmentActions` among whole pieces of text; :class:`ActionMasks` forbids tokens.
:class:`RecordEpisodes` stores episodes as JSON lines. All wrap the single environment
(``gymnasium.make``) and the batch (``gymnasium.make_vec``)::

    env = TopKActions(gymnasium.make("TextGen/Sentiment-v0"), lm="textgym/tiny", k=8)
    envs = TopKActions(gymnasium.make_vec("TextGen/Sentiment-v0", num_envs=64), k=8)

Importing this package does not import torch; using one of its names may.
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

_HOMES = {
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
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

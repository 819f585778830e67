"""What the policy sees: the text so far, and a picture beside it where the task shows one."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from textgym.envs.batch import TextBatch
from textgym.envs.settings import Settings


def observation_space(settings: Settings) -> spaces.Space[Any]:
    """The space of one row's observations."""
    tokens = spaces.Box(-1, settings.tokenizer.vocab_size - 1, (settings.width,), np.int32)
    if settings.pictures is None:
        return tokens
    image = spaces.Box(0, 255, settings.pictures.image_shape, np.uint8)
    return spaces.Dict({"tokens": tokens, "image": image})


def observe(batch: TextBatch) -> Any:
    """The observations of all rows, as a copy: ``[N, L]``, or a dictionary of such arrays."""
    if batch.images is None:
        return batch.tokens.copy()
    return {"tokens": batch.tokens.copy(), "image": batch.images.copy()}


def observe_row(batch: TextBatch, row: int) -> Any:
    """The observation of one row, as a copy."""
    if batch.images is None:
        return batch.tokens[row].copy()
    return {"tokens": batch.tokens[row].copy(), "image": batch.images[row].copy()}

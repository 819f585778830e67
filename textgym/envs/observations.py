"""Observations and their space, and the check of actions."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from textgym.envs.batch import TextBatch
from textgym.envs.prompts.fitting import describe_row
from textgym.envs.settings import Settings
from textgym.errors import ActionError


def observation_space(settings: Settings) -> spaces.Space[Any]:
    """The space of one row's observations."""
    tokens = spaces.Box(-1, settings.tokenizer.vocab_size - 1, (settings.width,), np.int32)
    if settings.image_shape is None:
        return tokens
    image = spaces.Box(0, 255, settings.image_shape, np.uint8)
    return spaces.Dict({"tokens": tokens, "image": image})


def observe(batch: TextBatch, rows: slice | int = slice(None)) -> Any:
    """A copy of the observations of all rows, or of one row.

    Returns:
        Tokens ``[N, L]`` or ``[L]``; with pictures, a dictionary of ``tokens`` and ``image``.
    """
    if batch.images is None:
        return batch.tokens[rows].copy()
    return {"tokens": batch.tokens[rows].copy(), "image": batch.images[rows].copy()}


def check_actions(batch: TextBatch, actions: Any, stepping: NDArray[np.intp]) -> NDArray[np.intp]:
    """The actions as an array ``[N]``.

    Args:
        batch: The batch.
        actions: One token id per row.
        stepping: Indices of the rows whose action counts.

    Raises:
        ActionError: If their shape or dtype is wrong, or one is out of range.
    """
    settings, shape = batch.settings, batch.length.shape
    try:
        array = np.asarray(actions)
    except ValueError as error:
        raise ActionError(
            f"{settings.name}: the actions are not an array ({error}); pass one token id per row, "
            f"shape {shape}"
        ) from error
    if array.shape != shape:
        raise ActionError(
            f"{settings.name}: actions have shape {array.shape}; pass one token id per row, "
            f"shape {shape}"
        )
    if array.dtype.kind not in "iu":
        raise ActionError(
            f"{settings.name}: actions have dtype {array.dtype}; token ids are integers"
        )
    size = settings.tokenizer.vocab_size
    taken = array[stepping]
    # Viewed as unsigned integers, negative ones are too large as well.
    if len(taken) and taken.astype(np.int64, copy=False).view(np.uint64).max() >= size:
        row = int(stepping[(taken < 0) | (taken >= size)][0])
        raise ActionError(
            f"{describe_row(settings, row, batch.rows[row]['prompt'])}: action {int(array[row])} "
            f"is not a token id; the vocabulary has {size}, so actions range from 0 to {size - 1}"
        )
    return array.astype(np.intp, copy=False)

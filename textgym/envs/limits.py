"""How large an environment may become: refused with its size, before memory is asked for."""

from __future__ import annotations

import os
from math import prod

from textgym.errors import SettingsError

MAX_BUDGET = 2**24
"""Tokens of a prompt, or new tokens, at most: more than any language model reads."""

MAX_ROWS = 2**31 - 1
"""Rows of a batch at most."""

# Each token of each row, in bytes: the text and the observation (int32), and the bounds of the
# space, which Gymnasium keeps as arrays (two int32, two bool).
_BYTES_PER_TOKEN = 18
# Of a row's objects: its generator, its prompt, its place in lists.
_BYTES_PER_ROW = 4096
# Where the operating system does not say how much memory there is.
_UNKNOWN_MEMORY = 2**40


def check_memory(
    name: str, rows: int, width: int, image_shape: tuple[int, ...] | None = None
) -> None:
    """Refuse a batch that could not be held in memory.

    Args:
        name: The environment's, for the error.
        rows: Number of rows N.
        width: Length L of an observation in tokens.
        image_shape: Of the picture beside each text.

    Raises:
        SettingsError: If it needs more than this machine has; the message says how much.
    """
    pixels = 4 * prod(image_shape) if image_shape is not None else 0  # Two copies, and the bounds.
    needed = rows * (_BYTES_PER_TOKEN * width + pixels + _BYTES_PER_ROW)
    if needed > (there := _memory()):
        raise SettingsError(
            f"{name}: {rows:,} rows of {width:,} tokens (num_envs x (max_prompt_tokens + "
            f"max_new_tokens)) would take {needed / 2**30:,.1f} GiB, and this machine has "
            f"{there / 2**30:,.1f} GiB; use fewer rows or smaller budgets"
        )


def _memory() -> int:
    """Physical memory in bytes."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return _UNKNOWN_MEMORY

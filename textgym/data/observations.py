"""Observations of text environments: token ids, and a picture if the task has pictures."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

Observation: TypeAlias = NDArray[np.int32] | dict[str, NDArray[Any]]
"""Token ids ``[L]`` int32; with a picture ``{"tokens": [L], "image": uint8 [3, H, W]}``."""


def split_observation(observation: Any) -> tuple[Any, Any]:
    """The token ids and the pictures (or None) of one or more observations."""
    if hasattr(observation, "keys"):
        return observation["tokens"], observation["image"]
    return observation, None


class TextView(NamedTuple):
    """The sizes of an observation.

    Attributes:
        width: Maximal length L of a text in tokens.
        image_shape: ``(3, H, W)``; None without pictures.
    """

    width: int
    image_shape: tuple[int, int, int] | None


def text_view(space: spaces.Space[Any]) -> TextView | None:
    """The sizes of a text environment's observations; None for other spaces."""
    if isinstance(space, spaces.Dict) and set(space.spaces) == {"tokens", "image"}:
        tokens, image = space["tokens"], space["image"]
        if _is_box(tokens, "i", 1) and _is_box(image, "u", 3):
            return TextView(_shape(tokens)[0], cast(tuple[int, int, int], _shape(image)))
        return None
    return TextView(_shape(space)[0], None) if _is_box(space, "i", 1) else None


def _is_box(space: spaces.Space[Any], kind: str, dimensions: int) -> bool:
    return (
        isinstance(space, spaces.Box)
        and len(_shape(space)) == dimensions
        and space.dtype is not None
        and space.dtype.kind == kind
    )


def _shape(space: spaces.Space[Any]) -> tuple[int, ...]:
    return cast(tuple[int, ...], space.shape)

"""What an observation consists of: a text, and a picture beside it where the environment has one.

Most environments observe token ids alone; a task with pictures observes ``Dict(tokens, image)``.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from gymnasium import spaces


class TextView(NamedTuple):
    """The sizes of an observation.

    Attributes:
        width: Longest text L in tokens.
        image_shape: ``(3, H, W)`` of the picture; None where there is none.
    """

    width: int
    image_shape: tuple[int, int, int] | None


def text_view(space: spaces.Space[Any]) -> TextView | None:
    """The sizes of a text environment's observations; None if these are something else."""
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

"""Pictures: drawing scenes, and resizing photographs."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textgym.errors import TaskError, require
from textgym.tasks.caption.world import GRID, Object

CELL = 12
"""Pixels per side of a cell."""
SIDE = GRID * CELL

COLOURS = {
    "red": (230, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 90, 250),
    "yellow": (245, 225, 40),
    "purple": (170, 60, 220),
    "white": (245, 245, 245),
}
"""RGB values. The grey background is darker than any of them."""

# Whether a pixel belongs to a shape: x to the right of its centre and y below it, n pixels wide.
_SHAPES: dict[str, Callable[[float, float, int], bool]] = {
    "circle": lambda x, y, n: x * x + y * y <= n * n / 4 + 0.2,
    "square": lambda x, y, n: True,
    "triangle": lambda x, y, n: abs(x) <= (y + (n + 1) / 2) / 2,
    "cross": lambda x, y, n: min(abs(x), abs(y)) <= n / 6,
    "diamond": lambda x, y, n: abs(x) + abs(y) <= (n - 1) / 2,
}
_SIZES = {"big": 11, "small": 7}

_PIXELS = 50_000_000
"""The largest photograph that is decoded."""
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that Pillow decodes itself; for others, such as EPS, it starts external programs."""


def _mask(shape: str, size: int) -> NDArray[np.bool_]:
    mask = np.zeros((CELL, CELL), dtype=np.bool_)
    margin, middle = (CELL - size) // 2, (size - 1) / 2
    for row, column in np.ndindex(size, size):
        inside = _SHAPES[shape](column - middle, row - middle, size)
        mask[margin + row, margin + column] = inside
    return mask


_MASKS = {(name, shape): _mask(shape, size) for name, size in _SIZES.items() for shape in _SHAPES}
_PAINT = {name: np.array(rgb, dtype=np.uint8).reshape(3, 1, 1) for name, rgb in COLOURS.items()}


def draw_scene(scene: list[Object], shade: int) -> NDArray[np.uint8]:
    """Draw a scene on a grey background.

    Args:
        scene: The objects, in different cells.
        shade: Lightness of the background, 0 to 255.

    Returns:
        uint8, RGB, ``[3, 36, 36]``.

    Raises:
        TaskError: If an object cannot be drawn.
    """
    picture = np.full((3, SIDE, SIDE), shade, dtype=np.uint8)
    for thing in scene:
        try:
            top, left = thing["row"] * CELL, thing["column"] * CELL
            cell = picture[:, top : top + CELL, left : left + CELL]
            mask = _MASKS[thing["size"], thing["shape"]]
            np.copyto(cell, _PAINT[thing["colour"]], where=mask)
        except (KeyError, TypeError, ValueError) as error:
            raise TaskError(
                f"scene: an object cannot be drawn: {thing!r}; it needs a shape "
                f"({', '.join(_SHAPES)}), a colour ({', '.join(COLOURS)}), a size (small, big), a "
                f"row and a column (0 to {GRID - 1})"
            ) from error
    return picture


def load_picture(source: Any, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Load a picture and resize it.

    Args:
        source: A path, the bytes of a file, a dictionary with ``"bytes"`` or ``"path"`` (the form
            of Hugging Face datasets), a Pillow image, or a uint8 array ``[H, W, 3]``.
        shape: ``(3, height, width)``.

    Returns:
        uint8, RGB, ``[3, height, width]``.

    Raises:
        TaskError: If `source` has another type, cannot be decoded, or is too large.
        MissingDependencyError: Without Pillow (``textgym[render]``).
    """
    pillow = require("PIL.Image", "render")
    if isinstance(source, Mapping):
        inside = source.get("bytes")
        source = source.get("path") if inside is None else inside
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pillow.DecompressionBombWarning)
            image = _open(source, pillow)
            if image.width * image.height > _PIXELS:
                raise TaskError(
                    f"image: too large ({image.width} x {image.height} pixels; the limit is "
                    f"{_PIXELS:,} in all): resize it first"
                )
            image = image.convert("RGB")
            if image.size != (shape[2], shape[1]):
                image = image.resize((shape[2], shape[1]), pillow.Resampling.BILINEAR)
    except (pillow.DecompressionBombError, pillow.DecompressionBombWarning) as error:
        raise TaskError(f"image: too large ({error}): resize it first") from error
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, TaskError):
            raise
        raise TaskError(
            f"image: cannot be read ({type(error).__name__}: {error}): pass the path or the bytes "
            f"of a complete file in one of the formats {', '.join(_FORMATS)}"
        ) from error
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1))


def _open(source: Any, pillow: Any) -> Any:
    """Open the source as a Pillow image, without decoding it."""
    if isinstance(source, bytes | bytearray):
        return pillow.open(io.BytesIO(source), formats=_FORMATS)
    if isinstance(source, str | os.PathLike):
        return pillow.open(source, formats=_FORMATS)
    if isinstance(source, pillow.Image) and source.format in (None, *_FORMATS):
        return source
    if (
        isinstance(source, np.ndarray)
        and source.dtype == np.uint8
        and source.ndim == 3
        and source.shape[2] == 3
        and source.size
    ):
        return pillow.fromarray(source)
    kind = type(source).__name__
    if isinstance(source, np.ndarray):
        kind = f"{source.dtype} array of shape {source.shape}"
    raise TaskError(
        f"image: {kind}; expected a path, the bytes of a file, a dictionary with 'bytes' or "
        f"'path', a Pillow image ({', '.join(_FORMATS)}) or a uint8 array [height, width, 3]"
    )

"""Rendering of an episode: as a string, on the terminal, or as an image."""

from __future__ import annotations

import sys
import textwrap
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from textgym.envs.arguments import choice
from textgym.envs.batch import TextBatch
from textgym.envs.scoring import decode_response
from textgym.errors import require

RENDER_MODES = ["ansi", "human", "rgb_array"]

Frame: TypeAlias = "str | NDArray[np.uint8]"

# Images have a constant size, as video recorders require.
_COLUMNS, _LINES = 64, 12
# No character is dropped or replaced, so that its position says whether it is part of the prompt.
_WRAPPER = textwrap.TextWrapper(
    _COLUMNS, expand_tabs=False, replace_whitespace=False, drop_whitespace=False
)
_BACKGROUND, _PROMPT_COLOR, _RESPONSE_COLOR = (250, 249, 245), (110, 110, 110), (20, 70, 150)


def check_render_mode(name: str, mode: str | None) -> str | None:
    """The render mode.

    Raises:
        SettingsError: If it is unknown.
    """
    return None if mode is None else choice(name, "render_mode", mode, RENDER_MODES)


def prompt_and_response(batch: TextBatch, row: int) -> tuple[str, str]:
    """The prompt of a row, and the text after it; in a conversation, both sides' turns."""
    start = batch.prompt_length[row]
    ids = batch.tokens[row, start : batch.length[row]].tolist()
    if batch.conversations is not None:
        ids = [index for index in ids if index not in batch.settings.tokenizer.ends]
    response = decode_response(batch.settings, ids, batch.tokens[row, :start], "")
    prompt = str(batch.rows[row]["prompt"])
    separator = batch.settings.tokenizer.separator if prompt and response else ""
    return prompt + separator, response


def render_rows(batch: TextBatch, mode: str | None) -> tuple[Frame, ...] | None:
    """One frame per row, for the ``render`` method of an environment; None for "human"."""
    if mode is None:
        gym.logger.warn(
            "render() was called without a render mode; make the environment with "
            "render_mode='ansi', 'human' or 'rgb_array'"
        )
    if mode is None or mode == "human":
        return None
    return tuple(frame(mode, *prompt_and_response(batch, row)) for row in range(len(batch.rows)))


def frame(mode: str, prompt: str, response: str) -> Frame:
    """A text as a string (mode "ansi") or as an image (mode "rgb_array").

    Returns:
        The prompt and the response (an empty line if both are empty), or uint8 ``[H, W, 3]``.

    Raises:
        MissingDependencyError: If the mode is "rgb_array" and Pillow is not installed.
    """
    return (prompt + response or "\n") if mode == "ansi" else _image(prompt, response)


def print_row(batch: TextBatch, row: int, label: str = "") -> None:
    """Print the text of a row; on a terminal the response is colored."""
    prompt, response = prompt_and_response(batch, row)
    if sys.stdout.isatty():
        response = f"\x1b[1;34m{response}\x1b[0m"
    print(f"{label}{prompt}{response}", flush=True)


def _image(prompt: str, response: str) -> NDArray[np.uint8]:
    """Draw the last lines of a text in a fixed-width font."""
    draw: Any = require("PIL.ImageDraw", "render")
    font = require("PIL.ImageFont", "render").load_default(size=14)
    cell_width, cell_height = int(font.getlength("m")) + 1, 20
    size = (_COLUMNS * cell_width + 16, _LINES * cell_height + 16)
    image = require("PIL.Image", "render").new("RGB", size, _BACKGROUND)
    canvas = draw.Draw(image)
    for row, cells in enumerate(layout(prompt, response)[-_LINES:]):
        for column, (character, written) in enumerate(cells):
            color = _RESPONSE_COLOR if written else _PROMPT_COLOR
            spot = (8 + column * cell_width, 8 + row * cell_height)
            canvas.text(spot, character, fill=color, font=font)
    return np.asarray(image, dtype=np.uint8).copy()


def layout(prompt: str, response: str) -> list[list[tuple[str, bool]]]:
    """Lines of (character, whether the policy wrote it), wrapped at whitespace."""
    lines: list[list[tuple[str, bool]]] = []
    position = 0
    for paragraph in (prompt + response).split("\n"):
        start = 0
        for line in _WRAPPER.wrap(paragraph) or [""]:
            begin = position + start
            lines.append(
                [(char, begin + offset >= len(prompt)) for offset, char in enumerate(line)]
            )
            start += len(line)
        position += len(paragraph) + 1
    return lines

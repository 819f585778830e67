"""A task whose answer is only in its picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.lm.checkpoints import WORDS
from textgym.tasks import Task

COLOURS = {"w1": (255, 0, 0), "w2": (0, 0, 255)}


class Colour(Task):
    """The picture is red or blue, and the answer is its color."""

    id = "TextGen/Colour-v0"
    max_prompt_tokens = 3
    max_new_tokens = 3
    cheat_ceiling = 1.0
    disjoint_splits = False
    tokenizer = tuple(WORDS)
    image_shape = (3, 12, 16)

    def generate(self, rng: np.random.Generator) -> dict[str, Any]:
        colour = "w1" if rng.random() < 0.5 else "w2"
        words = ["w5", "w6", "w7"][: int(rng.integers(1, 4))]
        return {"prompt": " ".join(words), "reference": colour, "shade": int(rng.integers(50))}

    def image(self, row: Mapping[str, Any]) -> np.ndarray:
        picture = np.empty(self.image_shape, dtype=np.uint8)
        picture[:] = np.array(COLOURS[row["reference"]], np.uint8).reshape(3, 1, 1)
        picture[1] = row["shade"]
        return picture

    def identity(self, row: Mapping[str, Any]) -> str:
        return f"{row['prompt']} {row['reference']} {row['shade']}"

    def score(self, completion: str, row: Mapping[str, Any]) -> float:
        return float(completion.split()[:1] == [row["reference"]])

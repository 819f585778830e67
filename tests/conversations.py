"""A conversation small enough to be computed by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from textgym.tasks import Reply, Task


class Parley(Task):
    """The task repeats the first words, rewards the number of turns, and ends at "bye"."""

    id = "TextGen/Parley-v0"
    max_prompt_tokens = 4
    max_new_tokens = 20
    max_turns = 4
    cheat_ceiling = 1.0
    disjoint_splits = False
    tokenizer = ("a", "b", "bye", "go", "said", ":")

    def generate(self, rng: np.random.Generator) -> dict[str, Any]:
        return {"prompt": "go " + "ab"[int(rng.random() * 2)] + " :", "reference": "bye"}

    def score(self, completion: str, row: Mapping[str, Any]) -> float:
        return min(1.0, completion.count("a") / 4)

    def reply(self, row: Mapping[str, Any], turns: Sequence[str]) -> Reply:
        words = turns[-1].split()
        if "bye" in words:
            return Reply(reward=-0.25, done=True)
        return Reply(" ".join(["said", *words[:2], ":"]), reward=0.5 * len(turns))

"""The procedural data sets of the ``reasoning-gym`` package as sources of prompts."""

from __future__ import annotations

from typing import Any

import numpy as np

from textgym.errors import DataError, near_matches, require
from textgym.rewards.combine import RewardSpec
from textgym.tasks.base import Row
from textgym.tasks.sources import Source, natural_index
from textgym.tokenization import Tokenizer


class ReasoningGymSource(Source):
    """A procedural data set of the ``reasoning-gym`` package.

    That package makes item i from ``Random(seed + i)``, so data sets with neighbouring seeds share
    nearly all of their items. Here all draws are indices into one data set with seed 0, and the
    two splits take disjoint halves of the indices.

    Raises:
        DataError: If the package has no such data set, or cannot make it with its default options.
    """

    size = None

    # Some data sets prepare all of their items at once, and one cannot make more than 20,000.
    _SIZES = (2**21, 2**14)

    def __init__(self, dataset: str, split: str) -> None:
        library = require("reasoning_gym", "reasoning-gym")
        known = sorted(library.factory.DATASETS)
        if dataset not in known:
            raise DataError(
                f"reasoning-gym has no data set {dataset!r}{near_matches(dataset, known)}"
            )
        self.name = self.seed_key = f"reasoning_gym:{dataset}"
        self._dataset = dataset
        self._split = split
        self._open()

    def _open(self) -> None:
        library = require("reasoning_gym", "reasoning-gym")
        for size in self._SIZES:
            try:
                self._items = library.create_dataset(self._dataset, seed=0, size=size)
                break
            except (AssertionError, ValueError) as error:
                problem = error
        else:
            raise DataError(f"{self.name} cannot be made: {problem}; use another data set")
        self._half = size // 2
        self._offset = self._half if self._split == "eval" else 0

    def draw(self, rng: np.random.Generator) -> Row:
        """A random item of the split."""
        return self.item(int(rng.random() * self._half))

    def item(self, index: int) -> Row:
        """The index-th item of the split, with columns ``reference``, ``metadata``."""
        entry = self._items[self._offset + natural_index(self, index) % self._half]
        metadata = entry["metadata"]
        return {"prompt": entry["question"], "reference": entry["answer"], "metadata": metadata}

    def prompt_budget(self, tokenizer: Tokenizer) -> int:
        """Twice what the longest of the first 64 items has: data sets differ a lot in length."""
        return 2 * max(len(tokenizer.encode(self.item(index)["prompt"])) for index in range(64))

    def default_reward(self) -> RewardSpec:
        """The data set's own scorer."""
        return self.score

    def score(
        self, prompts: list[str], completions: list[str], **columns: list[Any]
    ) -> list[float]:
        """The data set's own score of each completion, in [0, 1].

        Some of the package's scorers raise on a text that they cannot read; that text gets 0.
        """
        rows = zip(prompts, columns["reference"], columns["metadata"], strict=True)
        entries = [{"question": q, "answer": a, "metadata": m} for q, a, m in rows]
        return [
            self._score_one(completion.strip(), entry)
            for completion, entry in zip(completions, entries, strict=True)
        ]

    def _score_one(self, answer: str, entry: dict[str, Any]) -> float:
        try:
            return float(self._items.score_answer(answer, entry=entry))
        except Exception:
            if answer == entry["answer"]:
                raise
            # A scorer that fails on the reference too is broken, and must not pass for a low score.
            self._score_one(entry["answer"], entry)
            return 0.0

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_items"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

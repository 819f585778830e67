"""Probes: tiny tasks whose optimal and random rewards have a closed form.

Each probe isolates one ability of an agent (credit assignment, exploration, robustness to noise,
...), so a missing ability shows within seconds, and an optimal policy is recognized as such. The
approach follows bsuite (Osband et al. 2020, "Behaviour Suite for Reinforcement Learning"), with
other tasks.

This module is the base class. The probes are in :mod:`textgym.tasks.probes.words` (one word),
:mod:`textgym.tasks.probes.texts` (several words) and :mod:`textgym.tasks.probes.rewards` (scaled
and noisy rewards).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.base import Baseline, Task
from textgym.tasks.judgement import Judgement, quoted

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
"""The vocabulary of most probes."""


class Probe(Task):
    """A task over a closed vocabulary with known optimal and random rewards.

    A correct text has exactly `max_new_tokens` tokens (in `Sparse` the last one is eos). A text of
    another length, which another token budget may allow, scores 0.

    A probe is **solved** at the reward halfway between `random_reward` and `optimum`. An agent
    without the tested ability stays below; the docstring of each probe gives its reward.

    Attributes:
        tags: The tested abilities: "basic", "credit assignment", "exploration", "generalization",
            "noise" or "scale".
        lengths: `max_new_tokens` by level, starting at level 1; empty if it is constant.
    """

    tokenizer: ClassVar[tuple[str, ...]]
    lengths: ClassVar[tuple[int, ...]] = ()
    max_prompt_tokens = 1
    max_new_tokens = 1
    stop_at_eos = False
    disjoint_splits = False
    cheat_ceiling = 0.5

    def __init__(self, level: int | None = None, split: str = "train") -> None:
        super().__init__(level, split)
        if self.lengths:
            self.max_new_tokens = self.lengths[self.level - 1]
        self.floor, self.ceiling = float(self.random_reward), float(self.optimum)

    @abstractmethod
    def right(self, prompt: str) -> str:
        """A text that scores 1.0, or an empty text if the prompt is not one of the probe's."""

    def draw_prompt(self, rng: np.random.Generator) -> str:
        """Draw a prompt. By default there is only the empty one."""
        return ""

    @property
    def actions(self) -> int:
        """Size of the action space: the words, and eos if it is an action."""
        return len(self.tokenizer) + self.stop_at_eos

    @property
    def optimum(self) -> float:
        """Expected reward of the best policy."""
        return 1.0

    @property
    def random_reward(self) -> float:
        """Expected reward of uniformly random tokens: the probability that all are right."""
        return float(self.actions) ** -self.max_new_tokens

    @property
    def threshold(self) -> float:
        """The reward halfway between `random_reward` and `optimum`."""
        return (self.random_reward + self.optimum) / 2

    def solved(self, mean_reward: float) -> bool:
        """Whether a mean reward reaches the threshold."""
        return mean_reward >= self.threshold

    def generate(self, rng: np.random.Generator) -> Row:
        """Draw a prompt."""
        prompt = self.draw_prompt(rng)
        return {"prompt": prompt, "reference": self.right(prompt)}

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """1.0 for the right text, 0.0 for any other."""
        right = self.right(row["prompt"]).split()
        return self.judgement(text, row, float(right != [] and text.split() == right))

    def judgement(self, text: str, row: Mapping[str, Any], score: float) -> Judgement:
        """A score, with a correct text for comparison if it is below 1."""
        right = self.right(row["prompt"])
        return Judgement().add(
            quoted(text), "right" if score == 1.0 else f"a right text is {quoted(right)}", score
        )

    def words_of(self, text: str) -> list[str]:
        """The words of a text, or no words if one of them is not in the vocabulary."""
        words = text.split()
        return words if set(words).issubset(self.tokenizer) else []

    def baselines(self) -> dict[str, Baseline]:
        """``uniform`` writes random tokens, ``half`` writes a correct text half of the time.

        Their expected rewards are `random_reward` and `threshold`.
        """
        return {"uniform": self._uniform, "half": self._half}

    def document(self, rng: np.random.Generator) -> str:
        """The prompt and a correct text, separated by a space."""
        row = self.sample(rng)
        return f"{row['prompt']} {self.oracle(row)}".strip()

    def _uniform(self, row: Row, rng: np.random.Generator) -> str:
        ids = rng.integers(self.actions, size=self.max_new_tokens).tolist()
        eos = len(self.tokenizer)
        return " ".join([self.tokenizer[index] for index in ids[: [*ids, eos].index(eos)]])

    def _half(self, row: Row, rng: np.random.Generator) -> str:
        return self.oracle(row) if rng.random() < 0.5 else self._uniform(row, rng)

"""Probes: tiny tasks whose best and whose random reward are known in closed form.

A probe asks for one ability and as little else as can be (credit for an early token, exploration,
noise, ...), so that an agent that lacks the ability shows it in seconds, and one that has it is
known to have reached the best there is. The idea is bsuite's (Osband et al. 2020, "Behaviour Suite
for Reinforcement Learning"); the tasks are not.

This module is what they share. The probes themselves are in :mod:`textgym.tasks.probes.words` (one
word), :mod:`textgym.tasks.probes.texts` (several), :mod:`textgym.tasks.probes.rewards` (scaled and
noisy rewards) and :mod:`textgym.tasks.probes.masks` (forbidden words).
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
"""The words of most probes."""


class Probe(Task):
    """A task over a closed vocabulary, of which everything is known.

    A right text has exactly `max_new_tokens` tokens (in `Sparse` the last one is eos): a text of
    another length, such as another budget would allow, scores 0.

    A probe counts as **solved** at the reward halfway between `random_reward` and `optimum`. Each
    class says what an agent gets that lacks the ability which the probe is about: it is less.

    Attributes:
        tags: What it tests: "basic", "credit assignment", "exploration", "generalization", "noise"
            or "scale".
        lengths: `max_new_tokens` by level, from level 1 on; empty where it is always the same.
    """

    scored_by = "a probe of one ability, whose optimum is known in closed form"
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
        """A text that scores 1.0; an empty one if the prompt is none of the probe's."""

    def draw_prompt(self, rng: np.random.Generator) -> str:
        """Draw a prompt; there is one, an empty one, unless a class says otherwise."""
        return ""

    @property
    def actions(self) -> int:
        """Size of the action space: the words, and eos if it ends texts."""
        return len(self.tokenizer) + self.stop_at_eos

    @property
    def optimum(self) -> float:
        """Expected reward of the best policy."""
        return 1.0

    @property
    def random_reward(self) -> float:
        """Expected reward of uniformly random tokens: here, of getting every token right."""
        return float(self.actions) ** -self.max_new_tokens

    @property
    def threshold(self) -> float:
        """The reward halfway between `random_reward` and `optimum`."""
        return (self.random_reward + self.optimum) / 2

    def solved(self, mean_reward: float) -> bool:
        """Whether an agent with this mean reward has learned what there is to learn."""
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
        """A score, and next to what is not wholly right a text that is."""
        right = self.right(row["prompt"])
        return Judgement().add(
            quoted(text), "right" if score == 1.0 else f"a right text is {quoted(right)}", score
        )

    def words_of(self, text: str) -> list[str]:
        """The words of a text; none if one of them is outside the vocabulary."""
        words = text.split()
        return words if set(words).issubset(self.tokenizer) else []

    def baselines(self) -> dict[str, Baseline]:
        """Random tokens, and a writer that is right every other time.

        Their expected rewards are `random_reward` and `threshold`.
        """
        return {"uniform": self._uniform, "half": self._half}

    def document(self, rng: np.random.Generator) -> str:
        """The prompt and the right text, with a space in between."""
        row = self.sample(rng)
        return f"{row['prompt']} {self.oracle(row)}".strip()

    def _uniform(self, row: Row, rng: np.random.Generator) -> str:
        ids = rng.integers(self.actions, size=self.max_new_tokens).tolist()
        eos = len(self.tokenizer)
        return " ".join([self.tokenizer[index] for index in ids[: [*ids, eos].index(eos)]])

    def _half(self, row: Row, rng: np.random.Generator) -> str:
        return self.oracle(row) if rng.random() < 0.5 else self._uniform(row, rng)

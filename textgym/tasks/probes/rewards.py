"""Probes of rewards that are hard to learn from: too large, too small, or mostly noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.judgement import Judgement
from textgym.tasks.probes.base import NUMBERS, Probe
from textgym.tasks.probes.words import Conditional


class Scale(Conditional):
    """Write the next number, for rewards that are very large or very small.

    ## Description

    ``TextGen/Probe-Conditional-v0`` with its reward times a constant, which changes nothing about
    the best policy. An agent whose step sizes, clipping or exploration depend on the size of
    rewards learns it worse than that probe; one that does not look at the prompt gets c/8.

    ## Observation Space

    ``Box(-1, 7, (2,), int32)``: token ids, -1 where nothing is written.

    ## Action Space

    ``Discrete(8)``: zero to seven.

    ## Rewards

    c for the number after the prompt's, 0 for any other word. The best policy gets c. Random words
    get c/V = c/8. The constant is that of the task's own reward alone: its score is 1 or 0.

    ## Starting State

    A number, each with the same probability. ``item(0)`` at level 1::

        three -> four

    ## Episode End

    After one word, a termination.

    ## Arguments

    ``level``: 1 (default, c = 100), 2 (c = 0.01) or 3 (c = 10,000). Both splits hold all prompts.

    ## Version History

    * v0: first version.
    """

    id = "TextGen/Probe-Scale-v0"
    tags = ("scale",)
    levels = (1, 2, 3)

    @property
    def factor(self) -> float:
        """The reward of a right word."""
        return (100.0, 0.01, 10_000.0)[self.level - 1]

    @property
    def optimum(self) -> float:
        """Expected reward of the best policy."""
        return self.factor

    @property
    def random_reward(self) -> float:
        """Expected reward of uniformly random words."""
        return self.factor / self.actions

    def reward(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        """The scores times `factor`."""
        return [self.factor * score for score in super().reward(prompts, completions, **columns)]


class Noise(Probe):
    """Write the best word, though one reward says next to nothing about it.

    ## Description

    A bandit of four arms, of which each pays one of the same two rewards; the better one pays the
    higher reward a little more often. The luck of each word is drawn with the row, so the reward is
    a function of text and row, and as good as random to an agent, which does not see it. An agent
    that tries each word once and stays with the best gets less than 0.67 on average, and even the
    second best word is worth 2/3, less than the 3/4 of a solved probe.

    The score has no noise. A mean of rewards over k episodes has a standard error of s / sqrt(k) at
    most.

    ## Observation Space

    ``Box(-1, 3, (2,), int32)``: token ids, -1 where nothing is written.

    ## Action Space

    ``Discrete(4)``: zero, one, two, three.

    ## Rewards

    The score of number i is i/3. The reward is 1/2 + s with the probability
    q = 1/2 + (2 i - 3) / (12 s), else 1/2 - s. So its mean is 1/2 + s (2 q - 1) = i/3, the score,
    and its variance s^2 - (i/3 - 1/2)^2. The best policy gets 1 in the mean. Random words get
    (0 + 1/3 + 2/3 + 1) / 4 = 1/2.

    ## Starting State

    An empty prompt, always the same; the column ``luck`` has a number for each word, uniform in
    0, 1, ... 12 s - 1, and the word pays the higher reward if it is below 12 s q.

    ## Episode End

    After one word, a termination.

    ## Arguments

    ``level``: 1 (default, s = 1), 2 (s = 3) or 3 (s = 10). Both splits hold the one prompt.

    ## Version History

    * v0: first version.
    """

    id = "TextGen/Probe-Noise-v0"
    tags = ("noise",)
    tokenizer = NUMBERS[:4]
    levels = (1, 2, 3)
    cheat_ceiling = 1.0  # a random word may be the second best

    @property
    def spread(self) -> int:
        """How far rewards are from 1/2: s."""
        return (1, 3, 10)[self.level - 1]

    @property
    def random_reward(self) -> float:
        """Expected reward of uniformly random words."""
        return 0.5

    def right(self, prompt: str) -> str:
        """The largest number."""
        return self.tokenizer[-1]

    def generate(self, rng: np.random.Generator) -> Row:
        """Draw the luck of each word."""
        luck = [int(12 * self.spread * u) for u in rng.random(len(self.tokenizer)).tolist()]
        return {**super().generate(rng), "luck": luck}

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """The number's share of the largest."""
        known = text in self.tokenizer
        return self.judgement(text, row, self.tokenizer.index(text) / 3 if known else 0.0)

    def reward(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        """The higher or the lower reward, or the score where a row holds no luck."""
        scores = super().reward(prompts, completions, **columns)
        column = columns.get("luck", [None] * len(scores))
        for at, (completion, luck) in enumerate(zip(completions, column, strict=True)):
            word = completion.strip()
            if luck is not None and word in self.tokenizer:
                number = self.tokenizer.index(word)
                higher = luck[number] < 6 * self.spread + 2 * number - 3
                scores[at] = 0.5 + (self.spread if higher else -self.spread)
        return scores

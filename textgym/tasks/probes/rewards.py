"""Probes with rewards that are hard to learn from: very large, very small, or noisy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.judgement import Judgement
from textgym.tasks.probes.base import NUMBERS, Probe
from textgym.tasks.probes.words import Conditional


class Scale(Conditional):
    """Write the next number, for very large or very small rewards.

    ## Description

    ``TextGen/Probe-Conditional-v0`` with its reward multiplied by a constant c, which does not
    change the best policy. An agent whose step sizes, clipping or exploration depend on the scale
    of rewards learns it worse than that probe. An agent that ignores the prompt gets c/8.

    ## Observation Space

    ``Box(-1, 7, (2,), int32)``: token ids, -1 where nothing is written.

    ## Action Space

    ``Discrete(8)``: zero to seven.

    ## Rewards

    c for the number after the prompt's, 0 for any other word. The best policy gets c. Random words
    get c/V = c/8. The constant applies to the task's reward; the score is 1 or 0.

    ## Starting State

    A uniformly random number. ``item(0)`` at level 1::

        three -> four

    ## Episode End

    After one word, a termination.

    ## Arguments

    ``level``: 1 (default, c = 100), 2 (c = 0.01) or 3 (c = 10,000). Both splits contain all
    prompts.

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
    """Write the best word, with rewards that are mostly noise.

    ## Description

    A bandit with four arms. Each pays one of the same two rewards, and better arms pay the higher
    one slightly more often. The noise of each word is drawn with the row and hidden from the agent,
    so the reward is a function of text and row. An agent that tries each word once and stays with
    the best gets less than 0.67 on average, and the second best word pays 2/3, less than the
    threshold of 3/4.

    The score has no noise. The standard error of the mean reward of k episodes is at most
    s / sqrt(k).

    ## Observation Space

    ``Box(-1, 3, (2,), int32)``: token ids, -1 where nothing is written.

    ## Action Space

    ``Discrete(4)``: zero, one, two, three.

    ## Rewards

    The score of number i is i/3. The reward is 1/2 + s with probability
    q = 1/2 + (2 i - 3) / (12 s), else 1/2 - s. Its mean is 1/2 + s (2 q - 1) = i/3, the score, and
    its variance s^2 - (i/3 - 1/2)^2. The best policy gets 1 on average. Random words get
    (0 + 1/3 + 2/3 + 1) / 4 = 1/2.

    ## Starting State

    An empty prompt. The column ``luck`` has a number for each word, uniform in 0, 1, ... 12 s - 1;
    the word pays the higher reward if its number is below 12 s q.

    ## Episode End

    After one word, a termination.

    ## Arguments

    ``level``: 1 (default, s = 1), 2 (s = 3) or 3 (s = 10). Both splits contain the same prompt.

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
        """Distance of both rewards from 1/2: s."""
        return (1, 3, 10)[self.level - 1]

    @property
    def random_reward(self) -> float:
        """Expected reward of uniformly random words."""
        return 0.5

    def right(self, prompt: str) -> str:
        """The largest number."""
        return self.tokenizer[-1]

    def generate(self, rng: np.random.Generator) -> Row:
        """Draw the noise of each word."""
        luck = [int(12 * self.spread * u) for u in rng.random(len(self.tokenizer)).tolist()]
        return {**super().generate(rng), "luck": luck}

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """The number, divided by the largest."""
        known = text in self.tokenizer
        return self.judgement(text, row, self.tokenizer.index(text) / 3 if known else 0.0)

    def reward(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        """The higher or the lower reward, or the score for a row without ``luck``."""
        scores = super().reward(prompts, completions, **columns)
        column = columns.get("luck", [None] * len(scores))
        for at, (completion, luck) in enumerate(zip(completions, column, strict=True)):
            word = completion.strip()
            if luck is not None and word in self.tokenizer:
                number = self.tokenizer.index(word)
                higher = luck[number] < 6 * self.spread + 2 * number - 3
                scores[at] = 0.5 + (self.spread if higher else -self.spread)
        return scores

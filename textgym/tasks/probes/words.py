"""Probes with one word per episode: bandits, with and without a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from textgym.tasks.judgement import Judgement
from textgym.tasks.probes.base import NUMBERS, Probe


class Constant(Probe):
    """Write the one word that is always right.

    ## Description

    A noiseless bandit with four arms, which every working agent solves at once. An agent that does
    not learn gets the reward of random words.

    ## Observation Space

    ``Box(-1, 3, (2,), int32)``: token ids, -1 where nothing is written.

    ## Action Space

    ``Discrete(4)``: zero, one, two, three.

    ## Rewards

    1 for ``two``, 0 for any other word. The best policy gets 1. Random words get 1/V = 1/4.

    ## Starting State

    An empty prompt.

    ## Episode End

    After one word, a termination.

    ## Arguments

    None. There is one level, and both splits contain the same prompt.

    ## Version History

    * v0: first version.
    """

    id = "TextGen/Probe-Constant-v0"
    tags = ("basic",)
    tokenizer = NUMBERS[:4]

    def right(self, prompt: str) -> str:
        """Always the same word."""
        return "two"


class Conditional(Probe):
    """Write the word that the prompt asks for: the next number.

    ## Description

    A contextual bandit: each of the eight prompts has a different right word. An agent that ignores
    the prompt gets 1/8 on average.

    ## Observation Space

    ``Box(-1, 7, (2,), int32)``: token ids, -1 where nothing is written.

    ## Action Space

    ``Discrete(8)``: zero to seven.

    ## Rewards

    1 for the number after the prompt's (``zero`` after ``seven``), 0 for any other word. The best
    policy gets 1. Random words get 1/V = 1/8.

    ## Starting State

    A uniformly random number. ``item(0)``::

        one -> two

    ## Episode End

    After one word, a termination.

    ## Arguments

    None. There is one level, and both splits contain all prompts.

    ## Version History

    * v0: first version.
    """

    id = "TextGen/Probe-Conditional-v0"
    tags = ("basic",)
    tokenizer = NUMBERS[:8]

    def draw_prompt(self, rng: np.random.Generator) -> str:
        """A number."""
        return self.tokenizer[int(rng.random() * len(self.tokenizer))]

    def right(self, prompt: str) -> str:
        """The next number."""
        words, word = self.tokenizer, prompt.strip()
        return words[(words.index(word) + 1) % len(words)] if word in words else ""


class LargeVocabulary(Probe):
    """Find one of the few right words among two thousand.

    ## Description

    A bandit with 2,000 arms, nearly all of which pay nothing. An agent that never repeats a word
    finds a right one after 95 words on average at level 1 (2,001 / 21), and after 667 at level 2
    (2,001 / 3). An agent that settles on a word before then gets 0.

    ## Observation Space

    ``Box(-1, 1999, (2,), int32)``: token ids, -1 where nothing is written.

    ## Action Space

    ``Discrete(2000)``: word0 to word1999.

    ## Rewards

    1 for a right word, 0 for any other. The best policy gets 1. Random words get 20 / 2,000 = 0.01
    at level 1, and 2 / 2,000 = 0.001 at level 2.

    ## Starting State

    An empty prompt.

    ## Episode End

    After one word, a termination.

    ## Arguments

    ``level``: 1 (default; word50, word150, ... word1950 are right) or 2 (word500 and word1500).
    Both splits contain the same prompt.

    ## Version History

    * v0: first version.
    """

    id = "TextGen/Probe-LargeVocabulary-v0"
    tags = ("exploration",)
    tokenizer = tuple(f"word{number}" for number in range(2_000))
    levels = (1, 2)

    @property
    def words(self) -> tuple[str, ...]:
        """The right words."""
        step = (100, 1_000)[self.level - 1]
        return self.tokenizer[step // 2 :: step]

    @property
    def random_reward(self) -> float:
        """Expected reward of uniformly random words."""
        return len(self.words) / self.actions

    def right(self, prompt: str) -> str:
        """The first of the right words."""
        return self.words[0]

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """1.0 for a right word, 0.0 for anything else."""
        return self.judgement(text, row, float(text in self.words))


class ManyPrompts(Probe):
    """Copy a word of a prompt that was never seen before.

    ## Description

    All prompts follow one rule. An agent that memorizes the training prompts gets 1/10 on the eval
    split, which is disjoint from them. An agent that copies a fixed wrong word gets 1/10 at level
    1, and at most 1/5 + 4/5 * 1/10 = 0.28 at level 2.

    ## Observation Space

    ``Box(-1, 9, (7,), int32)``: token ids, -1 where nothing is written.

    ## Action Space

    ``Discrete(10)``: zero to nine.

    ## Rewards

    1 for the right word, 0 for any other. The best policy gets 1. Random words get 1/V = 1/10.

    ## Starting State

    Six numbers. The right word is, by level: (1) the second number; (2) the number to which the
    first, between one and five, points: ``one`` is the word after it. There are 10^6 prompts at
    level 1 and 5 * 10^5 at level 2.

    ``item(0)`` at level 1::

        three three three nine six four -> three

    ``item(0)`` at level 2::

        one two three one three eight -> two

    ## Episode End

    After one word, a termination.

    ## Arguments

    ``level``: 1 (default) or 2. ``split``: ``"train"`` or ``"eval"``.

    ## Version History

    * v0: first version.
    """

    id = "TextGen/Probe-ManyPrompts-v0"
    tags = ("generalization",)
    tokenizer = NUMBERS
    max_prompt_tokens = 6
    levels = (1, 2)
    disjoint_splits = True

    def draw_prompt(self, rng: np.random.Generator) -> str:
        """Six numbers; at level 2 the first points to another."""
        words = [NUMBERS[int(10 * u)] for u in rng.random(self.max_prompt_tokens).tolist()]
        if self.level == 2:
            words[0] = NUMBERS[1 + NUMBERS.index(words[0]) % (self.max_prompt_tokens - 1)]
        return " ".join(words)

    def right(self, prompt: str) -> str:
        """The word to copy."""
        words = prompt.split()
        at = 1
        if self.level == 2:
            at = NUMBERS.index(words[0]) if words and words[0] in NUMBERS else 0
        return words[at] if 0 < at < len(words) and words[at] in NUMBERS else ""

"""Probes that ask for several words: which of them was it that mattered?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textgym.tasks.judgement import Judgement
from textgym.tasks.probes.base import NUMBERS, Probe


class Delayed(Probe):
    """Write the right word first: the reward comes at the end, and nothing else matters.

    ## Description

    The first of n tokens decides, and the n - 1 after it change nothing. An agent that credits the
    reward to the last tokens, or to all alike, learns slowly or not at all; one that gets the first
    word right by luck gets 1/4.

    ## Observation Space

    ``Box(-1, 3, (1 + n,), int32)``: token ids, -1 where nothing is written.

    ## Action Space

    ``Discrete(4)``: zero, one, two, three.

    ## Rewards

    1 at the end if the first word is ``two``, else 0. The best policy gets 1. Random words get
    1/V = 1/4, whatever n is.

    ## Starting State

    An empty prompt, always the same.

    ## Episode End

    After n words, a termination.

    ## Arguments

    ``level``: 1 (default, n = 8), 2 (n = 16) or 3 (n = 32). Both splits hold the one prompt.

    ## Version History

    * v0: first version.
    """

    id = "TextGen/Probe-Delayed-v0"
    tags = ("credit assignment",)
    tokenizer = NUMBERS[:4]
    levels = (1, 2, 3)
    lengths = (8, 16, 32)
    max_new_tokens = 8

    @property
    def random_reward(self) -> float:
        """Expected reward of uniformly random words."""
        return 1 / self.actions

    def right(self, prompt: str) -> str:
        """The right word, all along."""
        return " ".join(["two"] * self.max_new_tokens)

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """1.0 for a text of the right length with the right first word, 0.0 for any other."""
        words = self.words_of(text)
        right = len(words) == self.max_new_tokens and words[0] == "two"
        return self.judgement(text, row, float(right))


class LongHorizon(Probe):
    """Count on, word after word: each of many words is a small part of one reward.

    ## Description

    After each word the next number is right (``zero`` after ``three``, and to begin with), also
    after a word that was wrong itself. There is one reward, at the end, of which a single word
    changes no more than 2/n: the rest of it is noise to that word. An agent that draws every word
    from the same distribution gets no more than 1/4 + 3/(4n).

    ## Observation Space

    ``Box(-1, 3, (1 + n,), int32)``: token ids, -1 where nothing is written.

    ## Action Space

    ``Discrete(4)``: zero, one, two, three.

    ## Rewards

    The share of the n words that are right. The best policy gets 1. Random words get 1/V = 1/4,
    since each is right with that probability, whatever is written before it.

    ## Starting State

    An empty prompt, always the same.

    ## Episode End

    After n words, a termination.

    ## Arguments

    ``level``: 1 (n = 8), 2 (n = 16) or 3 (default, n = 32). Both splits hold the one prompt.

    ## Version History

    * v0: first version.
    """

    id = "TextGen/Probe-LongHorizon-v0"
    tags = ("credit assignment",)
    tokenizer = NUMBERS[:4]
    levels = (1, 2, 3)
    default_level = 3
    lengths = (8, 16, 32)
    max_new_tokens = 32
    cheat_ceiling = 1.0  # the right words in another order may be right but for a few
    _steps = frozenset(zip(tokenizer, (*tokenizer[1:], tokenizer[0]), strict=True))

    @property
    def random_reward(self) -> float:
        """Expected reward of uniformly random words."""
        return 1 / self.actions

    def right(self, prompt: str) -> str:
        """Zero, one, two, three, zero, ..."""
        times = self.max_new_tokens // len(self.tokenizer)
        return " ".join(self.tokenizer * times)

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """The share of right words, of a text of the right length; 0.0 for any other."""
        words = self.words_of(text)
        if len(words) != self.max_new_tokens:
            return self.judgement(text, row, 0.0)
        before = [self.tokenizer[-1], *words[:-1]]
        right = sum(map(self._steps.__contains__, zip(before, words, strict=True)))
        return self.judgement(text, row, right / len(words))


class Sparse(Probe):
    """Find a code: the only reward there is comes when every token of it is right.

    ## Description

    A combination lock of m words, closed by eos. Nothing tells a text that is nearly right from one
    that is not. An agent that draws tokens at random opens it once in 5^(m+1) episodes; one that
    stops to explore before that gets 0.

    ## Observation Space

    ``Box(-1, 4, (2 + m,), int32)``: token ids, -1 where nothing is written.

    ## Action Space

    ``Discrete(5)``: zero, one, two, three, eos.

    ## Rewards

    1 for the code and eos right after it, 0 for any other text. The best policy gets 1. Random
    tokens get V^-(m+1) = 5^-(m+1): 1/125, 1/625 and 1/3,125 by level.

    ## Starting State

    An empty prompt, always the same.

    ## Episode End

    At eos, or after m + 1 tokens: a termination.

    ## Arguments

    ``level``: 1 (default; the code is ``two zero``), 2 (``two zero three``) or 3 (``two zero three
    one``). Both splits hold the one prompt.

    ## Version History

    * v0: first version.
    """

    id = "TextGen/Probe-Sparse-v0"
    tags = ("exploration", "credit assignment")
    tokenizer = NUMBERS[:4]
    stop_at_eos = True
    levels = (1, 2, 3)
    lengths = (3, 4, 5)
    max_new_tokens = 3

    def right(self, prompt: str) -> str:
        """The code."""
        return " ".join(("two", "zero", "three", "one")[: self.max_new_tokens - 1])

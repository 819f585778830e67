"""Probes with several words per episode: credit assignment, exploration and action masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textgym.tasks.judgement import Judgement
from textgym.tasks.probes.base import NUMBERS, Probe


class Delayed(Probe):
    """Write the right word first: the reward at the end depends on nothing else.

    ## Description

    The first of n tokens decides the reward, the n - 1 others have no effect. An agent that credits
    the reward to the last tokens, or to all equally, learns slowly or not at all. A random first
    word gets 1/4.

    ## Observation Space

    ``Box(-1, 3, (1 + n,), int32)``: token ids, -1 where nothing is written.

    ## Action Space

    ``Discrete(4)``: zero, one, two, three.

    ## Rewards

    1 at the end if the first word is ``two``, else 0. The best policy gets 1. Random words get
    1/V = 1/4, whatever n is.

    ## Starting State

    An empty prompt.

    ## Episode End

    After n words, a termination.

    ## Arguments

    ``level``: 1 (default, n = 8), 2 (n = 16) or 3 (n = 32). Both splits contain the same prompt.

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
        """The right word, repeated."""
        return " ".join(["two"] * self.max_new_tokens)

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """1.0 for a text of the right length that starts with the right word, else 0.0."""
        words = self.words_of(text)
        right = len(words) == self.max_new_tokens and words[0] == "two"
        return self.judgement(text, row, float(right))


class LongHorizon(Probe):
    """Count in a loop: each of many words contributes a small part of one reward.

    ## Description

    The right word is the successor of the word before it (``zero`` after ``three`` and at the
    start), whether or not that word was right. The only reward comes at the end. A single word
    changes it by at most 2/n, so the rest is noise for the credit of that word. An agent that draws
    all words from the same distribution gets at most 1/4 + 3/(4n).

    ## Observation Space

    ``Box(-1, 3, (1 + n,), int32)``: token ids, -1 where nothing is written.

    ## Action Space

    ``Discrete(4)``: zero, one, two, three.

    ## Rewards

    The share of the n words that are right. The best policy gets 1. Random words get 1/V = 1/4:
    each is right with that probability, whatever precedes it.

    ## Starting State

    An empty prompt.

    ## Episode End

    After n words, a termination.

    ## Arguments

    ``level``: 1 (n = 8), 2 (n = 16) or 3 (default, n = 32). Both splits contain the same prompt.

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
    dense_at = "token"
    cheat_ceiling = 1.0  # a rotation of the right words is nearly all right
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
        """The share of right words, or 0.0 for a text of the wrong length."""
        words = self.words_of(text)
        right = len(words) == self.max_new_tokens and self._right_words(words) / len(words)
        return self.judgement(text, row, float(right))

    def potential(self, texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float]:
        """The right words so far, as a share of all words of a complete text."""
        words = map(self.words_of, texts)
        return [self._right_words(some) / self.max_new_tokens for some in words]

    def _right_words(self, words: Sequence[str]) -> int:
        before = [self.tokenizer[-1], *words[:-1]]
        return sum(map(self._steps.__contains__, zip(before, words, strict=False)))


class Sparse(Probe):
    """Find a code: the only reward is for getting every token right.

    ## Description

    A combination lock of m words, followed by eos. A nearly correct text gets no reward. An agent
    that draws tokens at random opens it once in 5^(m+1) episodes; one that stops exploring before
    then gets 0.

    ## Observation Space

    ``Box(-1, 4, (2 + m,), int32)``: token ids, -1 where nothing is written.

    ## Action Space

    ``Discrete(5)``: zero, one, two, three, eos.

    ## Rewards

    1 for the code followed by eos, 0 for any other text. The best policy gets 1. Random
    tokens get V^-(m+1) = 5^-(m+1): 1/125, 1/625 and 1/3,125 by level.

    ## Starting State

    An empty prompt.

    ## Episode End

    At eos, or after m + 1 tokens: a termination.

    ## Arguments

    ``level``: 1 (default; the code is ``two zero``), 2 (``two zero three``) or 3 (``two zero three
    one``). Both splits contain the same prompt.

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


class Masks(Probe):
    """Write four words without a forbidden one: trivial with action masks.

    ## Description

    After any text, half of the eight words are forbidden, and a single forbidden word makes the
    reward 0. With `allowed` as an action mask, every text is correct, with nothing to learn::

        task = textgym.make_task("TextGen/Probe-Masks-v0")
        env = ActionMasks(gymnasium.make(task.id), mask=task.allowed)

    Without the mask, this is a probe of credit assignment: an agent that avoids forbidden words in
    all positions but one gets 1/2. At level 2, an agent that ignores the text gets at most 1/2.

    ## Observation Space

    ``Box(-1, 7, (5,), int32)``: token ids, -1 where nothing is written.

    ## Action Space

    ``Discrete(8)``: zero to seven.

    ## Rewards

    1 for four words without a forbidden one, else 0. The best policy gets 1. Random words get
    (1/2)^4 = 1/16. ``info["cost"]`` is the number of forbidden words: 0 for the best policy, 2 on
    average for random words.

    ## Starting State

    A uniformly random number. Forbidden are, by level: (1) odd numbers; (2) numbers with the
    parity of the number before.

    ``item(0)`` at level 1::

        seven -> zero zero zero zero

    ``item(0)`` at level 2::

        three -> zero one zero one

    ## Episode End

    After four words, a termination.

    ## Arguments

    ``level``: 1 (default) or 2. Both splits contain all prompts.

    ## Version History

    * v0: first version.
    """

    id = "TextGen/Probe-Masks-v0"
    tags = ("basic", "credit assignment")
    tokenizer = NUMBERS[:8]
    levels = (1, 2)
    max_new_tokens = 4
    _parity = {word: number % 2 for number, word in enumerate(tokenizer)}  # noqa: RUF012

    @property
    def random_reward(self) -> float:
        """Expected reward of uniformly random words: each is allowed with probability 1/2."""
        return 0.5**self.max_new_tokens

    def draw_prompt(self, rng: np.random.Generator) -> str:
        """A number."""
        return self.tokenizer[int(rng.random() * len(self.tokenizer))]

    def right(self, prompt: str) -> str:
        """Zeros, or alternating zeros and ones."""
        words = ["zero", "zero"]
        if self.level == 2:
            words = ["zero", "one"] if self._before(prompt) else ["one", "zero"]
        return " ".join(words * (self.max_new_tokens // 2))

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """1.0 for a text of the right length without a forbidden word, else 0.0."""
        right = len(self.words_of(text)) == self.max_new_tokens
        right = right and self._forbidden(row["prompt"], text) == 0
        return self.judgement(text, row, float(right))

    def costs(self) -> dict[str, Callable[..., Sequence[float]]]:
        """The number of forbidden words."""
        return {"forbidden": self._cost}

    def _cost(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        pairs = zip(prompts, completions, strict=True)
        return [float(self._forbidden(prompt, completion)) for prompt, completion in pairs]

    def allowed(self, texts: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Return the allowed next words: a mask for :class:`textgym.wrappers.ActionMasks`.

        Args:
            texts: ``[N, L]`` int32 token ids, prompts included, -1 where nothing is written.

        Returns:
            ``[N, V]`` bool, True for the words that are not forbidden.
        """
        lengths = (texts >= 0).sum(1)
        # An empty text counts as odd: -1 % 2 is 1.
        before = texts[np.arange(len(texts)), lengths - 1] % 2
        if self.level == 1:
            before = np.ones_like(before)
        mask: NDArray[np.bool_] = np.arange(len(self.tokenizer)) % 2 != before[:, None]
        return mask

    def _before(self, prompt: str) -> int:
        """The parity of the number before the completion; an empty prompt counts as odd."""
        return self._parity.get((prompt.split() or [""])[-1], 1)

    def _forbidden(self, prompt: str, completion: str) -> int:
        parities = [self._parity.get(word) for word in completion.split()]
        before = [1] * len(parities) if self.level == 1 else [self._before(prompt), *parities]
        # Words outside the vocabulary are forbidden too.
        pairs = zip(before, parities, strict=False)
        return sum(parity in (None, previous) for previous, parity in pairs)

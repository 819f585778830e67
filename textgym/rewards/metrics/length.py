"""Rewards for the length of a text and for its repetitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from textgym.data.messages import reads_texts
from textgym.data.words import checked_language, count_words, words_of
from textgym.errors import RewardError
from textgym.rewards.references import column_of
from textgym.rewards.registry import register_reward
from textgym.rewards.values import LONGEST_GRAM, excerpt, is_number, is_whole


@register_reward("length")
@dataclass(frozen=True, eq=False)
class Length:
    """How close the length of the completion is to a target.

    With length n, target t and width w, the triangle is ``max(0, 1 - |n - t| / w)``; the budget
    is the same for texts longer than t, and 1 for all others.

    Range: [0, 1], higher is better.
    Needs: only the text; for tokens the column ``completion_ids``, which the environment provides
    (a generated end-of-sequence token counts).
    Cost: 2 us per text.
    Gaming: any text of that length; with a budget, an empty text.

    Args:
        target: The length, at least 0.
        unit: ``"words"`` (parts between whitespace; letters with their combining marks in scripts
            without spaces), ``"characters"`` or ``"tokens"``.
        shape: ``"triangle"`` or ``"budget"``.
        width: Distance from the target at which the reward is 0; positive. Default: the target.
        language: ``"auto"`` (words by script) or the language code of the texts, see
            :mod:`textgym.data.words`.

    Raises:
        RewardError: If an option is invalid.
    """

    target: float
    unit: str = "words"
    shape: str = "triangle"
    width: float | None = None
    language: str = "auto"
    name: ClassVar[str] = "length"

    def __post_init__(self) -> None:
        if self.unit not in ("words", "characters", "tokens"):
            raise RewardError(
                f"{self.name}: unit must be 'words', 'characters' or 'tokens', not {self.unit!r}"
            )
        if self.shape not in ("triangle", "budget"):
            raise RewardError(
                f"{self.name}: shape must be 'triangle' or 'budget', not {self.shape!r}"
            )
        if not is_number(self.target) or self.target < 0:
            raise RewardError(f"{self.name}: target must be a number >= 0, not {self.target!r}")
        if self.width is None:
            object.__setattr__(self, "width", self.target)
        if not is_number(self.width) or self.width <= 0:
            raise RewardError(f"{self.name}: width must be a number > 0, not {self.width!r}")
        checked_language(self.language, self.name, RewardError)

    @reads_texts
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float]:
        """Return N rewards."""
        if self.unit == "words":
            return [self._score(count_words(text, self.language)) for text in completions]
        if self.unit == "characters":
            return [self._score(len(completion)) for completion in completions]
        return [self._score(len(ids)) for ids in column_of(columns, "completion_ids")]

    def _score(self, length: int) -> float:
        assert self.width is not None
        excess = length - self.target
        if self.shape == "budget":
            excess = max(excess, 0.0)
        return max(0.0, 1.0 - abs(excess) / self.width)


@register_reward("repetition")
@dataclass(frozen=True, eq=False)
class Repetition:
    """Minus the share of word n-grams that repeat an earlier one of the same completion.

    This is minus ``seq-rep-n`` of Welleck et al. (2020, "Neural Text Generation with Unlikelihood
    Training"): ``-(1 - distinct n-grams / n-grams)``. Words are case-folded and without
    punctuation; in scripts without spaces each letter is a word. A text of fewer than n words
    gets 0.

    Range: (-1, 0], higher is better.
    Needs: only the text.
    Cost: 10 us per text of 20 words.
    Gaming: empty or very short texts; repetition across completions is not measured.

    Args:
        n: The number of words of an n-gram, at least 1.
        language: ``"auto"`` (words by script) or the language code of the texts, see
            :mod:`textgym.data.words`.

    Raises:
        RewardError: If n is not a positive integer.
    """

    n: int = 4
    language: str = "auto"
    name: ClassVar[str] = "repetition"

    def __post_init__(self) -> None:
        _check_order(self.name, self.n)
        checked_language(self.language, self.name, RewardError)

    @reads_texts
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float]:
        """Return N rewards."""
        return [self._score(words_of(completion, self.language)) for completion in completions]

    def _score(self, words: list[str]) -> float:
        total = len(words) - self.n + 1
        return _distinct(words, self.n) / total - 1.0 if total > 0 else 0.0


@register_reward("distinct")
@dataclass(frozen=True, eq=False)
class Distinct:
    """distinct-n of the completion: the number of distinct n-grams per word.

    As in Li et al. (2016, "A Diversity-Promoting Objective Function for Neural Conversation
    Models"), the number of n-grams is divided by the number of *words*, so for n > 1 a text of k
    words reaches at most ``(k - n + 1) / k``. Words are case-folded and without punctuation; in
    scripts without spaces each letter is a word. A text without words gets 0.

    Range: [0, 1], higher is better.
    Needs: only the text.
    Cost: 10 us per text of 20 words.
    Gaming: a list of unrelated rare words; for n = 1, a single word.

    Args:
        n: The number of words of an n-gram, at least 1; usually 1 to 4.
        language: ``"auto"`` (words by script) or the language code of the texts, see
            :mod:`textgym.data.words`.

    Raises:
        RewardError: If n is not a positive integer.
    """

    n: int = 2
    language: str = "auto"
    name: ClassVar[str] = "distinct"

    def __post_init__(self) -> None:
        _check_order(self.name, self.n)
        checked_language(self.language, self.name, RewardError)

    @reads_texts
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float]:
        """Return N rewards."""
        return [self._score(words_of(completion, self.language)) for completion in completions]

    def _score(self, words: list[str]) -> float:
        return _distinct(words, self.n) / len(words) if words else 0.0


def _distinct(words: list[str], n: int) -> int:
    return len(set(zip(*(words[start:] for start in range(n)), strict=False)))


def _check_order(name: str, n: Any) -> None:
    if not is_whole(n, 1, LONGEST_GRAM):
        raise RewardError(
            f"{name}: n must be an integer >= 1 and <= {LONGEST_GRAM}, not {excerpt(n)}"
        )

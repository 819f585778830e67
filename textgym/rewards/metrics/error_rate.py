"""Rewards from the edit distance to a reference: error rates and similarity.

rapidfuzz computes the Levenshtein distance (insertions, deletions and substitutions cost 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from textgym.data.words import checked_language, split_words
from textgym.errors import RewardError
from textgym.rewards.metrics.normalize import checked_ignore, normalize
from textgym.rewards.references import ReferenceReward
from textgym.rewards.registry import register_reward


class _EditReward(ReferenceReward):
    """A reward from the edit distance between sequences of words or characters."""

    unit: str
    ignore: tuple[str, ...]
    language: str

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the options: rapidfuzz's compiled functions cannot be pickled."""
        return type(self), (self.unit, self.column, self.ignore, self.language)

    def _check_options(self, name: str) -> None:
        if self.unit not in ("word", "character"):
            raise RewardError(f"{name}: unit must be 'word' or 'character', not {self.unit!r}")
        checked_language(self.language, name, RewardError)
        object.__setattr__(self, "ignore", checked_ignore(self.ignore, name))

    def _units(self, text: str) -> Sequence[str]:
        if self.ignore:
            text = normalize(text, self.ignore)
        return split_words(text, self.language) if self.unit == "word" else text


@register_reward("error_rate")
@dataclass(frozen=True, eq=False)
class ErrorRate(_EditReward):
    """Minus the word or character error rate against the closest reference.

    The error rate is the edit distance divided by the length of the reference, both in words
    (WER) or characters (CER). The mean over a batch gives each text the same weight, unlike a
    corpus error rate (all errors divided by all words). An empty reference has length 1.

    Range: (-inf, 0], higher is better: a perfect text gets 0, an empty one -1, and a long wrong
    one less than -1.
    Needs: the column ``column``.
    Cost: 8 us per text of 20 words; grows with the product of the lengths.
    Gaming: an empty text beats a wrong answer, so an unsure policy writes nothing; for long
    references, frequent words in a likely order.

    Args:
        unit: ``"word"`` (parts between whitespace; letters with their combining marks in scripts
            without spaces) or ``"character"`` (code points).
        column: The column of references: a string, or a list of alternatives.
        ignore: Differences that do not count: some of ``unicode``, ``case``, ``punctuation``,
            ``articles``, ``whitespace``.
        language: ``"auto"`` (words by script) or the language code of the texts, see
            :mod:`textgym.data.words`.

    Raises:
        RewardError: If an option is unknown, or the column is missing.
    """

    unit: str = "word"
    column: str = "reference"
    ignore: tuple[str, ...] = ()
    language: str = "auto"
    _distance: Callable[[Sequence[str], Sequence[str]], int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._check_options(self.name)
        from rapidfuzz.distance import Levenshtein  # imported here because it is not light

        object.__setattr__(self, "_distance", Levenshtein.distance)

    @property
    def name(self) -> str:
        """``"wer"`` or ``"cer"``."""
        return {"word": "wer", "character": "cer"}.get(self.unit, "error_rate")

    def _score(self, completion: str, references: list[str]) -> float:
        said = self._units(completion)
        return -min(
            self._distance(said, reference) / max(len(reference), 1)
            for reference in map(self._units, references)
        )


register_reward("wer", partial(ErrorRate, "word"))
register_reward("cer", partial(ErrorRate, "character"))


@register_reward("edit_similarity")
@dataclass(frozen=True, eq=False)
class EditSimilarity(_EditReward):
    """Normalized Levenshtein similarity to the closest reference.

    ``1 - distance / length of the longer text``; two empty texts are equal.

    Range: [0, 1], higher is better.
    Needs: the column ``column``.
    Cost: 5 us per text of 100 characters.
    Gaming: in characters, junk of about the right length and the usual letters gets 0.2 to 0.3.

    Args:
        unit: ``"word"`` (parts between whitespace; letters with their combining marks in scripts
            without spaces) or ``"character"`` (code points).
        column: The column of references: a string, or a list of alternatives.
        ignore: Differences that do not count: some of ``unicode``, ``case``, ``punctuation``,
            ``articles``, ``whitespace``.
        language: ``"auto"`` (words by script) or the language code of the texts, see
            :mod:`textgym.data.words`.

    Raises:
        RewardError: If an option is unknown, or the column is missing.
    """

    unit: str = "character"
    column: str = "reference"
    ignore: tuple[str, ...] = ()
    language: str = "auto"
    name: ClassVar[str] = "edit_similarity"
    _similarity: Callable[[Sequence[str], Sequence[str]], float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._check_options(self.name)
        from rapidfuzz.distance import Levenshtein  # imported here because it is not light

        object.__setattr__(self, "_similarity", Levenshtein.normalized_similarity)

    def _score(self, completion: str, references: list[str]) -> float:
        said = self._units(completion)
        return max(self._similarity(said, self._units(one)) for one in references)

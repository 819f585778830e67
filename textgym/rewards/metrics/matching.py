"""Rewards for exact matches: whole texts, keywords, patterns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from textgym.data.messages import reads_texts
from textgym.data.words import checked_language, has_phrase
from textgym.errors import RewardError
from textgym.rewards.metrics.normalize import checked_ignore, normalize
from textgym.rewards.references import ReferenceReward, column_of
from textgym.rewards.registry import register_reward
from textgym.rewards.values import excerpt, is_missing, is_whole


@register_reward("exact_match")
@dataclass(frozen=True, eq=False)
class ExactMatch(ReferenceReward):
    """1 if the completion equals a reference, else 0.

    Range: 0 or 1, higher is better.
    Needs: the column ``column``.
    Cost: 5 us per text; with all of ``ignore``, 25 us.
    Gaming: if there are few possible answers, always giving the most common one; with articles and
    punctuation ignored, junk made of them is free.

    Args:
        column: The column of references: a string, or a list of alternatives.
        ignore: Differences that do not count: some of ``unicode``, ``case``, ``punctuation``,
            ``articles``, ``whitespace``. The last four together are SQuAD's exact match.

    Raises:
        RewardError: If ``ignore`` contains anything else, or the column is missing.
    """

    column: str = "reference"
    ignore: tuple[str, ...] = ("whitespace",)
    name: ClassVar[str] = "exact_match"

    def __post_init__(self) -> None:
        object.__setattr__(self, "ignore", checked_ignore(self.ignore, self.name))

    def _score(self, completion: str, references: list[str]) -> float:
        said = normalize(completion, self.ignore)
        return float(any(said == normalize(reference, self.ignore) for reference in references))


@register_reward("keywords")
@dataclass(frozen=True, eq=False)
class Keywords:
    """The fraction of the keywords that the completion uses, each counted once.

    A keyword may be a phrase. Inflected forms (plural, past tense) do not count.

    Range: [0, 1], higher is better.
    Needs: ``keywords``, or else the column ``column`` (a list of strings per row).
    Cost: 5 us per keyword.
    Gaming: listing the keywords and nothing else. Combine it with a reward for fluency, or with
    ``length``.

    Args:
        keywords: The keywords for all rows; None reads them from the column.
        column: The column of keywords, used if ``keywords`` is None.
        mode: ``"fraction"``, or 1 for ``"all"`` of them, 1 for ``"any"`` of them.
        whole_words: Whether ``cat`` is not found within ``catalogue``. Combining marks belong to
            their letter, and in scripts without spaces each letter is a word. Set it to False for
            languages that attach endings to words, such as Korean.
        ignore_case: Whether case is ignored.
        language: ``"auto"`` (words by script) or the language code of the texts, see
            :mod:`textgym.data.words`.

    Raises:
        RewardError: If the mode is unknown, a keyword is empty, or the column is missing.
    """

    keywords: tuple[str, ...] | None = None
    column: str = "keywords"
    mode: str = "fraction"
    whole_words: bool = True
    ignore_case: bool = True
    language: str = "auto"
    name: ClassVar[str] = "keywords"

    def __post_init__(self) -> None:
        if self.mode not in ("fraction", "all", "any"):
            raise RewardError(
                f"{self.name}: mode must be 'fraction', 'all' or 'any', not {self.mode!r}"
            )
        checked_language(self.language, self.name, RewardError)
        if self.keywords is not None:
            try:
                object.__setattr__(self, "keywords", self._checked(self.keywords))
            except TypeError as error:
                raise RewardError(f"{self.name}: {error}") from None
            if not self.keywords:
                raise RewardError(f"{self.name}: keywords= is empty; give at least one, or None")

    @reads_texts
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float | None]:
        """Return N rewards; None for a row without keywords."""
        if self.keywords is not None:
            return [self._score(completion, self.keywords) for completion in completions]
        rewards: list[float | None] = []
        for completion, value in zip(completions, column_of(columns, self.column), strict=True):
            keywords = () if is_missing(value) else self._checked(value)
            rewards.append(self._score(completion, keywords) if keywords else None)
        return rewards

    def _checked(self, value: Any) -> tuple[str, ...]:
        """Return keywords without repetition; raise TypeError if they are not a list of words."""
        if hasattr(value, "tolist"):  # lists in Parquet files are read as NumPy arrays
            value = value.tolist()
        if not isinstance(value, list | tuple) or not all(
            isinstance(one, str) and one.strip() for one in value
        ):
            raise TypeError(f"keywords must be a list of non-empty strings, not {value!r:.80}")
        folded = (one.casefold() if self.ignore_case else one for one in value)
        return tuple(dict.fromkeys(" ".join(one.split()) for one in folded))

    def _score(self, completion: str, keywords: tuple[str, ...]) -> float:
        text = completion.casefold() if self.ignore_case else completion
        used = sum(self._uses(text, keyword) for keyword in keywords)
        if self.mode == "fraction":
            return used / len(keywords)
        return float(used == len(keywords) if self.mode == "all" else used > 0)

    def _uses(self, text: str, keyword: str) -> bool:
        if self.whole_words:
            return has_phrase(text, keyword, self.language)
        return keyword in " ".join(text.split())


@register_reward("regex")
@dataclass(frozen=True, eq=False)
class Regex:
    r"""1 if the completion matches a regular expression of Python's :mod:`re`, else 0.

    A policy may write any text, and a pattern like ``(a+)+b`` takes time exponential in the length
    of some texts, which :mod:`re` cannot interrupt. The limit on the length only bounds patterns of
    polynomial time (``.*x.*y``). Avoid nested repetitions, or use the possessive and atomic forms
    ``a++`` and ``(?>...)``.

    Range: 0 or 1, higher is better.
    Needs: only the text.
    Cost: 2 us per text or more, depending on the pattern.
    Gaming: the shortest text that matches, however meaningless.

    Args:
        pattern: The pattern, including flags such as ``(?i)``.
        full: Whether the whole text must match.
        max_characters: Longer texts get 0 without being searched.

    Raises:
        RewardError: If the pattern does not compile.
    """

    pattern: str
    full: bool = False
    max_characters: int = 10_000
    name: ClassVar[str] = "regex"
    _compiled: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not is_whole(self.max_characters, 0):
            raise RewardError(
                f"{self.name}: max_characters must be an integer >= 0, not "
                f"{excerpt(self.max_characters)}"
            )
        try:
            object.__setattr__(self, "_compiled", re.compile(self.pattern))
        except (re.error, TypeError, OverflowError, RecursionError) as error:
            raise RewardError(
                f"{self.name}: pattern {self.pattern!r} is not a regular expression: {error}"
            ) from error

    @reads_texts
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float]:
        """Return N rewards."""
        match = self._compiled.fullmatch if self.full else self._compiled.search
        return [
            float(len(completion) <= self.max_characters and match(completion) is not None)
            for completion in completions
        ]

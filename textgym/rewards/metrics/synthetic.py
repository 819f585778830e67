"""Synthetic rewards for testing algorithms without data: increasing numbers, and dates."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, ClassVar

from textgym.data.messages import reads_texts
from textgym.data.words import count_words, space_out
from textgym.errors import RewardError
from textgym.rewards.registry import register_reward
from textgym.rewards.values import is_whole

_NUMBER = re.compile(r"(?<![\w.])[+-]?[0-9]{1,15}(?:\.[0-9]{1,15})?(?!\w|\.[0-9])")


@register_reward("increasing_numbers")
@dataclass(frozen=True, eq=False)
class IncreasingNumbers:
    """The share of numbers in the text that are greater than all numbers before them.

    ``increasing / max(budget, numbers)``, or with ``among="words"``
    ``increasing / max(budget, words)``, as in the synthetic task of RL4LMs (Ramamurthy et al.
    2023), where other words cost too. The first number counts as increasing. A comma separates
    numbers ("1,2,3"). Strings of 16 digits or more are ignored.

    Range: [0, 1], higher is better.
    Needs: only the text.
    Cost: 20 us per text of 20 numbers.
    Gaming: the reward is a puzzle, and counting from 1 is its intended solution. With
    ``among="numbers"``, other words are free. A large number early spoils what follows, so a policy
    learns small steps.

    Args:
        budget: The least number of numbers (or words) of a perfect text, 1 or more.
        among: ``"numbers"`` or ``"words"`` (parts between whitespace; letters in scripts
            without spaces).

    Raises:
        RewardError: If an option is invalid.
    """

    budget: int = 10
    among: str = "numbers"
    name: ClassVar[str] = "increasing_numbers"

    def __post_init__(self) -> None:
        _check_budget(self.name, self.budget)
        if self.among not in ("numbers", "words"):
            raise RewardError(
                f"{self.name}: among must be 'numbers' or 'words', not {self.among!r}"
            )

    @reads_texts
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float]:
        """Return N rewards."""
        return [self._score(completion) for completion in completions]

    def _score(self, completion: str) -> float:
        numbers = list(map(float, _NUMBER.findall(space_out(completion))))
        increasing, greatest = 0, float("-inf")
        for number in numbers:
            if number > greatest:
                increasing, greatest = increasing + 1, number
        parts = len(numbers) if self.among == "numbers" else count_words(completion)
        # One word can contain several numbers: "1;2;3".
        return increasing / max(self.budget, parts, increasing)


_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_MONTH_NUMBERS = {name: k for k, name in enumerate(_MONTHS, 1)}
_MONTH_NUMBERS |= {name[:3]: k for name, k in _MONTH_NUMBERS.items()} | {"sept": 9}
_MONTH = "|".join(sorted(_MONTH_NUMBERS, key=len, reverse=True))
_DATE = re.compile(
    rf"""
    (?<![\w/-])(?:
      (?P<asian>(?:[0-9]{{4}}\s*[年년]\s*)?[0-9]{{1,2}}\s*[月월]\s*[0-9]{{1,2}}\s*[日일])
    | (?:
      (?P<iso>[0-9]{{4}}-[0-9]{{1,2}}-[0-9]{{1,2}})
    | (?P<slashed>[0-9]{{1,2}}(?P<mark>[/.-])[0-9]{{1,2}}(?P=mark)[0-9]{{2,4}})
    | (?P<day>[0-9]{{1,2}})(?:st|nd|rd|th)?[ ](?:of[ ])?(?P<month>{_MONTH})\.?
      (?:,?[ ](?P<year>[0-9]{{4}}))?
    | (?P<month2>{_MONTH})\.?[ ](?P<day2>[0-9]{{1,2}})(?:st|nd|rd|th)?
      (?:,?[ ](?P<year2>[0-9]{{4}}))?
    )(?![\w/]|-[0-9]))
    """,
    re.VERBOSE | re.IGNORECASE,
)


@register_reward("dates")
@dataclass(frozen=True, eq=False)
class Dates:
    """The share of strings that look like dates which are different valid dates.

    ``different valid dates / max(budget, strings that look like dates)``. Recognized forms are
    "2024-02-29", "29/2/2024" (day or month first; also with dots or hyphens), "29 February 2024",
    "29th of February", "Feb. 29, 2024", 2024年2月29日, 2024년 2월 29일. A date is valid if the
    calendar has such a day; 29 February is valid without a year. Two-digit years mean 2000 to 2099.

    Range: [0, 1], higher is better.
    Needs: only the text.
    Cost: 20 us per text of 20 words.
    Gaming: a list of dates and nothing else; with ``budget=1``, always the same date.

    Args:
        budget: The least number of dates in a perfect text, 1 or more.

    Raises:
        RewardError: If the budget is not a positive integer.
    """

    budget: int = 1
    name: ClassVar[str] = "dates"

    def __post_init__(self) -> None:
        _check_budget(self.name, self.budget)

    @reads_texts
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float]:
        """Return N rewards."""
        return [self._score(completion) for completion in completions]

    def _score(self, completion: str) -> float:
        found = [_day_of(match) for match in _DATE.finditer(space_out(completion))]
        valid = {day for day in found if day is not None}
        return len(valid) / max(self.budget, len(found))


def _day_of(match: re.Match[str]) -> tuple[int | None, int, int] | None:
    """Return year (None if absent), month and day of a date; None if there is no such day."""
    for year, month, day in _readings(match):
        try:
            date(2024 if year is None else year, month, day)  # 2024 is a leap year
        except ValueError:
            continue
        return year, month, day
    return None


def _readings(match: re.Match[str]) -> Iterator[tuple[int | None, int, int]]:
    if match["asian"]:
        *years, month, day = map(int, re.findall("[0-9]+", match["asian"]))
        yield years[0] if years else None, month, day
    elif match["iso"]:
        year, month, day = map(int, match["iso"].split("-"))
        yield year, month, day
    elif match["slashed"]:
        first, second, year = map(int, match["slashed"].split(match["mark"]))
        digits = len(match["slashed"].rpartition(match["mark"])[2])
        if digits != 3:
            year += 2000 * (digits == 2)
            yield year, second, first
            yield year, first, second
    else:
        month_name, day_digits, year_digits = (
            match[key] or match[f"{key}2"] for key in ("month", "day", "year")
        )
        yield (
            int(year_digits) if year_digits else None,
            _MONTH_NUMBERS[month_name.lower()],
            int(day_digits),
        )


def _check_budget(name: str, budget: Any) -> None:
    if not is_whole(budget, 1):
        raise RewardError(f"{name}: budget must be an integer >= 1, not {budget!r}")

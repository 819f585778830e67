"""Rewards that need no data, to try an algorithm with: increasing numbers, and dates."""

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
    """How many of the text's numbers are greater than all before them, of a budget at least.

    ``increasing / max(budget, numbers)``, or with ``among="words"``
    ``increasing / max(budget, words)``, as in the synthetic task of RL4LMs (Ramamurthy et al.
    2023), where every other word costs too. The first number is one of the increasing ones. A
    comma stands between numbers ("1,2,3"), never within one; 16 digits and more are no number.

    Range: [0, 1], higher is better.
    Needs: nothing but the text.
    Cost: 20 us a text of 20 numbers.
    Gaming: there is nothing to understand, and counting from 1 is the answer that is asked for.
    Among numbers, other words are free; a great number early spoils what follows, so a policy
    learns small steps. Fewer numbers than the budget get their share of it.

    Args:
        budget: How many numbers (or words) a perfect text has at least, 1 or more.
        among: ``"numbers"`` or ``"words"`` (parts between whitespace; letters in scripts
            without spaces).

    Raises:
        RewardError: If an option has an impossible value.
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
        # Several numbers may stand in one word: "1;2;3".
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
    """How many different days of the calendar the text names, of what looks like a date.

    ``different right dates / max(budget, what looks like a date)``. What looks like a date is
    "2024-02-29", "29/2/2024" (day or month first; also with dots or hyphens), "29 February 2024",
    "29th of February", "Feb. 29, 2024", 2024年2月29日, 2024년 2월 29일; it is right if there is
    such a day. Without a year, 29 February is; years of two digits are taken for 2000 to 2099.

    Range: [0, 1], higher is better.
    Needs: nothing but the text.
    Cost: 20 us a text of 20 words.
    Gaming: a list of dates and nothing else; with the budget 1, any one date, always the same.

    Args:
        budget: How many dates a perfect text has at least, 1 or more.

    Raises:
        RewardError: If the budget is no positive integer.
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
        named = [_day_of(match) for match in _DATE.finditer(space_out(completion))]
        right = {day for day in named if day is not None}
        return len(right) / max(self.budget, len(named))


def _day_of(match: re.Match[str]) -> tuple[int | None, int, int] | None:
    """Return the year, if it is said, month and day of a date; None if there is no such day."""
    for year, month, day in _readings(match):
        try:
            date(2024 if year is None else year, month, day)  # a leap year, if it isn't said
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
        name, day_said, year_said = (match[key] or match[f"{key}2"] for key in _SAID)
        yield int(year_said) if year_said else None, _MONTH_NUMBERS[name.lower()], int(day_said)


_SAID = ("month", "day", "year")


def _check_budget(name: str, budget: Any) -> None:
    if not is_whole(budget, 1):
        raise RewardError(f"{name}: budget must be an integer >= 1, not {budget!r}")

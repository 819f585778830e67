"""Parses the reasons of decisions: which finding a phrase states, if any.

Phrases and findings are compared in a normal form: lower case, digits for number words, and one
word for each comparison.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

_COUNTS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_FORMS = {word: str(number) for number, word in enumerate(_COUNTS, 1)} | {
    "1/4": "a quarter", "one quarter": "a quarter", "1/3": "a third", "one third": "a third",
    "1/2": "half", "a half": "half", "one half": "half", "2/3": "2 thirds", "twice": "2 times",
    "isn't": "is not", "aren't": "are not", "does not exceed": "is not above",
    "doesn't exceed": "is not above", "do not exceed": "are not above",
    "don't exceed": "are not above", "exceeds": "is above", "exceed": "are above",
    "at most": "not above", "at least": "not under", "over": "above", "more than": "above",
    "greater than": "above", "higher than": "above", "below": "under", "less than": "under",
    "lower than": "under", "fewer than": "under",
}  # fmt: skip
_FORM = re.compile(
    rf"\b(?:{'|'.join(sorted(map(re.escape, _FORMS), key=len, reverse=True))})\b"
    r"|(?<=\d),(?=\d{3}\b)"
)
_BETWEEN = re.compile(r", (?:and )?(?!(?:but|and)? ?there )| and (?=the )")
_GIVEN = re.compile(r"\b\w+ of \d+|\d+ (?:job|late)")
_NUMBER = re.compile(r" of \d+|\d+ (?=job|late)")
_CLAIM = re.compile(
    r"the (?:(?:debts|amount|income)(?: of \d+)? (?:is|are)|(?:\d+ )?(?:job years|late bills) are)"
    r"(?: not)? (?:above|under) "
    r"(?:\d+|(?:(?:a quarter|a third|half|2 thirds) of|\d+ times) the income(?: of \d+)?)"
    r"(?: (?:but there is an?|and there is no) \w+)?"
    r"|the loan is(?: not)? for an? \w+"
    r"|.*\b(?:approve|decline|refer)\b.*",
    re.DOTALL,
)
"""Phrases that claim something about the rules, or take another decision."""

_PLAIN = re.compile(r",? (?:but there is|and there is no) ")

FALSE, UNREAD = -1, -2


def phrases(reason: str) -> list[str]:
    """Split a list of findings."""
    return _BETWEEN.split(reason)


@lru_cache(maxsize=4096)
def _key(text: str) -> str:
    """The normal form of a phrase."""
    text = text.lower().replace("\u2019", "'")
    text = _FORM.sub(lambda match: _FORMS.get(match[0], ""), text)
    return text.replace(", but there", " but there").replace(", and there", " and there")


def stated(phrase: str, findings: Sequence[str]) -> tuple[int, bool]:
    """Find the finding that a phrase states.

    Args:
        phrase: One part of the reason.
        findings: The true findings.

    Returns:
        The index of the finding, `FALSE` for any other claim, or `UNREAD` for a phrase that is not
        understood; and whether the phrase has all the numbers of the finding.
    """
    if phrase in findings:
        return findings.index(phrase), True
    key = _key(phrase)
    keys = [_key(finding) for finding in findings]
    if key in keys:
        return keys.index(key), True
    short, given = _NUMBER.sub("", key), set(_GIVEN.findall(key))
    outcome = FALSE if _CLAIM.fullmatch(key) else UNREAD
    for number, other in enumerate(keys):
        if given <= set(_GIVEN.findall(other)):
            brief = _NUMBER.sub("", other)
            if short == brief:
                return number, False
            if short == _PLAIN.split(brief)[0]:
                outcome = UNREAD  # true but incomplete: the exception is missing
    return outcome, False

"""Baselines of the risk task, and the mediocre decisions of its documents."""

from __future__ import annotations

import re

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.random_draws import draws, pick
from textgym.tasks.risk.world import ACTIONS

_NUMBER = re.compile(r"\d+")
_COMPARISON = re.compile(r" (are|is) (not )?(above|under|for)")


def negated(finding: str) -> str:
    """Negate the comparison of a finding."""
    return _COMPARISON.sub(lambda m: f" {m[1]} {'' if m[2] else 'not '}{m[3]}", finding, count=1)


def _affirmed(finding: str) -> str:
    """Remove the negation of a finding, as if the rule's condition were met."""
    return negated(finding) if _COMPARISON.search(finding)[2] else finding  # type: ignore[index]


def joined(findings: list[str]) -> str:
    """Join findings to a list in prose."""
    *front, last = findings
    return f"{', '.join(front)} and {last}" if front else last


def strict(row: Row, rng: np.random.Generator) -> str:
    """Decline, and claim that the first rule applies."""
    return f" Decline: {_affirmed(row['findings'][0])}."


def everything(row: Row, rng: np.random.Generator) -> str:
    """Decline, and state the findings of all rules."""
    return f" Decline: {joined(row['findings'])}."


def lenient(row: Row, rng: np.random.Generator) -> str:
    """Approve, and state the findings of all rules."""
    return f" Approve: {joined(row['findings'])}."


def cautious(row: Row, rng: np.random.Generator) -> str:
    """Refer, without a reason."""
    return " Refer."


def guess(row: Row, rng: np.random.Generator) -> str:
    """A random decision with a random finding, negated half of the time."""
    draws = rng.random(3).tolist()
    finding = row["findings"][int(draws[0] * len(row["findings"]))]
    action = ACTIONS[int(draws[1] * len(ACTIONS))].capitalize()
    return f" {action}: {finding if draws[2] < 0.5 else negated(finding)}."


def mediocre(row: Row, rng: np.random.Generator) -> str:
    """The reference with errors: other decisions and rules, wrong numbers, missing reasons."""
    draw = draws(rng, 12)
    findings = row["findings"]
    action = row["decision"] if draw() < 0.62 else pick(ACTIONS, draw)
    reasons = [findings[number] for number in row["decisive"]]
    if draw() < 0.18 and len(reasons) > 1:
        del reasons[int(draw() * len(reasons))]
    if draw() < 0.15:
        reasons = findings
    if draw() < 0.12:
        reasons = [pick(findings, draw)]
    if draw() < 0.2:
        reasons = [negated(reasons[0]), *reasons[1:]]
    if draw() < 0.15:
        digit = str(1 + int(draw() * 9))
        reasons = [_NUMBER.sub(lambda m: m[0][:-1] + digit, reasons[0], count=1), *reasons[1:]]
    if draw() < 0.08:
        return f" {action.capitalize()}."
    return f" {action.capitalize()}: {joined(reasons)}."

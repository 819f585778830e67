"""Writers of decisions: the baselines, and the author of documents."""

from __future__ import annotations

import re

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.risk.world import ACTIONS

_NUMBER = re.compile(r"\d+")
_SENSE = re.compile(r" (are|is) (not )?(above|under|for)")


def turned(finding: str) -> str:
    """A finding with its comparison turned round."""
    return _SENSE.sub(lambda m: f" {m[1]} {'' if m[2] else 'not '}{m[3]}", finding, count=1)


def _affirmed(finding: str) -> str:
    """A finding as if the condition held."""
    return turned(finding) if _SENSE.search(finding)[2] else finding  # type: ignore[index]


def joined(findings: list[str]) -> str:
    """Findings as one list."""
    *front, last = findings
    return f"{', '.join(front)} and {last}" if front else last


def strict(row: Row, rng: np.random.Generator) -> str:
    """Decline, and say that what the first rule speaks of is so."""
    return f" Decline: {_affirmed(row['findings'][0])}."


def everything(row: Row, rng: np.random.Generator) -> str:
    """Decline, and state of every rule whether it holds."""
    return f" Decline: {joined(row['findings'])}."


def lenient(row: Row, rng: np.random.Generator) -> str:
    """Approve, and state of every rule whether it holds."""
    return f" Approve: {joined(row['findings'])}."


def cautious(row: Row, rng: np.random.Generator) -> str:
    """Refer, without a reason."""
    return " Refer."


def guess(row: Row, rng: np.random.Generator) -> str:
    """Any decision, with what one of the rules speaks of, as a coin has it."""
    luck = rng.random(3).tolist()
    finding = row["findings"][int(luck[0] * len(row["findings"]))]
    action = ACTIONS[int(luck[1] * len(ACTIONS))].capitalize()
    return f" {action}: {finding if luck[2] < 0.5 else turned(finding)}."


def mediocre(row: Row, rng: np.random.Generator) -> str:
    """The reference with lapses: other decisions and rules, wrong numbers, missing reasons."""
    draw = iter(rng.random(12).tolist()).__next__
    findings = row["findings"]
    action = row["decision"] if draw() < 0.62 else ACTIONS[int(draw() * len(ACTIONS))]
    said = [findings[number] for number in row["decisive"]]
    if draw() < 0.18 and len(said) > 1:
        del said[int(draw() * len(said))]
    if draw() < 0.15:
        said = findings
    if draw() < 0.12:
        said = [findings[int(draw() * len(findings))]]
    if draw() < 0.2:
        said = [turned(said[0]), *said[1:]]
    if draw() < 0.15:
        digit = str(1 + int(draw() * 9))
        said = [_NUMBER.sub(lambda m: m[0][:-1] + digit, said[0], count=1), *said[1:]]
    if draw() < 0.08:
        return f" {action.capitalize()}."
    return f" {action.capitalize()}: {joined(said)}."

"""Reads rules, notes and requests back out of a prompt, with the templates that wrote it."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from textgym.data.rows import Row
from textgym.tasks.moderate.world import HARMLESS, KINDS, Saying
from textgym.tasks.moderate.writer import refusal


@cache
def _matcher(template: str) -> re.Pattern[str]:
    """A template as a pattern, with a group for each field."""
    pieces = re.split(r"\{(\w+)\}", template)
    return re.compile(
        "".join(
            [
                rf"(?P<{piece}>\w+)" if number % 2 else re.escape(piece)
                for number, piece in enumerate(pieces)
            ]
        )
    )


def _sentences(line: str) -> list[str]:
    return [sentence.strip() for sentence in re.findall(r"[^.?]+[.?]", line)]


def read(prompt: str) -> Row | None:
    """The columns of a prompt in the layout of `Moderate.generate`; None if it is in another."""
    layout = re.fullmatch(r"Rules: (.*)\nNotes: (.*)\nUser: (.*)\nReply:", prompt)
    if layout is None:
        return None
    notes = _sentences(layout[2])
    rules: list[list[str]] = []
    for sentence in _sentences(layout[1]):
        for name, kind in KINDS.items():
            for template in kind.rules:
                if match := _matcher(template).fullmatch(sentence):
                    known = _known(kind.secret.fact, notes, match.groupdict())
                    rules.append([name, known.get(kind.flagged, ""), kind.reason.format_map(known)])
    sayings = [(kind.secret, name) for name, kind in KINDS.items()]
    sayings += [(saying, "") for kind in KINDS.values() for saying in kind.near]
    sayings += [(saying, "") for saying in HARMLESS]
    asks = []
    for sentence in _sentences(layout[3]):
        ask = _ask(sentence, sayings, notes, rules)
        if ask is not None:
            asks.append(ask)
    if not rules or not asks:
        return None
    reference = "".join(
        [
            f" {answers[0]}." if rule < 0 else f" {refusal(rules[rule][2], 0.0)}"
            for answers, rule in asks
        ]
    )
    return {"reference": reference, "rules": rules, "asks": asks}


def _known(fact: str, notes: list[str], fields: dict[str, str]) -> dict[str, str]:
    """The fields, and those of the first note of a form that agrees with them."""
    for note in notes:
        if fact and (match := _matcher(fact).fullmatch(note)):
            told = match.groupdict()
            if all(fields.get(name, value) == value for name, value in told.items()):
                return told | fields
    return fields


def _ask(
    sentence: str,
    sayings: list[tuple[Saying, str]],
    notes: list[str],
    rules: list[list[str]],
) -> list[Any] | None:
    """What one sentence asks for: the answers, and the rule that forbids it or -1."""
    for saying, kind in sayings:
        for template in saying.questions:
            match = _matcher(template).fullmatch(sentence)
            if match is None:
                continue
            known = _known(saying.fact, notes, match.groupdict())
            try:
                answers = [text.format_map(known) for text in saying.answers]
                reason = KINDS[kind].reason.format_map(known) if kind else ""
            except KeyError:  # nothing in the notes
                continue
            flagged = known.get(KINDS[kind].flagged, "") if kind else ""
            if not kind:
                return [answers, -1]
            if [kind, flagged, reason] in rules:
                return [answers, rules.index([kind, flagged, reason])]
    return None

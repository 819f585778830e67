"""Public credit data as prompts of the risk task, and the scores of decisions on them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from textgym.tasks.judgement import Judgement, discount, nothing, quoted, unreadable
from textgym.tasks.on_topic import overlap
from textgym.tasks.risk.world import FLOOR, VALUES

LONGEST = 800
"""Maximum length of a decision, in characters."""

_WORDS = {
    "approve": "approve approved accept accepted grant granted good yes y low",
    "decline": "decline declined deny denied reject rejected refuse refused bad no n high default",
    "refer": "refer referred review manual escalate escalated",
}
_MEANING = {word: decision for decision, words in _WORDS.items() for word in words.split()}
_MEANING |= {"fully paid": "approve", "charged off": "decline"}
_VERB = re.compile(
    r"\b(?:approved?|accept(?:ed)?|grant(?:ed)?|declined?|den(?:y|ied)|reject(?:ed)?|refused?"
    r"|refer(?:red)?|escalated?)\b",
    re.IGNORECASE,
)
_DENIAL = re.compile(r"\b(?:no|not|never|none|nor|cannot|without)\b|n['\u2019]t\b", re.IGNORECASE)
_LABELS = ("decision", "label", "class", "Risk", "risk", "credit_risk", "loan_status")


def judge_public(text: str, row: Mapping[str, Any]) -> Judgement:
    """Judge the decision at the start of a text, and the similarity of its reason to the row's."""
    text = text[:LONGEST].strip()
    verbs = [_MEANING[verb.lower()] for verb in _VERB.findall(text)]
    if not verbs or not _VERB.match(text):
        return nothing("the text", "it does not begin with a decision")
    if len(set(verbs)) > 1:
        return nothing("the text", f"several decisions: {', '.join(dict.fromkeys(verbs))}")
    value = VALUES[verbs[0]][row["decision"]]
    decision = f"decision {verbs[0]}"
    verdict = "right" if value == 1.0 else f"right is {row['decision']}"
    wanted = str(row.get("reason") or "").strip().removesuffix(".")
    if not wanted:
        rest = text.partition(" ")[2]
        judgement = Judgement().add(decision, verdict, value)
        faults = unreadable(rest) if rest else 0
        return judgement.scale(quoted(rest), "not asked for", discount(faults))
    reason = text.partition(":")[2].strip().removesuffix(".")
    judgement = Judgement().add(decision, verdict, value * FLOOR)
    if len(_DENIAL.findall(reason)) != len(_DENIAL.findall(wanted)):
        return judgement.note(
            quoted(reason), "it has more or fewer negations than the right reason"
        )
    # BLEU is sensitive to the order of the words, chrF to missing ones.
    similarity = min(overlap(name, reason.lower(), wanted.lower()) for name in ("bleu", "chrf"))
    score = value * (FLOOR + (1 - FLOOR) * similarity)
    return judgement.settle(quoted(reason), f"{similarity:.2f} like the right reason", score)


def convert(row: dict[str, Any]) -> dict[str, Any]:
    """Convert a row of credit data; rows without a known label are returned unchanged."""
    found = (_decision(name, row[name]) for name in _LABELS if row.get(name) is not None)
    decision = next(filter(None, found), None)
    if decision is None or "findings" in row:
        return row
    text = next((row[name] for name in ("application", "text", "prompt") if name in row), None)
    reason = row["reason"].strip() if isinstance(row.get("reason"), str) else ""
    if text is None:
        text = ", ".join(
            f"{str(name).replace('_', ' ')} {value}"
            for name, value in row.items()
            if name not in (*_LABELS, "reason", "reference") and value is not None
        )
    return {
        "prompt": f"Application: {str(text).strip()}\nDecision:",
        "reference": f" {decision.capitalize()}{': ' if reason else ''}{reason.rstrip('.')}.",
        "decision": decision,
        "reason": reason,
    }


def _decision(column: str, label: object) -> str | None:
    """The decision that a label stands for; None if it is ambiguous."""
    if column == "class" and str(label) in ("1", "2"):  # UCI's German credit data
        return "approve" if str(label) == "1" else "decline"
    return _MEANING.get(str(label).strip().lower())

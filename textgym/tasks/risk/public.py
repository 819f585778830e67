"""Public credit data: how its labels are read, and how decisions on its rows are judged."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from textgym.rewards.registry import RewardFunction
from textgym.tasks.judgement import Judgement, discount, nothing, quoted, unreadable
from textgym.tasks.risk.world import FLOOR, VALUES

LONGEST = 800
"""Characters; what is beyond them is not read."""

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
LABELS = ("decision", "label", "class", "Risk", "risk", "credit_risk", "loan_status")


def judge_public(text: str, row: Mapping[str, Any]) -> Judgement:
    """The decision that a text begins with, and how near its reason is to the row's."""
    text = text[:LONGEST].strip()
    verbs = [_MEANING[verb.lower()] for verb in _VERB.findall(text)]
    if not verbs or not _VERB.match(text):
        return nothing("the text", "it does not begin with a decision")
    if len(set(verbs)) > 1:
        return nothing("the text", f"several decisions: {', '.join(dict.fromkeys(verbs))}")
    value = VALUES[verbs[0]][row["decision"]]
    said = f"decision {verbs[0]}"
    worth = "right" if value == 1.0 else f"right is {row['decision']}"
    wanted = str(row.get("reason") or "").strip().removesuffix(".")
    if not wanted:
        rest = text.partition(" ")[2]
        judgement = Judgement().add(said, worth, value)
        faults = unreadable(rest) if rest else 0
        return judgement.scale(quoted(rest), "not asked for", discount(faults))
    reason = text.partition(":")[2].strip().removesuffix(".")
    judgement = Judgement().add(said, worth, value * FLOOR)
    if len(_DENIAL.findall(reason)) != len(_DENIAL.findall(wanted)):
        return judgement.note(quoted(reason), "it denies more or less than the right reason")
    near = _likeness(reason, wanted)
    score = value * (FLOOR + (1 - FLOOR) * near)
    return judgement.settle(quoted(reason), f"{near:.2f} like the right reason", score)


def _likeness(reason: str, wanted: str) -> float:
    """The smaller of BLEU and chrF: BLEU asks for the words in their order, chrF for most of it."""
    bleu, chrf = _scorers()
    pair: dict[str, Any] = {"reference": [wanted.lower()]}
    return min(1.0, *(metric([""], [reason.lower()], **pair)[0] or 0.0 for metric in (bleu, chrf)))


@cache
def _scorers() -> tuple[RewardFunction, RewardFunction]:
    # They need sacrebleu, which rows of our own do not.
    from textgym.rewards import Bleu, Chrf

    return Bleu(), Chrf()


def meant(column: str, label: object) -> str | None:
    """The decision that a label stands for; None if that is not clear."""
    if column == "class" and str(label) in ("1", "2"):  # UCI's German credit data
        return "approve" if str(label) == "1" else "decline"
    return _MEANING.get(str(label).strip().lower())

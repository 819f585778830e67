"""Reads the text of a record or of a concept set back, and compares it with what was given.

The automata of `data_to_text_grammar` and `data_to_text_concepts` say whether a sentence is English
and what its words claim; here the claims are added up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from textgym.tasks.data_to_text_concepts import concept_grammars, plausible
from textgym.tasks.data_to_text_grammar import Claim, State, grammar
from textgym.tasks.faults import discount, unreadable
from textgym.tasks.story_grammar import MEN

MAX_CHARACTERS = 2_000
"""Longer texts are not read: no record takes a tenth of this."""

_PRONOUNS = {"restaurant": "it", "match": "they", "flight": "it", "weather": "it"}


class Reading(NamedTuple):
    """What a text tells.

    Attributes:
        right: What it tells as it should, each thing once.
        wrong: How many claims are false, made up or private, and how many words are in roles that
            they cannot have.
        faults: Sentences that cannot be read, about somebody else or about nobody; claims made
            again, claims that contradict each other, secrets, words in impossible roles.
    """

    right: set[str]
    wrong: int
    faults: int


def pronoun(domain: str, subject: str) -> str:
    """What stands for the subject of a record."""
    return _PRONOUNS.get(domain) or ("he" if subject in MEN else "she")


def claims_of(words: Sequence[str], start: State) -> tuple[State | None, list[Claim]]:
    """Walk an automaton: the state it ends in, None outside the grammar, and the claims made."""
    claims: list[Claim] = []
    state = start
    for word in words:
        arc = state.get(word)
        if arc is None:
            return None, claims
        state, claim = arc
        if claim is not None:
            claims.append(claim)
    return state, claims


def _pieces(completion: str) -> tuple[list[str], int]:
    """The sentences of a text, and the faults of a last one without its full stop."""
    *sentences, rest = completion.rstrip().replace(",", " ,").split(".")
    return sentences, unreadable(rest) if rest else 0


def read_record(completion: str, row: Mapping[str, Any]) -> Reading:
    """Read what a text tells about the record of a row."""
    start = grammar(row["domain"])
    subject = row["subject"]
    told = pronoun(row["domain"], subject)
    facts: dict[str, str] = dict(row["facts"])
    private = row["private"]
    right: set[str] = set()
    denied: set[str] = set()
    claimed: dict[str, str] = {}
    wrong, named = 0, False
    sentences, faults = _pieces(completion)
    for sentence in sentences:
        words = sentence.split(" ")
        state, claims = claims_of(words[1:], start)
        if words[0] or state is None or "." not in state:
            faults += unreadable(sentence)
            continue
        mine, foreign = named, False
        for attribute, value in claims:
            if attribute == "about":
                mine = value == subject
                foreign = not mine
            elif attribute == "pronoun" and value != told:
                mine = False
        if foreign:
            faults += unreadable(sentence)
            continue
        if not mine:
            faults += 1  # nobody knows who it is
            continue
        named = True
        for attribute, value in claims:
            if attribute in ("about", "pronoun"):
                continue
            faults += claimed.setdefault(attribute, value) != value
            if facts.get(attribute) != value or attribute in private:
                wrong += 1
                denied.add(attribute)
                faults += attribute in private
            elif attribute in right:
                faults += 1
            else:
                right.add(attribute)
    return Reading(right - denied, wrong, faults)


def read_concepts(completion: str, row: Mapping[str, Any]) -> Reading:
    """Read which concepts of a row a sentence uses, each in a role that makes sense."""
    asked = {concept for _, concept in row["facts"]}
    right: set[str] = set()
    wrong, read = 0, False
    sentences, faults = _pieces(completion)
    for sentence in sentences:
        words = sentence.split(" ")
        claims: list[Claim] = []
        state: State | None = None
        if not read and not words[0]:
            for start in concept_grammars():
                state, claims = claims_of(words[1:], start)
                if state is not None:
                    break
        if state is None or "." not in state:
            faults += unreadable(sentence)
            continue
        read = True
        roles = dict(claims)
        for role, lemma in claims:
            if not plausible(role, lemma, roles):
                wrong += 1
                faults += 1
            elif lemma in asked:
                right.add(lemma)
    return Reading(right, wrong, faults)


def judge(completion: str, row: Mapping[str, Any]) -> float:
    """Coverage times precision of what a text tells, less the discount for its faults."""
    if len(completion) > MAX_CHARACTERS or "." not in completion:
        return 0.0
    if row["domain"] == "concepts":
        reading = read_concepts(completion, row)
        asked = len(row["facts"])
    else:
        reading = read_record(completion, row)
        asked = len(row["facts"]) - len(row["private"])
    right = len(reading.right)
    if not right or asked < 1:
        return 0.0
    return right / asked * right / (right + reading.wrong) * discount(reading.faults)

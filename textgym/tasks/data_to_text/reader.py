"""Parses a text about a record or a concept set, and checks its claims against the row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from textgym.tasks.data_to_text.concepts import concept_grammars, plausible
from textgym.tasks.data_to_text.grammar import Claim, State, grammar
from textgym.tasks.judgement import Judgement, discount, nothing, quoted, unreadable
from textgym.tasks.words import MEN

_MAX_CHARACTERS = 2_000
"""Longer texts score 0; references have less than a tenth of this."""

_PRONOUNS = {"restaurant": "it", "match": "they", "flight": "it", "weather": "it"}


class CheckedClaims(NamedTuple):
    """The claims of a text, checked against a row.

    Attributes:
        right: The attributes or concepts that the text states correctly.
        wrong: The number of false, invented or private claims, and of words in implausible roles.
        faults: The number of sentences that are unreadable, about another subject or about an
            unknown one, plus repeated, contradictory and private claims and implausible roles.
    """

    right: set[str]
    wrong: int
    faults: int


def pronoun(domain: str, subject: str) -> str:
    """The pronoun for the subject of a record."""
    return _PRONOUNS.get(domain) or ("he" if subject in MEN else "she")


def claims_of(words: Sequence[str], start: State) -> tuple[State | None, list[Claim]]:
    """Walk an automaton; returns the final state, or None outside the grammar, and the claims."""
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


def _split_sentences(completion: str, judgement: Judgement) -> tuple[list[str], int]:
    """The sentences of a text, and the faults of a last one without a full stop."""
    *sentences, rest = completion.rstrip().replace(",", " ,").split(".")
    if rest:
        judgement.note(quoted(rest), "no full stop at the end")
    return sentences, unreadable(rest) if rest else 0


def read_record(
    completion: str, row: Mapping[str, Any], judgement: Judgement | None = None
) -> CheckedClaims:
    """Check a text against the record of a row; remarks are added to `judgement`."""
    judgement = Judgement() if judgement is None else judgement
    start = grammar(row["domain"])
    subject = row["subject"]
    right_pronoun = pronoun(row["domain"], subject)
    facts: dict[str, str] = dict(row["facts"])
    private = row["private"]
    right: set[str] = set()
    contradicted: set[str] = set()
    claimed: dict[str, str] = {}
    wrong, named = 0, False
    sentences, faults = _split_sentences(completion, judgement)
    for sentence in sentences:
        words = sentence.split(" ")
        state, claims = claims_of(words[1:], start)
        if words[0] or state is None or "." not in state:
            faults += unreadable(sentence)
            judgement.note(quoted(sentence), "not a sentence of the grammar")
            continue
        about_subject, about_other = named, False
        for attribute, value in claims:
            if attribute == "about":
                about_subject = value == subject
                about_other = not about_subject
            elif attribute == "pronoun" and value != right_pronoun:
                about_subject = False
        if about_other:
            faults += unreadable(sentence)
            judgement.note(quoted(sentence), f"not about {subject}")
            continue
        if not about_subject:
            faults += 1
            judgement.note(quoted(sentence), "its subject is unknown")
            continue
        named = True
        for attribute, value in claims:
            if attribute in ("about", "pronoun"):
                continue
            claim = f"{attribute}: {value}"
            if claimed.setdefault(attribute, value) != value:
                faults += 1
                judgement.note(claim, f"contradicts {claimed[attribute]!r}")
            if facts.get(attribute) != value or attribute in private:
                wrong += 1
                contradicted.add(attribute)
                faults += attribute in private
                judgement.note(claim, "private" if attribute in private else "not in the record")
            elif attribute in right:
                faults += 1
                judgement.note(claim, "repeated")
            else:
                right.add(attribute)
    return CheckedClaims(right - contradicted, wrong, faults)


def read_concepts(
    completion: str, row: Mapping[str, Any], judgement: Judgement | None = None
) -> CheckedClaims:
    """Check a sentence against the concepts of a row; remarks are added to `judgement`."""
    judgement = Judgement() if judgement is None else judgement
    asked = {concept for _, concept in row["facts"]}
    right: set[str] = set()
    wrong, read = 0, False
    sentences, faults = _split_sentences(completion, judgement)
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
            judgement.note(quoted(sentence), "a second sentence" if read else "not of the grammar")
            continue
        read = True
        roles = dict(claims)
        for role, lemma in claims:
            if not plausible(role, lemma, roles):
                wrong += 1
                faults += 1
                judgement.note(lemma, f"implausible as {role}")
            elif lemma in asked:
                right.add(lemma)
    return CheckedClaims(right, wrong, faults)


def judge(completion: str, row: Mapping[str, Any]) -> Judgement:
    """Coverage times precision of a text's claims, times the discount for its faults."""
    if len(completion) > _MAX_CHARACTERS or "." not in completion:
        return nothing("the text", "too long" if "." in completion else "not a sentence")
    judgement = Judgement()
    if row["domain"] == "concepts":
        claims = read_concepts(completion, row, judgement)
        asked = [concept for _, concept in row["facts"]]
    else:
        claims = read_record(completion, row, judgement)
        asked = [name for name, _ in row["facts"] if name not in row["private"]]
    for name in asked:
        if name not in claims.right:
            judgement.note(name, "missing")
    right = len(claims.right)
    if not right or not asked:
        return judgement.note("the text", "no right claim")
    stated = ", ".join(sorted(claims.right))
    judgement.settle(f"{right} of {len(asked)}", f"right: {stated}", right / len(asked))
    judgement.settle(
        "wrong claims",
        f"{claims.wrong}, with {right} right ones",
        right / len(asked) * right / (right + claims.wrong),
    )
    return judgement.scale("faults", str(claims.faults), discount(claims.faults))

"""Reads the text of a record or of a concept set back, and compares it with what was given.

The automata of `data_to_text_grammar` and `data_to_text_concepts` say whether a sentence is English
and what its words claim; here the claims are added up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from textgym.tasks.data_to_text.concepts import concept_grammars, plausible
from textgym.tasks.data_to_text.grammar import Claim, State, grammar
from textgym.tasks.judgement import Judgement, discount, nothing, quoted, unreadable
from textgym.tasks.words import MEN

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


def _pieces(completion: str, judgement: Judgement) -> tuple[list[str], int]:
    """The sentences of a text, and the faults of a last one without its full stop."""
    *sentences, rest = completion.rstrip().replace(",", " ,").split(".")
    if rest:
        judgement.note(quoted(rest), "breaks off before its full stop")
    return sentences, unreadable(rest) if rest else 0


def read_record(
    completion: str, row: Mapping[str, Any], judgement: Judgement | None = None
) -> Reading:
    """Read what a text tells about the record of a row; remarks on it go to `judgement`."""
    judgement = Judgement() if judgement is None else judgement
    start = grammar(row["domain"])
    subject = row["subject"]
    told = pronoun(row["domain"], subject)
    facts: dict[str, str] = dict(row["facts"])
    private = row["private"]
    right: set[str] = set()
    denied: set[str] = set()
    claimed: dict[str, str] = {}
    wrong, named = 0, False
    sentences, faults = _pieces(completion, judgement)
    for sentence in sentences:
        words = sentence.split(" ")
        state, claims = claims_of(words[1:], start)
        if words[0] or state is None or "." not in state:
            faults += unreadable(sentence)
            judgement.note(quoted(sentence), "not a sentence of the grammar")
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
            judgement.note(quoted(sentence), f"not about {subject}")
            continue
        if not mine:
            faults += 1
            judgement.note(quoted(sentence), "nobody knows whom it is about")
            continue
        named = True
        for attribute, value in claims:
            if attribute in ("about", "pronoun"):
                continue
            said = f"{attribute}: {value}"
            if claimed.setdefault(attribute, value) != value:
                faults += 1
                judgement.note(said, f"contradicts {claimed[attribute]!r}")
            if facts.get(attribute) != value or attribute in private:
                wrong += 1
                denied.add(attribute)
                faults += attribute in private
                judgement.note(said, "private" if attribute in private else "not in the record")
            elif attribute in right:
                faults += 1
                judgement.note(said, "told again")
            else:
                right.add(attribute)
    return Reading(right - denied, wrong, faults)


def read_concepts(
    completion: str, row: Mapping[str, Any], judgement: Judgement | None = None
) -> Reading:
    """Read which concepts of a row a sentence uses, each in a role that makes sense.

    Remarks go to `judgement`.
    """
    judgement = Judgement() if judgement is None else judgement
    asked = {concept for _, concept in row["facts"]}
    right: set[str] = set()
    wrong, read = 0, False
    sentences, faults = _pieces(completion, judgement)
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
                judgement.note(lemma, f"makes no sense as {role}")
            elif lemma in asked:
                right.add(lemma)
    return Reading(right, wrong, faults)


def judge(completion: str, row: Mapping[str, Any]) -> Judgement:
    """Coverage times precision of what a text tells, less the discount for its faults."""
    if len(completion) > MAX_CHARACTERS or "." not in completion:
        return nothing("the text", "too long" if "." in completion else "not a sentence")
    judgement = Judgement()
    if row["domain"] == "concepts":
        reading = read_concepts(completion, row, judgement)
        asked = [concept for _, concept in row["facts"]]
    else:
        reading = read_record(completion, row, judgement)
        asked = [name for name, _ in row["facts"] if name not in row["private"]]
    for name in asked:
        if name not in reading.right:
            judgement.note(name, "missing")
    right = len(reading.right)
    if not right or not asked:
        return judgement.note("the text", "it tells nothing that is asked for")
    told = ", ".join(sorted(reading.right))
    judgement.settle(f"{right} of {len(asked)}", f"told: {told}", right / len(asked))
    judgement.settle(
        "wrong claims",
        f"{reading.wrong} next to {right} right ones",
        right / len(asked) * right / (right + reading.wrong),
    )
    return judgement.scale("faults", f"{reading.faults} of them", discount(reading.faults))

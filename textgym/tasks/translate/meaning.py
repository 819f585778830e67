"""What a sentence of the translation task means, whatever language it is in.

A meaning is a tree of clauses and phrases. `parts` takes it apart into strings such as
``"patient.adj=red"``, which is what the score compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textgym.tasks.judgement import Judgement
from textgym.tasks.translate.lexicon import COUNTED, HELD_OUT, NOUNS


class Unreadable(ValueError):  # noqa: N818 - it is no error that anybody has to mend
    """A text is not a sentence of the grammar."""


MOST_WORDS = 80
"""Longer texts are not read: clauses in clauses are read by functions that call themselves."""


@dataclass(slots=True)
class Phrase:
    """A noun with what belongs to it.

    Attributes:
        head: A noun, a name, or a pronoun in its subject form.
        det: ``""`` (the), a number, ``"this"``, ``"any"``, ``"plural"`` (the, of several people), a
            possessor (name or pronoun) with ``'s``, ...
        adj: An adjective, or ``""``.
        that: A relative clause; this phrase is what it lacks.
        measure: ``"fits"``, or ``"wrong"`` where the Chinese measure word does not suit the noun.
        many: Whether an English verb takes the plural with it.
    """

    head: str
    det: str = ""
    adj: str = ""
    that: Clause | None = None
    measure: str = "fits"
    many: bool = False


@dataclass(slots=True)
class Clause:
    """A verb with its roles. Values that a reader cannot tell apart are separated by ``|``.

    Attributes:
        tense: past, present, future, progressive, want, can or must.
        front: Whether the time is the first word of the clause.
        link: How `other` is joined to this clause: ``"that"``, ``"but"`` or ``"because"``.
    """

    verb: str = ""
    tense: str = "past"
    neg: bool = False
    ask: bool = False
    agent: Phrase | None = None
    patient: Phrase | None = None
    to: Phrase | None = None
    benefit: Phrase | None = None
    company: Phrase | None = None
    place: str = ""
    time: str = ""
    front: bool = False
    link: str = ""
    other: Clause | None = None


_ARTICLES = "|a|bare|plural|the"
"""What English may say where Chinese has a bare noun; the first, empty, is no part at all."""


def parts(clause: Clause, chinese: bool, prefix: str = "", bare: bool = False) -> list[str]:
    """The parts of a meaning, as ``role=value``: what is unmarked (positive, the) is no part.

    Args:
        clause: The meaning.
        chinese: Whether measure words are parts.
        prefix: What roles begin with.
        bare: Whether nouns without a determiner may get any article: this is so of a Chinese
            sentence that is to be translated.

    Returns:
        The parts. Values that are as good as one another are separated by ``|``; where one of them
        is empty, the part may be missing as well.
    """
    out = [f"{prefix}verb={clause.verb}", f"{prefix}tense={clause.tense}"]
    if clause.neg:
        out.append(f"{prefix}polarity=not")
    if clause.ask:
        out.append(f"{prefix}mood=question")
    if clause.time:
        out.append(f"{prefix}time={clause.time}")
    if clause.place:
        out.append(f"{prefix}place={clause.place}")
    for role, phrase in (
        ("agent", clause.agent),
        ("patient", clause.patient),
        ("to", clause.to),
        ("for", clause.benefit),
        ("with", clause.company),
    ):
        if phrase is None:
            continue
        name = f"{prefix}{role}"
        out.append(f"{name}={phrase.head}")
        det = phrase.det
        if det.endswith("'s"):
            out.append(f"{name}.owner={det[:-2]}")
        elif bare and det in ("", "any"):
            if phrase.head in NOUNS:
                doubt = "|any" if clause.neg or clause.ask else ""
                out.append(f"{name}.det={_ARTICLES}{doubt}")
        elif det:
            out.append(f"{name}.det={det}")
            if chinese and det.strip("|") in COUNTED:
                free = "|" if "|" in det and phrase.measure == "fits" else ""
                out.append(f"{name}.measure={phrase.measure}{free}")
        if phrase.adj:
            out.append(f"{name}.adj={phrase.adj}")
        if phrase.that is not None:
            out += parts(phrase.that, chinese, f"{name}.", bare)
    if clause.other is not None:
        out += parts(clause.other, chinese, f"{prefix}{clause.link}.", bare)
    return out


def agreement(
    gold: Sequence[str], told: Sequence[str], judgement: Judgement | None = None
) -> float:
    """F1 of the parts of a meaning against those that were meant.

    A part that may be missing counts on neither side where the other lacks it. Where it was meant
    so and fits it does not count either: no article earns more than another.

    Args:
        gold: The parts that were meant.
        told: Those of the translation.
        judgement: Gets a remark on each part that is missing, wrong or too much.
    """
    judgement = Judgement() if judgement is None else judgement
    heard = {}
    for part in told:
        role, _, values = part.partition("=")
        heard[role] = values
    hits, total = 0, len(gold) + len(told)
    for part in gold:
        role, _, value = part.partition("=")
        said = heard.pop(role, None)
        if value[:1] == "|":
            total -= 1
            if said is not None and not {*value.split("|")}.isdisjoint(said.split("|")):
                total -= 1
        elif said is not None and (said == value or value in said.split("|")):
            hits += 1
        else:
            judgement.note(part, "missing" if said is None else f"told as {said!r}")
    for role, values in heard.items():
        if values[:1] == "|" or values[-1:] == "|":
            total -= 1
        else:
            judgement.note(f"{role}={values}", "too much")
    return 2 * hits / total


def contradicts(gold: Sequence[str], told: Sequence[str]) -> bool:
    """Whether a clause that both meanings have is denied in one of them and not in the other."""
    meanings = [dict(part.split("=", 1) for part in parts) for parts in (gold, told)]
    both = [role for role in meanings[0] if role in meanings[1] and role.endswith("verb")]
    denials = [role.removesuffix("verb") + "polarity" for role in both]
    return any((role in meanings[0]) != (role in meanings[1]) for role in denials)


def phrases(clause: Clause) -> list[Phrase]:
    """All phrases of a clause and of the clauses in it."""
    found = []
    for phrase in (clause.agent, clause.patient, clause.to, clause.benefit, clause.company):
        if phrase is not None:
            found.append(phrase)
            if phrase.that is not None:
                found += phrases(phrase.that)
    return found + phrases(clause.other) if clause.other is not None else found


def clauses(clause: Clause) -> list[Clause]:
    """A clause and all the clauses in it."""
    found = [clause]
    for phrase in (clause.agent, clause.patient):
        if phrase is not None and phrase.that is not None:
            found += clauses(phrase.that)
    return found + clauses(clause.other) if clause.other is not None else found


def novelties(clause: Clause) -> list[str]:
    """What of a meaning is held out of the train split: pairs of words, and structures."""
    found = []
    agent, other = clause.agent, clause.other
    if agent is not None and agent.that is not None:
        found.append("relative clause of the subject")
    if clause.link == "that" and other is not None and other.link == "that":
        found.append("clause in a clause in a clause")
    _pairs(clause, None, found)
    return found


def _pairs(clause: Clause, outer: Phrase | None, found: list[str]) -> None:
    # The object of a relative clause without one is the noun that the clause belongs to.
    patient = clause.patient
    if patient is None and clause.agent is not None:
        patient = outer
    if patient is not None and (clause.verb, patient.head) in HELD_OUT:
        found.append(f"{clause.verb} {patient.head}")
    for phrase in (clause.agent, clause.patient, clause.to, clause.benefit, clause.company):
        if phrase is None:
            continue
        if phrase.adj and (phrase.adj, phrase.head) in HELD_OUT:
            found.append(f"{phrase.adj} {phrase.head}")
        if phrase.that is not None:
            _pairs(phrase.that, phrase, found)
    if clause.other is not None:
        _pairs(clause.other, None, found)


def settle(clause: Clause) -> Clause:
    """Decide what a reader could not tell apart, for the usual meaning; changes the clause."""
    for one in clauses(clause):
        one.verb, one.tense = one.verb.partition("|")[0], one.tense.partition("|")[0]
        one.time, one.place = one.time.partition("|")[0], one.place.partition("|")[0]
    for phrase in phrases(clause):
        phrase.head, phrase.adj = phrase.head.partition("|")[0], phrase.adj.partition("|")[0]
        phrase.det = phrase.det.partition("|")[0]
    return clause

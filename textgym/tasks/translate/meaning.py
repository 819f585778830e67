"""Language-independent meanings of the sentences of the translation task.

A meaning is a tree of clauses and phrases. `parts` flattens it to strings such as
``"patient.adj=red"``, which the score compares.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from textgym.tasks.judgement import Judgement
from textgym.tasks.translate.lexicon import COUNTED, HELD_OUT, NOUNS


class Unreadable(ValueError):  # noqa: N818 - an expected outcome of parsing, not an error
    """Raised for a text that is not a sentence of the grammar."""


MOST_WORDS = 80
"""Maximum number of words of a sentence, which bounds the recursion of the parsers."""


class WordReader:
    """A position in a list of words, for the recursive-descent parsers."""

    def __init__(self, words: list[str]) -> None:
        self.words = [*words, "", "", ""]
        self.at = 0

    def take(self, options: Collection[str]) -> str:
        """Consume the next word if it is one of these, else return an empty string."""
        word = self.words[self.at]
        if word and word in options:
            self.at += 1
            return word
        return ""

    def need(self, options: Collection[str]) -> str:
        """Consume the next word.

        Raises:
            Unreadable: If it is not one of these.
        """
        word = self.take(options)
        if not word:
            raise Unreadable
        return word


@dataclass(slots=True)
class Phrase:
    """A noun phrase.

    Attributes:
        head: A noun, a name, or a pronoun in its subject form.
        det: ``""`` (the), a number, ``"this"``, ``"any"``, ``"plural"`` (the, of several people), a
            possessor (name or pronoun) with ``'s``, ...
        adj: An adjective, or ``""``.
        that: A relative clause, which lacks this phrase.
        measure: ``"fits"`` or ``"wrong"``: whether the Chinese measure word suits the noun.
        many: Whether it takes a plural verb in English.
    """

    head: str
    det: str = ""
    adj: str = ""
    that: Clause | None = None
    measure: str = "fits"
    many: bool = False


@dataclass(slots=True)
class Clause:
    """A verb with its roles. Values that a parser cannot distinguish are separated by ``|``.

    Attributes:
        tense: past, present, future, progressive, want, can or must.
        front: Whether the time is the first word of the clause.
        link: The conjunction before `other`: ``"that"``, ``"but"`` or ``"because"``.
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
"""English determiners of a bare Chinese noun; the first, empty one is the absence of a part."""


def parts(clause: Clause, chinese: bool, prefix: str = "", bare: bool = False) -> list[str]:
    """Flatten a meaning to parts ``role=value``. Unmarked values (positive, "the") have no part.

    Args:
        clause: The meaning.
        chinese: Whether measure words are parts.
        prefix: Prefix of the roles.
        bare: Whether nouns without a determiner accept any article, as in translations from
            Chinese.

    Returns:
        The parts. Equally good values are separated by ``|``; if one of them is empty, the part is
        optional.
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
    expected: Sequence[str], found: Sequence[str], judgement: Judgement | None = None
) -> float:
    """F1 of the parts of a translation against the expected parts.

    Optional parts that only one side has do not count. Neither do optional parts that agree, so
    that all articles are equally good.

    Args:
        expected: The parts of the correct meaning.
        found: The parts of the translation.
        judgement: Receives a remark on each part that is missing, wrong or superfluous.
    """
    judgement = Judgement() if judgement is None else judgement
    values = dict(part.split("=", 1) for part in found)
    hits, total = 0, len(expected) + len(found)
    for part in expected:
        role, _, right = part.partition("=")
        value = values.pop(role, None)
        if right[:1] == "|":
            total -= 1
            if value is not None and not {*right.split("|")}.isdisjoint(value.split("|")):
                total -= 1
        elif value is not None and (value == right or right in value.split("|")):
            hits += 1
        else:
            judgement.note(part, "missing" if value is None else f"translated as {value!r}")
    for role, value in values.items():
        if value[:1] == "|" or value[-1:] == "|":
            total -= 1
        else:
            judgement.note(f"{role}={value}", "superfluous")
    return 2 * hits / total


def contradicts(expected: Sequence[str], found: Sequence[str]) -> bool:
    """Whether a common clause of two meanings is negated in exactly one of them."""
    meanings = [dict(part.split("=", 1) for part in parts) for parts in (expected, found)]
    both = [role for role in meanings[0] if role in meanings[1] and role.endswith("verb")]
    polarities = [role.removesuffix("verb") + "polarity" for role in both]
    return any((role in meanings[0]) != (role in meanings[1]) for role in polarities)


def phrases(clause: Clause) -> list[Phrase]:
    """All phrases of a clause and its subclauses."""
    found = []
    for phrase in (clause.agent, clause.patient, clause.to, clause.benefit, clause.company):
        if phrase is not None:
            found.append(phrase)
            if phrase.that is not None:
                found += phrases(phrase.that)
    return found + phrases(clause.other) if clause.other is not None else found


def clauses(clause: Clause) -> list[Clause]:
    """A clause and all its subclauses."""
    found = [clause]
    for phrase in (clause.agent, clause.patient):
        if phrase is not None and phrase.that is not None:
            found += clauses(phrase.that)
    return found + clauses(clause.other) if clause.other is not None else found


def novelties(clause: Clause) -> list[str]:
    """The word pairs and structures in a meaning that are held out of the train split."""
    found = []
    agent, other = clause.agent, clause.other
    if agent is not None and agent.that is not None:
        found.append("relative clause of the subject")
    if clause.link == "that" and other is not None and other.link == "that":
        found.append("clause in a clause in a clause")
    _pairs(clause, None, found)
    return found


def _pairs(clause: Clause, outer: Phrase | None, found: list[str]) -> None:
    # The missing object of a relative clause is its antecedent.
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
    """Resolve ambiguous values to the most usual one. Modifies the clause."""
    for part in clauses(clause):
        part.verb, part.tense = part.verb.partition("|")[0], part.tense.partition("|")[0]
        part.time, part.place = part.time.partition("|")[0], part.place.partition("|")[0]
    for phrase in phrases(clause):
        phrase.head, phrase.adj = phrase.head.partition("|")[0], phrase.adj.partition("|")[0]
        phrase.det = phrase.det.partition("|")[0]
    return clause

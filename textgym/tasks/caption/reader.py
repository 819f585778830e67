"""Parses a caption into claims about objects.

A sentence is a sequence of phrases (`textgym.tasks.caption.phrases`) with a letter each, so the
grammar of clauses is a regular expression over letters. The picture is not consulted.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from textgym.tasks.caption.phrases import Meaning, Noun, Place, split_phrases

_UNREADABLE = 2
"""Faults of a sentence outside the grammar: one such sentence costs more than half of the score."""
_WORDS_PER_FAULT = 8
_LETTERS_PER_WORD = 6
"""A longer sentence outside the grammar has one more fault per 8 words, or 6 letters per word."""
LIMIT = 400
"""Longer texts (in characters) are not parsed."""

Attribute = tuple[str, str]
"""A name and a value, such as ``("colour", "red")``."""
Relation = tuple[int, str, int]
"""An object, its relation (left, above or near) to another, and the other."""


class ClaimedObject(NamedTuple):
    """The claims about one object that a caption names."""

    attributes: frozenset[Attribute]
    places: tuple[Place, ...]


class Claims(NamedTuple):
    """The claims of a caption.

    Attributes:
        objects: The objects that are named.
        relations: Relations between them, without repetition.
        totals: Claims about the number of objects in the picture.
        faults: Faults that do not depend on the picture: sentences outside the grammar, clauses and
            parts of clauses that say nothing new, and objects without any claim.
    """

    objects: tuple[ClaimedObject, ...]
    relations: tuple[Relation, ...]
    totals: tuple[int, ...]
    faults: int


# The complement of a noun: a place, or relations to another object. After an "and" the complement
# belongs to the next noun if "there is" or "is" follows: "..., and at the top is ...".
_COMPLEMENT = "(?:L|R(?:AR)?[NP])"
_NEXT = f"(?:W?{_COMPLEMENT}|AW?{_COMPLEMENT}(?!A?[TI]))"
_IS = f"I(?:{_COMPLEMENT}|J|N)(?:(?:A?{_COMPLEMENT}|AJ)(?!A?[TI]))*"
_CLAUSE = re.compile(
    f"{_COMPLEMENT}(?:A?[TI]N{_COMPLEMENT}*|AN{_COMPLEMENT}*(?!I))"  # At the top is a circle
    f"|TN{_NEXT}*"  # There is a circle at the top
    f"|N(?:AN)+{_IS}"  # A circle and a square are at the top
    f"|N{_NEXT}*(?:{_IS})?"  # A circle at the top is red
    f"|P{_IS}"  # It is at the top
)
_ITS = re.compile(r" (?:to|on|at) its (left|right)\b")
_MIRRORED = {"right": "left", "below": "above"}
"""Relations that are stored with their arguments exchanged."""


@lru_cache(maxsize=10_000)
def read(text: str) -> Claims:
    """Parse a caption of one or more sentences; the last full stop is optional."""
    parser = _Parser()
    line, _, after = text.strip().partition("\n")
    faults = _unreadable(after) if after else 0
    line = line.lower().replace("\u2019", "'").replace("'s ", " is ")
    if " its " in line:
        line = _ITS.sub(r" to the \1 of it", line)
    for sentence in line.removesuffix(".").split("."):
        words = sentence.split()
        found = parser.sentence(split_phrases(" ".join(words)))
        faults += _unreadable(sentence) if found is None else found
    return parser.claims(faults)


def _unreadable(text: str) -> int:
    """The faults of text outside the grammar."""
    size = max(len(text.split()), len(text) // _LETTERS_PER_WORD)
    return _UNREADABLE + size // _WORDS_PER_FAULT


class _Parser:
    """Collects claims sentence by sentence, and resolves references to earlier objects."""

    def __init__(self) -> None:
        self.attributes: list[set[Attribute]] = []
        self.places: list[list[Place]] = []
        self.relations: list[Relation] = []
        self.totals: list[int] = []
        self.mentions: list[list[int]] = []  # the objects of each noun so far
        self.subject: list[int] = []
        self.size = 0  # the number of claims, which shows whether a clause adds any
        self.repeated = 0  # places, relations and adjectives that were claimed before

    def claims(self, faults: int) -> Claims:
        objects = tuple(
            map(ClaimedObject, map(frozenset, self.attributes), map(tuple, self.places))
        )
        if not all(self.attributes):
            related = {number for one, _, other in self.relations for number in (one, other)}
            for number, thing in enumerate(objects):
                faults += not thing.attributes and not thing.places and number not in related
        return Claims(objects, tuple(self.relations), tuple(self.totals), faults)

    def sentence(self, words: list[tuple[str, Meaning]]) -> int | None:
        """Add the claims of a sentence.

        Returns:
            The number of clauses, and parts of clauses, that add nothing; None for a sentence
            outside the grammar.
        """
        letters = "".join([letter for letter, _ in words])
        if not self.attributes and letters.startswith("PIN") and words[0][1] == "it":
            # "It is a red circle" as the first sentence: "this is".
            words = [("T", "it is"), *words[2:]]
            letters = f"T{letters[2:]}"
        clauses: list[tuple[int, int]] = []
        start, size = 0, len(letters)
        while match := _CLAUSE.match(letters, start):
            begin, end = match.span()
            clauses.append((begin, end))
            start = end + 1
            if end == size or letters[end] != "A":
                break
        if not clauses or clauses[-1][1] != size:
            return None
        idle = 0
        for begin, end in clauses:
            before, repeated = self.size, self.repeated
            if not self.clause(words[begin:end]):
                return None
            idle += max(self.size == before, self.repeated - repeated)
        return idle

    def clause(self, words: list[tuple[str, Meaning]]) -> bool:
        """Add the claims of a clause; False if a pronoun has no referent."""
        subject: list[int] = []
        pending: list[tuple[str, Place | list[int]]] = []  # complements before their subject
        sides: list[str] = []
        verb = False
        for letter, meaning in words:
            if letter == "I":
                verb = True
            elif letter == "R":
                sides.append(str(meaning))
            elif letter == "N" or letter == "P":
                if not isinstance(meaning, Noun):
                    objects = self.pronoun(str(meaning), subject)
                    if not objects:
                        return False
                elif verb and subject and not sides:
                    for attribute in meaning.attributes:  # "it is a red circle"
                        self.describe(subject, attribute)
                    continue
                else:
                    objects = self.resolve(meaning)
                self.mentions.append(objects)
                if sides:
                    if subject:
                        self.relate(subject, sides, objects)
                    else:
                        pending += [(side, objects) for side in sides]
                    sides = []
                    continue
                self.repeated += bool(objects) and set(objects) <= set(subject)
                subject = subject + objects
                for side, other in pending:
                    if isinstance(other, Place):
                        self.place(subject, other)
                    else:
                        self.relate(subject, [side], other)
                pending = []
            elif isinstance(meaning, Place):
                if subject:
                    self.place(subject, meaning)
                else:
                    pending.append(("", meaning))
            elif letter == "J":
                before = self.size
                self.describe(subject, (str(meaning[0]), str(meaning[1])))
                self.repeated += self.size == before
        self.subject = subject
        return True

    def resolve(self, noun: Noun) -> list[int]:
        """The objects of a noun: matching earlier ones after "the", otherwise new ones."""
        if noun.definite:
            fits = [
                number
                for number, attributes in enumerate(self.attributes)
                if not any(
                    kind == name and known != value
                    for kind, known in attributes
                    for name, value in noun.attributes
                )
            ]
            if len(fits) >= noun.number:
                fits = fits if noun.number > 1 else fits[-1:]
                for attribute in noun.attributes:
                    self.describe(fits, attribute)
                return fits
        if noun.number > 1 and not noun.attributes:
            self.totals.append(noun.number)
            self.size += 1
            return []
        first = len(self.attributes)
        for _ in range(noun.number):
            self.attributes.append(set(noun.attributes))
            self.places.append([])
        self.size += 1
        return list(range(first, first + noun.number))

    def pronoun(self, word: str, subject: list[int]) -> list[int]:
        """The referents of "it" or "they", or an empty list."""
        single = word == "it"
        if not subject and self.subject and (len(self.subject) == 1) == single:
            return self.subject  # a new clause keeps its subject; "... above it" has another
        for objects in reversed(self.mentions):
            if (len(objects) == 1) == single and objects and not set(objects) & set(subject):
                return objects
        others = [number for number in range(len(self.attributes)) if number not in subject]
        return others if not single and len(others) > 1 else []

    def describe(self, objects: list[int], attribute: Attribute) -> None:
        for number in objects:
            if attribute not in self.attributes[number]:
                self.attributes[number].add(attribute)
                self.size += 1

    def place(self, objects: list[int], place: Place) -> None:
        before = self.size
        for number in objects:
            if place not in self.places[number]:
                self.places[number].append(place)
                self.size += 1
        self.repeated += self.size == before

    def relate(self, objects: list[int], sides: list[str], others: list[int]) -> None:
        for side in sides:
            before = self.size
            name = _MIRRORED.get(side, side)
            for one in objects:
                for other in others:
                    mirrored = name != side or (side == "near" and other < one)
                    relation = (other, name, one) if mirrored else (one, name, other)
                    if relation not in self.relations:
                        self.relations.append(relation)
                        self.size += 1
            self.repeated += self.size == before

"""Reads a caption: which things it names, and what it claims about them.

A sentence is a string of chunks (`textgym.tasks.caption.chunks`), a letter each, so that the
grammar of clauses is a regular expression over letters. Reading looks at no picture.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from textgym.tasks.caption.chunks import Meaning, Noun, Place, chunks

SLIPS = 2
"""What a sentence outside the grammar counts, so that one is more than half of the score."""
WORDS_PER_SLIP = 8
LETTERS_PER_WORD = 6
"""Such a sentence is one slip more per this many words, or letters of them."""
LIMIT = 400
"""Characters of the longest text that is worth reading."""

Look = tuple[str, str]
"""What is said of how a thing looks: ``("colour", "red")``."""
Relation = tuple[int, str, int]
"""A thing, how it stands to another (left, above or near), and the other."""


class Thing(NamedTuple):
    """What is said of a thing that a caption names."""

    looks: frozenset[Look]
    places: tuple[Place, ...]


class Reading(NamedTuple):
    """What a caption claims.

    Attributes:
        things: What is claimed of each thing that is named.
        relations: How things stand to each other, each told once.
        totals: How many things there are said to be in all.
        slips: Faults whatever the picture shows: sentences outside the grammar, clauses, and
            parts of them, that say nothing new, and things of which nothing is said.
    """

    things: tuple[Thing, ...]
    relations: tuple[Relation, ...]
    totals: tuple[int, ...]
    slips: int


# What stands beside a thing: a place, or relations to another thing. What follows an "and" is not
# beside the thing before it if "there is" or "is" comes next: "..., and at the top is ...".
_BESIDE = "(?:L|R(?:AR)?[NP])"
_NEXT = f"(?:W?{_BESIDE}|AW?{_BESIDE}(?!A?[TI]))"
_IS = f"I(?:{_BESIDE}|J|N)(?:(?:A?{_BESIDE}|AJ)(?!A?[TI]))*"
_CLAUSE = re.compile(
    f"{_BESIDE}(?:A?[TI]N{_BESIDE}*|AN{_BESIDE}*(?!I))"  # At the top (there) is a circle
    f"|TN{_NEXT}*"  # There is a circle at the top
    f"|N(?:AN)+{_IS}"  # A circle and a square are at the top
    f"|N{_NEXT}*(?:{_IS})?"  # A circle at the top is red
    f"|P{_IS}"  # It is at the top
)
_ITS = re.compile(r" (?:to|on|at) its (left|right)\b")


@lru_cache(maxsize=10_000)
def read(text: str) -> Reading:
    """Read a caption of one or more sentences; a full stop at the end may be left out."""
    teller = _Teller()
    line, _, after = text.strip().partition("\n")
    slips = _outside(after) if after else 0
    line = line.lower().replace("\u2019", "'").replace("'s ", " is ")
    if " its " in line:
        line = _ITS.sub(r" to the \1 of it", line)
    for sentence in line.removesuffix(".").split("."):
        words = sentence.split()
        told = teller.sentence(chunks(" ".join(words)))
        slips += told if told >= 0 else _outside(sentence)
    return teller.reading(slips)


def _outside(text: str) -> int:
    """The slips of what is outside the grammar."""
    size = max(len(text.split()), len(text) // LETTERS_PER_WORD)
    return SLIPS + size // WORDS_PER_SLIP


class _Teller:
    """What a caption has said so far."""

    def __init__(self) -> None:
        self.looks: list[set[Look]] = []
        self.places: list[list[Place]] = []
        self.relations: list[Relation] = []
        self.totals: list[int] = []
        self.mentions: list[list[int]] = []  # which things each noun so far spoke of
        self.subject: list[int] = []
        self.said = 0  # how much, so that one sees whether a clause says anything new
        self.repeated = 0  # places, relations and adjectives that were known before

    def reading(self, slips: int) -> Reading:
        things = tuple(map(Thing, map(frozenset, self.looks), map(tuple, self.places)))
        if not all(self.looks):
            related = {thing for one, _, other in self.relations for thing in (one, other)}
            for number, thing in enumerate(things):
                slips += not thing.looks and not thing.places and number not in related
        return Reading(things, tuple(self.relations), tuple(self.totals), slips)

    def sentence(self, words: list[tuple[str, Meaning]]) -> int:
        """Take in a sentence.

        Returns:
            How many clauses, and parts of them, say nothing new; -1 for what is not English.
        """
        letters = "".join([letter for letter, _ in words])
        if not self.looks and letters.startswith("PIN") and words[0][1] == "it":
            # "It is a red circle", before anything else: "this is".
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
            return -1
        idle = 0
        for begin, end in clauses:
            before, repeated = self.said, self.repeated
            if not self.clause(words[begin:end]):
                return -1
            idle += max(self.said == before, self.repeated - repeated)
        return idle

    def clause(self, words: list[tuple[str, Meaning]]) -> bool:
        """Take in a clause; False if nobody knows what a pronoun stands for."""
        subject: list[int] = []
        ahead: list[tuple[str, Place | list[int]]] = []  # told before the subject is
        sides: list[str] = []
        verb = False
        for letter, meaning in words:
            if letter == "I":
                verb = True
            elif letter == "R":
                sides.append(str(meaning))
            elif letter == "N" or letter == "P":
                if not isinstance(meaning, Noun):
                    things = self.pronoun(str(meaning), subject)
                    if not things:
                        return False
                elif verb and subject and not sides:
                    for look in meaning.looks:  # "it is a red circle"
                        self.look(subject, look)
                    continue
                else:
                    things = self.resolve(meaning)
                self.mentions.append(things)
                if sides:
                    told = [(side, things) for side in sides]
                    sides = []
                    if subject:
                        self.relate(subject, told)
                    else:
                        ahead += told
                    continue
                self.repeated += bool(things) and set(things) <= set(subject)
                subject = subject + things
                for name, what in ahead:
                    if isinstance(what, Place):
                        self.place(subject, what)
                    else:
                        self.relate(subject, [(name, what)])
                ahead = []
            elif isinstance(meaning, Place):
                if subject:
                    self.place(subject, meaning)
                else:
                    ahead.append(("", meaning))
            elif letter == "J":
                before = self.said
                self.look(subject, (str(meaning[0]), str(meaning[1])))
                self.repeated += self.said == before
        self.subject = subject
        return True

    def resolve(self, noun: Noun) -> list[int]:
        """The things that a noun speaks of: new ones, unless it is "the", and some fit."""
        if noun.known:
            fits = [
                number
                for number, looks in enumerate(self.looks)
                if not any(
                    kind == name and what != value
                    for kind, what in looks
                    for name, value in noun.looks
                )
            ]
            if len(fits) >= noun.number:
                fits = fits if noun.number > 1 else fits[-1:]
                for look in noun.looks:
                    self.look(fits, look)
                return fits
        if noun.number > 1 and not noun.looks:
            self.totals.append(noun.number)
            self.said += 1
            return []
        first = len(self.looks)
        for _ in range(noun.number):
            self.looks.append(set(noun.looks))
            self.places.append([])
        self.said += 1
        return list(range(first, first + noun.number))

    def pronoun(self, word: str, subject: list[int]) -> list[int]:
        """What it or they stand for; nothing if that is not to be known."""
        single = word == "it"
        if not subject and self.subject and (len(self.subject) == 1) == single:
            return self.subject  # it goes on about the same; "... above it" is about another
        for things in reversed(self.mentions):
            if (len(things) == 1) == single and things and not set(things) & set(subject):
                return things
        others = [thing for thing in range(len(self.looks)) if thing not in subject]
        return others if not single and len(others) > 1 else []

    def look(self, things: list[int], look: Look) -> None:
        for thing in things:
            if look not in self.looks[thing]:
                self.looks[thing].add(look)
                self.said += 1

    def place(self, things: list[int], place: Place) -> None:
        before = self.said
        for thing in things:
            if place not in self.places[thing]:
                self.places[thing].append(place)
                self.said += 1
        self.repeated += self.said == before

    def relate(self, things: list[int], told: list[tuple[str, list[int]]]) -> None:
        for side, others in told:
            before = self.said
            name = _SAME.get(side, side)
            for one in things:
                for other in others:
                    turned = name != side or (side == "near" and other < one)
                    relation = (other, name, one) if turned else (one, name, other)
                    if relation not in self.relations:
                        self.relations.append(relation)
                        self.said += 1
            self.repeated += self.said == before


_SAME = {"right": "left", "below": "above"}
"""Relations that are told the other way round."""

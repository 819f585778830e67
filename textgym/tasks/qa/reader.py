"""Parses a story and a question that a user wrote, and answers it: `QA.complete_row`.

It knows the sentences of the writer's stories and some more (including those of the bAbI tasks),
with any names, places and things. It shares no code with the writer.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from textgym.tasks.qa.world import NUMBERS, PRONOUNS, TIMES

_SENTENCE = re.compile(r"[^.!?]+[.!?]")
_OPENER = re.compile(r"(?:(?:Then|Soon|Later|At last|Afterwards|After that),? )?(.*)")
_GO = r"(\w+) (?:went|walked|ran|hurried|moved|journeyed|travelled)(?: back)? to the (\w+)"
_TAKE = r"(\w+) (?:took|grabbed|got|picked up) the (\w+)(?: there)?"
_DROP = r"(\w+) (?:dropped|discarded|left|put down) the (\w+)(?: there)?"
_TIME = "|".join(TIMES)

_PATTERNS = [
    (event, re.compile(pattern))
    for event, pattern in (
        ("go", _GO),
        ("take", _TAKE),
        ("drop", _DROP),
        ("give", r"(\w+) (?:gave|handed|passed) the (\w+) to (\w+)"),
        ("give to", r"(\w+) (?:gave|handed|passed) (\w+) the (\w+)"),
        ("lie", r"There is an? (\w+) in the (\w+)"),
        ("lie", r"The (\w+) is in the (\w+)"),
        ("be", r"(\w+) is in the (\w+)"),
        ("not", r"(\w+) is (?:not|no longer) in the (\w+)"),
        ("either", r"(\w+) is (?:either )?in the (\w+) or (?:in )?the (\w+)"),
        ("then", rf"({_TIME}),? (\w+) was in the (\w+)"),
    )
]

_QUESTIONS = [
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("where", r"(?:Where|In which place) is ((?:the )?\w+)\?"),
        ("was", r"Where was ((?:the )?\w+) before the (\w+)\?"),
        ("then", rf"Where was (\w+) ({_TIME})\?"),
        ("has", r"Who has (the \w+)\?"),
        ("holds", r"What does (\w+) have\?"),
        ("count", r"How many things does (\w+) have\?"),
        ("is", r"Is ((?:the )?\w+) in the (\w+)\?"),
        ("giver", r"Who gave (the \w+) to (\w+)\?"),
        ("receiver", r"Who did (\w+) give (the \w+) to\?"),
        ("gift", r"What did (\w+) give to (\w+)\?"),
    )
]


class AnsweredQuestion(NamedTuple):
    """A question in the columns of a row, and its answer; empty if the story leaves it open."""

    kind: str
    about: list[str]
    answer: str


class UnreadableError(Exception):
    """A sentence or question that the reader does not know, or that has several answers."""


class _World:
    """The known places of people and things. The names of things begin with "the"."""

    def __init__(self) -> None:
        self.places: dict[str, str] = {}
        self.holders: dict[str, str] = {}  # "nobody" after a thing was dropped
        self.excluded: dict[str, set[str]] = {}
        self.possible: dict[str, set[str]] = {}
        self.times: dict[tuple[str, str], str] = {}
        self.gifts: list[tuple[str, str, str]] = []
        self.seen: dict[str, list[str]] = {}

    def where(self, what: str) -> str:
        holder = self.holders.get(what, "nobody")
        return self.places.get(what if holder == "nobody" else holder, "")

    def put(self, who: str, place: str) -> None:
        self.places[who] = place
        self.excluded.pop(who, None)
        self.possible.pop(who, None)

    def together(self, one: str, other: str) -> None:
        """Two people or things meet: a known place of one is the place of both."""
        for who, whom in ((one, other), (other, one)):
            if self.where(who) and not self.where(whom):
                self.put(whom, self.where(who))

    def happen(self, event: str, words: list[str]) -> None:
        who, what, *rest = words
        if event in ("go", "be"):
            self.put(who, what)
        elif event == "lie":
            self.put(f"the {who}", what)
            self.holders[f"the {who}"] = "nobody"
        elif event == "take":
            thing = f"the {what}"
            if self.holders.get(thing, "nobody") == "nobody" and self.where(thing):
                self.together(who, thing)
            self.holders[thing] = who
        elif event == "drop":
            thing = f"the {what}"
            self.holders[thing] = "nobody"
            if who in self.places:
                self.places[thing] = self.places[who]
            else:
                self.places.pop(thing, None)
        elif event in ("give", "give to"):
            thing, whom = (what, rest[0]) if event == "give" else (rest[0], what)
            self.together(who, whom)
            self.holders[f"the {thing}"] = whom
            self.gifts.append((who, f"the {thing}", whom))
        elif event == "not":
            self.excluded.setdefault(who, set()).add(what)
            left = self.possible.get(who, set()) - {what}
            if len(left) == 1:
                self.put(who, left.pop())
            elif self.places.get(who) == what:
                del self.places[who]
        elif event == "either":
            self.places.pop(who, None)
            self.possible[who] = {what, rest[0]}
        else:
            self.times[what, who] = rest[0]
        for one in [*self.places, *self.holders]:
            if (place := self.where(one)) and [place] != self.seen.get(one, [])[-1:]:
                self.seen.setdefault(one, []).append(place)

    def answer(self, kind: str, words: list[str]) -> str:
        one = words[0]
        if kind == "where":
            return self.where(one)
        if kind == "was":
            seen = self.seen.get(one, [])
            if words[1] not in seen:
                return ""
            number = len(seen) - 1 - seen[::-1].index(words[1])
            return seen[number - 1] if number else ""
        if kind == "then":
            return self.times.get((one, words[1]), "")
        if kind == "has":
            return self.holders.get(one, "")
        if kind in ("holds", "count"):
            things = [thing for thing, who in self.holders.items() if who == one]
            if kind == "count":
                return NUMBERS[len(things)] if len(things) < len(NUMBERS) else str(len(things))
            return _only({thing.removeprefix("the ") for thing in things}, needed=True)
        if kind == "is":
            return self.is_in(one, words[1])
        if kind == "giver":
            return _only({who for who, thing, whom in self.gifts if [thing, whom] == words})
        if kind == "receiver":
            return _only({whom for who, thing, whom in self.gifts if [who, thing] == words})
        things = [thing for who, thing, whom in self.gifts if [who, whom] == words]
        return _only({thing.removeprefix("the ") for thing in things})

    def is_in(self, what: str, place: str) -> str:
        there = self.where(what)
        if there:
            return "yes" if there == place else "no"
        if place in self.excluded.get(what, ()):
            return "no"
        if what in self.possible and place not in self.possible[what]:
            return "no"
        return ""


def _only(answers: set[str], needed: bool = False) -> str:
    if len(answers) > 1 or (needed and not answers):
        raise UnreadableError
    return answers.pop() if answers else ""


def read(prompt: str) -> AnsweredQuestion | None:
    """Read a prompt ``Context: ... Question: ...``; None if a sentence is unknown."""
    found = re.fullmatch(r"Context: (.*)\nQuestion: (.*)\nAnswer:", prompt, re.DOTALL)
    if not found:
        return None
    world = _World()
    subjects: dict[str, str] = {}  # the referents of he and she
    try:
        for sentence in _SENTENCE.findall(found[1]):
            event, words = _parse(sentence.strip()[:-1])
            who = 1 if event == "then" else 0
            words[who] = subjects.get(words[who].lower(), words[who])
            if event not in ("lie", "then"):
                he = PRONOUNS.get(words[who])
                subjects.update({he: words[who]} if he else {"he": words[who], "she": words[who]})
            world.happen(event, words)
        for kind, pattern in _QUESTIONS:
            if asked := pattern.fullmatch(found[2].strip()):
                words = list(asked.groups())
                about = words[:1] if kind in ("was", "then") else words
                kind_of_row = "was" if kind == "then" else kind
                return AnsweredQuestion(kind_of_row, about, world.answer(kind, words))
    except UnreadableError:
        pass
    return None


def _parse(sentence: str) -> tuple[str, list[str]]:
    bare = _OPENER.fullmatch(sentence)
    assert bare is not None
    for event, pattern in _PATTERNS:
        timed = event == "then"
        text = sentence[:1].lower() + sentence[1:] if timed else bare[1]
        if found := pattern.fullmatch(text):
            return event, list(found.groups())
    raise UnreadableError

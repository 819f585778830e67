"""The people, places and things of a story, and sentences about them."""

from __future__ import annotations

from typing import NamedTuple

from textgym.tasks.random_draws import Draw, pick
from textgym.tasks.words import GIVE, GO, MEN, PLACES, TAKE, THINGS, WOMEN

NAMES = (*MEN, *WOMEN)
PRONOUNS = dict.fromkeys(MEN, "he") | dict.fromkeys(WOMEN, "she")
TIMES = ("in the morning", "at noon", "in the evening")
NUMBERS = ("none", "one", "two", "three")
AN = {thing: f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}" for thing in THINGS}


class Plan(NamedTuple):
    """A story with a question.

    Attributes:
        chain: The relevant sentences, in order; an entry may be two that belong together.
        question: The question.
        kind: A kind of question of `textgym.tasks.qa.answers`.
        about: The people and things that the question names.
        answer: One word; empty if the question is unanswerable.
    """

    chain: list[str]
    question: str
    kind: str
    about: list[str]
    answer: str


class Cast:
    """Draws names, places and things without replacement, and sentences about them."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self._names = list(NAMES)
        self._places = list(PLACES)
        self._things = list(THINGS)

    def chance(self, share: float) -> bool:
        """True with probability `share`."""
        return self.draw() < share

    def name(self) -> str:
        """A new name."""
        return self._names.pop(int(self.draw() * len(self._names)))

    def place(self) -> str:
        """A new place."""
        return self._places.pop(int(self.draw() * len(self._places)))

    def thing(self) -> str:
        """A new thing."""
        return self._things.pop(int(self.draw() * len(self._things)))

    def go(self, who: str, place: str) -> str:
        """`who` goes to a place."""
        return f"{who} {pick(GO, self.draw)} to the {place}."

    def take(self, who: str, thing: str) -> str:
        """`who` takes a thing."""
        return f"{who} {pick(TAKE, self.draw)} the {thing}."

    def give(self, who: str, thing: str, whom: str) -> str:
        """`who` gives a thing to `whom`."""
        luck = self.draw() * 2
        gave = GIVE[int(luck * len(GIVE)) % len(GIVE)]
        if luck < 1:
            return f"{who} {gave} the {thing} to {whom}."
        return f"{who} {gave} {whom} the {thing}."

    def drop(self, who: str, thing: str) -> str:
        """`who` drops a thing."""
        return f"{who} dropped the {thing}."

    def lies(self, thing: str, place: str) -> str:
        """A thing lies in a place."""
        if self.chance(0.5):
            return f"There is {AN[thing]} in the {place}."
        return f"The {thing} is in the {place}."

    def pronoun(self, who: str) -> str:
        """A pronoun for the subject of the previous sentence."""
        he = PRONOUNS[who]
        return f"Then {he}" if self.chance(0.6) else he.capitalize()

    def aside(self, who: str) -> str:
        """A sentence about an irrelevant person."""
        luck = self.draw()
        if luck < 0.6:
            return self.go(who, self.place())
        if luck < 0.85:
            return self.take(who, self.thing())
        return self.lies(self.thing(), self.place())

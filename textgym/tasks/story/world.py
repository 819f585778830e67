"""The simulated world of the story task: its state, and the effects of events.

People are in places; things are in places, in boxes or with people; boxes are open, shut or locked.
Feelings need a cause. The world is independent of English; `textgym.tasks.story.reader` turns
sentences into events.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from textgym.tasks.story.grammar import HAPPY, SAD
from textgym.tasks.words import MEN, WOMEN

NAMES = dict.fromkeys(MEN, "he") | dict.fromkeys(WOMEN, "she")
"""The pronoun of each person who may appear in a story."""


class Event(NamedTuple):
    """An event. Arguments that do not apply are empty strings."""

    verb: str
    who: str
    thing: str = ""
    box: str = ""
    place: str = ""
    whom: str = ""


class World:
    """The state of a story.

    Args:
        facts: Locations, as pairs: a person and a place, a box and a place, or a thing and a place,
            box or person.
        boxes: Pairs of a box and ``"open"``, ``"shut"`` or ``"locked"``.
    """

    def __init__(self, facts: Iterable[tuple[str, str]], boxes: Iterable[tuple[str, str]]) -> None:
        self.where: dict[str, str] = dict(facts)
        self.boxes: dict[str, str] = dict(boxes)
        self.people = [name for name in self.where if name in NAMES]
        self.moods: dict[str, str] = {}
        self.owes: dict[str, str] = {}  # receiver -> giver, until the receiver says thanks
        self.past: set[Event] = set()

    def do(self, event: Event) -> str:
        """Apply an event, if it is possible.

        Returns:
            An empty string, or the reason why the event is impossible. The state is then unchanged.
        """
        reason = self._try(event)
        if not reason:
            self.past.add(event)
        return reason

    def _try(self, event: Event) -> str:
        verb, who, thing, box, place, whom = event
        where, boxes = self.where, self.boxes
        for name in (who, whom, thing, box):
            if name and name not in where:
                return f"there is no {name} in this story"
        if event in self.past:
            return "it has happened already"
        if (box and box not in boxes) or thing in boxes:
            return f"the {box or thing} is not for that"
        here = where[who]
        if whom:
            if whom == who:
                return f"{who} cannot do this to {who}"
            if where[whom] != here:
                return f"{whom} is not in the {here}"
        if box and where[box] != here:
            return f"the {box} is not in the {here}"
        if verb == "go":
            if place == here:
                return f"{who} is in the {place} already"
            for other in self.people:
                if other != who and other != whom and where[other] == here:
                    self.moods[other] = "sad"  # left behind
            where[who] = place
            if whom:
                where[whom] = place
        elif verb == "take":
            at = where[thing]
            if at in boxes:
                if where[at] != here:
                    return f"the {thing} is in the {at}, which is not in the {here}"
                if boxes[at] != "open":
                    return f"the {at} is {boxes[at]}"
            elif at != here:
                return f"the {thing} is not in the {here}"
            if box and at != box:
                return f"the {thing} is not in the {box}"
            where[thing] = who
        elif verb in ("give", "drop", "put"):
            if where[thing] != who:
                return f"{who} does not have the {thing}"
            if verb == "give":
                where[thing] = whom
                self.moods[whom] = "happy"
                self.owes[whom] = who
            elif verb == "drop":
                where[thing] = here
            elif boxes[box] != "open":
                return f"the {box} is {boxes[box]}"
            else:
                where[thing] = box
        elif verb == "open":
            if boxes[box] != "shut":
                return f"the {box} is {boxes[box]}"
            boxes[box] = "open"
        elif verb == "close":
            if boxes[box] != "open":
                return f"the {box} is {boxes[box]}"
            boxes[box] = "shut"
        elif verb == "unlock":
            if boxes[box] != "locked":
                return f"the {box} is {boxes[box]}"
            if where.get("key") != who:
                return f"{who} does not have the key"
            boxes[box] = "shut"
        elif verb == "thank":
            if self.owes.get(who) != whom:
                return f"{who} has nothing to thank {whom} for"
            del self.owes[who]
        elif verb == "tell":
            self.moods[whom] = "happy"
        elif verb in HAPPY or verb in SAD:
            if self.moods.get(who) != ("happy" if verb in HAPPY else "sad"):
                return f"{who} has no reason to {verb}"
            del self.moods[who]
        return ""

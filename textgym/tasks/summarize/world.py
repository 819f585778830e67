"""The events of the stories of the summary task, and the unimportant facts around them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from textgym.tasks.random_draws import Draw, pick
from textgym.tasks.summarize.grammar import (
    AIRS,
    IDLE,
    IDLE_AT,
    PLACES,
    SCENES,
    Fact,
)

_NEXT = {
    "held": ("lose", "steal", "hide", "break", "sell", "give", "carry"),
    "broken": ("mend", "sell", "give", "hide"),
    "gone": ("find",),
    "broken and gone": ("find",),
}
"""Possible events, by the state of the thing."""


def _after(state: str, verb: str) -> str:
    if verb in ("lose", "hide"):
        return "broken and gone" if state.startswith("broken") else "gone"
    if verb == "find":
        return "broken" if state.startswith("broken") else "held"
    return {"break": "broken", "mend": "held"}.get(verb, state)


def _chains(
    length: int, state: str = "held", done: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """All sequences of different events."""
    if len(done) == length:
        yield done
        return
    for verb in _NEXT[state]:
        if verb not in done:
            yield from _chains(length, _after(state, verb), (*done, verb))


CHAINS = {length: tuple(_chains(length)) for length in (3, 4)}


def happen(chain: Sequence[str], thing: str, people: Sequence[str], draw: Draw) -> list[Fact]:
    """Draw the facts of a sequence of events; the first of the people owns the thing."""
    holder = people[0]
    facts: list[Fact] = []
    number = int(draw() * len(PLACES))
    hidden = False
    for verb in chain:
        other = people[people.index(holder) - 1 - int(draw() * (len(people) - 1))]
        number -= 1 + int(draw() * 5)  # a different place each time: there are 18
        place = PLACES[number % len(PLACES)]
        if verb in ("lose", "break"):
            facts.append([verb, holder, thing, "", ""])
        elif verb in ("hide", "carry"):
            facts.append([verb, holder, thing, "", place])
        elif verb == "find":
            # The place where it was hidden is known.
            facts.append([verb, other, thing, "", "" if hidden else place])
            holder = other
        elif verb == "steal":
            facts.append([verb, other, thing, holder, ""])
            holder = other
        elif verb == "mend":
            facts.append([verb, pick(people, draw), thing, "", ""])
        else:
            facts.append([verb, holder, thing, other, ""])
            holder = other
        hidden = verb == "hide"
    return facts


_IDLE_AT = tuple(IDLE_AT)
_SIDE = ("find", "lose", "break", "mend")
_WISHES = ("steal", "hide", "break", "sell")


def chatter(thing: str, people: Sequence[str], draw: Draw) -> Fact:
    """A fact without an effect: an act, or the state of something."""
    sort = draw()
    who = pick(people, draw)
    if sort < 0.4:
        return [pick(IDLE, draw), who, "", "", ""]
    if sort < 0.6:
        return [pick(_IDLE_AT, draw), who, "", "", pick(PLACES, draw)]
    if sort < 0.7:
        return ["like", who, thing, "", ""]
    air = pick(AIRS, draw)
    if sort < 0.8:
        return [air, "", pick(SCENES, draw), "", ""]
    if sort < 0.9:
        return [air, "", "", "", pick(PLACES, draw)]
    return [air, "", thing, "", ""]


def aside(side: str, people: Sequence[str], draw: Draw) -> Fact:
    """An event of another thing, which is not the subject of the story."""
    return [pick(_SIDE, draw), pick(people, draw), side, "", ""]


def wish(thing: str, people: Sequence[str], chain: Sequence[str], draw: Draw) -> Fact:
    """An act that is wanted or denied. An act that happens is never denied."""
    verb = pick(_WISHES, draw)
    mood = "want" if verb in chain or draw() < 0.5 else "not"
    return [f"{mood} {verb}", pick(people, draw), thing, "", ""]

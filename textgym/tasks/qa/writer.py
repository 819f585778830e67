"""Writes stories around a question, with irrelevant sentences in between.

Whoever gives something and whoever receives it are in the same place, and so are an object and
whoever takes it; no plot leaves open a place that follows from this. The people and things of an
unanswerable question are nearly always in the story, so they do not give it away.

"Where is the egg?" could be answered by "Tom has it.", so questions about things ask for the place.
"""

from __future__ import annotations

from collections.abc import Callable

from textgym.tasks.qa.world import NUMBERS, TIMES, Cast, Plan
from textgym.tasks.random_draws import Draw, pick

UNANSWERABLE = 0.1
"""The share of unanswerable questions: who always abstains earns little more."""


# ------------------------------------------------------------------------------ one fact


def _where(cast: Cast) -> Plan:
    who, before, place = cast.name(), cast.place(), cast.place()
    chain = [cast.go(who, before)] if cast.chance(0.5) else []
    chain.append(cast.go(who, place) if chain or cast.chance(0.6) else f"{who} is in the {place}.")
    return Plan(chain, f"Where is {who}?", "where", [who], place)


def _lies(cast: Cast) -> Plan:
    thing, place = cast.thing(), cast.place()
    chain = [cast.lies(thing, place)]
    return Plan(chain, f"In which place is the {thing}?", "where", [f"the {thing}"], place)


def _has(cast: Cast) -> Plan:
    who, thing = cast.name(), cast.thing()
    return Plan([cast.take(who, thing)], f"Who has the {thing}?", "has", [f"the {thing}"], who)


def _gave(cast: Cast) -> Plan:
    who, whom, thing = cast.name(), cast.name(), cast.thing()
    return _ask_gift([cast.give(who, thing, whom)], cast, who, whom, thing)


def _ask_gift(chain: list[str], cast: Cast, who: str, whom: str, thing: str) -> Plan:
    the = f"the {thing}"
    part = int(cast.draw() * 3)
    if part == 0:
        return Plan(chain, f"Who gave {the} to {whom}?", "giver", [the, whom], who)
    if part == 1:
        return Plan(chain, f"Who did {who} give {the} to?", "receiver", [who, the], whom)
    return Plan(chain, f"What did {who} give to {whom}?", "gift", [who, whom], thing)


def _is(cast: Cast) -> Plan:
    who, before, place = cast.name(), cast.place(), cast.place()
    chain = [cast.go(who, before), cast.go(who, place)]
    return _ask_is(chain, cast, who, place, before)


def _ask_is(chain: list[str], cast: Cast, what: str, place: str, other: str) -> Plan:
    if cast.chance(0.5):
        return Plan(chain, f"Is {what} in the {place}?", "is", [what, place], "yes")
    return Plan(chain, f"Is {what} in the {other}?", "is", [what, other], "no")


def _nowhere(cast: Cast) -> Plan:
    """A person, or a thing that they hold, whose place is unknown."""
    who, whom, thing = cast.name(), cast.name(), cast.thing()
    chain = [cast.take(who, thing)] if cast.chance(0.5) else [cast.give(whom, thing, who)]
    luck = cast.draw()
    if luck < 0.4:
        return Plan(chain, f"Where is {who}?", "where", [who], "")
    if luck < 0.8:
        return Plan(chain, f"In which place is the {thing}?", "where", [f"the {thing}"], "")
    place = cast.place()
    chain.insert(0, cast.go(cast.name(), place))
    return Plan(chain, f"Is {who} in the {place}?", "is", [who, place], "")


def _not_given(cast: Cast) -> Plan:
    """A question about another gift than the story's."""
    who, whom, thing = cast.name(), cast.name(), cast.thing()
    chain = [cast.give(who, thing, whom)]
    if cast.chance(0.5):
        return Plan(chain, f"What did {whom} give to {who}?", "gift", [whom, who], "")
    other = cast.thing()
    chain.insert(0, cast.lies(other, cast.place()))
    the = f"the {other}"
    return Plan(chain, f"Who gave {the} to {whom}?", "giver", [the, whom], "")


# ------------------------------------------------------------------------------ two facts


def _carry(cast: Cast) -> tuple[list[str], str, str, str]:
    """A thing that is carried along: the story, the thing, its place, and another place."""
    who, thing, before, place = cast.name(), cast.thing(), cast.place(), cast.place()
    luck = cast.draw()
    if luck < 0.3:
        chain = [cast.go(who, before), cast.take(who, thing), cast.go(who, place)]
    elif luck < 0.5:
        chain = [cast.go(who, before), cast.go(who, place), cast.take(who, thing)]
    elif luck < 0.7:
        chain = [cast.take(who, thing), cast.go(who, before), cast.go(who, place)]
    else:
        chain = [cast.take(who, thing), cast.go(who, place), cast.drop(who, thing)]
        chain.append(cast.go(who, before))
    return chain, thing, place, before


def _carried(cast: Cast) -> Plan:
    chain, thing, place, _ = _carry(cast)
    return Plan(chain, f"In which place is the {thing}?", "where", [f"the {thing}"], place)


def _is_carried(cast: Cast) -> Plan:
    chain, thing, place, before = _carry(cast)
    return _ask_is(chain, cast, f"the {thing}", place, before)


def _has_now(cast: Cast) -> Plan:
    who, whom, thing = cast.name(), cast.name(), cast.thing()
    chain, holder = [cast.take(who, thing)], whom
    if cast.chance(0.7):
        chain.append(cast.give(who, thing, whom))
        chain.append(cast.go(who, cast.place()))
    else:
        chain += [cast.drop(who, thing), cast.go(whom, cast.place())]
        holder = "nobody"
    return Plan(chain, f"Who has the {thing}?", "has", [f"the {thing}"], holder)


def _was(cast: Cast) -> Plan:
    who, places = cast.name(), [cast.place(), cast.place(), cast.place()]
    chain = [cast.go(who, place) for place in places]
    number = 1 + int(cast.draw() * 2)
    question = f"Where was {who} before the {places[number]}?"
    return Plan(chain, question, "was", [who], places[number - 1])


def _holds(cast: Cast) -> Plan:
    who, thing, other = cast.name(), cast.thing(), cast.thing()
    chain = [cast.take(who, thing), cast.take(who, other)]
    if cast.chance(0.5):
        chain.reverse()
    gone = cast.drop(who, other) if cast.chance(0.5) else cast.give(who, other, cast.name())
    return Plan([*chain, gone], f"What does {who} have?", "holds", [who], thing)


def _met(cast: Cast) -> Plan:
    """A place that follows from a meeting."""
    who, thing, place = cast.name(), cast.thing(), cast.place()
    if cast.chance(0.5):
        chain = [cast.lies(thing, place), cast.take(who, thing)]
        return Plan(chain, f"Where is {who}?", "where", [who], place)
    whom = cast.name()
    chain = [cast.go(who, place), cast.give(who, thing, whom), cast.go(who, cast.place())]
    return Plan(chain, f"Where is {whom}?", "where", [whom], place)


def _given_away(cast: Cast) -> Plan:
    """A thing whose new holder's place is unknown; the giver left alone."""
    who, whom, thing = cast.name(), cast.name(), cast.thing()
    chain = [cast.take(who, thing), cast.give(who, thing, whom), cast.go(who, cast.place())]
    if cast.chance(0.3):
        return Plan(chain, f"Where is {whom}?", "where", [whom], "")
    return Plan(chain, f"In which place is the {thing}?", "where", [f"the {thing}"], "")


def _not_before(cast: Cast) -> Plan:
    who, first, second = cast.name(), cast.place(), cast.place()
    chain = [cast.go(who, first), cast.go(who, second)]
    return Plan(chain, f"Where was {who} before the {first}?", "was", [who], "")


# ------------------------------------------------------------------------------ three and more


def _given(cast: Cast) -> Plan:
    who, whom, thing, place = cast.name(), cast.name(), cast.thing(), cast.place()
    chain = [cast.take(who, thing), cast.give(who, thing, whom), cast.go(whom, place)]
    if cast.chance(0.5):
        chain.insert(0, cast.go(who, cast.place()))
    chain.insert(len(chain) - int(cast.draw() * 2), cast.go(who, cast.place()))
    return Plan(chain, f"In which place is the {thing}?", "where", [f"the {thing}"], place)


def _was_carried(cast: Cast) -> Plan:
    who, thing, places = cast.name(), cast.thing(), [cast.place(), cast.place(), cast.place()]
    chain = [cast.go(who, place) for place in places]
    chain.insert(int(cast.draw() * 2), cast.take(who, thing))
    number = 1 + int(cast.draw() * 2)
    question = f"Where was the {thing} before the {places[number]}?"
    return Plan(chain, question, "was", [f"the {thing}"], places[number - 1])


def _pronouns(cast: Cast) -> Plan:
    """Two people who each go somewhere and take something, with pronouns."""
    people, things, places = [], [], []
    chain = []
    for _ in range(2):
        who, thing, place = cast.name(), cast.thing(), cast.place()
        if cast.chance(0.5):
            chain.append(f"{cast.take(who, thing)} {cast.go(cast.pronoun(who), place)}")
        else:
            chain.append(f"{cast.go(who, place)} {cast.take(cast.pronoun(who), thing)}")
        people.append(who)
        things.append(thing)
        places.append(place)
    one = int(cast.draw() * 2)
    thing, place = things[one], places[one]
    if cast.chance(0.5):
        place = cast.place()
        chain.append(cast.go(people[one], place))
    if cast.chance(0.25):
        return _ask_is(chain, cast, f"the {thing}", place, places[1 - one])
    return Plan(chain, f"In which place is the {thing}?", "where", [f"the {thing}"], place)


def _at_time(cast: Cast) -> Plan:
    """Where a person was at different times, out of order."""
    who, other = cast.name(), cast.name()
    first = int(cast.draw() * 3)
    second = (first + 1 + int(cast.draw() * 2)) % 3
    chain, answer = [], ""
    for one, number in ((who, first), (who, second), (other, second), (other, 3 - first - second)):
        place, time = cast.place(), TIMES[number]
        answer = answer or place
        chain.append(f"{time.capitalize()}, {one} was in the {place}.")
    chain.insert(int(cast.draw() * 4), chain.pop(0))
    if cast.chance(UNANSWERABLE):
        # Only the other person's place is known for the third time.
        first, answer = 3 - first - second, ""
    return Plan(chain, f"Where was {who} {TIMES[first]}?", "was", [who], answer)


def _not(cast: Cast) -> Plan:
    """A place where a person is not."""
    who, place, other = cast.name(), cast.place(), cast.place()
    no = "no longer" if cast.chance(0.5) else "not"
    if cast.chance(0.5):
        chain = [cast.go(who, place), f"{who} is no longer in the {place}."]
        chain.insert(int(cast.draw() * 2), cast.go(cast.name(), other))
        luck = cast.draw()
        if luck < 0.5:
            return Plan(chain, f"Is {who} in the {place}?", "is", [who, place], "no")
        if luck < 0.75:
            return Plan(chain, f"Is {who} in the {other}?", "is", [who, other], "")
        return Plan(chain, f"Where is {who}?", "where", [who], "")
    chain = [f"{who} is {no} in the {other}.", cast.go(who, place)]
    if cast.chance(0.7):
        return Plan(chain, f"Is {who} in the {place}?", "is", [who, place], "yes")
    return Plan(chain, f"Where is {who}?", "where", [who], place)


def _either(cast: Cast) -> Plan:
    """A person who is in one of two places."""
    who, one, two, three = cast.name(), cast.place(), cast.place(), cast.place()
    chain = [cast.go(cast.name(), three), f"{who} is in the {one} or in the {two}."]
    luck = cast.draw()
    if luck < 0.55:
        wrong, right = (one, two) if cast.chance(0.5) else (two, one)
        chain.append(f"{who} is not in the {wrong}.")
        return Plan(chain, f"Where is {who}?", "where", [who], right)
    if luck < 0.7:
        return Plan(chain, f"Is {who} in the {three}?", "is", [who, three], "no")
    if luck < 0.85:
        return Plan(chain, f"Is {who} in the {one}?", "is", [who, one], "")
    return Plan(chain, f"Where is {who}?", "where", [who], "")


def _count(cast: Cast) -> Plan:
    who, things = cast.name(), [cast.thing(), cast.thing(), cast.thing()]
    number = 1 + int(cast.draw() * 3)
    chain = [cast.take(who, thing) for thing in things[:number]]
    for thing in things[: int(cast.draw() * number)]:
        gone = cast.drop(who, thing) if cast.chance(0.5) else cast.give(who, thing, cast.name())
        # Anywhere after it was taken.
        at = 1 + next(i for i, line in enumerate(chain) if line.endswith(f" the {thing}."))
        chain.insert(at + int(cast.draw() * (len(chain) + 1 - at)), gone)
        number -= 1
    return Plan(chain, f"How many things does {who} have?", "count", [who], NUMBERS[number])


def _not_carried_before(cast: Cast) -> Plan:
    who, thing, first, second = cast.name(), cast.thing(), cast.place(), cast.place()
    chain = [cast.go(who, first), cast.take(who, thing), cast.go(who, second)]
    question = f"Where was the {thing} before the {first}?"
    return Plan(chain, question, "was", [f"the {thing}"], "")


Plots = tuple[Callable[[Cast], Plan], ...]

# By level: plots of answerable questions (the last three of level 3 may be unanswerable), and of
# unanswerable ones.
_PLOTS: dict[int, tuple[Plots, Plots]] = {
    1: ((_where, _where, _lies, _has, _gave, _gave, _is), (_nowhere, _nowhere, _not_given)),
    2: (
        (_carried, _carried, _carried, _is_carried, _has_now, _was, _holds, _met),
        (_given_away, _given_away, _not_before, _nowhere),
    ),
    3: (
        (_given, _given, _was_carried, _pronouns, _pronouns, _count, _at_time, _not, _either),
        (_given_away, _not_carried_before),
    ),
}
_SHARES = {1: UNANSWERABLE, 2: UNANSWERABLE, 3: UNANSWERABLE / 2}
"""The share of unanswerable plots; at level 3 some of the others may be unanswerable too."""

_LENGTHS = {1: 5, 2: 6, 3: 6}
"""Sentences of a story, unless its chain is longer."""


def write(level: int, draw: Draw) -> tuple[str, Plan]:
    """Write a story; returns it with its plan.

    Args:
        level: 1 to 3.
        draw: Returns random numbers in [0, 1); called at most 64 times.
    """
    cast = Cast(draw)
    answerable, unanswerable = _PLOTS[level]
    kinds = unanswerable if draw() < _SHARES[level] else answerable
    plan = pick(kinds, draw)(cast)
    story = list(plan.chain)
    others = cast.name(), cast.name()
    at = 0
    for _ in range(_LENGTHS[level] - int(draw() * 2) - len(story)):
        at += int(draw() * (len(story) + 1 - at))
        story.insert(at, cast.aside(others[int(draw() * 2)]))
        at += 1
    return " ".join(story), plan

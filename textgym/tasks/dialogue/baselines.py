"""Clerks who do not listen well: the baselines, and the author of documents."""

from __future__ import annotations

from typing import Any

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.dialogue.database import (
    COLUMN,
    DAY,
    DAYS,
    DOMAINS,
    KIND,
    NUMBER,
    NUMBERS,
    SPOT,
    Draw,
)
from textgym.tasks.dialogue.user import User
from textgym.tasks.dialogue.world import question, tell

_POLITE = (" Certainly.", " Of course.", " Thank you.", " Very well.")


def _pick(words: Any, draw: Draw) -> Any:
    return words[int(draw() * len(words))]


def hasty(row: Row, rng: np.random.Generator) -> str:
    """Hears one thing of several, asks for nothing, and tells the price of what is booked."""
    draw = iter(rng.random(16).tolist()).__next__
    first = row["stages"][0]
    told = first["told"]
    names = [line[0] for line in row["table"]]
    booked = {name: (number, day) for name, number, day in row["bookings"]}
    goal = {name: (number, day) for name, number, day in first["goal"]}
    costs = {line[0]: f" It costs {line[3]}." for line in row["table"]}
    if not first["name"]:  # somebody wants to cancel something
        return f" I have cancelled {_pick(list(booked), draw)}."
    number, day = goal[first["name"]]
    number = number if NUMBER in told else _pick(NUMBERS, draw)
    day = day if DAY in told else _pick(DAYS, draw)
    if first["name"] in booked:
        name = _pick(list(booked), draw)
        new = day if booked[first["name"]][1] != day else number
        return f" I have changed {name} to {new}."
    heard = [slot for slot in (KIND, SPOT) if slot in told]
    name = _pick(names, draw)
    if heard:
        column = COLUMN[_pick(heard, draw)]
        value = next(line for line in row["table"] if line[0] == first["name"])[column]
        name = _pick([line[0] for line in row["table"] if line[column] == value], draw)
    return f" I have booked {name} for {number} on {day}.\n{costs[name]}"


def everything(row: Row, rng: np.random.Generator) -> str:
    """Books all there is, a turn each, for as many and on the day that the user says."""
    draw = iter(rng.random(4).tolist()).__next__
    first = row["stages"][0]
    goal = {name: (number, day) for name, number, day in first["goal"]}
    number, day = goal.get(first["name"], ("", ""))
    number = number if NUMBER in first["told"] and number else _pick(NUMBERS, draw)
    day = day if DAY in first["told"] and day else _pick(DAYS, draw)
    return "\n".join([f" I have booked {line[0]} for {number} on {day}." for line in row["table"]])


def proper(user: User, draw: Draw) -> str:
    """What a good clerk says next, whatever has happened."""
    domain = DOMAINS[user.header]
    if user.pending:
        return question(domain, list(user.pending), draw)
    if user.ask:
        said = tell(domain, user.ask, user.table[user.name][COLUMN[user.ask]])
        return said if user.it == user.name else said.replace(" It", f" {user.name}", 1)
    clauses = [f"cancelled {name}" for name in user.bookings if name not in user.goal]
    for name, (number, day) in user.goal.items():
        if name not in user.bookings:
            clauses.append(f"booked {name} for {number} on {day}")
        elif user.bookings[name] != (number, day):
            many, when = user.bookings[name]
            new = [number] * (number != many) + [f"on {day}" if number != many else day]
            clauses.append(f"changed {name} to {' '.join(new if day != when else new[:1])}")
    return f" I have {' and '.join(clauses[:2])}."


def mediocre(user: User, draw: Draw) -> str:
    """What a clerk says next who does not always listen."""
    said = proper(user, draw)
    luck = draw()
    if luck < 0.03:
        return str(_pick(_POLITE, draw))
    if luck < 0.06 and user.turns:
        return " You are welcome. Goodbye."
    if luck < 0.12 and not user.pending:
        slots = [slot for slot in (NUMBER, DAY) if slot in user.told] or [DAY]
        return question(DOMAINS[user.header], [_pick(slots, draw)], draw)
    said = _inquire(user, draw, said) if user.pending else _mishear(user, draw, said)
    if draw() < 0.1 and said.startswith(" I have"):
        return f" {_pick(('Certainly', 'Of course', 'Very well'), draw)},{said}"
    return said


def _inquire(user: User, draw: Draw, said: str) -> str:
    luck = draw()
    pending = list(user.pending)
    if luck < 0.2 and (KIND in pending or SPOT in pending):
        return f" How about {_pick(list(user.table), draw)}?"
    if luck < 0.35 and len(pending) > 1:
        return question(DOMAINS[user.header], [_pick(pending, draw)], draw)
    if luck < 0.5:
        free = [name for name in user.table if name not in user.bookings] or list(user.table)
        number, day = user.goal[user.name]
        number = number if NUMBER in user.told else _pick(NUMBERS, draw)
        day = day if DAY in user.told else _pick(DAYS, draw)
        return f" I have booked {_pick(free, draw)} for {number} on {day}."
    return said


def _mishear(user: User, draw: Draw, said: str) -> str:
    """A sentence with one word of it exchanged, now and then."""
    lapse = draw()
    if lapse > 0.5:
        return said
    words = said[:-1].split(" ")
    values: tuple[Any, ...] = (list(user.table), NUMBERS, DAYS)
    values += ([line[3] for line in user.table.values()],)
    if user.ask:
        values += ([line[2] for line in user.table.values()],)
    places = [at for at, word in enumerate(words) if any(word in some for some in values)]
    if not places:
        return said
    if lapse < 0.05 and "booked" in words and " for " in said:
        return said[: said.index(" for ")] + "."
    # Which of several lines is meant takes more than hearing.
    at = places[0] if draw() < 0.4 else _pick(places, draw)
    some = next(some for some in values if words[at] in some)
    words[at] = _pick(some, draw)
    return f"{' '.join(words)}."


_LONGEST = 400
"""Characters after which a clerk of a document takes leave."""


def converse(row: Row, draw: Draw, turns: int) -> list[str]:
    """A conversation with a mediocre clerk: what clerk and user say, in turn, clerk first and last.

    Args:
        row: The row.
        draw: The next random number.
        turns: The clerk's turns, at most.
    """
    user = User(row)
    texts: list[str] = []
    while True:
        length = len(row["prompt"]) + sum(map(len, texts))
        said = mediocre(user, draw) if length < _LONGEST else " Goodbye."
        reply = user.hear(said)
        texts.append(said)
        if reply.done or user.turns == turns:
            return texts
        texts.append(reply.text)

"""Inattentive clerks: the baselines, and the clerk of documents."""

from __future__ import annotations

from typing import Any

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.dialogue.user import User
from textgym.tasks.dialogue.world import (
    COLUMN,
    DAY,
    DAYS,
    DOMAINS,
    KIND,
    NUMBER,
    NUMBERS,
    SPOT,
)
from textgym.tasks.dialogue.writer import question, statement
from textgym.tasks.random_draws import Draw, draws, pick

_POLITE = (" Certainly.", " Of course.", " Thank you.", " Very well.")


def hasty(row: Row, rng: np.random.Generator) -> str:
    """Use one stated attribute, ask nothing, and state the price of the booking."""
    draw = draws(rng, 16)
    first = row["stages"][0]
    stated = first["told"]
    names = [line[0] for line in row["table"]]
    booked = {name: (number, day) for name, number, day in row["bookings"]}
    goal = {name: (number, day) for name, number, day in first["goal"]}
    costs = {line[0]: f" It costs {line[3]}." for line in row["table"]}
    if not first["name"]:  # a cancellation
        return f" I have cancelled {pick(list(booked), draw)}."
    number, day = goal[first["name"]]
    number = number if NUMBER in stated else pick(NUMBERS, draw)
    day = day if DAY in stated else pick(DAYS, draw)
    if first["name"] in booked:
        name = pick(list(booked), draw)
        new = day if booked[first["name"]][1] != day else number
        return f" I have changed {name} to {new}."
    attributes = [slot for slot in (KIND, SPOT) if slot in stated]
    name = pick(names, draw)
    if attributes:
        column = COLUMN[pick(attributes, draw)]
        value = next(line for line in row["table"] if line[0] == first["name"])[column]
        name = pick([line[0] for line in row["table"] if line[column] == value], draw)
    return f" I have booked {name} for {number} on {day}.\n{costs[name]}"


def everything(row: Row, rng: np.random.Generator) -> str:
    """Book every line, one per turn, for the stated number and day."""
    draw = draws(rng, 4)
    first = row["stages"][0]
    goal = {name: (number, day) for name, number, day in first["goal"]}
    number, day = goal.get(first["name"], ("", ""))
    number = number if NUMBER in first["told"] and number else pick(NUMBERS, draw)
    day = day if DAY in first["told"] and day else pick(DAYS, draw)
    return "\n".join([f" I have booked {line[0]} for {number} on {day}." for line in row["table"]])


def attentive(user: User, draw: Draw) -> str:
    """The next turn of a good clerk in any state of the conversation."""
    domain = DOMAINS[user.header]
    if user.pending:
        return question(domain, list(user.pending), draw)
    if user.ask:
        turn = statement(domain, user.ask, user.table[user.name][COLUMN[user.ask]])
        return turn if user.it == user.name else turn.replace(" It", f" {user.name}", 1)
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
    """The next turn of a clerk who makes mistakes."""
    turn = attentive(user, draw)
    luck = draw()
    if luck < 0.03:
        return str(pick(_POLITE, draw))
    if luck < 0.06 and user.turns:
        return " You are welcome. Goodbye."
    if luck < 0.12 and not user.pending:
        slots = [slot for slot in (NUMBER, DAY) if slot in user.stated] or [DAY]
        return question(DOMAINS[user.header], [pick(slots, draw)], draw)
    turn = _inquire(user, draw, turn) if user.pending else _mishear(user, draw, turn)
    if draw() < 0.1 and turn.startswith(" I have"):
        return f" {pick(('Certainly', 'Of course', 'Very well'), draw)},{turn}"
    return turn


def _inquire(user: User, draw: Draw, turn: str) -> str:
    """Replace a question by an offer, an incomplete question or a guess, in half of the calls."""
    luck = draw()
    pending = list(user.pending)
    if luck < 0.2 and (KIND in pending or SPOT in pending):
        return f" How about {pick(list(user.table), draw)}?"
    if luck < 0.35 and len(pending) > 1:
        return question(DOMAINS[user.header], [pick(pending, draw)], draw)
    if luck < 0.5:
        free = [name for name in user.table if name not in user.bookings] or list(user.table)
        number, day = user.goal[user.name]
        number = number if NUMBER in user.stated else pick(NUMBERS, draw)
        day = day if DAY in user.stated else pick(DAYS, draw)
        return f" I have booked {pick(free, draw)} for {number} on {day}."
    return turn


def _mishear(user: User, draw: Draw, turn: str) -> str:
    """Replace one value of a turn by another, in two of three calls."""
    luck = draw()
    if luck > 0.66:
        return turn
    words = turn[:-1].split(" ")
    values: tuple[Any, ...] = (list(user.table), NUMBERS, DAYS)
    values += ([line[3] for line in user.table.values()],)
    if user.ask:
        values += ([line[2] for line in user.table.values()],)
    places = [at for at, word in enumerate(words) if any(word in some for some in values)]
    if not places:
        return turn
    if luck < 0.05 and "booked" in words and " for " in turn:
        return turn[: turn.index(" for ")] + "."
    # The name, which has to be inferred from the table, is mistaken most often.
    at = places[0] if draw() < 0.4 else pick(places, draw)
    some = next(some for some in values if words[at] in some)
    words[at] = pick(some, draw)
    return f"{' '.join(words)}."


_MAX_CHARACTERS = 400
"""The clerk of a document says goodbye after this many characters."""


def converse(row: Row, draw: Draw, turns: int) -> list[str]:
    """A conversation with a mediocre clerk: alternating turns, the clerk's first and last.

    Args:
        row: The row.
        draw: Returns the next random number.
        turns: The maximum number of the clerk's turns.
    """
    user = User(row)
    texts: list[str] = []
    while True:
        length = len(row["prompt"]) + sum(map(len, texts))
        turn = mediocre(user, draw) if length < _MAX_CHARACTERS else " Goodbye."
        reply = user.respond(turn)
        texts.append(turn)
        if reply.done or user.turns == turns:
            return texts
        texts.append(reply.text)

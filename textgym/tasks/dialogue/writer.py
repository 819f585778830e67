"""Draws the user's agenda, in stages, and the clerk's shortest script that completes it.

A stage is a dictionary: ``say`` (the user's first words), ``name`` (the line of the table that it
is about), ``goal`` (all bookings at its end), ``told`` (the slots in ``say``), ``hidden`` (the
other slots, with the user's answers to questions) and ``ask`` (an attribute that the user asks for,
in a stage without a booking).
"""

from __future__ import annotations

from typing import Any

from textgym.tasks.dialogue.world import (
    ASK_DAY,
    ASK_NUMBER,
    COLUMN,
    DAY,
    DAYS,
    DOMAINS,
    HEADERS,
    KIND,
    NAMES,
    NUMBER,
    NUMBERS,
    PRICE,
    PRICES,
    SPOT,
    Domain,
    wish,
    write_bookings,
    write_table,
)
from textgym.tasks.random_draws import Draw, pick

_WANT = ("I want", "I need", "Please book", "I would like")
_BOOKED = (
    " I have booked {} for {} on {}.",
    " I have booked {} on {day} for {number}.",
    " {} is booked for {} on {}.",
)
_COSTS = ("What does it cost?", "What is the price?")
_HIDES = {1: 0.0, 2: 0.55, 3: 0.5}
"""The probability of withholding a slot, by level."""


class Plot:
    """A row under construction.

    Args:
        domain: The domain.
        draw: Returns the next random number of the row.

    Attributes:
        stages: The user's agenda so far.
        script: The clerk's shortest script so far.
        bookings: ``[number, day]`` by name, after these stages.
        start: The initial bookings.
        table: The lines of the table.
        wanted: The line that the user wants to book.
        others: The names of the other lines.
    """

    table: list[list[str]]
    wanted: list[str]
    others: list[str]

    def __init__(self, domain: Domain, draw: Draw) -> None:
        self.domain = domain
        self.draw = draw
        self.stages: list[dict[str, Any]] = []
        self.script: list[str] = []
        self.bookings: dict[str, list[str]] = {}
        self.start: dict[str, list[str]] = {}

    def another(self, words: tuple[str, ...], than: str, nor: str = "") -> str:
        """A random word other than the given ones."""
        left = [word for word in words if word not in (than, nor)]
        return pick(left, self.draw)

    # ------------------------------------------------------------------ the table

    def draw_table(self, single: str, size: int) -> None:
        """Draw a table; the first line drawn is the wanted one.

        Args:
            single: The only attribute that the user will name, or an empty string for both.
            size: The number of lines, at most 4.
        """
        draw, domain = self.draw, self.domain
        kinds, spots = domain.kinds, tuple(domain.spots)
        first, other = int(draw() * len(kinds)), int(draw() * (len(kinds) - 1))
        kind, odd = kinds[first], kinds[first - 1 - other]
        first, other = int(draw() * len(spots)), int(draw() * (len(spots) - 1))
        spot, far = spots[first], spots[first - 1 - other]
        if single == KIND:
            pairs = [(kind, spot), (odd, spot), (odd, far), (odd, far)]
        elif single == SPOT:
            pairs = [(kind, spot), (kind, far), (odd, far), (odd, far)]
        else:
            pairs = [(kind, spot), (kind, far), (odd, spot), (odd, far)]
        names, prices = list(NAMES), list(PRICES)
        lines = [
            [
                names.pop(int(draw() * len(names))),
                kind,
                spot,
                prices.pop(int(draw() * len(prices))),
            ]
            for kind, spot in pairs[:size]
        ]
        self.wanted = lines[0]
        self.others = [line[0] for line in lines[1:]]
        # A shuffle by insertion: the wanted line may be anywhere.
        self.table = lines[1:]
        self.table.insert(int(draw() * len(lines)), lines[0])
        self.table.append(self.table.pop(int(draw() * len(lines))))

    def draw_bookings(self) -> None:
        """Draw two initial bookings of lines other than the wanted one."""
        del self.others[int(self.draw() * 3)]
        one, day = pick(NUMBERS, self.draw), pick(DAYS, self.draw)
        self.bookings = {
            self.others[0]: [one, day],
            self.others[1]: [self.another(NUMBERS, one), self.another(DAYS, day)],
        }
        self.start = dict(self.bookings)

    # ------------------------------------------------------------------ stages

    def stage(self, say: str, name: str, told: list[str], hidden: list[list[str]]) -> None:
        """Add a stage with the current bookings as its goal."""
        goal = [[one, *booking] for one, booking in self.bookings.items()]
        self.stages.append(
            {"say": say, "name": name, "goal": goal, "told": told, "hidden": hidden, "ask": ""}
        )

    def book(self, single: str, hide: float) -> None:
        """A stage with a new booking.

        Args:
            single: As for `draw_table`.
            hide: The probability of withholding a slot; above 0 at least one is withheld.
        """
        draw = self.draw
        _, kind, spot, _ = self.wanted
        number, day = pick(NUMBERS, self.draw), pick(DAYS, self.draw)
        chosen = [single] if single else [KIND, SPOT]
        secret = [slot for slot in ("", NUMBER, DAY) if draw() < hide]
        if hide and not secret:
            secret = [("", NUMBER, DAY)[int(draw() * 3)]]
        if "" in secret:  # one of two attributes
            secret.remove("")
            if not single:
                secret.append(KIND if draw() < 0.5 else SPOT)
            elif not secret:
                secret.append(DAY)
        told = [slot for slot in (*chosen, NUMBER, DAY) if slot not in secret]
        thing = wish(self.domain, kind if KIND in told else "", spot if SPOT in told else "")
        when = [f"for {number}"] if NUMBER in told else []
        if DAY in told:
            when.insert(int(draw() * 2), f"on {day}")
        say = f"{' '.join([pick(_WANT, self.draw), thing, *when])}."
        self.order(say, number, day, told, secret)

    def order(self, say: str, number: str, day: str, told: list[str], secret: list[str]) -> None:
        """A stage that books the wanted line; `secret` has the slots that `say` leaves out."""
        name, kind, spot, _ = self.wanted
        values = {NUMBER: number, DAY: day, KIND: kind, SPOT: spot}
        hidden = [[slot, self.answer(slot, values[slot])] for slot in secret]
        self.bookings[name] = [number, day]
        self.stage(say, name, told, hidden)
        if hidden:
            self.script.append(question(self.domain, secret, self.draw))
        phrase = pick(_BOOKED, self.draw)
        self.script.append(phrase.format(name, number, day, number=number, day=day))

    def answer(self, slot: str, value: str) -> str:
        """The user's answer to a question for a slot."""
        if slot == NUMBER:
            return f"For {value}." if self.draw() < 0.5 else f"{value.capitalize()}."
        if slot == DAY:
            return f"On {value}." if self.draw() < 0.5 else f"{value}."
        if slot == SPOT:
            return f"{self.domain.spots[value].capitalize()}."
        article = "An" if value == "old" else "A"
        answer = pick(self.domain.answers, self.draw)
        return answer.format(kind=value, Kind=value.capitalize(), A=article)

    def one_of_two(self) -> tuple[str, str]:
        """The name of an initial booking, and the user's phrase for it."""
        name = self.others[int(self.draw() * 2)]
        number, day = self.bookings[name]
        how = f"on {day}" if self.draw() < 0.5 else f"for {number}"
        return name, f"my {self.domain.noun} {how}"

    def cancel(self, name: str, say: str) -> None:
        """A stage that cancels a booking."""
        del self.bookings[name]
        self.stage(say, "", [NUMBER, DAY], [])
        self.script.append(
            f" I have cancelled {name}." if self.draw() < 0.7 else f" {name} is cancelled."
        )

    def change_to(self, name: str, new: str, say: str, it: bool = False) -> None:
        """A stage that changes a booking's number or day; `it` allows the pronoun for it."""
        number, day = self.bookings[name]
        self.bookings[name] = [number, new] if new in DAYS else [new, day]
        self.stage(say, name, [NUMBER, DAY], [])
        subject = "it" if it and self.draw() < 0.5 else name
        verb = "moved" if self.draw() < 0.3 else "changed"
        self.script.append(f" I have {verb} {subject} to {new}.")

    def new_value(self, name: str) -> str:
        """Another day or number for a booking, and not its initial one."""
        number, day = self.bookings[name]
        many, when = self.start.get(name, ("", ""))
        if self.draw() < 0.5:
            return self.another(DAYS, day, when)
        return self.another(NUMBERS, number, many)

    def change(self) -> str:
        """A stage that changes an initial booking; returns its name."""
        name, phrase = self.one_of_two()
        new = self.new_value(name)
        self.change_to(name, new, f"Please change {phrase} to {new}.")
        return name

    def change_mind(self, name: str) -> None:
        """A stage that changes the latest booking."""
        new = self.new_value(name)
        how = f"on {new}" if new in DAYS else f"for {new}"
        say = f"Sorry, make it {new}." if self.draw() < 0.5 else f"Oh, I want it {how}."
        self.change_to(name, new, say, it=True)

    def swap(self, old: str, say: str) -> None:
        """A stage that books the wanted line instead of another, for the same number and day."""
        name = self.wanted[0]
        self.bookings[name] = self.bookings.pop(old)
        number, day = self.bookings[name]
        self.stage(say, name, [KIND, SPOT, NUMBER, DAY], [])
        self.script.append(f" I have cancelled {old} and booked {name} for {number} on {day}.")

    def request(self, slot: str) -> None:
        """A stage with a question about the booked line."""
        say = pick(_COSTS, self.draw) if slot == PRICE else self.domain.asked
        self.stage(say, self.wanted[0], [], [])
        self.stages[-1]["ask"] = slot
        self.script.append(statement(self.domain, slot, self.wanted[COLUMN[slot]]))

    def row(self) -> dict[str, Any]:
        """The row."""
        start = [[name, *booking] for name, booking in self.start.items()]
        lines = [write_table(self.domain, self.table)]
        if start:
            lines.append(write_bookings(start))
        lines += [f"User: {self.stages[0]['say']}", "Agent:"]
        return {
            "prompt": "\n".join(lines),
            "reference": "\n".join(self.script),
            "domain": self.domain.header,
            "table": self.table,
            "bookings": start,
            "stages": self.stages,
            "fewest": len(self.script),
        }


def question(domain: Domain, slots: list[str], draw: Draw) -> str:
    """The clerk's question for some slots, in one sentence."""
    asked = []
    for slot in slots:
        if slot == NUMBER:
            asked.append(ASK_NUMBER[int(draw() * 2)])
        elif slot == DAY:
            asked.append(ASK_DAY[int(draw() * 2)])
        else:
            asked.append((domain.ask_kind if slot == KIND else domain.ask_spot)[0])
    text = " and ".join([", ".join(asked[:-1]), asked[-1]] if asked[:-1] else asked)
    return f" {text[0].upper()}{text[1:]}?"


def statement(domain: Domain, slot: str, value: str) -> str:
    """The clerk's statement of a price or the second attribute."""
    if slot == PRICE:
        return f" It costs {value}."
    return f" It is {domain.spots[value]}."


def draw_row(level: int, draw: Draw) -> dict[str, Any]:
    """Draw a row of the task.

    Args:
        level: 1, 2 or 3.
        draw: Returns the next random number of the row.
    """
    plot = Plot(DOMAINS[pick(HEADERS, draw)], draw)
    single = ""
    if draw() < 0.3:
        single = KIND if draw() < 0.5 else SPOT
    plot.draw_table(single, 4 if level == 3 else 3)
    if level < 3:
        plot.book(single, _HIDES[level])
        if draw() < 0.5:
            plot.request(SPOT if single == KIND and draw() < 0.6 else PRICE)
        return plot.row()
    plot.draw_bookings()
    scene = int(draw() * 4)
    if scene == 0:
        name, phrase = plot.one_of_two()
        plot.cancel(name, f"Please cancel {phrase}.")
        plot.book(single, _HIDES[3] * (draw() < 0.4))
    elif scene == 1:
        name = plot.change()
        if draw() < 0.5:
            plot.change_mind(name)
        else:
            plot.book(single, 0.0)
    elif scene == 2:
        plot.book(single, _HIDES[3] * (draw() < 0.6))
        plot.change_mind(plot.wanted[0])
    else:
        name, phrase = plot.one_of_two()
        thing = wish(plot.domain, plot.wanted[1], plot.wanted[2])
        plot.swap(name, f"I want {thing} instead of {phrase}.")
        if draw() < 0.5:
            plot.change_mind(plot.wanted[0])
        else:
            plot.request(PRICE)
    return plot.row()

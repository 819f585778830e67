"""Draws what a user wants, in stages, and the shortest script of a clerk who does it.

A stage is a dictionary: ``say`` (what the user says to begin it), ``name`` (what it is about),
``goal`` (all bookings when it is done), ``told`` (the slots in ``say``), ``hidden`` (the other
slots, with the answers to be had by asking) and ``ask`` (an attribute that the user wants to know;
then nothing has to be booked).
"""

from __future__ import annotations

from typing import Any

from textgym.tasks.dialogue.database import (
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
    Draw,
    wish,
    write_bookings,
    write_table,
)

_WANT = ("I want", "I need", "Please book", "I would like")
_BOOKED = (
    " I have booked {} for {} on {}.",
    " I have booked {} on {day} for {number}.",
    " {} is booked for {} on {}.",
)
_COSTS = ("What does it cost?", "What is the price?")
_HIDES = {1: 0.0, 2: 0.55, 3: 0.5}
"""How likely a slot is kept back, by level."""


class Plot:
    """One row in the making.

    Args:
        domain: What it is about.
        draw: The next number of the row's own.

    Attributes:
        stages: The user's agenda so far.
        script: The clerk's shortest script so far.
        bookings: ``[number, day]`` by name, after these stages.
        start: The bookings that there are at first.
        table: The lines of the table.
        wanted: The line that the user wants to be booked.
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

    def pick(self, words: tuple[str, ...]) -> str:
        """One of some words."""
        return words[int(self.draw() * len(words))]

    def another(self, words: tuple[str, ...], than: str, nor: str = "") -> str:
        """Another one of them."""
        left = [word for word in words if word not in (than, nor)]
        return left[int(self.draw() * len(left))]

    # ------------------------------------------------------------------ the table

    def furnish(self, single: str, size: int) -> None:
        """Write a table in which one line, the first drawn, is what the user wants.

        Args:
            single: The one attribute that the user will name, or an empty string for both.
            size: Lines, at most 4.
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
        # A shuffle by insertion: the wanted line may stand anywhere.
        self.table = lines[1:]
        self.table.insert(int(draw() * len(lines)), lines[0])
        self.table.append(self.table.pop(int(draw() * len(lines))))

    def book_two(self) -> None:
        """Two bookings, of lines that the user does not want now."""
        del self.others[int(self.draw() * 3)]
        one, day = self.pick(NUMBERS), self.pick(DAYS)
        self.bookings = {
            self.others[0]: [one, day],
            self.others[1]: [self.another(NUMBERS, one), self.another(DAYS, day)],
        }
        self.start = dict(self.bookings)

    # ------------------------------------------------------------------ stages

    def stage(self, say: str, name: str, told: list[str], hidden: list[list[str]]) -> None:
        """Add a stage that ends with the bookings as they are now."""
        goal = [[one, *booking] for one, booking in self.bookings.items()]
        self.stages.append(
            {"say": say, "name": name, "goal": goal, "told": told, "hidden": hidden, "ask": ""}
        )

    def book(self, single: str, hide: float) -> None:
        """The user wants something new.

        Args:
            single: As for `furnish`.
            hide: How likely a slot is kept back; above 0 one is for certain.
        """
        draw = self.draw
        _, kind, spot, _ = self.wanted
        number, day = self.pick(NUMBERS), self.pick(DAYS)
        chosen = [single] if single else [KIND, SPOT]
        secret = [slot for slot in ("", NUMBER, DAY) if draw() < hide]
        if hide and not secret:
            secret = [("", NUMBER, DAY)[int(draw() * 3)]]
        if "" in secret:  # one of the attributes, unless there is one only
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
        say = f"{' '.join([self.pick(_WANT), thing, *when])}."
        self.order(say, number, day, told, secret)

    def order(self, say: str, number: str, day: str, told: list[str], secret: list[str]) -> None:
        """The wanted line is to be booked; `secret` has the slots that `say` does not tell."""
        name, kind, spot, _ = self.wanted
        values = {NUMBER: number, DAY: day, KIND: kind, SPOT: spot}
        hidden = [[slot, self.answer(slot, values[slot])] for slot in secret]
        self.bookings[name] = [number, day]
        self.stage(say, name, told, hidden)
        if hidden:
            self.script.append(question(self.domain, secret, self.draw))
        phrase = self.pick(_BOOKED)
        self.script.append(phrase.format(name, number, day, number=number, day=day))

    def answer(self, slot: str, value: str) -> str:
        """What the user says who is asked for a slot."""
        if slot == NUMBER:
            return f"For {value}." if self.draw() < 0.5 else f"{value.capitalize()}."
        if slot == DAY:
            return f"On {value}." if self.draw() < 0.5 else f"{value}."
        if slot == SPOT:
            return f"{self.domain.spots[value].capitalize()}."
        article = "An" if value == "old" else "A"
        answer = self.pick(self.domain.answers)
        return answer.format(kind=value, Kind=value.capitalize(), A=article)

    def one_of_two(self) -> tuple[str, str]:
        """One of the bookings there are, and how the user speaks of it."""
        name = self.others[int(self.draw() * 2)]
        number, day = self.bookings[name]
        how = f"on {day}" if self.draw() < 0.5 else f"for {number}"
        return name, f"my {self.domain.noun} {how}"

    def give_up(self, name: str, say: str) -> None:
        """A booking is to be cancelled."""
        del self.bookings[name]
        self.stage(say, "", [NUMBER, DAY], [])
        self.script.append(
            f" I have cancelled {name}." if self.draw() < 0.7 else f" {name} is cancelled."
        )

    def become(self, name: str, new: str, say: str, it: bool = False) -> None:
        """A booking is to be for another number, or on another day; `it` is what was booked."""
        number, day = self.bookings[name]
        self.bookings[name] = [number, new] if new in DAYS else [new, day]
        self.stage(say, name, [NUMBER, DAY], [])
        subject = "it" if it and self.draw() < 0.5 else name
        verb = "moved" if self.draw() < 0.3 else "changed"
        self.script.append(f" I have {verb} {subject} to {new}.")

    def another_time(self, name: str) -> str:
        """Another day or number, and not what it was at first: nobody goes back to that."""
        number, day = self.bookings[name]
        many, when = self.start.get(name, ("", ""))
        if self.draw() < 0.5:
            return self.another(DAYS, day, when)
        return self.another(NUMBERS, number, many)

    def change(self) -> str:
        """The user wants another day for a booking, or is more people; returns its name."""
        name, spoken = self.one_of_two()
        new = self.another_time(name)
        self.become(name, new, f"Please change {spoken} to {new}.")
        return name

    def change_mind(self, name: str) -> None:
        """The same, for what has just been booked or changed."""
        new = self.another_time(name)
        how = f"on {new}" if new in DAYS else f"for {new}"
        say = f"Sorry, make it {new}." if self.draw() < 0.5 else f"Oh, I want it {how}."
        self.become(name, new, say, it=True)

    def swap(self, old: str, say: str) -> None:
        """The wanted line is to be booked instead of another, at the same time."""
        name = self.wanted[0]
        self.bookings[name] = self.bookings.pop(old)
        number, day = self.bookings[name]
        self.stage(say, name, [KIND, SPOT, NUMBER, DAY], [])
        self.script.append(f" I have cancelled {old} and booked {name} for {number} on {day}.")

    def request(self, slot: str) -> None:
        """The user wants to know something about what is booked."""
        say = self.pick(_COSTS) if slot == PRICE else self.domain.asked
        self.stage(say, self.wanted[0], [], [])
        self.stages[-1]["ask"] = slot
        self.script.append(tell(self.domain, slot, self.wanted[COLUMN[slot]]))

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
    """A clerk's question for some slots, in one sentence."""
    asked = []
    for slot in slots:
        if slot == NUMBER:
            asked.append(ASK_NUMBER[int(draw() * 2)])
        elif slot == DAY:
            asked.append(ASK_DAY[int(draw() * 2)])
        else:
            asked.append((domain.ask_kind if slot == KIND else domain.ask_spot)[0])
    said = " and ".join([", ".join(asked[:-1]), asked[-1]] if asked[:-1] else asked)
    return f" {said[0].upper()}{said[1:]}?"


def tell(domain: Domain, slot: str, value: str) -> str:
    """A clerk's answer."""
    if slot == PRICE:
        return f" It costs {value}."
    return f" It is {domain.spots[value]}."


def draw_row(level: int, draw: Draw) -> dict[str, Any]:
    """A row of the task.

    Args:
        level: 1, 2 or 3.
        draw: The next number of the row's own.
    """
    plot = Plot(DOMAINS[HEADERS[int(draw() * len(HEADERS))]], draw)
    single = ""
    if draw() < 0.3:
        single = KIND if draw() < 0.5 else SPOT
    plot.furnish(single, 4 if level == 3 else 3)
    if level < 3:
        plot.book(single, _HIDES[level])
        if draw() < 0.5:
            plot.request(SPOT if single == KIND and draw() < 0.6 else PRICE)
        return plot.row()
    plot.book_two()
    scene = int(draw() * 4)
    if scene == 0:
        name, spoken = plot.one_of_two()
        plot.give_up(name, f"Please cancel {spoken}.")
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
        name, spoken = plot.one_of_two()
        thing = wish(plot.domain, plot.wanted[1], plot.wanted[2])
        plot.swap(name, f"I want {thing} instead of {spoken}.")
        if draw() < 0.5:
            plot.change_mind(plot.wanted[0])
        else:
            plot.request(PRICE)
    return plot.row()

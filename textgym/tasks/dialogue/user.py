"""The user: an agenda that is worked off turn by turn, and what the clerk did wrong on the way.

Schatzmann et al. (2007), "Agenda-based user simulation for bootstrapping a POMDP dialogue system":
the user has a goal (constraints, and requests) and a stack of things still to say; answers go on
top of it. Here the stack is the row's list of stages, each with what the user says to begin it, and
what it tells only when asked. Nothing is left to chance: all choices were made with the row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from textgym.tasks.base import Reply
from textgym.tasks.dialogue.database import COLUMN, KIND, SPOT
from textgym.tasks.dialogue.reader import (
    ASK,
    BOOK,
    BYE,
    CANCEL,
    CHANGE,
    JUNK,
    OFFER,
    POLITE,
    TELL,
    Act,
    read,
)
from textgym.tasks.judgement import Judgement

PATIENCE = 3
"""Turns that bring nothing, or something wrong, until the user leaves."""

PAID = 0.1
"""For each slot found out and each stage done."""

_FAULT = 0.4
"""What is left of a score after a fault."""

_COURTESIES = 2
"""Phrases of courtesy that a turn may hold."""

_UNANSWERED = 0.5
"""What is left of a score where the user's question was not answered rightly."""


class User:
    """One user, from the first turn on.

    Args:
        row: The row; it is not changed.

    Attributes:
        bookings: ``(number, day)`` by name, as the clerk has them.
        stage: The number of the stage that the user is at.
        told: What the user has said in this stage.
        pending: The slots that the user has still to be asked for, with the answers.
        turns: Turns heard.
        faults: What the clerk did that nobody asked for, or said that is not so.
        answered: Whether the user's question was answered: None before that.
        done: Whether the user has left.
        remarks: What went wrong, by turn: the turn's number, and a sentence.
    """

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.header: str = row["domain"]
        self.table = {line[0]: line for line in row["table"]}
        self.start = {name: (number, day) for name, number, day in row["bookings"]}
        self.stages: list[dict[str, Any]] = row["stages"]
        self.fewest: int = row["fewest"]
        self.bookings = dict(self.start)
        self.it = ""
        self.turns = self.faults = 0
        self.patience = PATIENCE
        self.answered: bool | None = None
        self.done = False
        self.remarks: list[tuple[int, str]] = []
        self._enter(0)

    def _enter(self, number: int) -> None:
        stage = self.stages[number]
        self.stage = number
        self.ask: str = stage["ask"]
        self.name: str = stage["name"]
        self.goal = {name: (many, day) for name, many, day in stage["goal"]}
        self.told = set(stage["told"])
        self.pending: dict[str, str] = dict(stage["hidden"])

    def _fault(self, what: str, faults: int = 1) -> None:
        if faults:
            self.faults += faults
            self.remarks.append((self.turns, what))

    # ------------------------------------------------------------------ listening

    def hear(self, turn: str) -> Reply:
        """Listen to a turn, and answer it."""
        self.turns += 1
        self._answers: list[str] = []
        self._guess = bool(self.pending)  # what is booked in this turn was not all asked for
        self._progress = self._left = False
        self._offers = 0
        reward = 0.0
        faults, open_slots = self.faults, len(self.pending)
        acts = read(self.header, turn)
        idle = 0
        for number, act in enumerate(acts):
            idle += self._says_nothing(act, acts[:number])
            self._do(act)
        reward += PAID * (open_slots - len(self.pending))
        over = self.answered is not None if self.ask else self.bookings == self.goal
        if over:
            if self.answered is not False:
                reward += PAID
            self._progress = True
            if self.stage + 1 < len(self.stages):
                self._enter(self.stage + 1)
                self._answers = [*self._answers[:1], self.stages[self.stage]["say"]]
            else:
                self.done = True
        if self._progress:
            # Without progress, idle words cost the turn.
            self._fault("repeats, asks in vain, or books nothing", idle)
        if not self._progress or self.faults > faults:
            self.patience -= 1
        if self._left or self.patience <= 0:
            self.done = True
        if self.done:
            return Reply("", reward, True)
        said = " ".join(dict.fromkeys(self._answers)) or "Sorry?"
        return Reply(f"\nUser: {said}\nAgent:", reward, message=said)

    def _says_nothing(self, act: Act, before: Sequence[Act]) -> bool:
        """Whether an act repeats one of its turn, asks in vain, or books nothing."""
        if act.deed == ASK:
            return act.slot not in self.pending
        if act.deed == BOOK:
            return not (act.number and act.day)
        if act.deed == POLITE:
            return before.count(act) >= _COURTESIES
        return act.deed in (TELL, OFFER) and act in before

    def _do(self, act: Act) -> None:
        if act.deed == ASK:
            self._asked(act.slot)
        elif act.deed == OFFER:
            self._offered(act.name)
        elif act.deed == TELL:
            self._tell(act)
        elif act.deed in (BOOK, CHANGE, CANCEL):
            self._changed(act)
        elif act.deed == JUNK:
            self._fault("nobody understands it", act.faults)
        elif act.deed == BYE:
            self._left = True
        else:
            assert act.deed == POLITE

    def _asked(self, slot: str) -> None:
        if slot in self.pending:
            self._answers.append(self.pending.pop(slot))
            self.told.add(slot)
            self._progress = True
        else:
            self._answers.append("I told you." if slot in self.told else "I do not mind.")

    def _offered(self, name: str) -> None:
        self.it = name
        self._offers += 1
        if self._offers > 1 or name not in self.table:
            where = "a second offer" if name in self.table else "not in the table"
            self._fault(f"offers {name}: {where}")
        if not self.name:
            self._answers.append("No, thank you.")
        elif name == self.name:
            self._answers.append("Yes, please.")
            for slot in (KIND, SPOT):
                if self.pending.pop(slot, ""):
                    self.told.add(slot)
                    self._progress = True
        else:
            self._answers.append(f"No, not {name}.")
            if name in self.table and not self._suits(name):
                self._fault(f"offers {name}: not what was asked for")

    def _suits(self, name: str) -> bool:
        """Whether a name can be what the user wants, from what was said."""
        line, wanted = self.table[name], self.table[self.name]
        return all(
            line[COLUMN[slot]] == wanted[COLUMN[slot]] for slot in (KIND, SPOT) if slot in self.told
        )

    def _tell(self, act: Act) -> None:
        name = self.it if act.name == "it" else act.name
        line = self.table.get(name)
        true = line is not None and line[COLUMN[act.slot]] == act.value
        if not true:
            self._fault(f"says {act.value!r} of {name or 'nobody'}: not so")
        if act.slot == self.ask:
            # What the user hears is believed: a wrong answer cannot be mended.
            self.answered = self.answered is not False and true and name == self.name
        else:
            self._answers.append("All right.")
        if line is not None:
            self.it = name

    def _changed(self, act: Act) -> None:
        name = act.name
        if name == "it":
            only = next(iter(self.bookings)) if len(self.bookings) == 1 else ""
            name = self.it or only
        self.it = name
        known = name in self.bookings
        if act.deed == BOOK and not (act.number and act.day):
            return  # nobody can book that: "Sorry?"
        if known == (act.deed == BOOK) or name not in self.table:
            booked = "booked already" if known else "not booked"
            self._fault(f"{name or 'nobody'}: {booked if name in self.table else 'unknown'}")
            return
        wanted = self.goal.get(name)
        if act.deed == CANCEL:
            del self.bookings[name]
            right = wanted is None
        else:
            before = self.bookings.get(name, ("", ""))
            after = (act.number or before[0], act.day or before[1])
            self.bookings[name] = after
            right = wanted is not None and all(
                one in ("", other) for one, other in zip((act.number, act.day), wanted, strict=True)
            )
            right = right and before != after
        if not right:
            self._answers.append("That is wrong." if wanted else f"No, not {name}.")
        else:
            self._progress = True
        if not right or self._guess:
            what = "not asked for yet" if right else "not as the user wants it"
            self._fault(f"{act.deed} {name}: {what}")

    # ------------------------------------------------------------------ judging

    def judge(self, unheard: int = 0) -> Judgement:
        """What the clerk has earned.

        Args:
            unheard: Faults of the turns that nobody heard, after the user left.
        """
        judgement = Judgement()
        for turn, what in self.remarks:
            judgement.note(f"turn {turn}", what)
        final = {name: (many, day) for name, many, day in self.stages[-1]["goal"]}
        names = {*self.start, *final}
        changes = [name for name in names if self.start.get(name) != final.get(name)]
        if not changes or not self.turns:
            return judgement.note("the bookings", "nothing is to be done, or was said")
        for name in sorted({*self.bookings, *names}.difference(changes)):
            if self.bookings.get(name) != self.start.get(name):
                return judgement.note(f"the booking of {name}", "changed, and nobody wanted that")
        right = 0
        for name in sorted(changes):
            as_wanted = self.bookings.get(name) == final.get(name)
            right += as_wanted
            if not as_wanted:
                judgement.note(f"the booking of {name}", f"not {_shown(final.get(name))}")
        judgement.settle(
            f"{right} of {len(changes)} bookings", "as the user wants them", right / len(changes)
        )
        what = f"{self.turns}, where {self.fewest} are enough"
        judgement.scale("the turns", what, min(1.0, self.fewest / self.turns))
        if self.stages[-1]["ask"] and not self.answered:
            judgement.scale("the user's question", "not answered rightly", _UNANSWERED)
        faults = min(self.faults + unheard, 60)
        heard = f"{self.faults} of them" + (f", {unheard} after the end" if unheard else "")
        return judgement.scale("faults", heard, float(_FAULT**faults))


def _shown(booking: tuple[str, str] | None) -> str:
    return "cancelled" if booking is None else f"for {booking[0]} on {booking[1]}"

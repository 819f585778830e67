"""The simulated user: it works through an agenda turn by turn, and records the clerk's faults.

Schatzmann et al. (2007), "Agenda-based user simulation for bootstrapping a POMDP dialogue system":
the user has a goal (constraints and requests) and a stack of pending utterances. Here the stack is
the row's list of stages. The user is deterministic; all random choices were made with the row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from textgym.tasks.base import Reply
from textgym.tasks.dialogue.reader import (
    ASK,
    BOOK,
    BYE,
    CANCEL,
    CHANGE,
    JUNK,
    OFFER,
    POLITE,
    STATE,
    Act,
    read,
)
from textgym.tasks.dialogue.world import COLUMN, KIND, SPOT
from textgym.tasks.judgement import Judgement

_PATIENCE = 3
"""The user leaves after this many turns without progress or with a fault."""

_TURN_REWARD = 0.1
"""The reward for each slot found out and each stage completed."""

_FAULT = 0.4
"""The factor for each fault."""

_COURTESIES = 2
"""Courtesy phrases that a turn may contain."""

_UNANSWERED = 0.5
"""The factor for a question of the user without a right answer."""


class User:
    """A user in a conversation.

    Args:
        row: The row; it is not changed.

    Attributes:
        bookings: ``(number, day)`` by name, as the clerk made them.
        stage: The index of the current stage.
        stated: The slots that the user has stated in this stage.
        pending: The slots that the clerk has still to ask for, with the answers.
        turns: The number of turns so far.
        faults: The number of the clerk's faults.
        answered: Whether the user's question was answered rightly; None before an answer.
        done: Whether the user has left.
        remarks: The number of a turn and a description for each kind of fault in it.
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
        self.patience = _PATIENCE
        self.answered: bool | None = None
        self.done = False
        self.remarks: list[tuple[int, str]] = []
        self._start_stage(0)

    def _start_stage(self, number: int) -> None:
        stage = self.stages[number]
        self.stage = number
        self.ask: str = stage["ask"]
        self.name: str = stage["name"]
        self.goal = {name: (many, day) for name, many, day in stage["goal"]}
        self.stated = set(stage["told"])
        self.pending: dict[str, str] = dict(stage["hidden"])

    def _fault(self, what: str, faults: int = 1) -> None:
        if faults:
            self.faults += faults
            self.remarks.append((self.turns, what))

    # ------------------------------------------------------------------ replies

    def respond(self, turn: str) -> Reply:
        """Process a turn of the clerk and reply."""
        self.turns += 1
        self._answers: list[str] = []
        self._guess = bool(self.pending)  # a booking in this turn was not asked for in full
        self._progress = self._left = False
        self._offers = 0
        reward = 0.0
        faults, open_slots = self.faults, len(self.pending)
        acts = read(self.header, turn)
        idle = 0
        for number, act in enumerate(acts):
            idle += self._is_redundant(act, acts[:number])
            self._process(act)
        reward += _TURN_REWARD * (open_slots - len(self.pending))
        over = self.answered is not None if self.ask else self.bookings == self.goal
        if over:
            if self.answered is not False:
                reward += _TURN_REWARD
            self._progress = True
            if self.stage + 1 < len(self.stages):
                self._start_stage(self.stage + 1)
                self._answers = [*self._answers[:1], self.stages[self.stage]["say"]]
            else:
                self.done = True
        if self._progress:
            # Without progress, redundant acts cost only the turn.
            self._fault("a repetition, a needless question, or an incomplete booking", idle)
        if not self._progress or self.faults > faults:
            self.patience -= 1
        if self._left or self.patience <= 0:
            self.done = True
        if self.done:
            return Reply("", reward, True)
        message = " ".join(dict.fromkeys(self._answers)) or "Sorry?"
        return Reply(f"\nUser: {message}\nAgent:", reward, message=message)

    def _is_redundant(self, act: Act, before: Sequence[Act]) -> bool:
        """Whether an act repeats another of its turn, or is a needless question or booking."""
        if act.type == ASK:
            return act.slot not in self.pending
        if act.type == BOOK:
            return not (act.number and act.day)
        if act.type == POLITE:
            return before.count(act) >= _COURTESIES
        return act.type in (STATE, OFFER) and act in before

    def _process(self, act: Act) -> None:
        if act.type == ASK:
            self._process_question(act.slot)
        elif act.type == OFFER:
            self._process_offer(act.name)
        elif act.type == STATE:
            self._process_statement(act)
        elif act.type in (BOOK, CHANGE, CANCEL):
            self._process_booking(act)
        elif act.type == JUNK:
            self._fault("nonsense", act.faults)
        elif act.type == BYE:
            self._left = True
        else:
            assert act.type == POLITE

    def _process_question(self, slot: str) -> None:
        if slot in self.pending:
            self._answers.append(self.pending.pop(slot))
            self.stated.add(slot)
            self._progress = True
        else:
            self._answers.append("I told you." if slot in self.stated else "I do not mind.")

    def _process_offer(self, name: str) -> None:
        self.it = name
        self._offers += 1
        if self._offers > 1 or name not in self.table:
            what = "a second offer" if name in self.table else "not in the table"
            self._fault(f"offer {name}: {what}")
        if not self.name:
            self._answers.append("No, thank you.")
        elif name == self.name:
            self._answers.append("Yes, please.")
            for slot in (KIND, SPOT):
                if self.pending.pop(slot, ""):
                    self.stated.add(slot)
                    self._progress = True
        else:
            self._answers.append(f"No, not {name}.")
            if name in self.table and not self._suits(name):
                self._fault(f"offer {name}: against the user's request")

    def _suits(self, name: str) -> bool:
        """Whether a line of the table agrees with the slots that the user has stated."""
        line, wanted = self.table[name], self.table[self.name]
        columns = [COLUMN[slot] for slot in (KIND, SPOT) if slot in self.stated]
        return all(line[column] == wanted[column] for column in columns)

    def _process_statement(self, act: Act) -> None:
        name = self.it if act.name == "it" else act.name
        line = self.table.get(name)
        true = line is not None and line[COLUMN[act.slot]] == act.value
        if not true:
            self._fault(f"statement {act.value!r} about {name or 'nothing'}: false")
        if act.slot == self.ask:
            # The user believes the first answer: a wrong one cannot be corrected.
            self.answered = self.answered is not False and true and name == self.name
        else:
            self._answers.append("All right.")
        if line is not None:
            self.it = name

    def _process_booking(self, act: Act) -> None:
        name = act.name
        if name == "it":
            only = next(iter(self.bookings)) if len(self.bookings) == 1 else ""
            name = self.it or only
        self.it = name
        known = name in self.bookings
        if act.type == BOOK and not (act.number and act.day):
            return  # incomplete: "Sorry?"
        if known == (act.type == BOOK) or name not in self.table:
            what = "already booked" if known else "not booked"
            self._fault(f"{act.type} {name}: {what if name in self.table else 'not in the table'}")
            return
        wanted = self.goal.get(name)
        if act.type == CANCEL:
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
            what = "a guess" if right else "not the user's wish"
            self._fault(f"{act.type} {name}: {what}")

    # ------------------------------------------------------------------ the score

    def judge(self, late_faults: int = 0) -> Judgement:
        """The clerk's score.

        Args:
            late_faults: Faults of turns after the user left.
        """
        judgement = Judgement()
        for turn, what in self.remarks:
            judgement.note(f"turn {turn}", what)
        final = {name: (many, day) for name, many, day in self.stages[-1]["goal"]}
        names = {*self.start, *final}
        changes = [name for name in names if self.start.get(name) != final.get(name)]
        if not changes or not self.turns:
            return judgement.note("the bookings", "no changes are wanted, or there was no turn")
        for name in sorted({*self.bookings, *names}.difference(changes)):
            if self.bookings.get(name) != self.start.get(name):
                return judgement.note(f"the booking of {name}", "changed against the user's wish")
        right = 0
        for name in sorted(changes):
            as_wanted = self.bookings.get(name) == final.get(name)
            right += as_wanted
            if not as_wanted:
                judgement.note(f"the booking of {name}", f"not {_shown(final.get(name))}")
        judgement.settle(
            f"{right} of {len(changes)} bookings", "as the user wants them", right / len(changes)
        )
        what = f"{self.turns}, where {self.fewest} suffice"
        judgement.scale("the turns", what, min(1.0, self.fewest / self.turns))
        if self.stages[-1]["ask"] and not self.answered:
            judgement.scale("the user's question", "no right answer", _UNANSWERED)
        faults = min(self.faults + late_faults, 60)
        what = f"{self.faults}" + (f", and {late_faults} after the end" if late_faults else "")
        return judgement.scale("faults", what, float(_FAULT**faults))


def _shown(booking: tuple[str, str] | None) -> str:
    return "cancelled" if booking is None else f"for {booking[0]} on {booking[1]}"

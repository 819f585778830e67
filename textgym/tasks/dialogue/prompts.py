"""Parses a prompt that a user wrote in the task's format: `Dialogue.complete_row`.

Slots that the prompt leaves open (a day, a number of people, one of several lines) are drawn from a
hash of the prompt, so the same prompt has the same goal everywhere.
"""

from __future__ import annotations

import re
import zlib
from typing import Any

import numpy as np

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
from textgym.tasks.dialogue.writer import Plot
from textgym.tasks.random_draws import draws, pick

_BOOKING = re.compile(r"(\w+) for (\w+) on (\w+)\.")
_MINE = r"my \w+ (?:on|for) (\w+)"
_CANCEL = re.compile(f"Please cancel {_MINE}")
_CHANGE = re.compile(f"Please change {_MINE} to (\\w+)")
_FOR = re.compile(rf"\bfor ({'|'.join(NUMBERS)})\b")
_ON = re.compile(rf"\bon ({'|'.join(DAYS)})\b")
_INSTEAD = re.compile(f" instead of {_MINE}")


def read_prompt(prompt: str) -> dict[str, Any] | None:
    """The columns of a row for a prompt, or None if it is not in the task's format."""
    lines = prompt.strip().split("\n")
    header, _, rest = lines[0].partition(": ")
    if header not in DOMAINS or len(lines) < 3 or lines[-1] != "Agent:":
        return None
    domain, request = DOMAINS[header], lines[-2]
    table = [line.split(", ") for line in rest.rstrip(".").split(". ")]
    if not request.startswith("User: ") or any(
        len(line) != 4 or line[1] not in domain.kinds or line[2] not in domain.spots
        for line in table
    ):
        return None
    seed = zlib.crc32(prompt.encode("utf-8", "surrogatepass"))
    plot = Plot(domain, draws(np.random.default_rng(seed), 32))
    plot.table = table
    names = [line[0] for line in table]
    if lines[1].startswith("Bookings: "):
        found = _BOOKING.findall(lines[1])
        plot.start = {name: [number, day] for name, number, day in found if name in names}
        plot.bookings = dict(plot.start)
    if not _add_stage(plot, request):
        return None
    row = plot.row()
    row["stages"][0]["say"] = request.removeprefix("User: ")
    return {name: value for name, value in row.items() if name != "prompt"}


def _add_stage(plot: Plot, request: str) -> bool:
    """Add the stage of a request; False if it cannot be parsed."""

    def booking_of(value: str) -> str:
        return next((name for name, booking in plot.bookings.items() if value in booking), "")

    if match := _CANCEL.search(request):
        old = booking_of(match[1])
        if old:
            plot.cancel(old, "")
        return bool(old)
    if match := _CHANGE.search(request):
        old, new = booking_of(match[1]), match[2]
        if not old or new not in NUMBERS + DAYS or new in plot.bookings[old]:
            return False
        plot.change_to(old, new, "")
        return True
    instead = _INSTEAD.search(request)
    wish = request[: instead.start()] if instead else request
    words = set(re.findall(r"\w+", wish))
    named = {
        KIND: words.intersection(plot.domain.kinds),
        SPOT: words.intersection(plot.domain.spots),
    }
    lines = [
        line
        for line in plot.table
        if line[0] not in plot.bookings
        and all(line[COLUMN[slot]] in values for slot, values in named.items() if values)
    ]
    if not lines:
        return False
    plot.wanted = lines[int(plot.draw() * len(lines))]
    if instead:
        old = booking_of(instead[1])
        if old:
            plot.swap(old, "")
        return bool(old)
    number = _first(_FOR, wish) or pick(NUMBERS, plot.draw)
    day = _first(_ON, wish) or pick(DAYS, plot.draw)
    named_slots = [slot for slot, values in named.items() if values]
    # An attribute that distinguishes the lines in question has to be asked for.
    secret = [
        slot
        for slot, values in named.items()
        if not values and len({line[COLUMN[slot]] for line in lines}) > 1
    ]
    for slot, pattern in ((NUMBER, _FOR), (DAY, _ON)):
        (named_slots if pattern.search(wish) else secret).append(slot)
    plot.order("", number, day, named_slots, secret)
    return True


def _first(pattern: re.Pattern[str], wish: str) -> str:
    found = pattern.search(wish)
    return found[1] if found else ""

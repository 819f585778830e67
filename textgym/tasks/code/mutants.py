"""Wrong programs that the tests of a row have to find: the reference with one clause changed.

A program of `textgym.tasks.code.writer` comes with marks where it could be changed. The numbers of
the specification and a switch for each mark become parameters, so that the right program and its
wrong versions are one program with different numbers, which is read once and then remembered.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from textgym.tasks.code.language import read
from textgym.tasks.code.machine import Program

_BIG = 10**6
"""Larger than anything that is compared in a program of a row."""

_NUMBER = re.compile(r"(-?\d+)~")
_SWITCH = re.compile(
    r"abs\((?P<abs>x - \w+)\)|if (?P<choice>[^!?]*)!|@(?P<list>[^@]*)@|(?P<mark>[\^&?])"
)


class Family(NamedTuple):
    """A program and its wrong versions.

    Attributes:
        program: It takes the arguments of the function, and then the settings.
        right: The settings of the right program.
        wrong: Those of the wrong ones.
    """

    program: Program
    right: tuple[int, ...]
    wrong: tuple[tuple[int, ...], ...]


def family(names: tuple[str, ...], marked: str) -> Family:
    """The programs of a plan: its own, and those with a clause changed.

    These are the ones with a number of the specification one more or less, without a filter,
    an operand of max or min, abs, or the first operation on a list, or with one branch only.

    Args:
        names: The parameters of the function.
        marked: Its body, with marks.
    """
    numbers = [int(number) for number in _NUMBER.findall(marked)]
    program, changes, switches = _shape(names, _NUMBER.sub("#", marked))
    right = (*numbers, *[0] * switches)
    wrong = [(*right[:at], right[at] + change, *right[at + 1 :]) for at, change in changes]
    return Family(program, right, tuple(wrong))


@lru_cache(maxsize=4096)
def _shape(names: tuple[str, ...], body: str) -> tuple[Program, list[tuple[int, int]], int]:
    """The program with parameters for its settings, the changes to these, and the switches."""
    parts = body.split("#")
    numbers = len(parts) - 1
    text = "".join([f"{part}p{at}" for at, part in enumerate(parts[:-1])]) + parts[-1]
    changes: list[tuple[int, int]] = []
    count = numbers

    def switch(match: re.Match[str]) -> str:
        nonlocal count
        name, at = f"p{count}", count
        count += 1
        if match["abs"]:
            changes.extend([(at, _BIG), (at, -_BIG)])
            return f"(abs({match['abs']} + {name}) - abs({name}))"
        if match["choice"]:
            changes.extend([(at, 1), (at, -1)])
            return f"if ({match['choice']}) + {name} > 0"
        if match["list"]:
            changes.append((at, 1))
            return f"(a if {name} else {match['list']})"
        if match["mark"] == "?":
            changes.append((at, 1))
            return f" or {name}"
        changes.append((at, _BIG))
        return f" {'-' if match['mark'] == '^' else '+'} {name}"

    text = _SWITCH.sub(switch, text)
    changes.extend([(at, change) for at in range(numbers) for change in (1, -1)])
    settings = "".join([f", p{at}" for at in range(count)])
    # Recursive calls hand the settings on.
    text = re.sub(r"\bf\((n [^)]*)\)", rf"f(\1{settings})", text)
    text = f"def f({', '.join(names)}{settings}): {text}"
    program, rest = read(text)
    if program is None or rest:
        raise AssertionError(text)
    return program, changes, count - numbers


def telling(programs: Family, cases: Sequence[list[Any]]) -> list[int] | None:
    """Which cases tell the right program from all the wrong ones, or None where they cannot.

    Args:
        programs: The programs.
        cases: Arguments and the right results.
    """
    found: list[int] = []
    run = programs.program.run
    for settings in programs.wrong:
        for at in found:
            arguments, result = cases[at]
            if run([*arguments, *settings]) != result:
                break
        else:
            for at, (arguments, result) in enumerate(cases):
                if at not in found and run([*arguments, *settings]) != result:
                    found.append(at)
                    break
            else:
                return None
    return found

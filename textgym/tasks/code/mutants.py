"""Mutants that the tests of a row have to detect: the reference with one clause changed.

A program of `textgym.tasks.code.writer` has marks at the places of mutations. The numbers of the
specification and a switch for each mark become parameters, so that the program and its mutants are
one program with different settings, which is parsed once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from textgym.tasks.code.interpreter import Program
from textgym.tasks.code.reader import read

_BIG = 10**6
"""Larger than any number in a program of a row."""

_NUMBER = re.compile(r"(-?\d+)~")
_SWITCH = re.compile(
    r"abs\((?P<abs>x - \w+)\)|if (?P<choice>[^!?]*)!|@(?P<list>[^@]*)@|(?P<mark>[\^&?])"
)


class Family(NamedTuple):
    """A program and its mutants.

    Attributes:
        program: A program that takes the arguments of the function and then the settings.
        right: The settings of the right program.
        wrong: The settings of the mutants.
    """

    program: Program
    right: tuple[int, ...]
    wrong: tuple[tuple[int, ...], ...]


def family(names: tuple[str, ...], marked: str) -> Family:
    """The program of a plan and its mutants.

    A mutant has a number of the specification increased or decreased by one, lacks a filter, an
    operand of max or min, abs, or the first operation on a list, or has only one branch.

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
    """The program with parameters for its settings, their mutations, and the number of switches."""
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
    # Recursive calls pass the settings on.
    text = re.sub(r"\bf\((n [^)]*)\)", rf"f(\1{settings})", text)
    text = f"def f({', '.join(names)}{settings}): {text}"
    program, rest = read(text)
    if program is None or rest:
        raise AssertionError(text)
    return program, changes, count - numbers


def distinguishing(programs: Family, cases: Sequence[list[Any]]) -> list[int] | None:
    """Indices of cases that detect all mutants, or None if there is a mutant that none detects.

    Args:
        programs: The program and its mutants.
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

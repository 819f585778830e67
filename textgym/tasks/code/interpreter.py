"""Runs programs of the code task, with limits on values, steps and depth.

Values are Python's ints, bools and flat lists of them, with Python's semantics (``//`` rounds down,
``True + 1`` is 2, a negative index counts from the end). Programs are closures over a frame of
variables, made by `textgym.tasks.code.reader`; ``exec``, ``eval`` and ``compile`` are never used.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

MAX_NUMBER = 10**12
"""The largest absolute value of a number."""

MAX_LIST = 200
"""The largest length of a list."""

MAX_STEPS = 4000
"""The budget of a run: each call and each loop iteration costs its number of tokens."""

MAX_FRAMES = 400
"""The largest depth of calls between the closures of a run, including recursion."""

_MAX_POWER = 64

Frame = list[Any]
"""The variables of a call, after the `Budget` that all calls of a run share."""

Code = Callable[[Frame], Any]
"""A part of a program. A statement returns None to continue, or the function's value."""


class LimitError(Exception):
    """A program exceeded the limit on steps, depth or values."""


class Budget:
    """The remaining steps and depth of a run."""

    steps = MAX_STEPS
    frames = MAX_FRAMES

    def spend(self, steps: int) -> None:
        """Count steps.

        Raises:
            LimitError: If the budget is exceeded.
        """
        self.steps -= steps
        if self.steps < 0:
            raise LimitError


class Program:
    """A compiled function.

    Attributes:
        parameters: The names of its parameters.
        name: The name of the function.
    """

    __slots__ = ("_arity", "_body", "_cost", "_height", "_padding", "name", "parameters")

    def __init__(self, parameters: tuple[str, ...], name: str = "") -> None:
        self.parameters = parameters
        self.name = name
        self._arity = len(parameters) + 1  # the first entry of a frame is the budget

    def finish(self, body: Code, variables: int, cost: int, height: int) -> None:
        """Set the body of the function, which may call the function recursively.

        Args:
            body: The code.
            variables: The number of variables, including parameters.
            cost: The number of steps of a call.
            height: The depth of calls between the closures of the body.
        """
        self._body = body
        self._padding = [None] * (variables - len(self.parameters))
        self._cost = cost
        self._height = height + 2

    def run(self, arguments: Sequence[Any]) -> Any:
        """Call the function.

        Args:
            arguments: Ints and lists of ints; they are not changed.

        Returns:
            An int, a bool or a list of these; None if the run fails or exceeds a limit.
        """
        frame: Frame = [Budget()]
        for value in arguments:
            frame.append(value[:] if value.__class__ is list else value)
        if len(frame) != self._arity:
            return None
        frame += self._padding
        try:
            return self._body(frame)
        except _FAILURES:
            return None

    def call(self, budget: Budget, arguments: list[Any]) -> Any:
        """Call the function within a run."""
        if len(arguments) + 1 != self._arity:
            raise TypeError("wrong number of arguments")
        budget.steps -= self._cost
        budget.frames -= self._height
        if budget.steps < 0 or budget.frames < 0:
            raise LimitError
        value = self._body([budget, *arguments, *self._padding])
        if value is None:
            raise ValueError("no value was returned")
        budget.frames += self._height
        return value


_FAILURES = (LimitError, ArithmeticError, IndexError, RecursionError, TypeError, ValueError)


def checked(value: Any) -> Any:
    """The value, after a check of the limits."""
    kind = value.__class__
    if kind is int:
        if -MAX_NUMBER <= value <= MAX_NUMBER:
            return value
    elif kind is bool or (kind is list and len(value) <= MAX_LIST):
        return value
    raise LimitError


def flat(values: list[Any]) -> list[Any]:
    """The list, after a check of its length and elements.

    Nested lists could share parts, which makes comparisons take exponential time.
    """
    if len(values) > MAX_LIST:
        raise LimitError
    if list in map(type, values):
        raise TypeError("a list contains a list")
    return values


def _add(left: Any, right: Any) -> Any:
    value = left + right
    if value.__class__ is int and -MAX_NUMBER <= value <= MAX_NUMBER:
        return value  # equals `checked`, without the call
    return checked(value)


def _add_in_place(left: Any, right: Any) -> Any:
    left += right
    return checked(left)


def _subtract(left: Any, right: Any) -> Any:
    value = left - right
    if value.__class__ is int and -MAX_NUMBER <= value <= MAX_NUMBER:
        return value
    return checked(value)


def _multiply(left: Any, right: Any) -> Any:
    if left.__class__ is list or right.__class__ is list:
        _check_repeated(left, right)
    value = left * right
    if value.__class__ is int and -MAX_NUMBER <= value <= MAX_NUMBER:
        return value
    return checked(value)


def _multiply_in_place(left: Any, right: Any) -> Any:
    _check_repeated(left, right)
    left *= right
    return checked(left)


def _check_repeated(left: Any, right: Any) -> None:
    """Refuse a long list before it is created."""
    if left.__class__ is list:
        left, right = right, left
    if right.__class__ is list and left.__class__ is not list and len(right) * left > MAX_LIST:
        raise LimitError


def _power(left: Any, right: Any) -> Any:
    if not 0 <= right <= _MAX_POWER:
        raise LimitError
    return checked(left**right)


BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": _add,
    "-": _subtract,
    "*": _multiply,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": _power,
}
"""The binary operators."""

IN_PLACE = BINARY | {"+": _add_in_place, "*": _multiply_in_place}
"""The augmented assignments (``+=``), which change a list in place, as in Python."""

COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda left, right: left in right,
    "not in": lambda left, right: left not in right,
}


def _range(*bounds: Any) -> list[int]:
    numbers = range(*bounds)
    if len(numbers) > MAX_LIST:
        raise LimitError
    return list(numbers)


def _list(*values: Any) -> list[Any]:
    return list(*values)


def _sum(values: Any) -> Any:
    return checked(sum(values))


def _reversed(values: Any) -> Any:
    return values[::-1]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "len": len,
    "list": _list,
    "max": max,
    "min": min,
    "range": _range,
    "reversed": _reversed,
    "sorted": sorted,
    "sum": _sum,
}
"""The functions that a program may call. ``range`` and ``reversed`` return lists."""


def comprehension(
    slot: int, source: Code, conditions: list[Code], element: Code, cost: int
) -> Code:
    """A list comprehension over the variable in `slot`; each element costs `cost` steps."""

    def given(frame: Frame) -> list[Any]:
        values = items(source(frame))
        frame[0].spend(cost * len(values))
        return values

    if not conditions:
        return lambda frame: flat([element(frame) for frame[slot] in given(frame)])
    condition = conditions[0]
    for more in conditions[1:]:
        condition = both(condition, more)
    return lambda frame: flat([element(frame) for frame[slot] in given(frame) if condition(frame)])


def both(one: Code, other: Code) -> Code:
    """The conjunction of two conditions."""
    return lambda frame: one(frame) and other(frame)


def items(values: Any) -> list[Any]:
    """The list that a loop iterates over.

    Raises:
        TypeError: If the value is not a list.
    """
    if values.__class__ is not list:
        raise TypeError("not a list")
    return values

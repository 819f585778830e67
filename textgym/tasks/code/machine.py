"""What runs programs of the code task: values of bounded size, and a budget of steps and depth.

Values are Python's own ints, bools and flat lists of them, so that what is not said here is as in
Python (``//`` rounds down, ``True + 1`` is 2, a negative index counts from the end). Programs are
closures over a frame of variables, made by `textgym.tasks.code.language`; Python's ``exec``,
``eval`` and ``compile`` have no part in it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

MAX_NUMBER = 10**12
"""No number is larger in size."""

MAX_LIST = 200
"""No list is longer."""

MAX_STEPS = 4000
"""How much a run may do: each call and each turn of a loop counts the tokens that it runs."""

MAX_FRAMES = 400
"""How deeply the closures of a run may call each other, recursion included."""

_MAX_POWER = 64

Frame = list[Any]
"""Variables of a call; the first entry is the `Budget` that all calls of a run share."""

Code = Callable[[Frame], Any]
"""A piece of program. A statement gives None to go on, or the value to return."""


class LimitError(Exception):
    """A program asked for too many steps, too deep a recursion, or too large a value."""


class Budget:
    """What is left to a run."""

    steps = MAX_STEPS
    frames = MAX_FRAMES

    def spend(self, steps: int) -> None:
        """Count steps.

        Raises:
            LimitError: If that were too many.
        """
        self.steps -= steps
        if self.steps < 0:
            raise LimitError


class Program:
    """A function, ready to run.

    Attributes:
        parameters: The names of its parameters.
        name: Its own name.
    """

    __slots__ = ("_arity", "_body", "_cost", "_height", "_padding", "name", "parameters")

    def __init__(self, parameters: tuple[str, ...], name: str = "") -> None:
        self.parameters = parameters
        self.name = name
        self._arity = len(parameters) + 1  # of a frame: the budget comes first

    def finish(self, body: Code, variables: int, cost: int, height: int) -> None:
        """Give the function its body, which may call the function itself.

        Args:
            body: The code.
            variables: How many variables it has, the parameters included.
            cost: How many steps a call counts.
            height: How deeply the closures of the body call each other.
        """
        self._body = body
        self._padding = [None] * (variables - len(self.parameters))
        self._cost = cost
        self._height = height + 2

    def run(self, arguments: Sequence[Any]) -> Any:
        """Call the function.

        Args:
            arguments: Ints and lists of ints. They are not changed.

        Returns:
            An int, a bool or a list of these; None if the run fails or meets a limit.
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
            raise TypeError("another number of arguments")
        budget.steps -= self._cost
        budget.frames -= self._height
        if budget.steps < 0 or budget.frames < 0:
            raise LimitError
        value = self._body([budget, *arguments, *self._padding])
        if value is None:
            raise ValueError("nothing was returned")
        budget.frames += self._height
        return value


_FAILURES = (LimitError, ArithmeticError, IndexError, RecursionError, TypeError, ValueError)


def checked(value: Any) -> Any:
    """The value itself, if it is a number or a list within the limits."""
    kind = value.__class__
    if kind is int:
        if -MAX_NUMBER <= value <= MAX_NUMBER:
            return value
    elif kind is bool or (kind is list and len(value) <= MAX_LIST):
        return value
    raise LimitError


def flat(values: list[Any]) -> list[Any]:
    """The list itself, if it is short enough and holds numbers alone.

    Lists of lists could share their parts, and be of exponential size to whoever compares them.
    """
    if len(values) > MAX_LIST:
        raise LimitError
    if list in map(type, values):
        raise TypeError("lists hold numbers")
    return values


def _add(left: Any, right: Any) -> Any:
    value = left + right
    if value.__class__ is int and -MAX_NUMBER <= value <= MAX_NUMBER:
        return value  # as `checked` says, without the call
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
    """Refuse a long list before it is made."""
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
"""The operators that make a new value."""

IN_PLACE = BINARY | {"+": _add_in_place, "*": _multiply_in_place}
"""The same for ``+=`` and its like, which change the list itself, as in Python."""

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
"""What a program may call beside itself. Ranges and reversals are lists here."""

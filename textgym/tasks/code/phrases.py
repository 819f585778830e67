"""The phrases of specifications, each with its expression or condition.

``{c}`` and ``{k}`` are numbers. The marks in the code (`textgym.tasks.code.writer.MARKS`) are the
places of mutations.
"""

from __future__ import annotations

from typing import NamedTuple

VALUE, PRODUCT, SUM = range(3)
"""The precedence of an expression's operator, strongest first."""

Phrase = tuple[tuple[str, ...], str, int]
"""Wordings, an expression, and its precedence."""

# Kinds of steps: two of one kind in a row could be merged.
SHIFT, SCALE, REMAINDER, BOUND = range(4)

# Operations on two operands, {a} and {b}.
PAIRS: tuple[Phrase, ...] = (
    (("the sum of {a} and {b}",), "{a} + {b}", SUM),
    (("the difference {a} - {b}",), "{a} - {b}", SUM),
    (("the product of {a} and {b}",), "{a} * {b}", PRODUCT),
    (("the larger of {a} and {b}", "the maximum of {a} and {b}"), "max({a}^, {b}^)", VALUE),
    (("the smaller of {a} and {b}", "the minimum of {a} and {b}"), "min({a}&, {b}&)", VALUE),
    (("the distance between {a} and {b}",), "abs({a} - {b})", VALUE),
)


class Step(NamedTuple):
    """An operation on an operand, with a number {c}.

    Attributes:
        kind: One of the kinds above.
        wordings: Wordings for an operand {p}.
        after: The wording for the previous result.
        code: The expression for an operand {e}.
        precedence: The precedence of the expression.
        operand: The weakest precedence of {e} without parentheses.
    """

    kind: int
    wordings: tuple[str, ...]
    after: str
    code: str
    precedence: int
    operand: int


STEPS = (
    Step(
        SHIFT,
        ("return {p}, plus {c}", "add {c} to {p}", "return {c} more than {p}"),
        "Then add {c}.",
        "{e} + {c}",
        SUM,
        SUM,
    ),
    Step(
        SHIFT,
        ("return {p}, minus {c}", "subtract {c} from {p}", "return {c} less than {p}"),
        "Then subtract {c}.",
        "{e} - {c}",
        SUM,
        SUM,
    ),
    Step(
        SCALE,
        ("return {c} times {p}", "multiply {p} by {c}"),
        "Then multiply by {c}.",
        "{e} * {c}",
        PRODUCT,
        PRODUCT,
    ),
    Step(
        REMAINDER,
        ("return the remainder when {p} is divided by {c}", "return {p}, modulo {c}"),
        "Then take the remainder modulo {c}.",
        "{e} % {c}",
        PRODUCT,
        PRODUCT,
    ),
    Step(
        BOUND, ("return {p}, but at least {c}",), "Return at least {c}.", "max({e}^, {c}^)",
        VALUE, SUM,
    ),
    Step(
        BOUND, ("return {p}, but at most {c}",), "Return at most {c}.", "min({e}&, {c}&)",
        VALUE, SUM,
    ),
)  # fmt: skip
STEPS_AFTER = {
    kind: tuple(step for step in STEPS if step.kind != kind)
    for kind in (None, SHIFT, SCALE, REMAINDER, BOUND)
}

# Properties of numbers: an adjective, a condition on v, and whether it can precede the noun.
PROPERTIES: tuple[tuple[str, str, bool], ...] = (
    ("even", "v % 2 == 0", True),
    ("odd", "v % 2 == 1", True),
    ("positive", "v > 0", True),
    ("negative", "v < 0", True),
    ("greater than {k}", "v > {k}", False),
    ("less than {k}", "v < {k}", False),
    ("at least {k}", "v >= {k}", False),
    ("at most {k}", "v <= {k}", False),
    ("divisible by {c}", "v % {c} == 0", False),
    ("greater than x", "v > x", False),
)

# Changes of each number: an imperative, a noun phrase, and an expression of v.
CHANGES: tuple[tuple[str, str, str], ...] = (
    ("add {c} to {each}", "", "v + {c}"),
    ("subtract {c} from {each}", "", "v - {c}"),
    ("multiply {each} by {c}", "", "v * {c}"),
    ("double {each}", "the doubles of", "v * 2~"),
    ("square {each}", "the squares of", "v * v"),
    ("halve {each}, rounding down", "", "v // 2~"),
)

WHOLE = (
    ("the largest number in a", "max(a)"),
    ("the smallest number in a", "min(a)"),
    ("the sum of a", "sum(a)"),
    ("the length of a", "len(a)"),
    ("the first number in a", "a[0]"),
    ("the last number in a", "a[-1]"),
)

BRANCHES = (
    ("x plus {c}", "x + {c}"),
    ("x minus {c}", "x - {c}"),
    ("{c} times x", "x * {c}"),
    ("the square of x", "x * x"),
    ("{c} minus x", "{c} - x"),
    ("the product of x and y", "x * y"),
    ("the sum of x and y", "x + y"),
)

TESTS = (
    ("greater than {k}", "x > {k}"),
    ("less than {k}", "x < {k}"),
    ("at least {k}", "x >= {k}"),
    ("even", "x % 2 == 0"),
    ("odd", "x % 2 == 1"),
    ("greater than y", "x > y"),
    ("less than y", "x < y"),
)

ORDERS = (
    ("sort a", "sorted(a)"),
    ("sort a from the largest to the smallest", "sorted(a)[::-1]"),
    ("reverse a", "a[::-1]"),
    # The following operations lose numbers.
    ("take every second number in a, from the first on", "a[::2]"),
    ("drop the first number in a", "a[1:]"),
    ("drop the last number in a", "a[:-1]"),
    ("drop the first {k} numbers in a", "a[{k}:]"),
    ("take the first {k} numbers in a", "a[:{k}]"),
    ("take the {k} smallest numbers in a", "sorted(a)[:{k}]"),
    ("take the {k} largest numbers in a", "sorted(a)[-{k}:]"),
)
REORDERS = 3

PER_NUMBER = (
    ("the sum of the squares of the numbers", "v * v", ""),
    ("the sum of the numbers", "v", "if"),
    ("the sum of the squares of the numbers", "v * v", "if"),
    ("the sum of {c} * v + 1 for all numbers v", "{c} * v + 1~", ""),
    ("the sum of v * v - {c} for all numbers v", "v * v - {c}", ""),
)
COUNTED = tuple(entry for entry in PROPERTIES if entry[0] in ("even", "odd", "divisible by {c}"))

RECURRENCES = (
    ("f(n - 1) plus {c}", "f(n - 1) + {c}"),
    ("f(n - 1) plus n", "f(n - 1) + n"),
    ("f(n - 1) plus {c} times n", "f(n - 1) + {c} * n"),
    ("f(n - 1) plus the square of n", "f(n - 1) + n * n"),
    ("n minus f(n - 1)", "n - f(n - 1)"),
    ("n times f(n - 1)", "n * f(n - 1)"),
    ("2 times f(n - 1), plus {c}", "2~ * f(n - 1) + {c}"),
    ("2 times f(n - 1), minus n", "2~ * f(n - 1) - n"),
    ("3 times f(n - 1), minus {c}", "3~ * f(n - 1) - {c}"),
    ("f(n // 2) plus {c}", "f(n // 2) + {c}"),
    ("f(n // 2) plus n", "f(n // 2) + n"),
    ("f(n - 2) plus n", "f(n - 2) + n"),
)

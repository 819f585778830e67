"""Draws specifications of small functions in English, with their programs.

A `Plan` combines phrases and their code: an operand ("the larger of x and y", ``max(x, y)``) with
operations on it ("add 3 to ...", ``... + 3``). Most phrases have several wordings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from textgym.tasks.code.phrases import (
    BOUND,
    BRANCHES,
    CHANGES,
    COUNTED,
    ORDERS,
    PAIRS,
    PER_NUMBER,
    PRODUCT,
    PROPERTIES,
    RECURRENCES,
    REORDERS,
    STEPS_AFTER,
    TESTS,
    WHOLE,
    Step,
)
from textgym.tasks.random_draws import Draw, pick


class Plan(NamedTuple):
    """A specification and its program.

    Attributes:
        parameters: Names of the parameters: ``a`` is a list of numbers, ``n`` a number >= 0, ``x``
            and ``y`` are any numbers.
        text: The specification, in sentences.
        body: The program after the colon.
        near: A number at which the function changes its behaviour; arguments are drawn around it.
        marked: The program with `MARKS` at the places of mutations.
    """

    parameters: tuple[str, ...]
    text: str
    body: str
    near: int
    marked: str = ""


MARKS = "~^&?!@"
"""In a marked program ``~`` follows a number of the specification, ``^`` and ``&`` the operands of
max and min, ``?`` a filter and ``!`` the condition of a choice; ``@a[1:]@`` is the list after a
first operation."""

_NO_MARKS = str.maketrans("", "", MARKS)


def plan(level: int, draw: Draw) -> Plan:
    """Draw a function of a level."""
    kinds = _KINDS[level - 1]
    names, text, marked, near, _ = pick(kinds, draw)(draw)
    return Plan(names, text.translate(_NO_MARKS), marked.translate(_NO_MARKS), int(near), marked)


class _Marked(int):
    """A number of the specification, formatted with its mark."""

    def __format__(self, form: str) -> str:
        return f"{int(self)}~"


def _number(draw: Draw) -> int:
    return _Marked(2 + int(draw() * 8))


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _apply(step: Step, code: str, precedence: int, c: int) -> str:
    return step.code.format(e=f"({code})" if precedence > step.operand else code, c=c)


def _arithmetic(draw: Draw) -> Plan:
    """Level 1: two or three operations on one or two numbers."""
    luck = draw()
    if luck < 0.1:
        names: tuple[str, ...] = ("x",)
        words, code, precedence = "the square of x", "x * x", PRODUCT
    else:
        names = ("x",) if luck < 0.4 else ("x", "y")
        b = _number(draw) if luck < 0.4 else "y"
        wordings, code, precedence = pick(PAIRS, draw)
        words, code = pick(wordings, draw).format(a="x", b=b), code.format(a="x", b=b)
    bounded = code[:3] in ("max", "min")
    step = pick(STEPS_AFTER[BOUND if bounded else None], draw)
    c = _number(draw)
    text = _sentence(pick(step.wordings, draw).format(p=words, c=c))
    code = _apply(step, code, precedence, c)
    if draw() < 0.5:
        more = pick(STEPS_AFTER[step.kind], draw)
        c = _number(draw)
        text += f" {more.after.format(c=c)}"
        code = _apply(more, code, step.precedence, c)
    return Plan(names, text, f"return {code}", 0)


class _Property(NamedTuple):
    """A property of numbers in a list."""

    adjective: str
    condition: str
    before: bool
    near: int

    def numbers(self, noun: str, place: str, draw: Draw) -> str:
        if self.before and draw() < 0.7:
            return f"{self.adjective} {noun}{place}"
        return f"{noun}{place} that are {self.adjective}"

    def parameters(self) -> tuple[str, ...]:
        return ("a", "x") if self.adjective.endswith("x") else ("a",)


def _property(draw: Draw, options: Sequence[tuple[str, str, bool]] = PROPERTIES) -> _Property:
    adjective, condition, before = pick(options, draw)
    k, c = _Marked(int(draw() * 10) - 2), _Marked(3 + int(draw() * 3))
    near = 0 if before else c if "{c}" in adjective else k
    return _Property(adjective.format(k=k, c=c), condition.format(k=k, c=c), before, near)


def _chosen(draw: Draw) -> Plan:
    """Level 2: the sum, count or list of numbers with a property."""
    chosen = _property(draw)
    luck = draw()
    listed = f"[v for v in a if {chosen.condition}?]"
    numbers = chosen.numbers("numbers", " in a", draw)
    if luck < 0.35:
        text = pick(("return the sum of the {}", "add up the {}"), draw).format(numbers)
        body = f"return sum({listed})"
    elif luck < 0.7:
        asked = f"return how many numbers in a are {chosen.adjective}"
        text = pick((f"count the {numbers}", asked), draw)
        body = f"return len({listed})"
    elif luck < 0.9:
        text = pick(("return the list of the {}", "keep only the {}"), draw).format(numbers)
        body = f"return {listed}"
    else:
        text = f"remove the {numbers}"
        body = f"return [v for v in a if not {chosen.condition}?]"
    return Plan(chosen.parameters(), _sentence(text), body, chosen.near)


def _each(draw: Draw) -> Plan:
    """Level 2: a change of every number in a list."""
    order, _, code = pick(CHANGES, draw)
    c = _number(draw)
    each = pick(("every number in a", "each number in a"), draw)
    body = f"return [{code.format(c=c)} for v in a]"
    return Plan(("a",), _sentence(order.format(c=c, each=each)), body, 0)


def _aggregates(draw: Draw) -> Plan:
    """Level 2: two properties of a list."""
    first = int(draw() * len(WHOLE))
    (one, code), (other, more) = WHOLE[first], WHOLE[first - 1 - int(draw() * (len(WHOLE) - 1))]
    c = _number(draw)
    forms = (
        ("return {0} minus {1}", "{0} - {1}"),
        ("subtract {1} from {0}", "{0} - {1}"),
        ("return {0} minus {c} times {1}", "{0} - {c} * {1}"),
        ("return {0} plus {c} times {1}", "{0} + {c} * {1}"),
        ("return {0} times {1}, plus {c}", "{0} * {1} + {c}"),
        ("return {0} plus {1}, minus {c}", "{0} + {1} - {c}"),
    )
    text, result = pick(forms, draw)
    text = _sentence(text.format(one, other, c=c))
    return Plan(("a",), text, f"return {result.format(code, more, c=c)}", 0)


def _branch(draw: Draw) -> Plan:
    """Level 2: one of two formulas."""
    first = int(draw() * len(BRANCHES))
    second = first - 1 - int(draw() * (len(BRANCHES) - 1))
    c, d, k = _number(draw), _number(draw), _Marked(int(draw() * 10) - 2)
    condition, test = (part.format(k=k) for part in pick(TESTS, draw))
    yes, then = (part.format(c=c) for part in BRANCHES[first])
    no, otherwise = (part.format(c=d) for part in BRANCHES[second])
    text = pick(
        (
            "if x is {0}, return {1}. Otherwise return {2}",
            "return {1} if x is {0}, and otherwise {2}",
        ),
        draw,
    )
    body = f"return {then} if {test}! else {otherwise}"
    two = "y" in test + then + otherwise
    return Plan(("x", "y") if two else ("x",), _sentence(text.format(condition, yes, no)), body, k)


def _let(draw: Draw) -> Plan:
    """Level 2: a formula with a variable."""
    wordings, code, _ = pick(PAIRS, draw)
    b = _number(draw) if draw() < 0.5 else "y"
    words, code = pick(wordings, draw).format(a="x", b=b), code.format(a="x", b=b)
    c = _number(draw)
    ends = (
        ("z times z, minus x", "z * z - x"),
        ("z times z, plus {c}", "z * z + {c}"),
        ("x times z, plus {c}", "x * z + {c}"),
        ("the larger of z and {c} times x", "max(z^, {c} * x^)"),
        ("x minus {c} times z", "x - {c} * z"),
    )
    end, result = (part.format(c=c) for part in pick(ends, draw))
    text = pick(("let z be {0}. Return {1}", "return {1}, where z is {0}"), draw)
    return Plan(
        ("x", "y") if b == "y" else ("x",),
        _sentence(text.format(words, end)),
        f"z = {code}; return {result}",
        0,
    )


def _composed(draw: Draw) -> Plan:
    """Level 3: filter, change and reduce."""
    chosen = _property(draw)
    order, noun, code = pick(CHANGES, draw)
    c = _number(draw)
    code = code.format(c=c)
    numbers = chosen.numbers("numbers", " in a", draw)
    reduced, function = pick((("sum", "sum"), ("largest", "max"), ("smallest", "min")), draw)
    if noun and draw() < 0.6:
        text = f"return the {reduced} of {noun} the {numbers}"
    else:
        result = "sum" if function == "sum" else f"{reduced} result"
        order = _sentence(order.format(c=c, each="each"))
        text = f"take the {numbers}. {order} Return the {result}"
    body = f"return {function}([{code} for v in a if {chosen.condition}?])"
    return Plan(chosen.parameters(), _sentence(text), body, chosen.near)


def _pipeline(draw: Draw) -> Plan:
    """Level 3: a sequence of operations on a list."""
    k, c = _Marked(2 + int(draw() * 2)), _number(draw)
    luck = draw()
    # Reordering does not change a sum.
    orders = ORDERS if luck < 0.7 else ORDERS[REORDERS:]
    words, code = (part.format(k=k) for part in pick(orders, draw))
    near = 0
    names: tuple[str, ...] = ("a",)
    if luck < 0.35:
        order, _, change = pick(CHANGES, draw)
        text = f"{words}. {_sentence(order.format(c=c, each='each'))}"[:-1]
        code = f"[{change.format(c=c)} for v in @{code}@]"
    elif luck < 0.7:
        chosen = _property(draw)
        text = f"{words}. Keep the numbers that are {chosen.adjective}"
        code = f"[v for v in @{code}@ if {chosen.condition}?]"
        near, names = chosen.near, chosen.parameters()
    else:
        order, _, change = pick(CHANGES, draw)
        text = f"{words}. {_sentence(order.format(c=c, each='each'))} Return the sum"
        code = f"sum([{change.format(c=c)} for v in @{code}@])"
    return Plan(names, _sentence(text), f"return {code}", near)


def _numbers(draw: Draw) -> Plan:
    """Level 3: a sum over the numbers from 1 to n."""
    words, code, kind = pick(PER_NUMBER, draw)
    c = _number(draw)
    words, code = words.format(c=c), code.format(c=c)
    text, body = f"return {words} from 1 to n", f"return sum([{code} for v in range(1, n + 1)"
    if kind:
        chosen = _property(draw, COUNTED)
        text += f" that are {chosen.adjective}"
        body += f" if {chosen.condition}?"
    return Plan(("n",), _sentence(text), f"{body}])", 0)


def _recursion(draw: Draw) -> Plan:
    """Level 3: a recurrence."""
    words, code = pick(RECURRENCES, draw)
    c = _number(draw)
    base = _Marked(int(draw() * 9) + 1)
    limit = _Marked(2 + int(draw() * 2) if "n - 2" in code else 1 + int(draw() * 3))
    text = pick(
        (
            "if n is less than {0}, return {1}. Otherwise return {2}",
            "the value is {1} if n is less than {0}, and otherwise {2}",
        ),
        draw,
    )
    body = f"return {base} if n < {limit} else {code}"
    return Plan(
        ("n",), _sentence(text.format(limit, base, words.format(c=c))), body.format(c=c), limit
    )


_KINDS: tuple[tuple[Callable[[Draw], Plan], ...], ...] = (
    (_arithmetic,),
    (_chosen, _chosen, _each, _aggregates, _branch, _branch, _let),
    (_composed, _composed, _pipeline, _pipeline, _numbers, _recursion, _recursion),
)

"""Specifications of small functions in English, with the programs that they ask for.

A `Plan` is built from a noun phrase with its expression ("the larger of x and y", ``max(x, y)``)
and what is done with it ("add 3 to ...", ``... + 3``), so that a few dozen phrases say thousands of
functions. Each comes in several wordings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

Draw = Callable[[], float]
"""The next of a row's random numbers, in [0, 1)."""


class Plan(NamedTuple):
    """What a function is to do.

    Attributes:
        parameters: Their names: ``a`` is a list of numbers, ``n`` a number from 0 on, ``x`` and
            ``y`` are any numbers.
        text: The specification, in sentences.
        body: The program after the colon.
        near: A number at which the function changes its behaviour: arguments are drawn around it.
        marked: The program with `MARKS` where it could be changed.
    """

    parameters: tuple[str, ...]
    text: str
    body: str
    near: int
    marked: str = ""


MARKS = "~^&?!@"
"""What stands in a marked program: ``5~`` is a number of the specification, ``^`` and ``&`` end the
operands of max and min, ``?`` a filter and ``!`` the condition of a choice, and ``@a[1:]@`` is
the list after a first operation."""

_NO_MARKS = str.maketrans("", "", MARKS)


def plan(level: int, draw: Draw) -> Plan:
    """Draw a function of a level."""
    kinds = _KINDS[level - 1]
    names, text, marked, near, _ = kinds[int(draw() * len(kinds))](draw)
    return Plan(names, text.translate(_NO_MARKS), marked.translate(_NO_MARKS), int(near), marked)


def pick(options: Sequence[Any], draw: Draw) -> Any:
    """One of some options."""
    return options[int(draw() * len(options))]


_VALUE, _PRODUCT, _SUM = range(3)
"""How loosely the parts of an expression hang together."""

_Phrase = tuple[tuple[str, ...], str, int]
"""Wordings, an expression, and how loose it is."""

# What a step changes: two steps of one kind in a row could be one.
_SHIFT, _SCALE, _REMAINDER, _BOUND = range(4)

# Of two operands, {a} and {b}.
_PAIRS: tuple[_Phrase, ...] = (
    (("the sum of {a} and {b}",), "{a} + {b}", _SUM),
    (("the difference {a} - {b}",), "{a} - {b}", _SUM),
    (("the product of {a} and {b}",), "{a} * {b}", _PRODUCT),
    (("the larger of {a} and {b}", "the maximum of {a} and {b}"), "max({a}^, {b}^)", _VALUE),
    (("the smaller of {a} and {b}", "the minimum of {a} and {b}"), "min({a}&, {b}&)", _VALUE),
    (("the distance between {a} and {b}",), "abs({a} - {b})", _VALUE),
)


class _Step(NamedTuple):
    """What is done to something, with a number {c}.

    Attributes:
        kind: Of which kind it is.
        wordings: How it is said of {p}.
        after: How it is said of the result before it.
        code: The expression, of {e}.
        loose: How loose it is.
        allowed: How loose {e} may be.
    """

    kind: int
    wordings: tuple[str, ...]
    after: str
    code: str
    loose: int
    allowed: int


_STEPS = (
    _Step(
        _SHIFT,
        ("return {p}, plus {c}", "add {c} to {p}", "return {c} more than {p}"),
        "Then add {c}.",
        "{e} + {c}",
        _SUM,
        _SUM,
    ),
    _Step(
        _SHIFT,
        ("return {p}, minus {c}", "subtract {c} from {p}", "return {c} less than {p}"),
        "Then subtract {c}.",
        "{e} - {c}",
        _SUM,
        _SUM,
    ),
    _Step(
        _SCALE,
        ("return {c} times {p}", "multiply {p} by {c}"),
        "Then multiply by {c}.",
        "{e} * {c}",
        _PRODUCT,
        _PRODUCT,
    ),
    _Step(
        _REMAINDER,
        ("return the remainder when {p} is divided by {c}", "return {p}, modulo {c}"),
        "Then take the remainder modulo {c}.",
        "{e} % {c}",
        _PRODUCT,
        _PRODUCT,
    ),
    _Step(
        _BOUND, ("return {p}, but at least {c}",), "Return at least {c}.", "max({e}^, {c}^)",
        _VALUE, _SUM,
    ),
    _Step(
        _BOUND, ("return {p}, but at most {c}",), "Return at most {c}.", "min({e}&, {c}&)",
        _VALUE, _SUM,
    ),
)  # fmt: skip
_STEPS_AFTER = {
    kind: tuple(step for step in _STEPS if step.kind != kind)
    for kind in (None, _SHIFT, _SCALE, _REMAINDER, _BOUND)
}


class _Told(int):
    """A number that the specification says, written with a mark."""

    def __format__(self, form: str) -> str:
        return f"{int(self)}~"


def _number(draw: Draw) -> int:
    return _Told(2 + int(draw() * 8))


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _done(step: _Step, code: str, loose: int, c: int) -> str:
    return step.code.format(e=f"({code})" if loose > step.allowed else code, c=c)


def _arithmetic(draw: Draw) -> Plan:
    """Level 1: two or three operations on one or two numbers."""
    luck = draw()
    if luck < 0.1:
        names: tuple[str, ...] = ("x",)
        words, code, loose = "the square of x", "x * x", _PRODUCT
    else:
        names = ("x",) if luck < 0.4 else ("x", "y")
        b = _number(draw) if luck < 0.4 else "y"
        wordings, code, loose = pick(_PAIRS, draw)
        words, code = pick(wordings, draw).format(a="x", b=b), code.format(a="x", b=b)
    bounded = code[:3] in ("max", "min")
    step = pick(_STEPS_AFTER[_BOUND if bounded else None], draw)
    c = _number(draw)
    text = _sentence(pick(step.wordings, draw).format(p=words, c=c))
    code = _done(step, code, loose, c)
    if draw() < 0.5:
        more = pick(_STEPS_AFTER[step.kind], draw)
        c = _number(draw)
        text += f" {more.after.format(c=c)}"
        code = _done(more, code, step.loose, c)
    return Plan(names, text, f"return {code}", 0)


# Sorts of numbers: an adjective, a condition on v, and whether it can stand before the noun.
_SORTS: tuple[tuple[str, str, bool], ...] = (
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

# What is done to each number: an order, a noun phrase, and an expression of v.
_CHANGES: tuple[tuple[str, str, str], ...] = (
    ("add {c} to {each}", "", "v + {c}"),
    ("subtract {c} from {each}", "", "v - {c}"),
    ("multiply {each} by {c}", "", "v * {c}"),
    ("double {each}", "the doubles of", "v * 2~"),
    ("square {each}", "the squares of", "v * v"),
    ("halve {each}, rounding down", "", "v // 2~"),
)


class _Sort(NamedTuple):
    """Some of the numbers in a list."""

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


def _sort(draw: Draw, options: Sequence[tuple[str, str, bool]] = _SORTS) -> _Sort:
    adjective, condition, before = pick(options, draw)
    k, c = _Told(int(draw() * 10) - 2), _Told(3 + int(draw() * 3))
    near = 0 if before else c if "{c}" in adjective else k
    return _Sort(adjective.format(k=k, c=c), condition.format(k=k, c=c), before, near)


def _chosen(draw: Draw) -> Plan:
    """Level 2: the sum, the count or the list of some numbers."""
    sort = _sort(draw)
    luck = draw()
    listed = f"[v for v in a if {sort.condition}?]"
    numbers = sort.numbers("numbers", " in a", draw)
    if luck < 0.35:
        text = pick(("return the sum of the {}", "add up the {}"), draw).format(numbers)
        body = f"return sum({listed})"
    elif luck < 0.7:
        asked = f"return how many numbers in a are {sort.adjective}"
        text = pick((f"count the {numbers}", asked), draw)
        body = f"return len({listed})"
    elif luck < 0.9:
        text = pick(("return the list of the {}", "keep only the {}"), draw).format(numbers)
        body = f"return {listed}"
    else:
        text = f"remove the {numbers}"
        body = f"return [v for v in a if not {sort.condition}?]"
    return Plan(sort.parameters(), _sentence(text), body, sort.near)


def _each(draw: Draw) -> Plan:
    """Level 2: a list with every number changed."""
    order, _, code = pick(_CHANGES, draw)
    c = _number(draw)
    each = pick(("every number in a", "each number in a"), draw)
    body = f"return [{code.format(c=c)} for v in a]"
    return Plan(("a",), _sentence(order.format(c=c, each=each)), body, 0)


_WHOLE = (
    ("the largest number in a", "max(a)"),
    ("the smallest number in a", "min(a)"),
    ("the sum of a", "sum(a)"),
    ("the length of a", "len(a)"),
    ("the first number in a", "a[0]"),
    ("the last number in a", "a[-1]"),
)


def _aggregates(draw: Draw) -> Plan:
    """Level 2: two properties of a list."""
    first = int(draw() * len(_WHOLE))
    (one, code), (other, more) = _WHOLE[first], _WHOLE[first - 1 - int(draw() * (len(_WHOLE) - 1))]
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


_BRANCHES = (
    ("x plus {c}", "x + {c}"),
    ("x minus {c}", "x - {c}"),
    ("{c} times x", "x * {c}"),
    ("the square of x", "x * x"),
    ("{c} minus x", "{c} - x"),
    ("the product of x and y", "x * y"),
    ("the sum of x and y", "x + y"),
)

_TESTS = (
    ("greater than {k}", "x > {k}"),
    ("less than {k}", "x < {k}"),
    ("at least {k}", "x >= {k}"),
    ("even", "x % 2 == 0"),
    ("odd", "x % 2 == 1"),
    ("greater than y", "x > y"),
    ("less than y", "x < y"),
)


def _branch(draw: Draw) -> Plan:
    """Level 2: one of two formulas."""
    first = int(draw() * len(_BRANCHES))
    second = first - 1 - int(draw() * (len(_BRANCHES) - 1))
    c, d, k = _number(draw), _number(draw), _Told(int(draw() * 10) - 2)
    condition, test = (part.format(k=k) for part in pick(_TESTS, draw))
    yes, then = (part.format(c=c) for part in _BRANCHES[first])
    no, otherwise = (part.format(c=d) for part in _BRANCHES[second])
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
    """Level 2: a variable."""
    wordings, code, _ = pick(_PAIRS, draw)
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
    """Level 3: choose, change and reduce."""
    sort = _sort(draw)
    order, noun, code = pick(_CHANGES, draw)
    c = _number(draw)
    code = code.format(c=c)
    numbers = sort.numbers("numbers", " in a", draw)
    reduced, function = pick((("sum", "sum"), ("largest", "max"), ("smallest", "min")), draw)
    if noun and draw() < 0.6:
        text = f"return the {reduced} of {noun} the {numbers}"
    else:
        result = "sum" if function == "sum" else f"{reduced} result"
        order = _sentence(order.format(c=c, each="each"))
        text = f"take the {numbers}. {order} Return the {result}"
    body = f"return {function}([{code} for v in a if {sort.condition}?])"
    return Plan(sort.parameters(), _sentence(text), body, sort.near)


_ORDERS = (
    ("sort a", "sorted(a)"),
    ("sort a from the largest to the smallest", "sorted(a)[::-1]"),
    ("reverse a", "a[::-1]"),
    # From here on, numbers are lost.
    ("take every second number in a, from the first on", "a[::2]"),
    ("drop the first number in a", "a[1:]"),
    ("drop the last number in a", "a[:-1]"),
    ("drop the first {k} numbers in a", "a[{k}:]"),
    ("take the first {k} numbers in a", "a[:{k}]"),
    ("take the {k} smallest numbers in a", "sorted(a)[:{k}]"),
    ("take the {k} largest numbers in a", "sorted(a)[-{k}:]"),
)
_REORDERS = 3


def _pipeline(draw: Draw) -> Plan:
    """Level 3: operations on a list, one after the other."""
    k, c = _Told(2 + int(draw() * 2)), _number(draw)
    luck = draw()
    # A sum is the same in any order.
    orders = _ORDERS if luck < 0.7 else _ORDERS[_REORDERS:]
    words, code = (part.format(k=k) for part in pick(orders, draw))
    near = 0
    names: tuple[str, ...] = ("a",)
    if luck < 0.35:
        order, _, change = pick(_CHANGES, draw)
        text = f"{words}. {_sentence(order.format(c=c, each='each'))}"[:-1]
        code = f"[{change.format(c=c)} for v in @{code}@]"
    elif luck < 0.7:
        sort = _sort(draw)
        text = f"{words}. Keep the numbers that are {sort.adjective}"
        code = f"[v for v in @{code}@ if {sort.condition}?]"
        near, names = sort.near, sort.parameters()
    else:
        order, _, change = pick(_CHANGES, draw)
        text = f"{words}. {_sentence(order.format(c=c, each='each'))} Return the sum"
        code = f"sum([{change.format(c=c)} for v in @{code}@])"
    return Plan(names, _sentence(text), f"return {code}", near)


_PER_NUMBER = (
    ("the sum of the squares of the numbers", "v * v", ""),
    ("the sum of the numbers", "v", "if"),
    ("the sum of the squares of the numbers", "v * v", "if"),
    ("the sum of {c} * v + 1 for all numbers v", "{c} * v + 1~", ""),
    ("the sum of v * v - {c} for all numbers v", "v * v - {c}", ""),
)
_COUNTED = tuple(sort for sort in _SORTS if sort[0] in ("even", "odd", "divisible by {c}"))


def _numbers(draw: Draw) -> Plan:
    """Level 3: a sum over the numbers from 1 to n."""
    words, code, kind = pick(_PER_NUMBER, draw)
    c = _number(draw)
    words, code = words.format(c=c), code.format(c=c)
    text, body = f"return {words} from 1 to n", f"return sum([{code} for v in range(1, n + 1)"
    if kind:
        sort = _sort(draw, _COUNTED)
        text += f" that are {sort.adjective}"
        body += f" if {sort.condition}?"
    return Plan(("n",), _sentence(text), f"{body}])", 0)


_RECURRENCES = (
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


def _recursion(draw: Draw) -> Plan:
    """Level 3: a recurrence."""
    words, code = pick(_RECURRENCES, draw)
    c = _number(draw)
    base = _Told(int(draw() * 9) + 1)
    limit = _Told(2 + int(draw() * 2) if "n - 2" in code else 1 + int(draw() * 3))
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

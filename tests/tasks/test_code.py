"""The code task: its interpreter against Python, specifications, mutants, attacks and public data.

Only here are programs executed as Python, and only those of the task's language.
"""

import ast
import re
import sys
import time
import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.documents import document_scores
from textgym.tasks.code.baselines import SUBSTITUTIONS, examples, parameters
from textgym.tasks.code.interpreter import MAX_FRAMES, MAX_LIST, MAX_NUMBER
from textgym.tasks.code.mutants import distinguishing, family
from textgym.tasks.code.reader import read, tokenize
from textgym.tasks.code.task import Code, trivial
from textgym.tasks.code.writer import plan
from textgym.testing import check_task


def run(text, *arguments):
    program = read(text).program
    assert program is not None, text
    return program.run(arguments)


def python(text, *arguments):
    """The value of the program in Python, with lists for ranges; None if it raises."""
    names = {
        "range": lambda *bounds: list(range(*bounds)),
        "reversed": lambda values: values[::-1],
    }
    with warnings.catch_warnings():  # lists as indices
        warnings.simplefilter("ignore", SyntaxWarning)
        exec(text.strip(), names)
    function = next(value for name, value in names.items() if name in ("f", "g"))
    try:
        return function(*[a[:] if isinstance(a, list) else a for a in arguments])
    except (TypeError, ValueError, ArithmeticError, LookupError, RecursionError, NameError):
        return None


@pytest.mark.parametrize(
    ("text", "arguments", "result"),
    [
        ("def f(x, y): return max(x, y) + 2", (2, 3), 5),
        ("def f(x, y): return (x + y) * 2 - 7 // 2", (2, 3), 7),
        ("def f(x): return -x ** 2", (3,), -9),
        ("def f(x): return -7 // 2 + -7 % 3", (0,), -2),
        ("def f(x): return 2 ** 3 ** 2", (0,), 512),
        ("def f(x): return 10 - 3 - 2", (0,), 5),
        ("def f(x): return 1 if x > 3 else 2 if x > 1 else 3", (2,), 2),
        ("def f(x): return not x == 2 or x == 2 and x", (2,), 2),
        ("def f(x): return 1 < x < 5 != 6", (3,), True),
        ("def f(x): return x in [1, 2] or x not in [3, 4]", (3,), False),
        ("def f(a): return sum([v * v for v in a if v % 2 == 0 if v > 0])", ([-2, 3, 4],), 16),
        ("def f(a): return sum(v for v in a)", ([-2, 3, 4],), 5),
        ("def f(v): return [v for v in v]", ([3, 4],), [3, 4]),
        ("def f(a): return [len([w for w in a if w < v]) for v in a]", ([3, 4, 4],), [0, 1, 1]),
        ("def f(a): return a[::-1][1:] + sorted(a)[-2:] + a[:1] + [a[-1], a[0]]", ([5, 1, 3],),
         [1, 5, 3, 5, 5, 3, 5]),
        ("def f(n): return 1 if n < 2 else n * f(n - 1)", (6,), 720),
        ("def g(x, y): return x if y == 0 else g(y, x % y)", (48, 18), 6),
        ("def f(x): y = x + 1; z = y * y; return z - x", (3,), 13),
        ("def f(x):\n  x += 2\n  x *= x\n  x //= 2\n  x -= 1\n  x %= 10\n  x **= 2\n"
         "  return x", (3,),
         1),
        ("def f(a):\n    t = 0\n    for v in a:\n        if v > 3:\n            t += v\n"
         "        elif v < 0:\n            t -= 1\n        else:\n            t += 100\n"
         "    return t",
         ([1, 4, 5, -2],), 108),
        ("def f(n):\n\tk = 0\n\n\twhile n != 1:\n\t\tn = n // 2 if n % 2 == 0 else 3 * n + 1\n"
         "\t\tk += 1\n\treturn k", (6,), 8),
        ("\n\n  def f(a):\n    b = a\n    b += [1]\n    return a", ([3],), [3, 1]),
        ("def f(a): return max(\n  a) - min(a[0],\n 1, 2)", ([3],), 2),
        ("def max(x): return x + 1", (3,), 4),
    ],
)  # fmt: skip
def test_programs_by_hand(text, arguments, result):
    assert run(text, *arguments) == result
    assert type(run(text, *arguments)) is type(result)
    assert read(text).rest == 0


@pytest.mark.parametrize(
    "text",
    ["", " ", "x + 1", "def", "def f(x)", "def f(x):", "def f(x): return", "def f(x): return x +",
     "def f(x) return x", "def f(x, x): return x", "def f(if): return 1", "def f(x): return y",
     "def f(x): return (x", "def f(x): return 1 + not x", "def f(x): return x(1)",
     "def f(x): return print(1)", "def f(x): return open(1)", "def f(x): return 007",
     "def f(x):\nreturn x", "def f(x): if x: return 1",
     "def f(x): return __import__(x)", "def f(x): x.y = 1", "def f(x): return [v for v in]",
     "def f(x): return [v for 1 in x]", "def f(x): return x[]", "def f(x): return x[1 2]",
     "def f(x): return '1'", "def f(x): return lambda: 1", "def f(): return None",
     "def f(): return 9999999999999", "lambda x: x", "def f(x): return sum(1, v for v in x)",
     "def f(x): return [v for v in x if 1 if 2 else 3]", "def f(x): x = = 3", "def f(x): y += 1",
     "def f(x): return " + "(" * 40 + "x" + ")" * 40,
     "def f(x): return " + "-" * 40 + "x", "def f(x): return " + "not " * 40 + "x",
     "def f(x): return " + "1 if x else " * 40 + "x", "def f(x): return x" + " + x" * 100],
)  # fmt: skip
def test_invalid_programs(text):
    assert read(text) == (None, 0)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("def f(x): return x + 1", 0),
        ("def f(x): return x + 1;\n\n", 0),
        ("def f(x): return x + 1 x", 1),
        ("def f(x): return x + 1)", 1),
        ("def f(x): return x + 1 # so", 2),
        ("def f(x): return x + 1\nprint(f(2))", 7),
        ("def f(x):\n  return x + 1\n return x", 2),
        ("def f(x): return x + 1 return x + 1", 4),
        ("def f(x): return x + 1\ndef f(x): return x + 1", 10),
    ],
)
def test_tokens_after_a_program(text, rest):
    found = read(text)
    assert found.rest == rest
    assert found.program.run([3]) == 4


@pytest.mark.parametrize(
    "text",
    ["def f(x): return f(x)", "def f(x): return 1 + f(x + 1)", "def f(x): return f(x) + f(x)",
     "def f(x):\n while True: x += 1\n return x", "def f(x):\n while 1: x = x\n return x",
     "def f(x): return 9 ** 9 ** 9", "def f(x): return [x] * 1000", "def f(x): return 1000 * [x]",
     "def f(x): return range(10 ** 12)", "def f(x): return 10 ** 13", "def f(x): return 2 ** -1",
     "def f(x):\n a = [x]\n for v in a: a += a\n return a", "def f(x): return [[x], [x]]",
     "def f(x):\n a = [x]\n for v in a: a += [v]\n return a",
     "def f(x):\n a = [x]\n while 1: a *= 2\n return a",
     "def f(x):\n while 1: x *= x\n return x",
     "def f(x): return [f(v) for v in range(200)]", "def f(x): return [[x] for v in range(3)]",
     "def f(x): return [[1 for v in range(200)] for w in range(200)]",
     "def f(x): return sum([sum([sum(range(200)) for v in range(200)]) for w in range(200)])",
     "def f(x): return x[0]", "def f(x): return 1 // 0", "def f(x): return [1][x]",
     "def f(x): return min([])", "def f(x): y = 1", "def f(x): return f(x, x)",
     "def f(x): return len(x)", "def f(x): return [1][::0]", "def f(x): return max(1, [2])",
     "def f(x):\n if x > 9: y = 1\n return y == y", "def f(x):\n for v in []: y = v\n return v",
     "def f(x): return sum([[1]])", "def f(x, y): return x"],
)  # fmt: skip
def test_programs_without_a_result(text):
    begin = time.process_time()
    assert run(text, 3) is None
    assert time.process_time() - begin < 0.5


def test_values_stay_within_the_limits():
    assert run(f"def f(x): return {MAX_NUMBER} - x", 0) == MAX_NUMBER
    assert run(f"def f(x): return {MAX_NUMBER} + x", 1) is None
    assert run(f"def f(x): return -{MAX_NUMBER} - x", 1) is None
    assert run(f"def f(x): return len([x] * {MAX_LIST})", 0) == MAX_LIST
    assert run(f"def f(x): return [x] * {MAX_LIST} + [x]", 0) is None
    assert run("def f(x):\n while x < 300: x += 1\n return x", 0) == 300


def test_arguments_are_not_changed():
    numbers = [1, 2]
    assert run("def f(a): a += a; a *= 2; return a", numbers) == [1, 2] * 4
    assert numbers == [1, 2]


def deepest(text, *arguments):
    """The number of Python stack frames that a run needs."""
    most, base = 0, 0

    def look(frame, event, argument):
        nonlocal most
        if event == "call":
            depth = 0
            while frame:
                depth, frame = depth + 1, frame.f_back
            most = max(most, depth - base)

    frame = sys._getframe()
    while frame:
        base, frame = base + 1, frame.f_back
    program = read(text).program
    previous = sys.getprofile()
    sys.setprofile(look)
    try:
        program.run(arguments)
    finally:
        sys.setprofile(previous)
    return most


@pytest.mark.parametrize(
    "text",
    ["def f(x): return f(x)", "def f(x): return [f(v) for v in [x, 1] if v]",
     "def f(x): return max([sum([f(v) for v in [x]]) for w in [1]])",
     "def f(x): return sum(f(v) for v in [x] if v if v if f(v))",
     "def f(x): y = 1; z = [1, 2, 3][0:f(x)]; return y",
     "def f(x):\n for v in [1]:\n  if v:\n   while v:\n    v = [1, 2, 3][f(x)]",
     "def f(x): return 1 + (2 + (3 - (4 * abs(-f(x)))))", "def f(x): return not not not f(x)",
     "def f(x): return 0 < 1 < f(x)", "def f(x): return 1 if 0 else 2 if 0 else max(1, 2, f(x))",
     "def f(x):\n x += f(x)\n return x", "def f(x): return x" + " + x" * 30 + " + f(x)",
     "def f(x): return f(x)" + " + x" * 30, "def f(x): return 1 and 2 and f(x) ** 2"],
)  # fmt: skip
def test_depth_is_bounded_whatever_the_program(text):
    assert deepest(text, 3) <= MAX_FRAMES + 4  # run, call and their last callees


# Random programs of the grammar and near it.

atoms = st.sampled_from(["x", "y", "a", "1", "2", "3", "7", "0", "a[0]", "len(a)", "[x, y]",
                         "True", "a[1:]", "sum(a)", "f(x)"])  # fmt: skip


def _extend(inner):
    binary = st.sampled_from(["+", "-", "*", "//", "%", "==", "!=", "<", "<=", ">", ">=", "and",
                              "or", "in", "not in", "** 2 +"])  # fmt: skip
    return st.one_of(
        st.tuples(inner, binary, inner).map(" ".join),
        st.tuples(inner, binary, inner).map(lambda p: f"({' '.join(p)})"),
        inner.map(lambda e: f"-{e}"),
        inner.map(lambda e: f"not {e}"),
        st.tuples(inner, inner, inner).map(lambda p: f"{p[0]} if {p[1]} else {p[2]}"),
        st.tuples(inner, inner).map(lambda p: f"max({p[0]}, {p[1]})"),
        st.tuples(
            st.sampled_from(["abs", "len", "sorted", "sum", "min", "list", "reversed"]), inner
        ).map(lambda p: f"{p[0]}({p[1]})"),
        st.tuples(inner, inner).map(lambda p: f"[v + {p[0]} for v in a if v > {p[1]}]"),
        st.tuples(inner, inner).map(lambda p: f"sum([{p[0]} for x in {p[1]} if x])"),
        st.tuples(inner, inner).map(lambda p: f"[{p[0]}, {p[1]}][{p[1]}]"),
        st.tuples(inner, inner).map(lambda p: f"a[{p[0]}:{p[1]}]"),
    )  # fmt: skip


expressions = st.recursive(atoms, _extend, max_leaves=10)


def _statements(inner):
    deeper = inner.map(lambda block: [f"  {line}" for line in block])
    return st.one_of(
        st.tuples(inner, inner).map(lambda two: two[0] + two[1]),
        st.tuples(expressions, deeper).map(lambda p: [f"if {p[0]}:", *p[1]]),
        st.tuples(expressions, deeper, deeper).map(
            lambda p: [f"if {p[0]}:", *p[1], "elif x > 1:", *p[2], "else: y = 1"]
        ),
        st.tuples(expressions, deeper).map(lambda p: [f"for z in {p[0]}:", *p[1]]),
        st.tuples(expressions, deeper).map(lambda p: [f"while {p[0]}:", *p[1]]),
    )


simple = st.one_of(
    st.tuples(st.sampled_from("xyab"), st.sampled_from(["=", "+=", "-=", "*="]), expressions).map(
        lambda p: [" ".join(p)]
    ),
    expressions.map(lambda e: [f"return {e}"]),
    expressions.map(lambda e: [f"z = {e}; y = z"]),
)
bodies = st.one_of(
    expressions.map(lambda e: f" return {e}"),
    st.recursive(simple, _statements, max_leaves=5).map(
        lambda lines: "".join(f"\n  {line}" for line in [*lines, "return [x, y]"])
    ),
)
numbers = st.integers(-4, 9)


def _limited(call, seconds=0.05):
    """Call, but return "endless" after a timeout."""
    end = time.process_time() + seconds

    def look(frame, event, argument):
        if time.process_time() > end:
            raise TimeoutError
        return look

    previous = sys.gettrace()
    sys.settrace(look)
    try:
        return call()
    except (TimeoutError, MemoryError):
        return "endless"
    finally:
        sys.settrace(previous)


@settings(max_examples=250, deadline=None)
@given(bodies, numbers, numbers, st.lists(numbers, max_size=4))
def test_results_are_those_of_python(body, x, y, a):
    text = f"def f(x, y, a):{body}"
    if "f(x)" in text:
        text = text.replace("f(x)", "(0 if x < 1 else f(x - 1, y, a))")
    program, rest = read(text)
    # Python also accepts names that are assigned later, and other indentation.
    assume(program is not None and rest == 0)
    value = program.run([x, y, a])
    assume(value is not None)
    expected = python(text, x, y, a)  # terminates, because `run` did
    assert value == expected, text
    assert type(value) is type(expected)


@settings(max_examples=120, deadline=None)
@given(bodies, numbers, numbers, st.lists(numbers, max_size=4))
def test_failures_are_failures_or_limits(body, x, y, a):
    """A program without a result has none in Python either, or exceeds a limit."""
    text = f"def f(x, y, a):{body}".replace("f(x)", "len(a)")
    assume("while" not in text)
    program, rest = read(text)
    assume(program is not None and rest == 0)
    assume(program.run([x, y, a]) is None)
    expected = _limited(lambda: python(text, x, y, a))
    nested = isinstance(expected, list) and any(isinstance(value, list) for value in expected)
    assert expected is None or expected == "endless" or nested or _meets_a_limit(text), text


def _meets_a_limit(text):
    """Nested lists, and growing lists and numbers, are limited."""
    return any(part in text for part in ("[x, y]", "[v + ", "a[", "sorted", "list", "**", "*"))


PIECES = ["def", "f", "(", ")", "x", "y", ",", ":", "return", "1", "23", "+", "-", "*", "//", "**",
          "if", "else", "for", "in", "not", "and", "[", "]", "\n", "\n  ", "=", "==", "+=", "sum",
          "while", "elif", ";", "v", "max", "True", "0", "<", ".", "#", "lambda"]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(
        st.lists(st.sampled_from(PIECES), max_size=25).map(" ".join),
        st.lists(st.sampled_from(PIECES), max_size=15).map(
            lambda parts: f"def f(x, y): return {' '.join(parts)}"
        ),
        st.text(),
        st.tuples(bodies, st.integers(0, 300), st.sampled_from(PIECES)).map(
            lambda p: f"def f(x, y, a):{p[0][: p[1]]} {p[2]} {p[0][p[1] :]}"
        ),
    )
)
def test_a_program_is_python(text):
    """Any string is accepted, and all programs of the language are valid Python."""
    program, rest = read(text)
    if program is None:
        return
    assert rest >= 0
    if rest == 0:
        tree = ast.parse(text.strip())
        (function,) = tree.body
        assert isinstance(function, ast.FunctionDef)
        assert tuple(one.arg for one in function.args.args) == program.parameters
        program.run([3] * len(program.parameters))


@pytest.mark.parametrize("level", Code.levels)
def test_rows_are_right_in_python(level):
    task, rng = Code(level), np.random.default_rng(level)
    for _ in range(250):
        row = task.sample(rng)
        cases = row["tests"] + examples(row["prompt"])
        assert len(cases) == 10
        for arguments, result in cases:
            assert python(row["reference"], *arguments) == result
            assert type(result) in (int, list)
        keys = [repr(arguments) for arguments, _ in cases]
        assert len(set(keys)) == 10  # no example is a test
        assert len(tokenize(row["reference"])) < 40
        assert len(row["prompt"].split()) < 60
        header = row["reference"].partition(":")[0].strip()
        assert row["prompt"].startswith(f"Define {header.removeprefix('def ')}. ")


# The meaning of specifications, implemented independently.
SPECIFICATIONS = [
    (1, "Return 3 more than the larger of x and y.", lambda x, y: max(x, y) + 3),
    (1, "Add 3 to the difference x - y. Then multiply by 4.", lambda x, y: (x - y + 3) * 4),
    (1, "Multiply the sum of x and y by 2. Return at most 9.", lambda x, y: min(2 * (x + y), 9)),
    (1, "Return the square of x, but at least 7.", lambda x: max(x * x, 7)),
    (1, "Return the remainder when the product of x and y is divided by 5.",
     lambda x, y: (x * y) % 5),
    (1, "Return 2 less than the distance between x and y.", lambda x, y: abs(x - y) - 2),
    (1, "Return the smaller of x and y, modulo 4. Then subtract 5.",
     lambda x, y: min(x, y) % 4 - 5),
    (2, "Count the numbers in a that are greater than x.", lambda a, x: sum(v > x for v in a)),
    (2, "Remove the even numbers in a.", lambda a: [v for v in a if v & 1]),
    (2, "Return the sum of the odd numbers in a.", lambda a: sum(v for v in a if v & 1)),
    (2, "Return how many numbers in a are at most 3.", lambda a: len([v for v in a if v < 4])),
    (2, "Halve each number in a, rounding down.", lambda a: [(v - (v & 1)) // 2 for v in a]),
    (2, "Return the largest number in a minus the first number in a.",
     lambda a: sorted(a)[-1] - a[0]),
    (3, "Sort a from the largest to the smallest. Double each.",
     lambda a: [v + v for v in sorted(a, reverse=True)]),
    (3, "Return the smallest of the squares of the positive numbers in a.",
     lambda a: min((v**2 for v in a if v > 0), default=None)),
    (3, "Drop the first number in a. Square each. Return the sum.",
     lambda a: sum(v**2 for v in a) - a[0] ** 2),
    (3, "Take the 2 largest numbers in a. Double each. Return the sum.",
     lambda a: 2 * sum(sorted(a)[-2:])),
    (3, "Return the sum of the numbers from 1 to n that are odd.",
     lambda n: sum(range(1, n + 1, 2))),
    (3, "Return the sum of the numbers from 1 to n that are divisible by 3.",
     lambda n: sum(range(3, n + 1, 3))),
    (3, "If n is less than 1, return 2. Otherwise return f(n - 1) plus n.",
     lambda n: 2 + n * (n + 1) // 2),
    (3, "If n is less than 1, return 1. Otherwise return 2 times f(n - 1), plus 2.",
     lambda n: 3 * 2**n - 2),
]  # fmt: skip


def test_programs_fulfil_their_specifications():
    found = dict.fromkeys([text for _, text, _ in SPECIFICATIONS])
    rng = np.random.default_rng(0)
    levels = {text: (level, meaning) for level, text, meaning in SPECIFICATIONS}
    for level in Code.levels:
        for _ in range(40_000):
            one = plan(level, iter(rng.random(24).tolist()).__next__)
            if one.text in found and found[one.text] is None:
                assert levels[one.text][0] == level
                found[one.text] = one
    missing = [text for text, one in found.items() if one is None]
    assert len(missing) <= 3, missing
    for text, one in found.items():
        if one is None:
            continue
        program = read(f"def f({', '.join(one.parameters)}): {one.body}").program
        for _ in range(60):
            arguments = [
                rng.integers(-9, 16, 3 + rng.integers(4)).tolist() if name == "a"
                else int(rng.integers(0 if name == "n" else -9, 10))
                for name in one.parameters
            ]  # fmt: skip
            assert program.run(arguments) == levels[text][1](*arguments), (text, arguments)


ROW = {
    "prompt": "Define f(x, y). Return the larger of x and y, plus 2.\nf(1, 4) = 6\nf(5, 2) = 7",
    "reference": "\ndef f(x, y): return max(x, y) + 2",
    "tests": [[[3, 3], 5], [[0, 9], 11], [[8, 1], 10], [[-4, -2], 0], [[6, 5], 8], [[2, 3], 5],
              [[-1, 4], 6], [[7, 0], 9]],
    "chance": 0.25,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("\ndef f(x, y): return max(x, y) + 2", 1),
        (" def f(p, q): return 2 + (p if p >= q else q)", 1),
        (" def g(p, q): return 2 + (p if p >= q else q)", 1),  # the row gives the function no name
        ("```python\ndef f(x, y):\n    return max(x, y) + 2\n```", 1),
        ("Sure:\n```\ndef f(x, y):\n    return max(x, y) + 2\n```\nThat is it.", 1),
        ("Sure: def f(x, y): return max(x, y) + 2", 0),
        ("def f(x, y):\n    if y > x:\n        return y + 2\n    return x + 2\n", 1),
        ("def f(a, b): return sorted([a, b])[1] - -2", 1),
        ("def f(x, y): return max(x, y) + 2 + 2", 0),
        ("def f(x, y): return 5", 0),
        ("def f(x, y): return 6 if x == 1 else 7", 0),
        # Right where x >= y: four of eight tests.
        ("def f(x, y): return x + 2", ((0.5 - 0.25) / 0.75) ** 2),
        # Right where y >= x: five of eight.
        ("def f(x, y): return y + 2", ((0.625 - 0.25) / 0.75) ** 2),
        ("def f(x, y): return max(x, y) + 2 2", 0.4),
        ("def f(x, y): return max(x, y) + 2\n\nThat is it.", 1 / 7),
        ("def f(x): return x + 2", 0),
        ("def f(x, y, z): return max(x, y) + 2", 0),
        ("return max(x, y) + 2", 0),
        ("def f(x, y): return max(x, y) + 2" + " " * 2000, 0),
    ],
)
def test_scores_by_hand(text, expected):
    assert Code().score(text, ROW) == pytest.approx(expected)


def test_chance_is_what_trivial_programs_pass():
    assert trivial(ROW["tests"]) == 0.25
    for level in Code.levels:
        task, rng = Code(level), np.random.default_rng(level)
        for _ in range(100):
            row = task.sample(rng)
            names = parameters(row["prompt"])
            results = {str(result) for _, result in row["tests"]}
            for end in [*names, *results]:
                text = f"def f({', '.join(names)}): return {end}"
                assert task.score(text, row) == 0, (text, row)
            assert 0.125 <= row["chance"] <= 0.5


@pytest.mark.parametrize("level", Code.levels)
def test_wrong_programs_lose(level):
    """The tests of nearly every row detect changes that matter for some arguments."""
    task, rng = Code(level), np.random.default_rng(level)
    wrong = caught = 0
    for _ in range(150):
        row = task.sample(rng)
        right = read(row["reference"]).program
        tokens = tokenize(row["reference"])[:-1]
        start = tokens.index(":") + 1
        for at in range(start, len(tokens)):
            token = tokens[at]
            other = str(int(token) + 1) if token.isdigit() else SUBSTITUTIONS.get(token)
            if other is None:
                continue
            text = " ".join([*tokens[:at], other, *tokens[at + 1 :]])
            program = read(text).program
            if program is None:
                assert task.score(text, row) == 0
                continue
            if any(program.run(arguments) != right.run(arguments) for arguments in _many(row, rng)):
                wrong += 1
                caught += task.score(text, row) < 1
    assert wrong > 300
    assert caught / wrong > 0.95


CLAMPS = {("max", 2), ("min", 2), ("abs", 1)}


def _without_a_clause(row):
    """The reference with each of its clauses dropped or changed, by Python's parser."""
    tree = ast.parse(row["reference"].strip())
    stated = re.findall(r"-?\d+", row["prompt"].partition("\n")[0])
    constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    for node in ast.walk(tree):
        original = dict(vars(node))
        others = []
        if isinstance(node, ast.Constant) and node.value > 0:
            if stated.count(str(node.value)) == constants.count(node.value) == 1:
                others = [ast.Constant(node.value + change) for change in (1, -1)]
        elif isinstance(node, ast.comprehension) and node.ifs:
            others = [ast.comprehension(node.target, node.iter, [], 0)]
        elif isinstance(node, ast.IfExp):
            others = [node.body, node.orelse]
        elif isinstance(node, ast.Call) and (node.func.id, len(node.args)) in CLAMPS:
            others = node.args
        for other in others:
            vars(node).clear()
            vars(node).update(vars(other))
            kind, node.__class__ = node.__class__, other.__class__
            text = ast.unparse(tree)
            node.__class__ = kind
            vars(node).clear()
            vars(node).update(original)
            yield text


@pytest.mark.parametrize("level", Code.levels)
def test_every_clause_has_a_test(level):
    task, rng = Code(level), np.random.default_rng(level)
    count = 0
    for _ in range(300):
        row = task.sample(rng)
        for text in _without_a_clause(row):
            count += 1
            assert task.score(text, row) < 1, (text, row)
    assert count > 600


def test_distinguishing_cases_by_hand():
    # The remainder is at most 5, so no test can detect the clamp.
    void = family(("x",), "return min(x % 6~&, 9~&)")
    assert distinguishing(void, [[[x], x % 6] for x in range(-20, 20)]) is None
    # x above 7 + 1 detects only a missing operand; small x detects all mutants but "always 7".
    clamp = family(("x",), "return max(x^, 7~^)")
    assert distinguishing(clamp, [[[8], 8], [[9], 9]]) is None
    assert distinguishing(clamp, [[[3], 7]]) is None
    assert distinguishing(clamp, [[[9], 9], [[3], 7]]) == [0, 1]
    # The first list detects only the missing filter, the second also the other numbers.
    sort = family(("a",), "return sum([v for v in a if v > 3~?])")
    assert distinguishing(sort, [[[[1, 5]], 5]]) is None
    assert distinguishing(sort, [[[[1, 5]], 5], [[[4, 3]], 4]]) == [0, 1]
    assert sort.program.run([[1, 5], *sort.right]) == 5
    assert sorted(sort.program.run([[4, 3, 9], *one]) for one in sort.wrong) == [9, 16, 16]
    # abs, without it, and negated.
    distance = family(("x", "y"), "return abs(x - y)")
    assert distance.program.run([2, 5, *distance.right]) == 3
    assert sorted(distance.program.run([2, 5, *one]) for one in distance.wrong) == [-3, 3]
    # Always one branch, and numbers in a recursion.
    either = family(("n",), "return 1~ if n < 2~! else f(n - 1) + 3~")
    assert either.program.run([3, *either.right]) == 7
    assert [either.program.run([3, *one]) for one in either.wrong] == [1, None, 8, 6, 4, 10, 9, 5]
    first = family(("a",), "return [v + 1~ for v in @a[2~:]@]")
    assert first.program.run([[5, 6, 7], *first.right]) == [8]
    assert first.program.run([[5, 6, 7], *first.wrong[0]]) == [6, 7, 8]


def _many(row, rng):
    for _ in range(150):
        yield [
            rng.integers(-9, 16, 3 + rng.integers(4)).tolist() if name == "a"
            else int(rng.integers(0 if name == "n" else -9, 16 if name != "n" else 10))
            for name in parameters(row["prompt"])
        ]  # fmt: skip


@pytest.mark.parametrize("level", Code.levels)
def test_baselines_and_documents(level):
    task, rng = Code(level), np.random.default_rng(level)
    rows = [task.sample(rng) for _ in range(300)]
    means = {
        name: np.mean([task.score(baseline(row, rng), row) for row in rows])
        for name, baseline in task.baselines().items()
    }
    assert means["memorize"] < 0.01
    assert means["guess"] < 0.05
    low, high = {1: (0.2, 0.35), 2: (0.06, 0.17), 3: (0.05, 0.16)}[level]
    assert low < means["fit"] < high
    scores = np.array(document_scores(task, 300, "\ndef f("))
    assert 0.3 < np.mean(scores) < 0.6
    assert 0.3 < np.mean(scores == 1) < 0.6
    assert 0.2 < np.mean(scores == 0) < 0.6


def test_each_token_after_the_program_costs():
    scores = [Code().score(ROW["reference"] + " x" * count, ROW) for count in range(20)]
    assert scores[0] == 1
    assert all(one > other > 0 for one, other in pairwise(scores))


@pytest.mark.parametrize(
    "text",
    [
        "def {}(x, y): return max(x, y) + 2",
        "```python\ndef {}(x, y):\n    return max(x, y) + 2\n```",
    ],
)
def test_functions_of_another_name_score_0(text):
    named = {**ROW, "entry_point": "f"}
    assert Code().score(text.format("f"), named) == 1
    for name in ("g", "F", "ff", "max"):
        assert Code().score(text.format(name), named) == 0
    for index in range(5):
        row = Code().item(index)
        assert Code().score(row["reference"].replace("def f(", "def g("), row) == 0


def test_the_contract():
    check_task(Code, n=60)


def test_prompts_of_a_user():
    task = Code()
    row = task.complete_row({"prompt": ROW["prompt"]})
    assert row["tests"] == [[[1, 4], 6], [[5, 2], 7]]
    assert task.score("\ndef f(x, y): return max(x, y) + 2", row) == 1
    assert task.score("\ndef f(x, y): return 6", row) < 0.1
    for example in ('f("abc") = 3', "f([[1]]) = 1", "f(1.5) = 2", "f(1) = {}",
                    f"f({'[' * 9999}) = 1",
                    f"f({10**20}) = 1", "f(NaN) = 1", "f(true) = 1", "f() = x"):  # fmt: skip
        assert task.complete_row({"prompt": f"Define f(x). Go.\n{example}"}) == {
            "prompt": f"Define f(x). Go.\n{example}"
        }
    row = task.complete_row({"prompt": "Say it.", "reference": "def  f(x): return x"})
    assert task.score("def f(x): return x", row) == 1
    assert task.score("def f(x): return", row) == 0
    assert task.score("", {"prompt": ""}) == 0


HUMAN_EVAL = {
    "task_id": "HumanEval/x",
    "prompt": "def half(x: int) -> int:\n    return x // 2\n\n\n"
    'def twice_half(x: int) -> int:\n    """Twice the half.\n    >>> twice_half(3)\n    2\n'
    '    """\n',
    "canonical_solution": "    return 2 * half(x)\n",
    "test": "def check(candidate):\n    assert candidate(3) == 2\n"
    "    assert candidate(8) == 2 * half(8)\n",
    "entry_point": "twice_half",
}
MBPP = {
    "task_id": 2,
    "text": "Write a function to double a number.",
    "code": "def double(x):\r\n  return 2 * x",
    "test_list": ["assert double(2) == 4", "assert double(-1) == -2", "assert double(0) == 0"],
    "test_setup_code": "",
    "challenge_test_list": [],
}


def test_human_eval():
    pytest.importorskip("textgym.sandbox.run")
    task = Code()
    row = task.complete_row(task.convert(HUMAN_EVAL))
    assert row["prompt"] == HUMAN_EVAL["prompt"]
    assert task.score(task.oracle(row), row) == 1
    assert task.score("    return x - x % 2\n", row) == 1
    assert task.score("    return x\n", row) == 0
    assert task.score("    return (\n", row) == 0
    assert task.score("", row) == 0


def test_mbpp():
    pytest.importorskip("textgym.sandbox.run")
    task = Code()
    row = task.complete_row(task.convert(MBPP))
    assert row["prompt"].startswith('"""\nWrite a function to double a number.\nassert double(2)')
    assert "\r" not in row["reference"]
    assert task.score(task.oracle(row), row) == 1
    # The first is right only for 2, as in the prompt; the second also for the hidden 0.
    assert task.score("\ndef double(x):\n    return x + 2\n", row) == 0
    assert task.score("\ndef double(x):\n    return x * x\n", row) == 0.5
    assert "double(-1)" not in row["prompt"]
    table = "\ndef double(*a):\n  return {(2,): 4}.get(a)"
    assert task.score(table, row) == 0
    challenge = {**MBPP, "challenge_test_list": ["assert double(3) == 6", MBPP["test_list"][0]]}
    hidden = [*MBPP["test_list"][1:], "assert double(3) == 6"]
    assert task.convert(challenge)["test_list"] == hidden
    assert task.score("\nprint('4')", row) == 0
    sanitized = {"prompt": "Double.", "code": "x", "test_imports": ["import math"],
                 "test_list": ["assert math.floor(double(2)) == 4"]}  # fmt: skip
    for kind in (list, np.array, tuple):
        lists = {name: kind(sanitized[name]) for name in ("test_imports", "test_list")}
        row = task.convert({**sanitized, **lists})
        assert row["test_setup_code"] == "import math"
        assert row["test_list"] == sanitized["test_list"]  # the only test
        assert task.score("\ndef double(x): return 2 * x", row) == 1
    empty = task.convert({**MBPP, "test_imports": np.array([]), "test_list": np.array([])})
    assert empty["test_list"] == []
    assert (
        task.convert({**MBPP, "test_list": np.array(MBPP["test_list"])})["test_list"]
        == (MBPP["test_list"][1:])
    )
    assert task.convert({"question": "?"}) == {"question": "?"}

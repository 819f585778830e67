"""Write a function from its specification: a small language, run by an interpreter of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from operator import eq
from typing import Any

import numpy as np

from textgym.data.literals import from_literal
from textgym.data.rows import Row
from textgym.rewards.code.programs import code_of
from textgym.tasks.base import Baseline, Task
from textgym.tasks.code.baselines import Example, examples, fit, guess, mediocre, memorize
from textgym.tasks.code.language import MAX_CHARACTERS, read
from textgym.tasks.code.mutants import family, telling
from textgym.tasks.code.writer import plan
from textgym.tasks.judgement import Judgement, discount, nothing

_EXAMPLES = 2
_TESTS = 8
_CASES = _EXAMPLES + _TESTS
_TRIES = 14
"""Arguments drawn for a row, of which some have no result and some are alike."""

_PLAN_LUCK = 24
"""Random numbers that a plan takes at most."""

_LUCK = 8
"""Random numbers that arguments take at most: a length, and up to seven numbers."""

_MAX_CHANCE = 0.5
"""Rows whose tests a trivial program passes more often are drawn again."""


class Code(Task):
    r"""Write a function from its specification.

    ## Description

    The prompt says in English what a function ``f`` is to do, with two examples. The policy writes
    it, in a small part of Python: arithmetic, comparisons, ``and``, ``or``, ``not``, ``if``
    expressions, lists, indices and slices, comprehensions, recursion, assignments, ``if``, ``for``
    and ``while``, and the functions abs, len, list, max, min, range, reversed, sorted and sum
    (`textgym.tasks.code.language` has the grammar). The program is run by an interpreter of
    textgym's own, under limits on steps, depth, numbers and lists; Python runs nothing of it.

    ## Observation Space

    ``Box(-1, V-1, (max_prompt_tokens + max_new_tokens,), int32)``: token ids, -1 where nothing is
    written.

    ## Action Space

    ``Discrete(V)``: the next token.

    ## Rewards

    The score, in [0, 1], once at the end:

        score = max(0, (passed - chance) / (1 - chance)) ** 2 / (1 + 1.5 * rest)

    * ``passed``: the share of eight hidden tests for which the program gives the right value.
    * ``chance``: the share that the best constant function or the best single parameter passes, so
      that these score 0. No row has more than 0.5.
    * ``rest``: the tokens after the program that do not belong to it. Each counts.

    A text that does not begin with a program of the function's name scores 0, and so does one of
    more than 1,000 characters. Of a text with fences of three backticks, what is within the first
    one is read, and nothing else. A program that gives the right value for all the tests scores 1,
    however it is written. The examples are not among the tests. Where the function changes its
    behaviour at some number, a third of the numbers in the arguments are that one or next to it.
    The tests are chosen, and rows drawn again, so that the reference fails one of them as soon as a
    number of the specification is one more or less, or a filter, an operand of a maximum or
    minimum, ``abs``, a condition, or the first of two operations on a list is dropped.

    Baselines, at levels 1, 2 and 3: ``memorize`` writes the examples down as a program (0.00);
    ``guess`` writes any function of the parameters (0.00, 0.01, 0.01); ``fit`` takes the first of
    some common functions that does what both examples say, but for a constant to be added (0.23,
    0.10, 0.10).
    It is the best strategy that we know of that does not read the specification.

    ## Starting State

    A prompt of `generate`. Level 1: two or three operations on one or two numbers. Level 2: the
    sum, count or list of some numbers in a list, a list with every number changed, two properties
    of a list, one of two formulas, or a formula with a variable. Level 3: several operations on a
    list, sums over the numbers up to n, and recurrences.

    ``item(0)`` at level 1::

        Define f(x). Return the square of x, modulo 5.
        f(0) = 0
        f(-6) = 1

        -> def f(x): return x * x % 5

    ``item(0)`` at level 2::

        Define f(a). Remove the numbers in a that are divisible by 3.
        f([3, 8, -8, -8, -3, 2]) = [8, -8, -8, 2]
        f([3, 4, 8, -5, 10]) = [4, 8, -5, 10]

        -> def f(a): return [v for v in a if not v % 3 == 0]

    ``item(0)`` at level 3::

        Define f(a). Take every second number in a, from the first on. Multiply each by 2. Return
        the sum.
        f([-6, 0, -1]) = -14
        f([8, 12, 0, 0]) = 16

        -> def f(a): return sum([v * 2 for v in a[::2]])

    The row's other columns are ``tests`` (pairs of arguments and result), ``entry_point`` (the
    function's name; the reward ``unit_tests`` reads both) and ``chance``. A prompt in this form
    that a user wrote is judged by its own examples.

    ## Episode End

    End-of-sequence, or 56 tokens: a termination. Continuations begin with a line break.

    ## Arguments

    ``level``: 1 (default), 2 or 3. ``split``: ``"train"`` or ``"eval"``.

    ## Real data

    Rows of HumanEval (``task_id``, ``prompt``, ``canonical_solution``, ``test``, ``entry_point``)
    and MBPP (``text`` or ``prompt``, ``code``, ``test_list``, and ``test_setup_code`` or
    ``test_imports``) are recognised. Those ask for whole Python: prompt and completion (HumanEval)
    or the completion alone (MBPP) run in the sandbox of `textgym.sandbox.run`, and the
    score is the share of tests passed, which for HumanEval is all or nothing. The prompt of MBPP
    shows the first test alone, for the name of the function, and the others (with those of
    ``challenge_test_list``) are what a program is scored by: a table of the tests that it was shown
    would pass them. A row with one test only is scored by the test that it shows. Give larger
    ``max_prompt_tokens`` and ``max_new_tokens``, and ``stop=["\ndef ", "\nclass ", "\nprint"]``
    to a model that goes on after the function. Rows without any tests are judged by whether the
    completion is the reference, white space aside.

    ## Version History

    * v0: first version.
    """

    id = "TextGen/Code-v0"
    tags = ("reasoning", "graded")
    scored_by = "the share of hidden tests that pass"
    max_prompt_tokens = 128
    max_new_tokens = 56
    levels = (1, 2, 3)
    cheat_ceiling = 0.4

    def generate(self, rng: np.random.Generator) -> Row:
        """Draw a function, its specification, two examples and eight tests."""
        while True:
            # One call for all the choices of a row: several times faster than a call for each.
            luck = rng.random(_PLAN_LUCK + _TRIES * _LUCK).tolist()
            asked = plan(self.level, iter(luck[:_PLAN_LUCK]).__next__)
            names = ", ".join(asked.parameters)
            reference = f"\ndef f({names}): {asked.body}"
            programs = family(asked.parameters, asked.marked)
            run, right = programs.program.run, programs.right
            cases: list[Example] = []
            for arguments in _arguments(asked.parameters, asked.near, luck[_PLAN_LUCK:]):
                result = run([*arguments, *right])
                if result is not None:
                    cases.append([arguments, result])
                    if len(cases) == _CASES:
                        break
            else:
                continue
            if trivial(cases) * _CASES - _EXAMPLES > _MAX_CHANCE * _TESTS:
                continue  # whichever of them are the tests
            # Each clause of the specification needs a test that fails without it.
            needed = telling(programs, cases)
            if needed is None or len(needed) > _TESTS:
                continue
            others = [case for at, case in enumerate(cases) if at not in needed]
            # Two examples of one result say less.
            second = next((i for i, case in enumerate(others) if case[1] != others[0][1]), 0)
            if not second:
                continue
            shown = [others[0], others.pop(second)]
            tests = [*[cases[at] for at in needed], *others[1:]]
            chance = trivial(tests)
            if chance > _MAX_CHANCE:
                continue
            told = "".join([f"\nf({str(case[0])[1:-1]}) = {case[1]}" for case in shown])
            return {
                "prompt": f"Define f({names}). {asked.text}{told}",
                "reference": reference,
                "entry_point": "f",
                "tests": tests,
                "chance": chance,
            }

    def normalize(self, completion: str, row: Mapping[str, Any]) -> str:
        """The text without white space around it, but as it is where that is part of a program.

        In rows of public data the indentation of a body is. Texts that are too long stay so.
        """
        if "tests" not in row or len(completion) > MAX_CHARACTERS:
            return completion
        return super().normalize(completion, row)

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """How many more of the tests the program passes than a trivial one does."""
        if "tests" not in row:
            return _judge_public(text, row)
        name, tests = row.get("entry_point"), row["tests"]
        program, rest = read(code_of(text, name))
        if program is None or not tests:
            return nothing("the text", "it does not begin with a program of the small language")
        if name and program.name != name:
            return nothing(f"def {program.name}", f"the function is to have the name {name}")
        judgement = Judgement()
        run = program.run
        passed = 0
        for arguments, result in tests:
            value = run(arguments)
            if value == result:
                passed += 1
            else:
                call = f"{program.name}({', '.join(map(repr, arguments))})"
                judgement.note(f"{call} == {result}", f"wrong: it gives {value}")
        chance = row.get("chance", 0.0)
        gain = (passed / len(tests) - chance) / (1 - chance)
        judgement.add(
            f"{passed} of {len(tests)} tests",
            f"passed; a trivial program passes {chance * len(tests):.3g}",
            gain * gain if gain > 0 else 0.0,
        )
        return judgement.scale("the rest", f"{rest} tokens behind the program", discount(rest))

    def complete_row(self, row: Row) -> Row:
        """Take the examples in a prompt that a user wrote as the tests."""
        if "tests" in row or "entry_point" in row or "test_list" in row:
            return row
        tests = examples(row["prompt"])
        if not tests:
            return row
        chance = min(trivial(tests), _MAX_CHANCE)
        return {"entry_point": "f", "tests": tests, "chance": chance, **row}

    def convert(self, row: dict[str, Any]) -> dict[str, Any]:
        """Turn a row of HumanEval or MBPP into a prompt, a reference and Python tests."""
        if "canonical_solution" in row and "entry_point" in row:
            return {**row, "reference": row["canonical_solution"]}
        if "test_list" in row and "code" in row:
            tests = _listed(row["test_list"])
            shown = tests[:1]
            # What the prompt shows is no test, or a table of it would be a program.
            more = [*tests[1:], *_listed(row.get("challenge_test_list"))]
            hidden = [test for test in more if test.split() != tests[0].split()]
            text = row.get("text") or row.get("prompt") or ""
            setup = row.get("test_setup_code") or "\n".join(_listed(row.get("test_imports")))
            return {
                **row,
                "prompt": "\n".join(['"""', text, *shown, '"""']),
                "reference": "\n" + row["code"].replace("\r\n", "\n"),
                "test_list": hidden or shown,
                "test_setup_code": setup,
            }
        return row

    def baselines(self) -> dict[str, Baseline]:
        """``memorize`` the examples, ``guess`` a function, or ``fit`` a common one."""
        return {"memorize": memorize, "guess": guess, "fit": fit}

    def document(self, rng: np.random.Generator) -> str:
        """A program with lapses: other numbers and operators, lost or repeated words."""
        row = self.sample(rng)
        return str(row["prompt"]) + mediocre(row, rng)


def _listed(values: Any) -> list[str]:
    """The strings in a list or in a numpy array; none where there is no list."""
    values = from_literal(values)  # A CSV file has the list as a text.
    if isinstance(values, str):
        return [values] if values.strip() else []
    return [] if values is None else [str(value) for value in values]


def trivial(tests: Sequence[Example]) -> float:
    """The share of tests that the best constant function or the best parameter passes."""
    results = [result for _, result in tests]
    best = max(map(results.count, results))
    for values in zip(*[arguments for arguments, _ in tests], strict=False):
        best = max(best, sum(map(eq, values, results)))
    return best / len(tests)


def _arguments(names: tuple[str, ...], near: int, luck: list[float]) -> list[list[Any]]:
    """Different arguments for a function that changes its behaviour at a number.

    Args:
        names: The parameters.
        near: The number.
        luck: Random numbers, `_LUCK` for each list of arguments.
    """
    if names == ("n",):
        return [[number] for _, number in sorted(zip(luck, range(_CASES), strict=False))]
    pool = _pool(near)
    size = len(pool)
    if names == ("x",):
        return [[number] for number in dict.fromkeys([pool[int(u * size)] for u in luck[:40]])]
    found: list[list[Any]] = []
    for at in range(0, len(luck), _LUCK):
        if names[0] == "a":
            many = 4 + int(luck[at] * 4)
            numbers = [pool[int(u * size)] for u in luck[at + 1 : at + 1 + many]]
            last = numbers.pop()
            arguments: list[Any] = [numbers] if len(names) == 1 else [numbers, last]
        else:
            arguments = [pool[int(luck[at] * size)], pool[int(luck[at + 1] * size)]]
        if arguments not in found:
            found.append(arguments)
    return found


@cache
def _pool(near: int) -> tuple[int, ...]:
    """Numbers to draw from: a third of them are the given one and its neighbours."""
    return (*(near - 1, near, near + 1) * 4, *range(-8, 16))


def _judge_public(completion: str, row: Mapping[str, Any]) -> Judgement:
    """Judge a program in Python by its unit tests, or by the reference where there are none."""
    if "entry_point" in row or "test_list" in row:
        from textgym.rewards.code.unit_tests import judge_program

        verdict = judge_program(row["prompt"], completion, row)
        if verdict is not None:
            tests = f"{verdict.passed} of {verdict.total} tests"
            why = f": {verdict.reason} ({verdict.detail})" if verdict.detail else ""
            return Judgement().add(tests, f"passed{why}", verdict.score)
    said = completion.split()
    if said and said == str(row.get("reference", "")).split():
        return Judgement().add("the text", "the reference, white space aside", 1.0)
    return nothing("the text", "not the reference; the row has no tests")

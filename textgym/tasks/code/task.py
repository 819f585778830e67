"""Write a function from its specification, in a small subset of Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from operator import eq
from typing import Any

import numpy as np

from textgym.data.rows import Row
from textgym.rewards.code.programs import code_of
from textgym.tasks.base import Baseline, Task
from textgym.tasks.code.baselines import Example, examples, fit, guess, mediocre, memorize
from textgym.tasks.code.mutants import distinguishing, family
from textgym.tasks.code.public import convert, judge_public
from textgym.tasks.code.reader import MAX_CHARACTERS, read
from textgym.tasks.code.writer import plan
from textgym.tasks.judgement import Judgement, discount, nothing

_EXAMPLES = 2
_TESTS = 8
_CASES = _EXAMPLES + _TESTS
_TRIES = 14
"""Lists of arguments drawn for a row; some have no result, and some are equal."""

_PLAN_LUCK = 24
"""The maximum number of random numbers for a plan."""

_LUCK = 8
"""The maximum number of random numbers for arguments: a length and up to seven numbers."""

_MAX_CHANCE = 0.5
"""A row is drawn again if a trivial program passes a larger share of its tests."""


class Code(Task):
    r"""Write a function from its specification.

    ## Description

    The prompt specifies a function ``f`` in English, with two examples. The policy writes it in a
    small subset of Python: arithmetic, comparisons, ``and``, ``or``, ``not``, ``if`` expressions,
    lists, indices and slices, comprehensions, recursion, assignments, ``if``, ``for`` and
    ``while``, and the functions abs, len, list, max, min, range, reversed, sorted and sum
    (`textgym.tasks.code.reader` has the grammar). textgym's interpreter runs the program, with
    limits on steps, depth, numbers and lists; it is never executed as Python.

    ## Observation Space

    ``Box(-1, V-1, (max_prompt_tokens + max_new_tokens,), int32)``: token ids, padded with -1.

    ## Action Space

    ``Discrete(V)``: the next token.

    ## Rewards

    The score in [0, 1], at the end of the episode:

        score = max(0, (passed - chance) / (1 - chance)) ** 2 / (1 + 1.5 * rest)

    * ``passed``: the share of eight hidden tests that the program passes.
    * ``chance``: the share that the best constant function or single parameter passes, so that
      these score 0; at most 0.5.
    * ``rest``: the number of tokens after the program.

    A text that does not begin with a program of the function's name, or has more than 1,000
    characters, scores 0. If the text has fences of three backticks, only the content of the first
    is read. A program that passes all tests scores 1, however it is written. The examples are not
    among the tests. If the function changes its behaviour at a number, a third of the numbers in
    the arguments are that number or next to it. The tests are chosen so that the reference fails
    one of them if a number of the specification is increased or decreased by one, or if a filter,
    an operand of a maximum or minimum, ``abs``, a condition, or the first of two operations on a
    list is dropped.

    Baselines, at levels 1, 2 and 3: ``memorize`` writes a program that looks up the examples
    (0.00); ``guess`` writes a random function of the parameters (0.00, 0.01, 0.01); ``fit`` takes
    the first of some common functions that satisfies both examples up to an additive constant
    (0.23, 0.10, 0.10), the best known strategy that ignores the specification.

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
    function's name; the reward ``unit_tests`` reads both) and ``chance``. A user's prompt in this
    form is judged by its examples.

    ## Episode End

    End-of-sequence, or 56 tokens: a termination. Continuations begin with a line break.

    ## Arguments

    ``level``: 1 (default), 2 or 3. ``split``: ``"train"`` or ``"eval"``.

    ## Real data

    Rows of HumanEval (``task_id``, ``prompt``, ``canonical_solution``, ``test``, ``entry_point``)
    and MBPP (``text`` or ``prompt``, ``code``, ``test_list``, and ``test_setup_code`` or
    ``test_imports``) are recognised. They allow all of Python: prompt and completion (HumanEval) or
    the completion alone (MBPP) run in the sandbox of `textgym.sandbox.run`, and the score is the
    share of tests passed, which for HumanEval is all or nothing. The prompt of MBPP shows only the
    first test, for the name of the function; a program is scored by the others (including
    ``challenge_test_list``), because it could look up the tests in the prompt. A row with only one
    test is scored by that test. Use larger ``max_prompt_tokens`` and ``max_new_tokens``, and
    ``stop=["\ndef ", "\nclass ", "\nprint"]`` for a model that continues after the function. Rows
    without tests score 1 for the reference, up to white space, and 0 otherwise.

    ## Version History

    * v0: first version.
    """

    id = "TextGen/Code-v0"
    tags = ("reasoning", "graded")
    scored_by = "the share of hidden tests that pass"
    max_prompt_tokens = 128
    max_new_tokens = 56
    levels = (1, 2, 3)
    dense_at = "token"
    cheat_ceiling = 0.4

    def generate(self, rng: np.random.Generator) -> Row:
        """Draw a function, its specification, two examples and eight tests."""
        while True:
            # One call for all random numbers of a row is several times faster than one call each.
            luck = rng.random(_PLAN_LUCK + _TRIES * _LUCK).tolist()
            function = plan(self.level, iter(luck[:_PLAN_LUCK]).__next__)
            names = ", ".join(function.parameters)
            reference = f"\ndef f({names}): {function.body}"
            programs = family(function.parameters, function.marked)
            run, right = programs.program.run, programs.right
            cases: list[Example] = []
            for arguments in _arguments(function.parameters, function.near, luck[_PLAN_LUCK:]):
                result = run([*arguments, *right])
                if result is not None:
                    cases.append([arguments, result])
                    if len(cases) == _CASES:
                        break
            else:
                continue
            if trivial(cases) * _CASES - _EXAMPLES > _MAX_CHANCE * _TESTS:
                continue  # whichever of the cases become tests
            # Each clause of the specification needs a test that detects its omission.
            needed = distinguishing(programs, cases)
            if needed is None or len(needed) > _TESTS:
                continue
            others = [case for at, case in enumerate(cases) if at not in needed]
            # The results of the two examples differ.
            second = next((i for i, case in enumerate(others) if case[1] != others[0][1]), 0)
            if not second:
                continue
            shown = [others[0], others.pop(second)]
            tests = [*[cases[at] for at in needed], *others[1:]]
            chance = trivial(tests)
            if chance > _MAX_CHANCE:
                continue
            lines = "".join([f"\nf({str(case[0])[1:-1]}) = {case[1]}" for case in shown])
            return {
                "prompt": f"Define f({names}). {function.text}{lines}",
                "reference": reference,
                "entry_point": "f",
                "tests": tests,
                "chance": chance,
            }

    def normalize(self, completion: str, row: Mapping[str, Any]) -> str:
        """The text without surrounding white space.

        Completions of public rows, which may begin with indentation, and texts that are too long
        are returned unchanged.
        """
        if "tests" not in row or len(completion) > MAX_CHARACTERS:
            return completion
        return super().normalize(completion, row)

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """Score the share of tests passed, relative to the best trivial program."""
        if "tests" not in row:
            return judge_public(text, row)
        name, tests = row.get("entry_point"), row["tests"]
        program, rest = read(code_of(text, name))
        if program is None or not tests:
            return nothing("the text", "no program of the language at its start")
        if name and program.name != name:
            return nothing(f"def {program.name}", f"the function's name has to be {name}")
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
        return judgement.scale("the rest", f"{rest} tokens after the program", discount(rest))

    def complete_row(self, row: Row) -> Row:
        """Use the examples in a prompt that a user wrote as the tests."""
        if "tests" in row or "entry_point" in row or "test_list" in row:
            return row
        tests = examples(row["prompt"])
        if not tests:
            return row
        chance = min(trivial(tests), _MAX_CHANCE)
        return {"entry_point": "f", "tests": tests, "chance": chance, **row}

    def convert(self, row: dict[str, Any]) -> dict[str, Any]:
        """Convert a row of HumanEval or MBPP; see Real data."""
        return convert(row)

    def potential(self, texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float]:
        """The score of the program so far; 0 for public rows, whose programs are run as Python."""
        return [
            self.score(text, row) if "tests" in row else 0.0
            for text, row in zip(texts, rows, strict=True)
        ]

    def baselines(self) -> dict[str, Baseline]:
        """``memorize`` the examples, ``guess`` a function, or ``fit`` a common one."""
        return {"memorize": memorize, "guess": guess, "fit": fit}

    def document(self, rng: np.random.Generator) -> str:
        """A specification with a program that often has errors."""
        row = self.sample(rng)
        return str(row["prompt"]) + mediocre(row, rng)


def trivial(tests: Sequence[Example]) -> float:
    """The share of tests that the best constant function or single parameter passes."""
    results = [result for _, result in tests]
    best = max(map(results.count, results))
    for values in zip(*[arguments for arguments, _ in tests], strict=False):
        best = max(best, sum(map(eq, values, results)))
    return best / len(tests)


def _arguments(names: tuple[str, ...], near: int, luck: list[float]) -> list[list[Any]]:
    """Distinct lists of arguments for a function.

    Args:
        names: The parameters.
        near: A number at which the function changes its behaviour.
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
            count = 4 + int(luck[at] * 4)
            numbers = [pool[int(u * size)] for u in luck[at + 1 : at + 1 + count]]
            last = numbers.pop()
            arguments: list[Any] = [numbers] if len(names) == 1 else [numbers, last]
        else:
            arguments = [pool[int(luck[at] * size)], pool[int(luck[at + 1] * size)]]
        if arguments not in found:
            found.append(arguments)
    return found


@cache
def _pool(near: int) -> tuple[int, ...]:
    """Numbers to draw from; a third of them are `near` and its neighbours."""
    return (*(near - 1, near, near + 1) * 4, *range(-8, 16))

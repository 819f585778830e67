"""A reward for programs: the share of unit tests that they pass in a sandbox."""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from textgym.data.messages import reads_texts
from textgym.errors import DataError, RewardError, SettingsError
from textgym.rewards.code.programs import readings
from textgym.rewards.registry import register_reward
from textgym.rewards.signature import missing_column
from textgym.rewards.values import is_missing, is_whole

if TYPE_CHECKING:
    from textgym.sandbox.run import Limits, Verdict

_TESTS = ("test", "test_list", "tests", "inputs")
_OTHERS = ("outputs", "entry_point", "test_setup_code", "test_imports")


@dataclass(frozen=True)
class Suite:
    """The tests of one row, as :func:`textgym.sandbox.run.run_tests` takes them.

    Attributes:
        tests: A source that defines ``check(candidate)``, or a list of asserts.
        entry_point: The function under test, if known.
        setup: Source that runs before each test.
    """

    tests: str | list[str]
    entry_point: str | None
    setup: str


@register_reward("unit_tests")
@dataclass(frozen=True, eq=False)
class UnitTests:
    """The share of the row's unit tests that a Python program passes.

    Programs run in the sandbox of :mod:`textgym.sandbox.run`, which documents what programs and
    tests can do, never in this process. A program that does not terminate, exceeds a limit, or
    attacks its tests fails them.

    The tests are read from the first of these columns that the row has:

    * ``test`` with ``entry_point``, as in HumanEval: a source that defines ``check(candidate)``,
      which is one test. The program is prompt and completion, or the completion alone if it defines
      the function; it has the imports and helpers of the prompt in both cases.
    * ``test`` without ``check``, ``test_list`` or ``tests``, as in MBPP: asserts, one test each,
      after ``test_setup_code`` or ``test_imports``. The program is the completion.
    * ``tests`` with pairs ``[arguments, result]``, or ``inputs`` and ``outputs``, with
      ``entry_point``: each is a call that must return the result. Lists and tuples differ.

    If the completion has a fenced code block, only the block is the program. Indentation and line
    breaks that a tokenizer or chat template stripped from the beginning are restored where that is
    unambiguous, see :mod:`textgym.rewards.code.programs`.

    Range: [0, 1], higher is better; 0 or 1 with ``partial=False``.
    Needs: a column with tests, in one of the forms above; Linux.
    Cost: 50 ms per text and 20 ms per test; a program that does not terminate costs its time limit
    about once, whatever the number of tests.
    Gaming: programs written for the tests alone (a table of their results), if a policy can see or
    learn them: keep the tests out of the prompt. With ``partial``, the most frequent result, such
    as ``return None`` or ``return 0``.

    Args:
        partial: Whether the reward is the share of tests passed; False gives 1 if all tests pass,
            else 0.
        wall_s: Time limit of a test, in seconds.
        total_s: Time limit of all tests of a text, in seconds; see
            :class:`textgym.sandbox.run.Limits`.
        cpu_s: CPU time limit of a test, in whole seconds.
        memory_mb: Limit on the address space of a program, in MiB, at least 64.
        workers: Number of programs that run in parallel.

    Attributes:
        last: The verdicts of the latest call (None for rows without tests), see
            :class:`textgym.sandbox.run.Verdict`.

    Raises:
        RewardError: If an option is invalid, no column has tests, the tests of a row are broken, or
            this system cannot run a sandbox.
    """

    partial: bool = True
    wall_s: float = 5.0
    total_s: float = 30.0
    cpu_s: int = 3
    memory_mb: int = 512
    workers: int = 1
    name: ClassVar[str] = "unit_tests"
    last: list[Verdict | None] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        if not is_whole(self.workers, 1):
            raise RewardError(f"{self.name}: workers must be an integer >= 1, not {self.workers!r}")
        try:
            self._limits()
        except (ValueError, TypeError, OverflowError) as error:  # SettingsError is a ValueError.
            raise RewardError(f"{self.name}: wall_s, total_s, cpu_s, memory_mb: {error}") from error

    @reads_texts
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float | None]:
        """Return N rewards; None for a row without tests."""
        self.last[:] = verdicts = self.verdicts(prompts, completions, **columns)
        return [
            None if verdict is None
            else verdict.score if self.partial else float(verdict.passed == verdict.total)
            for verdict in verdicts
        ]  # fmt: skip

    @reads_texts
    def verdicts(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[Verdict | None]:
        """Return N verdicts: the tests passed, and the reason of the first failure.

        None for a row without tests. Raises as the class does.
        """
        given = {name: columns[name] for name in (*_TESTS, *_OTHERS) if name in columns}
        if completions and not any(name in given for name in _TESTS):
            missing = missing_column("test", columns)
            raise RewardError(f"{missing} (or 'test_list', 'tests', or 'inputs' and 'outputs')")
        rows = [{name: values[at] for name, values in given.items()} for at in range(len(prompts))]
        jobs = range(len(prompts))

        def judged(at: int) -> Verdict | None:
            return self._judge(at, prompts[at], completions[at], rows[at])

        if self.workers == 1:
            return [judged(at) for at in jobs]
        # The threads only wait for the processes in which the programs run.
        with ThreadPoolExecutor(self.workers) as pool:
            return list(pool.map(judged, jobs))

    def _judge(
        self, at: int, prompt: str, completion: str, row: Mapping[str, Any]
    ) -> Verdict | None:
        try:
            return judge_program(prompt, completion, row, self._limits())
        except DataError as error:
            raise RewardError(
                f"cannot use the tests of row {at} (prompt {prompt!r:.60}): {error}"
            ) from error
        except SettingsError as error:
            raise RewardError(f"cannot run programs: {error}") from error

    def _limits(self) -> Limits:
        from textgym.sandbox.run import Limits

        return Limits(
            wall_s=self.wall_s,
            total_s=self.total_s,
            cpu_s=self.cpu_s,
            memory_bytes=int(self.memory_mb * (1 << 20)),
        )


def suite_of(row: Mapping[str, Any]) -> Suite | None:
    """Return the tests in the columns of a row; None if it has none.

    Raises:
        DataError: If their form is unknown.
    """
    row = {name: None if is_missing(value) else _plain(value) for name, value in row.items()}
    found = next((name for name in _TESTS if row.get(name) not in (None, "", [])), None)
    if found is None:
        return None
    tests, name = row[found], row.get("entry_point") or None
    setup = row.get("test_setup_code") or row.get("test_imports") or ""
    if isinstance(setup, list):
        setup = "\n".join(map(str, setup))
    if name is not None and not _is_name(name):
        raise DataError(f"entry_point must be the name of a function, not {name!r}")
    if found == "inputs":
        results = row.get("outputs")
        if not isinstance(tests, list) or not isinstance(results, list):
            raise DataError("'inputs' and 'outputs' must be lists")
        if len(tests) != len(results):
            raise DataError(f"there are {len(tests)} inputs and {len(results)} outputs")
        tests = [list(pair) for pair in zip(tests, results, strict=True)]
    if isinstance(tests, str):
        if _defines(tests, "check"):
            return Suite(tests, name, setup)
        tests = [tests]
    if not isinstance(tests, list):
        raise DataError(f"{found!r} must be a source or a list of tests, not {tests!r:.80}")
    if all(isinstance(test, str) for test in tests):
        return Suite(tests, name, setup)
    return Suite([_call(test, name) for test in tests], name, setup)


def judge_program(
    prompt: str, completion: str, row: Mapping[str, Any], limits: Limits | None = None
) -> Verdict | None:
    """Run the tests of a row on the program in a completion; None without tests.

    Used by the reward ``unit_tests`` and by the public rows of ``TextGen/Code-v0``.

    Raises:
        DataError: If the tests of the row are broken, or their form is unknown.
        SettingsError: On a system that cannot run a sandbox.
    """
    from textgym.sandbox.run import run_tests

    suite = suite_of(row)
    if suite is None:
        return None
    programs, helpers = readings(prompt, completion, suite.entry_point)
    setup = f"{helpers}\n{suite.setup}" if helpers else suite.setup
    return run_tests(
        programs, suite.tests, entry_point=suite.entry_point, setup=setup, limits=limits
    )


def _call(pair: Any, name: str | None) -> str:
    """Return an assert for a pair of arguments and result."""
    if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], list):
        raise DataError(
            f"the test {pair!r:.80} is neither an assert nor a pair [[argument, ...], result]"
        )
    if name is None:
        raise DataError("tests of [arguments, result] need the column 'entry_point'")
    source = repr(pair)
    try:
        plain = ast.literal_eval(source) == pair
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        plain = False
    if not plain:
        raise DataError(f"the test {source:.80} contains values that are not Python literals")
    return f"assert {name}(*{pair[0]!r}) == {pair[1]!r}"


def _plain(value: Any) -> Any:
    """Convert NumPy arrays, which Parquet files have for lists, to lists."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name)


def _defines(source: str, name: str) -> bool:
    return re.search(rf"^def[ \t]+{name}[ \t]*\(", source, re.MULTILINE) is not None

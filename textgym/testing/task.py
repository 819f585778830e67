"""The task contract as a check: ``check_task("TextGen/MyTask-v0")``.

A task that pays for junk, leaks its eval split or raises on a strange string invalidates every
result obtained with it, and none of this shows in a learning curve. The same check runs on the
built-in tasks and on a user's. Each rule is a function in :mod:`textgym.testing.row_rules` or
:mod:`textgym.testing.score_rules`; its error names the rule, the row that broke it and the remedy.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from typing import NoReturn

import gymnasium
from gymnasium.utils.env_checker import check_env

from textgym.data.rows import Row
from textgym.errors import TaskError
from textgym.tasks.base import SPLITS, Task
from textgym.tasks.registry import make_task
from textgym.testing import row_rules, score_rules
from textgym.testing.checked_task import CheckedTask
from textgym.tokenization import TokenizerSpec, load_tokenizer

RULES: tuple[Callable[[CheckedTask], None], ...] = (
    row_rules.generation,
    row_rules.row_format,
    row_rules.seeds,
    row_rules.budget,
    score_rules.oracle,
    score_rules.scores,
    score_rules.cheating,
    score_rules.strange_strings,
    score_rules.junk_of_the_oracle,
    score_rules.constants,
    score_rules.baselines,
    score_rules.reward,
    score_rules.potential,
    score_rules.spaces,
    row_rules.document,
)
"""The rules, in the order in which they are checked: each may rely on those before it."""


def check_task(
    task: str | type[Task] | Task, n: int = 200, seed: int = 0, tokenizer: TokenizerSpec = None
) -> None:
    """Check a task against the task contract.

    The rules, in the order in which they are checked, on `n` rows of each level and split:

    * ``attributes``: the class has an id, budgets, levels and a ceiling;
    * ``rows``: rows are dictionaries with a prompt and a reference, and survive JSON;
    * ``generation``: the generator that is passed in is the only source of randomness; global
      random state is neither read nor changed;
    * ``seeds``: adjacent seeds share few prompts, as by chance; `Task.item` is stable;
    * ``splits``: train and eval share no prompt;
    * ``budget``: prompt and oracle, with eos, fit the limits and the tokenizer, and no stop string
      cuts the oracle;
    * ``oracle``: the oracle scores exactly 1.0;
    * ``scores``: scores are floats in [0, 1], the same each time, and change nothing;
    * ``cheats``: empty, echoed, shuffled, repeated and dumped texts score below `cheat_ceiling` on
      every row, random words do so on average;
    * ``junk``: no string raises, and 100 kB are judged within bounded time;
    * ``attack``: junk made from the oracle scores no more than `junk_ceiling`, and an oracle with
      one word replaced by a strange one less than 1.0; see `attack_task` for a longer search;
    * ``constants``: the same text for every prompt earns no more than `constant_ceiling` on
      average; see `best_constants` for a longer search;
    * ``baselines``: there is one, above random words and below the oracle on average;
    * ``reward``: the default reward returns one finite float for each text;
    * ``potential``: where the task defines one, that of the first parts of an oracle is one finite
      float for each text, and changes as `dense_at` says alone;
    * ``spaces``: it is the same for the oracle with other white space around it, as far as the
      tokenizer can write that: no leading space, a line break before or after, a trailing space;
    * ``document``: training texts are text;
    * ``environment``: Gymnasium's ``check_env`` passes without a warning, if the id is registered.

    Args:
        task: A registered id, a class (all its levels are checked), or a task (its level is).
        n: Rows of each level and split.
        seed: Seed of the rows and of the random cheats.
        tokenizer: Counts the tokens of a task without a closed vocabulary; None is the built-in
            tokenizer.

    Raises:
        TaskError: If a rule is broken; the message names it, the row and the remedy.
    """
    if isinstance(task, str):
        task = type(make_task(task))
    if isinstance(task, Task):
        levels: tuple[int, ...] = (task.level,)
        task = type(task)
    else:
        levels = tuple(getattr(task, "levels", (1,)))
    _check_attributes(task)
    words = load_tokenizer(
        tokenizer if task.tokenizer is None else list(task.tokenizer), add_eos=task.stop_at_eos
    )
    for level in levels:
        rows: dict[str, list[Row]] = {}
        for split in SPLITS:
            check = CheckedTask(task(level=level, split=split), n, seed, words)
            for rule in RULES:
                rule(check)
            rows[split] = check.rows
        row_rules.splits(check, rows)
    _check_environment(task)


def _check_attributes(task: type[Task]) -> None:
    def fail(what: str, remedy: str) -> NoReturn:
        raise TaskError(
            f"{getattr(task, 'id', task.__name__)} breaks the rule 'attributes': {what}. "
            f"Remedy: {remedy}."
        )

    if not isinstance(getattr(task, "id", None), str):
        fail("it has no id", 'write `id = "TextGen/MyTask-v0"` in the class')
    for name in ("max_prompt_tokens", "max_new_tokens"):
        value = getattr(task, name, None)
        if type(value) is not int or value < 1:
            fail(f"{name} is {value!r}", f"set {name} to a positive int")
    if task.judge is Task.judge and task.score is Task.score:
        fail("it defines neither judge nor score", "define judge(text, row), which scores a text")
    ceiling = getattr(task, "cheat_ceiling", None)
    if not isinstance(ceiling, float) or not 0.0 < ceiling <= 1.0:
        fail(f"cheat_ceiling is {ceiling!r}", "set it to a float in (0, 1]")
    for name in ("junk_ceiling", "constant_ceiling"):
        ceiling = getattr(task, name)
        if not isinstance(ceiling, float) or not 0.0 < ceiling <= 1.0:
            fail(f"{name} is {ceiling!r}", "set it to a float in (0, 1]")
    if task.default_level not in task.levels:
        fail(f"default_level {task.default_level!r} is not in {task.levels}", "choose one of these")
    if not isinstance(task.stop, tuple) or not all(
        isinstance(stop, str) and stop for stop in task.stop
    ):
        fail(f"stop is {task.stop!r}", "give a tuple of non-empty strings")


def _check_environment(task: type[Task]) -> None:
    spec = gymnasium.registry.get(task.id)
    if spec is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            env = gymnasium.make(task.id)
            with contextlib.redirect_stdout(io.StringIO()):  # it renders, in "human" mode too
                check_env(env.unwrapped)
            env.close()
        except Exception as error:
            raise TaskError(
                f"{task.id} breaks the rule 'environment': gymnasium's check_env says "
                f"{type(error).__name__}: {error}. Remedy: see the environment's documentation."
            ) from error

"""The task contract, and whether a task keeps it: ``check_task("TextGen/MyTask-v0")``.

A task that pays for junk, leaks its eval split or raises on a strange string spoils every result
made with it, and none of this shows in a learning curve. So the contract is a public check, to be
run over one's own tasks as it is over the built-in ones. Each rule is a method of `_Check`; the
error names the rule, the row that broke it and the remedy.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import time
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import check_env

from textgym.data.rows import Row
from textgym.errors import TaskError, TextGymError
from textgym.tasks.base import SPLITS, Task
from textgym.tasks.registry import make_task
from textgym.testing.attack import TEMPLATES
from textgym.testing.cheats import cheats, junk, spaced
from textgym.testing.mutations import mutants
from textgym.tokenization import Tokenizer, TokenizerSpec, load_tokenizer

_SECONDS = 5.0
"""CPU time within which a scorer has to judge 100 kB. A linear one needs milliseconds."""

_JUNK_ROWS = 3

_ATTACKED_ROWS = 5
"""Rows whose oracles are made into junk."""
_CONSTANT_ROWS = 50
"""With fewer rows, the mean score of a constant text says little."""


def check_task(
    task: str | type[Task] | Task, n: int = 200, seed: int = 0, tokenizer: TokenizerSpec = None
) -> None:
    """Hold a task to the task contract.

    The rules, in the order in which they are checked, on `n` rows of each level and split:

    * ``attributes``: the class says its id, budgets, levels and ceiling;
    * ``rows``: rows are dictionaries with a prompt and a reference, and survive JSON;
    * ``generation``: the generator it is given is the only source of chance; global random state
      is neither read nor touched;
    * ``seeds``: adjacent seeds share no more prompts than chance has it; `Task.item` is stable;
    * ``splits``: train and eval share no prompt;
    * ``budget``: prompt and oracle, with eos, fit the limits and the tokenizer, and no stop string
      cuts the oracle;
    * ``oracle``: the oracle scores exactly 1.0;
    * ``scores``: scores are floats in [0, 1], the same each time, and change nothing;
    * ``cheats``: empty, echoed, shuffled, repeated and dumped texts score below `cheat_ceiling` on
      every row, random words do so on average;
    * ``junk``: no string raises, and 100 kB are judged within bounded time;
    * ``attack``: junk made from the oracle, and constant texts on average, score no more than
      `junk_ceiling`, and an oracle with one word replaced by a strange one less than 1.0; see
      `attack_task` for a longer search;
    * ``baselines``: there is one, above random words and below the oracle on average;
    * ``reward``: the default reward returns one finite float for each text;
    * ``spaces``: it is the same for the oracle with other white space around it, as far as the
      tokenizer can write that: no first space, a line break before or behind, a space behind;
    * ``document``: training texts are text;
    * ``environment``: Gymnasium's ``check_env`` passes without a warning, if the id is registered.

    Args:
        task: A registered id, a class (all its levels are checked), or a task (its level is).
        n: Rows of each level and split.
        seed: Seed of the rows and of the random cheats.
        tokenizer: What counts the tokens of a task without a vocabulary of its own; None is the
            built-in tokenizer.

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
            check = _Check(task(level=level, split=split), n, seed, words)
            check.run()
            rows[split] = check.rows
        check.splits(rows)
    _check_environment(task)


class _Check:
    """The rules for one level and split."""

    def __init__(self, task: Task, n: int, seed: int, tokenizer: Tokenizer) -> None:
        self.task = task
        self.tokenizer = tokenizer
        self.n = n
        self.seed = seed
        self.rows: list[Row] = []
        self.luck = 0.0  # what random words score

    def fail(self, rule: str, what: str, remedy: str, row: Row | None = None) -> NoReturn:
        where = f"{self.task.id} (level {self.task.level}, {self.task.split})"
        shown = "" if row is None else f"\nThe row: {_short(row)}"
        raise TaskError(f"{where} breaks the rule '{rule}': {what}. Remedy: {remedy}.{shown}")

    def run(self) -> None:
        """All the rules, in order: each may rely on those before it."""
        self.generation()
        self.row_format()
        self.seeds()
        self.budget()
        self.oracle()
        self.scores()
        self.cheats()
        self.junk()
        self.attack()
        self.constants()
        self.baselines()
        self.reward()
        self.spaces()
        self.document()

    def draw(self, seed: int) -> list[Row]:
        rng = np.random.default_rng(seed)
        return [self.task.sample(rng) for _ in range(self.n)]

    def untouched(self, rule: str, call: Callable[[], Any]) -> Any:
        """Call twice under different global random states, which have to stay as they are."""
        results = []
        kept = np.random.get_state(), random.getstate()
        try:
            for number in (1, 2):
                np.random.seed(number)
                random.seed(number)
                before = _global_state()
                results.append(call())
                if _global_state() != before:
                    self.fail(
                        rule,
                        "it draws from (or seeds) the global random state",
                        "draw everything from the generator that is passed in",
                    )
        finally:
            np.random.set_state(kept[0])
            random.setstate(kept[1])
        if repr(results[0]) != repr(results[1]):
            self.fail(
                rule,
                "the same arguments gave two results",
                "keep no state between calls, and draw from the generator passed in alone",
            )
        return results[0]

    def score(self, rule: str, text: str, row: Row, name: str) -> float:
        try:
            value = self.task.score(text, row)
        except Exception as error:
            self.fail(
                rule,
                f"score raised {type(error).__name__} ({error}) on {name}: {_short(text)}",
                "return 0.0 for whatever cannot be read",
                row,
            )
        if type(value) is not float:
            self.fail(
                "scores",
                f"score returned a {type(value).__name__}, {value!r}, on {name}",
                "return float(...)",
                row,
            )
        if not 0.0 <= value <= 1.0:
            self.fail(
                "scores", f"{name} scored {value!r}", "map scores into [0, 1], and NaN to 0.0", row
            )
        return value

    def generation(self) -> None:
        self.rows = self.untouched("generation", lambda: self.draw(self.seed))
        if not all(isinstance(row, dict) for row in self.rows):
            self.fail("rows", "generate returned no dictionary", "return {'prompt': ..., ...}")

    def row_format(self) -> None:
        for row in self.rows:
            for name in ("prompt", "reference"):
                if not isinstance(row.get(name), str):
                    self.fail("rows", f"row[{name!r}] is no string", f"give each row a {name}", row)
            try:
                same = json.loads(json.dumps(row, allow_nan=False)) == row
            except (TypeError, ValueError):
                same = False
            if not same:
                self.fail(
                    "rows",
                    "the row does not survive json.dumps and json.loads",
                    "use str, int, float, bool, None, and lists and dictionaries (with string "
                    "keys) of them; no tuples, sets, NaN or numpy values",
                    row,
                )

    def seeds(self) -> None:
        first = set(map(self.task.identity, self.rows))
        second = set(map(self.task.identity, self.draw(self.seed + 1)))
        # With N draws each, as many prompts are shared as are repeated within the two draws, on
        # average, however many there are to draw from.
        repeated = 2 * self.n - len(first) - len(second)
        shared = len(first & second)
        if shared > 3 + 3 * repeated:
            self.fail(
                "seeds",
                f"seeds {self.seed} and {self.seed + 1} share {shared} of {self.n} prompts",
                "draw each row from the generator; do not derive seeds such as seed + index",
            )
        items = [self.task.item(index) for index in range(min(self.n, 20))]
        if items != [self.task.item(index) for index in range(min(self.n, 20))]:
            self.fail("seeds", "item(i) differs from call to call", "keep no state in the task")

    def splits(self, rows: dict[str, list[Row]]) -> None:
        if not self.task.disjoint_splits:
            return
        train, test = (set(map(self.task.identity, rows[split])) for split in SPLITS)
        if train & test:
            self.fail(
                "splits",
                f"train and eval share {len(train & test)} prompts, such as {min(train & test)!r}",
                "leave sample as the base class has it, or set disjoint_splits = False",
            )

    def budget(self) -> None:
        task, tokenizer = self.task, self.tokenizer
        for row in self.rows:
            oracle = task.oracle(row)
            texts = (
                ("prompt", row["prompt"], task.max_prompt_tokens, 0),
                ("oracle", oracle, task.max_new_tokens, int(task.stop_at_eos)),
            )
            for name, text, limit, more in texts:
                try:
                    ids = tokenizer.encode(text)
                except TextGymError as error:
                    self.fail(
                        "budget",
                        f"the {name} cannot be tokenized ({error})",
                        "write with the words of the tokenizer",
                        row,
                    )
                if tokenizer.decode(ids) != text:
                    self.fail(
                        "budget",
                        f"the {name} {text!r} comes back from {tokenizer.name} as "
                        f"{tokenizer.decode(ids)!r}",
                        "write what the tokenizer can spell: under a closed vocabulary, its words "
                        "with single spaces between them",
                        row,
                    )
                if len(ids) + more > limit:
                    eos = " with eos" if more else ""
                    self.fail(
                        "budget",
                        f"the {name} has {len(ids) + more} tokens{eos}, the limit is {limit}",
                        "shorten the text, or raise max_prompt_tokens or max_new_tokens",
                        row,
                    )
            for stop in task.stop:
                if stop in oracle:
                    self.fail(
                        "budget",
                        f"the stop string {stop!r} stands in the oracle, which it would cut off",
                        "choose a stop string that no right answer holds",
                        row,
                    )

    def oracle(self) -> None:
        for row in self.rows:
            value = self.score("oracle", self.task.oracle(row), row, "the oracle")
            if value != 1.0:
                self.fail(
                    "oracle",
                    f"the oracle {self.task.oracle(row)!r} scores {value!r}, not 1.0",
                    "let score accept what oracle (or row['reference']) says",
                    row,
                )

    def spaces(self) -> None:
        for row in self.rows:
            oracle = self.task.oracle(row)
            columns = {name: [value] for name, value in row.items() if name != "prompt"}
            [right] = self.task.reward([row["prompt"]], [oracle], **columns)
            for name, text in spaced(oracle):
                if not self._can_write(text):
                    continue
                [value] = self.task.reward([row["prompt"]], [text], **columns)
                if value != right:
                    self.fail(
                        "spaces",
                        f"{name} ({_short(text)}) is rewarded with {value!r}, not {right!r}",
                        "define judge(text, row), which gets the text without the white space "
                        "around it, rather than score, or strip the completions",
                        row,
                    )

    def _can_write(self, text: str) -> bool:
        """Whether the tokenizer spells a text as it is: a closed vocabulary has no line breaks."""
        try:
            return self.tokenizer.decode(self.tokenizer.encode(text)) == text
        except TextGymError:
            return False

    def scores(self) -> None:
        baselines = list(self.task.baselines().values())
        texts = []
        for number, row in enumerate(self.rows):
            rng = np.random.default_rng([self.seed, number])
            written = [baseline(row, rng) for baseline in baselines]
            texts.append([self.task.oracle(row), row["prompt"], "x", *written])
        self.untouched(
            "scores",
            lambda: [
                [self.score("scores", text, row, "a text") for text in some]
                for some, row in zip(texts, self.rows, strict=True)
            ],
        )
        for row, drawn in zip(self.rows, self.draw(self.seed), strict=True):
            if row != drawn:
                self.fail("scores", "score changed the row", "copy what score has to change", row)

    def cheats(self) -> None:
        vocabulary = sorted({word for row in self.rows for word in row["reference"].split()})
        rng = np.random.default_rng(self.seed)
        ceiling = self.task.cheat_ceiling
        for row in self.rows:
            oracle = self.task.oracle(row)
            for name, text in cheats(row, oracle, vocabulary, rng):
                if text.strip() == oracle.strip():
                    continue  # a single word cannot be shuffled
                value = self.score("cheats", text, row, name)
                if name == "random words":
                    self.luck += value / self.n
                elif value >= ceiling:
                    self.fail(
                        "cheats",
                        f"{name} scores {value:.3f}, the ceiling is {ceiling}: {_short(text)}",
                        "let score demand what tells an answer from this, or state a higher "
                        "cheat_ceiling",
                        row,
                    )
        if self.luck >= ceiling:
            self.fail(
                "cheats",
                f"random words score {self.luck:.3f} on average, the ceiling is {ceiling}",
                "let score demand more than the presence of words",
            )

    def junk(self) -> None:
        for row in self.rows[:_JUNK_ROWS]:
            # Long strings cost time, and depend less on the row.
            sizes = (1_000, 10_000, 100_000) if row is self.rows[0] else ()
            for name, text in junk(self.task.oracle(row), sizes):
                begin = time.process_time()
                value = self.score("junk", text, row, name)
                if (taken := time.process_time() - begin) > _SECONDS:
                    self.fail(
                        "junk",
                        f"score took {taken:.0f} s for {len(text)} characters ({name})",
                        "judge in linear time, and give up early on long texts",
                        row,
                    )
                if value >= self.task.cheat_ceiling:
                    self.fail("junk", f"{name} scores {value:.3f}", "score junk 0.0", row)

    def attack(self) -> None:
        rng = np.random.default_rng(self.seed)
        ceiling = self.task.junk_ceiling
        oracles = [self.task.oracle(row) for row in self.rows[: 4 * _ATTACKED_ROWS]]
        for number, row in enumerate(self.rows[:_ATTACKED_ROWS]):
            others = [oracle for oracle in oracles if oracle != oracles[number]]
            for kind, text, is_junk in mutants(oracles[number], others, rng):
                value = self.score("attack", text, row, kind)
                if value > ceiling if is_junk else value >= 1.0:
                    limit = f"the ceiling is {ceiling}" if is_junk else "which only the right may"
                    self.fail(
                        "attack",
                        f"{kind} scores {value:.3f}, {limit}: {_short(text)}",
                        "let the price of junk grow with its size, and read every part of a text; "
                        "`textgym check ID --attack` shows what else is paid",
                        row,
                    )

    def constants(self) -> None:
        # In a closed vocabulary any text is an answer, and chance is the scale.
        if self.task.tokenizer is not None or self.n < _CONSTANT_ROWS:
            return
        oracles = [self.task.oracle(row) for row in self.rows]
        for text in (*TEMPLATES, *oracles[:_ATTACKED_ROWS]):
            rows = [
                row
                for row, oracle in zip(self.rows, oracles, strict=True)
                if oracle.strip() != text.strip()
            ]
            if len(rows) < _CONSTANT_ROWS:
                continue
            scores = np.array([self.score("attack", text, row, "a constant") for row in rows])
            mean = float(scores.mean())
            # More than chance has it, in a sample of this size.
            if mean - 2 * scores.std() / len(rows) ** 0.5 > self.task.junk_ceiling:
                self.fail(
                    "attack",
                    f"the constant text {text!r} scores {mean:.3f} on average, the ceiling is "
                    f"{self.task.junk_ceiling}",
                    "let score demand what fits the prompt",
                )

    def baselines(self) -> None:
        means = {}
        for name, baseline in self.task.baselines().items():
            rng = np.random.default_rng(self.seed)
            values = [
                self.score("baselines", baseline(row, rng), row, f"the baseline {name!r}")
                for row in self.rows
            ]
            means[name] = sum(values) / len(values)
            if means[name] >= 1.0:
                self.fail(
                    "baselines",
                    f"the baseline {name!r} is as good as the oracle: there is nothing to learn",
                    "make the task harder, or the baseline an honest one",
                )
        if not means:
            self.fail(
                "baselines",
                "there is none",
                "return at least one writer that learns nothing, such as a template or a guess",
            )
        if max(means.values()) <= self.luck:
            self.fail(
                "baselines",
                f"none is better than random words ({self.luck:.3f}): {means}",
                "add a baseline that tries",
            )

    def reward(self) -> None:
        rows = self.rows
        # As in the environments: None where a row lacks a column that others have.
        names = dict.fromkeys(name for row in rows for name in row if name != "prompt")
        columns = {name: [row.get(name) for row in rows] for name in names}
        oracles = [self.task.oracle(row) for row in rows]
        values = self.task.reward([row["prompt"] for row in rows], oracles, **columns)
        if len(values) != len(rows) or not np.isfinite(np.array(values, dtype=np.float64)).all():
            self.fail(
                "reward",
                f"reward returned {len(values)} values for {len(rows)} texts, or one not finite",
                "return one finite float for each text",
            )

    def document(self) -> None:
        text = self.untouched(
            "document", lambda: self.task.document(np.random.default_rng(self.seed))
        )
        if not isinstance(text, str) or not text:
            self.fail("document", f"document returned {text!r}", "return the text as a string")


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
    ceiling = task.junk_ceiling
    if not isinstance(ceiling, float) or not 0.0 < ceiling <= 1.0:
        fail(f"junk_ceiling is {ceiling!r}", "set it to a float in (0, 1]")
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


def _global_state() -> tuple[object, ...]:
    name, keys, *rest = np.random.get_state()
    return (name, np.asarray(keys).tobytes(), *rest, random.getstate())


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:200]} ... {text[-60:]} ({len(text)} characters)"

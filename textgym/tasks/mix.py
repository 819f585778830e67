"""Several tasks in one environment, for training one policy on all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from textgym.data.rows import Row
from textgym.errors import TaskError
from textgym.tasks.base import Baseline, Reply, Task
from textgym.tasks.judgement import Judgement
from textgym.tasks.registry import make_task

_MEMBERS = (
    "Code",
    "DataToText",
    "Dialogue",
    "KnowledgeGraph",
    "Moderate",
    "QA",
    "Risk",
    "Sentiment",
    "Story",
    "Summarize",
    "Translate",
)
"""The tasks of ``TextGen/Mix-v0``, named so that another task never changes its episodes."""


class Mix(Task):
    """Several tasks by weights in one environment: multi-task training.

    ## Description

    Each episode is one of another task: its prompt, its score, its answers where it is a
    conversation, its costs. Other weights, or other tasks, are an object's::

        weights = {"TextGen/QA-v0": 2.0, "TextGen/Story-v0": 1.0}
        env = gymnasium.make("TextGen/Mix-v0", prompts=Mix(tasks=weights))

    ## Observation Space

    ``Box(-1, V-1, (max_prompt_tokens + max_new_tokens,), int32)``: token ids, -1 where nothing is
    written. The budgets are the largest of the tasks'.

    ## Action Space

    ``Discrete(V)``: the next token.

    ## Rewards

    The task's own. ``info["task"]`` is its id, at the end of an episode.

    ## Starting State

    A task is drawn by the weights, then one of its prompts; ``level`` is each task's own, or its
    highest where it has no such level. The row has the task's columns and ``task``.

    ## Episode End

    The task's own. Where some task has several turns, eos ends a turn in all of them, and episodes
    of the others end after the first one with the reason "task".

    ## Arguments

    ``level``: 1 (default), 2 or 3. ``split``: ``"train"`` or ``"eval"``. ``tasks`` (of the class):
    weights by id; None takes every built-in task in open text, in equal shares.

    ## Version History

    * v0: first version.
    """

    id = "TextGen/Mix-v0"
    tags = ("many tasks", "graded")
    scored_by = "the task's own score; `info['task']` has its id"
    max_prompt_tokens = 128
    max_new_tokens = 112
    levels = (1, 2, 3)
    dense_at = "token"  # as often as for any of its tasks
    cheat_ceiling = 0.5

    def __init__(
        self,
        level: int | None = None,
        split: str = "train",
        tasks: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(level, split)
        if tasks is None:
            tasks = dict.fromkeys(self.built_in(), 1.0)
        if (
            not isinstance(tasks, Mapping)
            or not tasks
            or not all(weight > 0 for weight in tasks.values())
        ):
            raise TaskError(f"{self.id}: tasks={tasks!r} has to name tasks with weights above 0")
        self.tasks = {name: _at_level(name, self.level, split) for name in tasks}
        for name, task in self.tasks.items():
            own = task.tokenizer is not None or task.stop or task.image_shape or name == self.id
            if own or not task.stop_at_eos:
                raise TaskError(
                    f"{self.id}: {name} cannot be mixed with others: it has a vocabulary, stop "
                    "strings, ends or pictures of its own; leave it out"
                )
        parts = self.tasks.values()
        self.max_prompt_tokens = max(task.max_prompt_tokens for task in parts)
        self.max_new_tokens = max(task.max_new_tokens for task in parts)
        self.max_turns = max(task.max_turns for task in parts)
        self.cheat_ceiling = max(task.cheat_ceiling for task in parts)
        weights = np.array(list(tasks.values()), dtype=np.float64)
        self._names = list(tasks)
        self._columns: dict[str, frozenset[str]] = {}
        self._bounds = (weights / weights.sum()).cumsum()

    @classmethod
    def built_in(cls) -> list[str]:
        """The tasks that are mixed by default."""
        return [f"TextGen/{name}-v0" for name in _MEMBERS]

    def generate(self, rng: np.random.Generator) -> Row:
        """Draw a task, and a row of it, of either split."""
        name = self._draw(rng)
        return {**self.tasks[name].generate(rng), "task": name}

    def sample(self, rng: np.random.Generator) -> Row:
        """Draw a task, and a row of it of this split."""
        name = self._draw(rng)
        return {**self.tasks[name].sample(rng), "task": name}

    def normalize(self, completion: str, row: Mapping[str, Any]) -> str:
        """The text as it is: the row's task knows what white space around it means."""
        return completion

    def judge(self, text: str, row: Mapping[str, Any]) -> float | Judgement:
        """What the row's task says."""
        task, own = self._of(row), self._own(row)
        if type(task).score is not Task.score:
            return task.score(task.align(text, own), own)
        return task.judge(task.normalize(text, own), own)

    def oracle(self, row: Mapping[str, Any]) -> str:
        """The oracle of the row's task."""
        return self._of(row).oracle(row)

    def convert(self, row: Row) -> Row:
        """Let the task that the column ``task`` names read a raw row."""
        if "task" not in row:
            return row
        rest = {name: value for name, value in row.items() if name != "task"}
        return {**self._of(row).convert(rest), "task": row["task"]}

    def complete_row(self, row: Row) -> Row:
        """Let a task read a prompt that a user wrote: the column ``task``'s, or else the first."""
        owner = row.get("task", self._names[0])
        return {**self._of({"task": owner}).complete_row(row), "task": owner}

    def reply(self, row: Mapping[str, Any], turns: Sequence[str]) -> Reply:
        """The reply of the row's task; the end where it has one turn only."""
        task = self._of(row)
        return Reply(done=True) if len(turns) >= task.max_turns == 1 else task.reply(row, turns)

    def potential(self, texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float]:
        """The potentials of the rows' tasks; 0 for tasks that define none."""
        found = [0.0] * len(texts)
        for owner in dict.fromkeys(row["task"] for row in rows):
            task = self._of({"task": owner})
            if type(task).potential is Task.potential:
                continue
            at = [place for place, row in enumerate(rows) if row["task"] == owner]
            own = [self._own(rows[place]) for place in at]
            for place, value in zip(
                at, task.potential([texts[place] for place in at], own), strict=True
            ):
                found[place] = value
        return found

    def costs(self) -> dict[str, Callable[..., Sequence[float]]]:
        """The tasks' costs by name; each is 0 for rows of the others."""
        names = dict.fromkeys(name for task in self.tasks.values() for name in task.costs())
        return {name: partial(self._of_owners, "costs", name, 0.0) for name in names}

    def metrics(self) -> dict[str, Callable[..., Sequence[float | None]]]:
        """The tasks' metrics by name; each is None for rows of the others."""
        names = dict.fromkeys(name for task in self.tasks.values() for name in task.metrics())
        return {name: partial(self._of_owners, "metrics", name, None) for name in names}

    def baselines(self) -> dict[str, Baseline]:
        """Each task's first baseline."""
        first = {
            name: next(iter(task.baselines().values()), None) for name, task in self.tasks.items()
        }

        def write(row: Row, rng: np.random.Generator) -> str:
            baseline = first[row["task"]]
            return "" if baseline is None else baseline(row, rng)

        return {"each task's first": write}

    def document(self, rng: np.random.Generator) -> str:
        """A document of one of the tasks."""
        return "".join(self.turns_document(rng))

    def turns_document(self, rng: np.random.Generator) -> list[str]:
        """A document of one of the tasks, in pieces."""
        return self.tasks[self._draw(rng)].turns_document(rng)

    def _draw(self, rng: np.random.Generator) -> str:
        return self._names[int(np.searchsorted(self._bounds[:-1], rng.random(), side="right"))]

    def _own(self, row: Mapping[str, Any]) -> Row:
        """A row without the columns of other tasks, which a batch fills with None."""
        known = self._columns.get(row["task"])
        if known is None:
            known = self._columns[row["task"]] = frozenset(self._of(row).item(0))
        return {name: value for name, value in row.items() if value is not None or name in known}

    def _of(self, row: Mapping[str, Any]) -> Task:
        try:
            return self.tasks[row["task"]]
        except KeyError:
            raise TaskError(
                f"{self.id} cannot tell whose a row is: give it a column 'task', one of "
                f"{self._names}"
            ) from None

    def _of_owners(
        self,
        kind: str,
        name: str,
        otherwise: Any,
        prompts: Sequence[str],
        completions: Sequence[str],
        /,
        **columns: Any,
    ) -> list[Any]:
        """Values of a function of the rows' tasks; `otherwise` where a task has none of the name.

        Args:
            kind: The method of `Task` that returns the functions, ``"costs"`` or ``"metrics"``.
            name: The function's name.
            otherwise: The value for rows of other tasks.
            prompts: N prompts.
            completions: N completions.
            **columns: The rows' other columns, N values each.
        """
        found = [otherwise] * len(prompts)
        for owner in dict.fromkeys(columns["task"]):
            function = getattr(self.tasks[owner], kind)().get(name)
            if function is None:
                continue
            at = [place for place, whose in enumerate(columns["task"]) if whose == owner]
            mine = {key: [values[place] for place in at] for key, values in columns.items()}
            texts = ([column[place] for place in at] for column in (prompts, completions))
            for place, value in zip(at, function(*texts, **mine), strict=True):
                found[place] = value
        return found


def _at_level(name: str, level: int, split: str) -> Task:
    known = make_task(name).levels
    return make_task(name, level if level in known else max(known), split)

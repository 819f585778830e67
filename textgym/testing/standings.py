"""Scores of writers that do not learn: the scale for reading an agent's score."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from textgym.data.observations import Observation
from textgym.data.rows import Row
from textgym.tasks.base import Task
from textgym.testing.cheats import cheats
from textgym.tokenization import TokenizerSpec

Act = Callable[[Observation], NDArray[Any]]
"""From observations of N rows to token ids ``[N]``."""


class Standing(NamedTuple):
    """The scores of one writer.

    Attributes:
        writer: Its name.
        kind: ``"floor"``, ``"cheat"``, ``"baseline"``, ``"model"`` or ``"ceiling"``.
        mean: Of the scores.
        error: Half the width of the mean's 95 % interval (normal approximation).
    """

    writer: str
    kind: str
    mean: float
    error: float

    @staticmethod
    def of(writer: str, kind: str, scores: list[float]) -> Standing:
        """The mean of some scores."""
        values = np.array(scores)
        error = 1.96 * values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0.0
        return Standing(writer, kind, float(values.mean()), float(error))


class Played(NamedTuple):
    """One episode."""

    prompt: str
    response: str
    score: float


def play(
    task: Task,
    act: Act,
    count: int,
    *,
    repeats: int = 1,
    start: int = 0,
    tokenizer: TokenizerSpec = None,
    **env_kwargs: Any,
) -> Iterator[Played]:
    """Play episodes on consecutive items of a task, all at once.

    Args:
        task: The task, whose level and split count.
        act: Chooses the tokens.
        count: Number of items.
        repeats: Number of episodes on each item, which follow each other.
        start: Index of the first item.
        tokenizer: As for the environments.
        **env_kwargs: Further arguments of the environment.
    """
    total = count * repeats
    envs = gym.make_vec(
        "textgym:TextGen-v0", num_envs=total, prompts=task, tokenizer=tokenizer, **env_kwargs
    )
    items = [start + row // repeats for row in range(total)]
    observations, _ = envs.reset(seed=0, options={"index": items})
    found: dict[int, Played] = {}
    while len(found) < total:
        observations, _, ended, _, infos = envs.step(act(observations))
        for row in np.flatnonzero(ended).tolist():
            # Rows that end early continue with other prompts; only the first episode counts.
            if row not in found:
                columns = task.item(items[row])
                if task.max_turns > 1:
                    columns["turns"] = infos["turns"][row]
                response = infos["response"][row]
                score = task.score(response, columns)
                found[row] = Played(columns["prompt"], response, score)
    envs.close()
    for row in range(total):
        yield found[row]


def standings(task: Task, count: int = 200, seed: int = 0) -> list[Standing]:
    """The scores of random tokens, of the task contract's cheats, the baselines and the oracle.

    Args:
        task: The task, whose level and split count.
        count: Rows that each writes for.
        seed: Seed of everything random.
    """
    rng = np.random.default_rng(seed)
    rows = [task.item(index) for index in range(count)]
    size = gym.make("textgym:TextGen-v0", prompts=task).action_space.n  # type: ignore[attr-defined]
    tokens = play(task, lambda _: rng.integers(size, size=count), count)
    result = [Standing.of("random tokens", "floor", [played.score for played in tokens])]
    found: dict[str, list[float]] = {}
    words = sorted({word for row in rows for word in str(row["reference"]).split()})
    for row in rows:
        oracle = task.oracle(row)
        for name, text in cheats(row, oracle, words, rng):
            if text.strip() != oracle.strip():  # A single word cannot be shuffled.
                found.setdefault(name, []).append(task.score(text, row))
    result += [Standing.of(name, "cheat", scores) for name, scores in found.items()]
    for name, baseline in task.baselines().items():
        written = [baseline(row, rng) for row in rows]
        result.append(Standing.of(name, "baseline", _scores(task, rows, written)))
    written = [task.oracle(row) for row in rows]
    return [*result, Standing.of("oracle", "ceiling", _scores(task, rows, written))]


def _scores(task: Task, rows: list[Row], texts: list[str]) -> list[float]:
    return [task.score(text, row) for text, row in zip(texts, rows, strict=True)]

"""A summary of a folder's cells: scores by task and agent, and missing runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import statistics as st
from benchmarks.report.cells import Cell, distinct
from benchmarks.report.statistics import Estimate, Scores

STATISTICS = {
    "IQM": st.iqm,
    "mean": st.mean,
    "median": st.median,
    "optimality gap": st.optimality_gap,
}
"""Statistics over all tasks, by name; lower is better for the optimality gap."""


SMOOTHED = 5
"""Neighbouring points of a learning curve that are averaged in a plot, fewer near its ends."""


def smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over up to `SMOOTHED` values, as many on either side; [n] as given."""
    sums = np.r_[0.0, values.cumsum()]
    at = np.arange(len(values))
    reach = np.minimum(np.minimum(at, at[::-1]), SMOOTHED // 2)
    means: NDArray[np.float64] = (sums[at + reach + 1] - sums[at - reach]) / (2 * reach + 1)
    return means


def matrix(cells: Iterable[Cell], tasks: Sequence[str], *, normalised: bool = True) -> Scores:
    """Scores or mean returns of some cells [seeds, tasks]; NaN where missing."""
    found: dict[tuple[int, str], float] = {}
    for cell in cells:
        if cell.score is not None and cell.mean is not None:
            found[cell.seed, cell.task] = cell.score if normalised else cell.mean
    seeds = sorted({seed for seed, task in found if task in tasks})
    rows = [[found.get((seed, task), math.nan) for task in tasks] for seed in seeds]
    return np.array(rows, dtype=np.float64).reshape(len(seeds), len(tasks))


@dataclass(frozen=True)
class Summary:
    """Cells, and the statistics of them.

    Attributes:
        cells: The cells in the order of their keys.
        seed: Seed of every bootstrap.
    """

    cells: Sequence[Cell]
    seed: int = 0

    @cached_property
    def tasks(self) -> list[str]:
        """Names of all tasks, in order."""
        return sorted({cell.task for cell in self.cells})

    @cached_property
    def agents(self) -> list[str]:
        """Names of all agents, in order."""
        return sorted({cell.agent for cell in self.cells})

    @cached_property
    def seeds(self) -> list[int]:
        """All seeds, in order."""
        return sorted({cell.seed for cell in self.cells})

    @cached_property
    def scoring(self) -> list[str]:
        """Agents with a score in any task."""
        return [a for a in self.agents if any(c.score is not None for c in self.of(agent=a))]

    @cached_property
    def common(self) -> list[str]:
        """Tasks in which every scoring agent has a score: aggregates are over these.

        A mean over the tasks that an agent did not fail in would reward it for failing.
        """
        return [
            task
            for task in self.tasks
            if self.scoring and all(self.runs(task, agent).size for agent in self.scoring)
        ]

    def of(self, task: str | None = None, agent: str | None = None) -> list[Cell]:
        """The cells of a task, of an agent, or of both."""
        return [c for c in self.cells if task in (None, c.task) and agent in (None, c.agent)]

    def runs(self, task: str, agent: str) -> Scores:
        """Mean returns of the seeds [seeds, 1]."""
        return matrix(self.of(task, agent), [task], normalised=False)

    def scores(self, agent: str, tasks: Sequence[str]) -> Scores:
        """Normalised scores of an agent [seeds, tasks]."""
        return matrix(self.of(agent=agent), tasks)

    def tagged(self) -> dict[str, list[str]]:
        """The common tasks of each tag."""
        tags: dict[str, list[str]] = {}
        for task in self.common:
            for tag in self.of(task)[0].record.get("tags") or ():
                tags.setdefault(str(tag), []).append(task)
        return dict(sorted(tags.items()))

    def returns(self, task: str, agent: str) -> Estimate | None:
        """Mean return of an agent in a task; None where it has no run."""
        return self._mean(self.runs(task, agent), "returns", task, agent)

    def score(self, task: str, agent: str) -> Estimate | None:
        """Mean normalised score of an agent in a task; None where it has no run."""
        return self._mean(self.scores(agent, [task]), "score", task, agent)

    def over(self, agent: str, tasks: Sequence[str], statistic: st.Statistic) -> Estimate:
        """A statistic of an agent over tasks."""
        scores = self.scores(agent, tasks)
        return st.estimate(scores, statistic, self._drawn(scores, "over", agent, *tasks))

    def best(self, task: str) -> str | None:
        """The agent that is better than every other one with an interval of the difference above 0.

        None if there is no such agent, or only one agent.
        """
        rivals = [agent for agent in self.agents if self.runs(task, agent).size]
        if len(rivals) < 2:
            return None
        first = max(rivals, key=lambda agent: float(st.mean(self.runs(task, agent))))
        for other in rivals:
            if other == first:
                continue
            found = st.difference(
                self.runs(task, first), self.runs(task, other), st.mean_difference, self.seed
            )
            if not (found.excludes_zero and found.value > 0):
                return None
        return first

    def improvement(self, x: str, y: str) -> tuple[Estimate, int] | None:
        """Probability that a run of X beats one of Y, on the tasks of both, and how many these are.

        None where they have no task in common.
        """
        tasks = [t for t in self.tasks if self.runs(t, x).size and self.runs(t, y).size]
        if not tasks:
            return None
        ours, theirs = self.scores(x, tasks), self.scores(y, tasks)
        return st.difference(ours, theirs, st.improvement, self.seed), len(tasks)

    def profile(self, agent: str, taus: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of runs above each tau over the common tasks, and its band [3, taus]."""
        scores = self.scores(agent, self.common)
        value = st.profile(scores, taus)
        if not st.repeated(scores):
            return np.stack([value, np.full_like(value, np.nan), np.full_like(value, np.nan)])
        drawn = st.profile(self._drawn(scores, "profile", agent), taus)
        return np.stack([value, *np.quantile(drawn, [0.025, 0.975], axis=0)])

    def curve(self, task: str, agent: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Learning curve of the mean over seeds: steps [points], and value and band [3, points].

        Seeds whose points are not at the same steps are interpolated over the range that they
        share. Each point is the mean of up to `SMOOTHED` points around it, as a stretch of the
        training may have few episodes.
        """
        curves = [c.curve for c in self.of(task, agent) if c.score is not None and c.curve]
        if not curves:
            return np.empty(0), np.empty((3, 0))
        xs = [np.array([x for x, _ in curve]) for curve in curves]
        grid = xs[0]
        if any(not np.array_equal(x, grid) for x in xs):
            low, high = max(x[0] for x in xs), min(x[-1] for x in xs)
            grid = np.linspace(low, high, 100) if low < high else np.array([high])
        values = np.stack(
            [
                np.interp(grid, x, smoothed(np.array([y for _, y in c])))
                for x, c in zip(xs, curves, strict=True)
            ]
        )
        value = values.mean(axis=0)
        if len(values) < 2:
            return grid, np.stack([value, np.full_like(value, np.nan), np.full_like(value, np.nan)])
        rng = st.generator(self.seed, "curve", task, agent)
        drawn = values[rng.integers(len(values), size=(st.REPLICATES, len(values)))].mean(axis=1)
        return grid, np.stack([value, *np.quantile(drawn, [0.025, 0.975], axis=0)])

    def notes(self) -> list[str]:
        """Caveats: failures, missing runs, differences between cells."""
        return [
            *self._missing(),
            *self._left_out(),
            *self._few(),
            *self._mixed("task_hash", "tasks of different content (task hashes)"),
            *self._mixed("timesteps", "different budgets of training"),
            *self._mixed("floor", "different floors"),
            *self._mixed("ceiling", "different ceilings"),
            *self._rewritten(),
        ]

    def _mean(self, scores: Scores, *names: str) -> Estimate | None:
        if not scores.size:
            return None
        return st.estimate(scores, st.mean, self._drawn(scores, *names))

    def _drawn(self, scores: Scores, *names: str) -> Scores:
        return st.resample(scores, st.REPLICATES, st.generator(self.seed, *names))

    def _missing(self) -> list[str]:
        notes = []
        failed = sum(cell.error is not None for cell in self.cells)
        if failed:
            notes.append(
                f"{failed} of {len(self.cells)} cells have no score (listed under Failed "
                "cells). All means are over the other ones."
            )
        absent = len(self.agents) * len(self.tasks) * len(self.seeds) - len(self.cells)
        if absent:
            notes.append(
                f"Missing, so not run or not finished: {absent} of the "
                f"{len(self.agents)} agents x {len(self.tasks)} tasks x {len(self.seeds)} seeds."
            )
        return notes

    def _left_out(self) -> list[str]:
        notes = [
            f"{agent} has no score in any task, and is left out of all aggregates over tasks."
            for agent in self.agents
            if agent not in self.scoring
        ]
        for task in self.tasks:
            without = [agent for agent in self.scoring if not self.runs(task, agent).size]
            if self.scoring and without:
                notes.append(
                    f"{task} is left out of all aggregates over tasks: no score by "
                    f"{', '.join(without)}."
                )
        return notes

    def _few(self) -> list[str]:
        counts = [
            self.runs(task, agent).size
            for task in self.tasks
            for agent in self.agents
            if self.of(task, agent)
        ]
        counts = [count for count in counts if count]
        if not counts or min(counts) >= 5:
            return []
        return [
            f"The fewest seeds behind a number are {min(counts)}. With fewer than 5, bootstrap "
            "intervals are too narrow; a single seed has no interval."
        ]

    def _rewritten(self) -> list[str]:
        found = {
            agent: distinct(self.of(agent=agent), lambda cell: cell.record.get("agent_hash"))
            for agent in self.agents
        }
        return [
            f"{agent}: its file changed between cells (hashes): {', '.join(values)}."
            for agent, values in found.items()
            if len(values) > 1
        ]

    def _mixed(self, key: str, said: str) -> list[str]:
        found = {
            task: distinct(self.of(task), lambda cell: cell.record.get(key)) for task in self.tasks
        }
        return [
            f"{task}: its cells have {said}: {', '.join(values)}. They are not comparable."
            for task, values in found.items()
            if len(values) > 1
        ]

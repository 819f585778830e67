"""The cells of a runs folder: the result of an agent with one seed in one experiment."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from textgym.errors import DataError

VERSION = 1
"""Version of the format that is read here."""


@dataclass(frozen=True)
class Cell:
    """One experiment, done or failed, by one agent with one seed.

    Attributes:
        record: The runner's whole record.
        names_suite: Whether the task's name includes its suite: with several suites, an experiment
            may be in two of them with different budgets.
    """

    record: Mapping[str, Any]
    names_suite: bool = False

    @property
    def suite(self) -> str:
        """Name of the suite."""
        return str(self.record["suite"])

    @property
    def task(self) -> str:
        """Name of the experiment: environment and arguments."""
        name = str(self.record["experiment"])
        return f"{name} ({self.suite})" if self.names_suite else name

    @property
    def env(self) -> str:
        """Id of the environment."""
        return str(self.record["env"])

    @property
    def agent(self) -> str:
        """Name of the agent."""
        return str(self.record["agent"])

    @property
    def seed(self) -> int:
        """Seed of the agent."""
        return int(self.record["seed"])

    @property
    def key(self) -> tuple[str, str, int]:
        """The unique key of the cell."""
        return self.task, self.agent, self.seed

    @property
    def mean(self) -> float | None:
        """Mean return after training, or None."""
        return _finite(self.record.get("after"))

    @property
    def mean_before(self) -> float | None:
        """Mean return before training, or None."""
        return _finite(self.record.get("before"))

    @property
    def error(self) -> str | None:
        """The reason why the cell has no score; None if it has one."""
        if self.record["status"] != "done":
            return str(self.record.get("error") or "it failed without a message")
        return None if self.mean is not None else "its mean return is not a finite number"

    @property
    def score(self) -> float | None:
        """The normalised score: 0 for random tokens, 1 for the oracle."""
        if self.error is not None or self.mean is None:
            return None
        floor, ceiling = float(self.record["floor"]), float(self.record["ceiling"])
        return (self.mean - floor) / (ceiling - floor)

    @property
    def curve(self) -> Sequence[tuple[float, float]]:
        """Steps and mean return of training episodes; empty where nothing was trained."""
        points = [(float(x), float(y)) for x, y in self.record.get("curve") or ()]
        return [point for point in points if math.isfinite(point[1])]

    @property
    def courses(self) -> dict[str, list[tuple[int, float]]]:
        """Steps and value of each diagnostic value of the training, by its name in the log."""
        found = (self.record.get("diagnostics") or {}).get("courses") or {}
        return {
            str(name): [(int(x), float(y)) for x, y in points] for name, points in found.items()
        }

    @property
    def warnings(self) -> list[tuple[int, str]]:
        """Steps and sentence of each warning of the training."""
        found = (self.record.get("diagnostics") or {}).get("warnings") or ()
        return [(int(step), str(text)) for step, text in found]


def read_cells(runs: Path | str) -> tuple[list[Cell], list[str]]:
    """Read RUNS/cells.jsonl.

    Returns:
        The cells in the order of their keys, whatever the order in which they ended, and remarks
        on lines of the file that were not used.

    Raises:
        DataError: If the file does not exist or is empty, or a line is not a cell.
    """
    path = Path(runs) / "cells.jsonl"
    try:
        lines = path.read_text("utf-8").split("\n")
    except OSError as error:
        raise DataError(
            f"{runs}: not a folder of benchmark runs ({type(error).__name__}: {error}); give "
            "the folder that was --out of: python -m benchmarks run"
        ) from error
    cells: dict[tuple[str, ...], Cell] = {}
    remarks: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            cell = Cell(_checked(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):  # Every whole line ends in a line break.
                remarks.append(f"Line {number} of cells.jsonl was cut short and is left out.")
                continue
            raise DataError(
                f"{path}, line {number}: not a cell of version {VERSION} "
                f"({type(error).__name__}: {error}); remove the line, and run its cell again"
            ) from error
        key = (cell.suite, *map(str, cell.key))
        if key in cells:
            remarks.append(
                f"{cell.task}, {cell.agent}, seed {cell.seed} is there more than once: its last "
                "line counts."
            )
        cells[key] = cell
    if not cells:
        raise DataError(f"{path} holds no cell yet: wait for the first one to end, or run again")
    several = len({cell.suite for cell in cells.values()}) > 1
    return name_suites(list(cells.values()), several), remarks


def name_suites(cells: Sequence[Cell], names_suite: bool) -> list[Cell]:
    """The cells in the order of their keys, with or without the suite in the tasks' names."""
    named = [replace(cell, names_suite=names_suite) for cell in cells]
    return sorted(named, key=lambda cell: cell.key)


def distinct(cells: Sequence[Cell], what: Callable[[Cell], Any]) -> list[str]:
    """The different values of something, as JSON, in order."""
    return sorted({json.dumps(what(cell), sort_keys=True) for cell in cells})


def values(cells: Sequence[Cell], part: str) -> dict[str, list[str]]:
    """The different values, as JSON, of each key of the cells' settings or versions."""
    keys = sorted({key for cell in cells for key in cell.record.get(part) or {}})
    return {
        key: distinct(cells, lambda cell, key=key: (cell.record.get(part) or {}).get(key))  # type: ignore[misc]
        for key in keys
    }


def _checked(record: Any) -> Mapping[str, Any]:
    if record["version"] != VERSION:
        raise ValueError(f"its version is {record['version']!r}")
    if record["status"] not in ("done", "failed"):
        raise ValueError(f"its status is {record['status']!r}")
    str(record["suite"]), str(record["experiment"]), str(record["agent"]), int(record["seed"])
    if not float(record["floor"]) < float(record["ceiling"]):
        raise ValueError(f"its floor {record['floor']} is not below its ceiling")
    return record  # type: ignore[no-any-return]


def _finite(evaluation: Mapping[str, Any] | None) -> float | None:
    mean = (evaluation or {}).get("mean")
    return float(mean) if mean is not None and math.isfinite(mean) else None

"""Shared by the parts: settings, timing in turn, and results."""

from __future__ import annotations

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

import textgym

PartName = Literal["rollouts", "updates", "end_to_end", "roofline", "environments"]
PARTS: tuple[PartName, ...] = ("rollouts", "updates", "end_to_end", "roofline", "environments")


@dataclass
class Settings:
    """Settings of the measurement."""

    part: tuple[PartName, ...] = PARTS
    """What to measure."""
    full: bool = False
    """The whole grid of sizes and more repeats: some hours on a CPU."""
    smoke: bool = False
    """A check in seconds that everything runs: tiny sizes, no TRL. The figures are meaningless."""
    repeats: int | None = None
    """Measurements of each side, in turn; the median counts. Default: 3, with --full 5."""
    threads: int = 1
    """CPU threads of torch, on every side."""
    device: str = "cpu"
    """Device of every model: cpu, cuda, ..."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Dtype of the models' weights, on every side. The task of end_to_end is always float32."""
    seed: int = 0
    """Seed of weights, prompts and sampling."""
    trl_venv: Path = Path("runs/trl-venv")
    """Folder of the virtual environment of TRL; made there if need be."""
    profile: Literal["rollouts", "updates"] | None = None
    """Measure nothing: print where the time of this part goes (torch.profiler and cProfile)."""
    out: Path | None = None
    """Folder for speed.md, speed.json, speed.png and speed.svg. Default: benchmarks/results; with
    --smoke none."""

    def choose(self, smoke: Any, default: Any, full: Any) -> Any:
        """One of three values, by the size of the run."""
        return smoke if self.smoke else full if self.full else default

    @property
    def count(self) -> int:
        """Number of measurements of each side."""
        return self.repeats or int(self.choose(1, 3, 5))

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    @property
    def on_cpu(self) -> bool:
        """Whether CPU time measures the work."""
        return torch.device(self.device).type == "cpu"


class Run(NamedTuple):
    """One measurement: an amount of work (tokens), and the seconds that it took."""

    work: float
    wall: float
    cpu: float


@dataclass
class Comparison:
    """Several sides that do the same work.

    Attributes:
        case: The case that is measured.
        runs: Each side's measurements, in turn; the first side is textgym's.
        extra: Further columns of the table.
    """

    case: str
    runs: dict[str, list[Run]]
    extra: dict[str, str] = field(default_factory=dict)

    def rate(self, side: str) -> float:
        """Median work per second of wall time."""
        return statistics.median(run.work / run.wall for run in self.runs[side])

    def ratios(self, side: str, clock: Literal["wall", "cpu"] = "wall") -> list[float]:
        """Textgym's speed relative to another side, for each turn."""
        ours = next(iter(self.runs.values()))
        return [
            (mine.work / getattr(mine, clock)) / (other.work / getattr(other, clock))
            for mine, other in zip(ours, self.runs[side], strict=True)
        ]


@dataclass
class Table:
    """A table in addition to the comparisons."""

    caption: str
    head: list[str]
    rows: list[list[str]]


@dataclass
class Result:
    """The result of a part.

    Attributes:
        title: Its heading.
        unit: Unit of work per second.
        comparisons: Rows of its main table and of its plot.
        tables: Other tables.
        notes: Explanations of the figures.
    """

    title: str
    unit: str
    comparisons: list[Comparison]
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def timed(work: Callable[[], float], device: str = "cpu") -> Run:
    """Time some work, which returns its amount, until the device is done."""
    _synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    amount = work()
    _synchronize(device)
    return Run(amount, time.perf_counter() - wall, time.process_time() - cpu)


def interleaved(
    sides: Mapping[str, Callable[[], float]], repeats: int, device: str = "cpu"
) -> dict[str, list[Run]]:
    """Measure several sides in turn (A B A B), so that noise affects all of them.

    Each runs once before, untimed: memory is allocated and caches are warm.
    """
    for work in sides.values():
        work()
    runs: dict[str, list[Run]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, work in sides.items():
            gc.collect()
            runs[name].append(timed(work, device))
    return runs


def machine(settings: Settings) -> dict[str, Any]:
    """The machine and the versions of the measurement."""
    packages = ("gymnasium", "numpy", "stable-baselines3", "tokenizers", "torch", "transformers")
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "cpus": os.cpu_count(),
        "threads": settings.threads,
        "device": settings.device,
        "dtype": settings.dtype,
        "versions": {"textgym": textgym.__version__} | {name: version(name) for name in packages},
    }
    if not settings.on_cpu:
        facts["gpu"] = torch.cuda.get_device_name(settings.device)
    return facts


def _synchronize(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)

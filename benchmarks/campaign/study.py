"""A study: jobs that are measured one by one, and the pages that are made of their records.

A job is a cell of :mod:`benchmarks.suites.store`: it has a key, and its record is a line of the
file ``RUNS/MODEL/STUDY/cells.jsonl``, MODEL being the first digits of the model's hash. A job is
done in a process of its own (:mod:`benchmarks.campaign.job_process`), by the study's `measure`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.campaign.provenance import ROOT, mark, model_hash
from benchmarks.report.markdown import fill
from benchmarks.suites.definitions import Experiment
from benchmarks.suites.hashes import task_hash
from benchmarks.suites.runner import Plan
from benchmarks.suites.store import Record
from textgym.errors import SettingsError
from textgym.storage.files import write_bytes, write_text
from textgym.tasks import make_task

Measure = Callable[[Mapping[str, Any], Path], dict[str, Any]]
"""From the specification of a job, and a folder for its files, to its result."""


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        smoke: Everything in its smallest size, to see that it runs; the figures are meaningless.
        runs: The folder of the study's results.
    """

    smoke: bool = False
    runs: Path = ROOT / "benchmarks" / "results" / "records"

    def choose(self, smoke: Any, full: Any) -> Any:
        """One of two values."""
        return smoke if self.smoke else full


@dataclass(frozen=True)
class Findings:
    """The records of a study that are there, for the writer of its pages.

    Attributes:
        study: The name of the study.
        plans: All jobs.
        records: The records of those that are done, in the order of the jobs.
        out: The folder of the pages: the checkout, or a copy of its pages.
    """

    study: str
    plans: Sequence[Plan]
    records: Sequence[Record]
    out: Path = ROOT

    @property
    def missing(self) -> int:
        """Number of jobs that are not done."""
        return len(self.plans) - len(self.records)

    @property
    def note(self) -> str:
        """The mark of the model, and a sentence about the jobs that are missing."""
        command = f"`python -m benchmarks results --only {self.study}`"
        if not self.records:
            return f"{mark()}\nNot measured with the present `textgym/tiny` yet: {command}."
        if self.missing:
            done = f"{len(self.records)} of {len(self.plans)} runs"
            return f"{mark()}\n**Incomplete: {done} are there; {command} does the others.**"
        return mark()

    def of(self, experiment: str | None = None, agent: str | None = None) -> list[Record]:
        """The records of an experiment, of an agent, or of both."""
        return [
            record
            for record in self.records
            if experiment in (None, record["experiment"]) and agent in (None, record["agent"])
        ]

    def write(self, path: str, text: str) -> None:
        """Write a page, with the mark and the note on its first lines after the title.

        Args:
            path: The path from the root of the checkout.
            text: The page, whose first line is its title.
        """
        title, _, rest = text.partition("\n")
        (self.out / path).parent.mkdir(parents=True, exist_ok=True)
        write_text(self.out / path, f"{title}\n\n{self.note}\n{rest}")

    def fill(self, path: str, name: str, text: str) -> None:
        """Fill in a part of a page, between its marks, with the note."""
        file = self.out / path
        write_text(file, fill(file.read_text("utf-8"), name, f"{self.note}\n\n{text}".rstrip()))

    def picture(self, path: str, data: bytes | None) -> None:
        """Write a picture; without data, remove the one of an earlier model."""
        file = self.out / path
        if data is None:
            file.unlink(missing_ok=True)
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, data)


@dataclass(frozen=True)
class Study:
    """A question, its jobs, and its pages.

    Attributes:
        name: The name for ``--only``, and of its folder.
        title: The measurement in a line.
        plans: Lists the jobs, the most important first.
        write: Writes the pages, also if no job is done.
        seconds: Estimate of a job's CPU seconds, for jobs of which no like is done.
        measure: Does a job; None for the cells of a suite.
        pages: The files with figures that it writes, from the root of the checkout.
    """

    name: str
    title: str
    plans: Callable[[Scale], list[Plan]]
    write: Callable[[Findings], None]
    seconds: Callable[[Plan], float]
    measure: Measure | None
    pages: tuple[str, ...]


def job(
    study: str,
    experiment: str,
    agent: str,
    seed: int,
    spec: Mapping[str, Any],
    task: tuple[str, int | None] | None = None,
) -> Plan:
    """A job of a study.

    Args:
        study: The name of the study.
        experiment: With the agent and the seed, its key.
        agent: The agent, or whatever else is compared.
        seed: The seed.
        spec: What `Study.measure` gets; a record with another specification does not count.
        task: Id and level of its task; a record of another version of the task does not count.
    """
    spec = dict(spec)
    record = {
        "suite": study,
        "experiment": experiment,
        "agent": agent,
        "seed": seed,
        "kwargs": spec,
        "lm_hash": model_hash(),
        "task_hash": None if task is None else _task_hash(*task),
        "status": "failed",
        "error": None,
    }
    return Plan({"study": study, "spec": spec}, record)


_TASK_HASHES: dict[tuple[str, int | None], str] = {}


def _task_hash(id: str, level: int | None) -> str:
    if (id, level) not in _TASK_HASHES:
        experiment = Experiment(id, {"level": make_task(id, level).level})
        _TASK_HASHES[id, level] = task_hash(experiment)
    return _TASK_HASHES[id, level]


def as_text(data: bytes) -> str:
    """Bytes, such as a picture, as a value of a record."""
    return base64.b64encode(data).decode()


def as_bytes(text: str) -> bytes:
    """The inverse of `as_text`."""
    return base64.b64decode(text)


def only_result(findings: Findings) -> dict[str, Any] | None:
    """The result of a study of a single job; None if it is not done.

    Raises:
        SettingsError: If the study has several.
    """
    if len(findings.plans) != 1:
        raise SettingsError(f"the study {findings.study!r} has {len(findings.plans)} jobs, not one")
    result: dict[str, Any] | None = findings.records[0]["result"] if findings.records else None
    return result

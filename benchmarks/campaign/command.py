"""``python -m benchmarks results``: measure what is missing, and write all pages.

    python -m benchmarks results                    # everything; also: make results
    python -m benchmarks results --list             # what is done, what is missing, CPU hours
    python -m benchmarks results --only improvement --only trl
    python -m benchmarks results --pages            # write the pages of what is there, at once

The command may be killed at any moment and started again; trainings of some minutes continue from
their checkpoints. Several processes share the work. The results are in
``benchmarks/results/records/MODEL``, MODEL being the first digits of the hash of textgym/tiny's
weights: with other weights everything is missing again, and the pages omit the figures of before.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from filelock import FileLock
from rich.console import Console
from rich.table import Table

from benchmarks.campaign.job_process import JOB
from benchmarks.campaign.provenance import ROOT, model_hash
from benchmarks.campaign.registry import studies
from benchmarks.campaign.study import Findings, Scale, Study
from benchmarks.suites.engines import CELL, LocalEngine
from benchmarks.suites.runner import Plan, differences, work
from benchmarks.suites.store import Key, Record, Store
from textgym.errors import SettingsError


@dataclass
class Options:
    """What to measure."""

    only: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Only this study; may be repeated."""
    list: bool = False
    """Measure and write nothing: list what is done, what is missing, and the CPU hours."""
    pages: bool = False
    """Measure nothing: write the pages of what is there."""
    workers: int | None = None
    """Jobs at the same time, each in a process with one thread. Default: the cores."""
    redo: bool = False
    """Forget results that were made with other settings, or of another version of a task or agent,
    and measure them again."""
    smoke: bool = False
    """Everything in its smallest size, to see that it runs; needs --out, as the figures are
    meaningless."""
    runs: Path = ROOT / "benchmarks" / "results" / "records"
    """Folder of the results."""
    out: Path = ROOT
    """Folder of the pages: the checkout, or a copy of README.md, docs/ and benchmarks/results/."""


@dataclass
class State:
    """A study, its jobs, and the records that are there.

    Attributes:
        study: The study.
        plans: Its jobs.
        folder: The folder of its records.
        records: The records of its jobs, by key, failed ones included.
        others: Records of these jobs that were made differently, which do not count.
    """

    study: Study
    plans: list[Plan]
    folder: Path
    records: dict[Key, Record]
    others: dict[Key, list[str]]

    @property
    def done(self) -> list[Record]:
        """The records of jobs that are done, in the order of the jobs."""
        found = (self.records.get(plan.key) for plan in self.plans)
        return [one for one in found if one is not None and one["status"] == "done"]

    @property
    def failed(self) -> list[Record]:
        """The records of jobs that have failed."""
        return [one for one in self.records.values() if one["status"] == "failed"]

    def seconds_left(self) -> float:
        """Estimate of the CPU seconds of the jobs that are not done.

        A job costs as much as those of the same experiment and agent that are done, in the median,
        else as those of the same agent.
        """
        same: dict[tuple[str, ...], list[float]] = {}
        for record in self.done:
            for like in ((record["experiment"], record["agent"]), (record["agent"],)):
                same.setdefault(like, []).append(float(record["cpu_seconds"]))
        done = {(one["experiment"], one["agent"], one["seed"]) for one in self.done}
        total = 0.0
        for plan in self.plans:
            key = plan.key
            if (key.experiment, key.agent, key.seed) in done:
                continue
            known = same.get((key.experiment, key.agent)) or same.get((key.agent,))
            total += statistics.median(known) if known else self.study.seconds(plan)
        return total

    def findings(self, out: Path) -> Findings:
        """The input of the pages."""
        return Findings(self.study.name, self.plans, self.done, out)


def state_of(study: Study, options: Options) -> State:
    """The jobs of a study, and what is there of them; nothing is changed."""
    folder = options.runs / model_hash()[:12] / study.name
    if options.smoke:
        folder = folder.with_name(f"{study.name}-smoke")
    plans = [
        plan if study.measure is None else plan._replace(cell=plan.cell | {"scratch": str(folder)})
        for plan in study.plans(Scale(options.smoke, folder))
    ]
    there: Mapping[Key, Record] = {}
    if folder.is_dir():
        with Store(folder) as store:
            there = store.records()
    found = {plan.key: there[plan.key] for plan in plans if plan.key in there}
    wanted = {plan.key: plan.record for plan in plans}
    others = {
        key: differences(record, wanted[key])
        for key, record in found.items()
        # What failed is tried again as it is wanted now.
        if record["status"] == "done" and differences(record, wanted[key])
    }
    kept = {key: record for key, record in found.items() if key not in others}
    return State(study, plans, folder, kept, others)


def run(options: Options, console: Console | None = None) -> int:
    """Measure what is missing, and write the pages.

    Returns:
        The exit code: 0 if everything is done, 1 if jobs failed or are left to another process, 130
        after Ctrl-C.

    Raises:
        SettingsError: If there is no such study, or an option is impossible.
    """
    console = console or Console()
    chosen = studies(options.only)
    if options.workers is not None and options.workers < 1:
        raise SettingsError(f"--workers {options.workers}: it has to be at least 1")
    if options.smoke and options.out == ROOT:
        raise SettingsError("--smoke: the figures are meaningless; give --out, a copy of the pages")
    if options.list:
        console.print(table(state_of(study, options) for study in chosen))
        return 0
    code = 0
    if not options.pages:
        try:
            # First whatever nobody works on; then the jobs of processes that were killed meanwhile.
            for patient in (False, True):
                for study in chosen:
                    _measure(state_of(study, options), options, console, patient)
        except KeyboardInterrupt:
            console.print("Interrupted; the same command does the rest.")
            code = 130
    states = [state_of(study, options) for study in chosen]
    write_pages(states, options, console)
    if options.pages:
        return 0
    console.print(table(states))
    for state in states:
        for record in state.failed:
            last = str(record["error"]).strip().rpartition("\n")[2]
            console.print(f"FAILED: {_line(record)}: {last}", soft_wrap=True, markup=False)
    return code or int(any(len(state.done) < len(state.plans) for state in states))


def write_pages(states: Iterable[State], options: Options, console: Console) -> None:
    """Write the pages of some studies; one process at a time."""
    options.runs.mkdir(parents=True, exist_ok=True)
    with FileLock(options.runs / "pages.lock"):
        for state in states:
            state.study.write(state.findings(options.out))
            names = ", ".join(state.study.pages)
            console.print(f"{state.study.name}: wrote {names}", soft_wrap=True, highlight=False)


def table(states: Iterable[State]) -> Table:
    """The jobs that are done and missing, and their CPU hours."""
    found = Table("study", "what", "done", "failed", "missing", "CPU h spent", "CPU h left")
    found.columns[0].no_wrap = True
    spent = left = 0.0
    for state in states:
        hours = sum(float(record["cpu_seconds"]) for record in state.done) / 3600
        rest = state.seconds_left() / 3600
        spent, left = spent + hours, left + rest
        missing = len(state.plans) - len(state.done)
        counts = (len(state.done), len(state.failed), missing)
        cells = [*map(str, counts), f"{hours:.1f}", f"{rest:.1f}"]
        found.add_row(state.study.name, state.study.title, *cells)
    found.add_row("", "", "", "", "", f"{spent:.1f}", f"{left:.1f}")
    return found


def _measure(state: State, options: Options, console: Console, patient: bool) -> None:
    """Do the jobs of a study that are missing."""
    plans: Sequence[Plan] = state.plans
    if state.others and not options.redo:
        key, what = next(iter(state.others.items()))
        plans = [plan for plan in plans if plan.key not in state.others]
        if patient:
            console.print(
                f"{state.study.name}: {len(state.others)} results were made differently, are not "
                f"shown, and are measured again with --redo. {key}: {'; '.join(what)}",
                soft_wrap=True,
                markup=False,
            )
    if all(plan.key in state.records for plan in plans) and not state.failed:
        return
    command = CELL if state.study.measure is None else JOB
    with Store(state.folder) as store:
        if options.redo:
            store.drop(state.others)

        def over(record: Record) -> None:
            seconds = f"{record.get('cpu_seconds', 0):.0f} CPU s"
            how = seconds if record["status"] == "done" else "FAILED"
            console.print(f"{_line(record)}: {how}", soft_wrap=True, markup=False, highlight=False)

        engine = LocalEngine(options.workers or os.cpu_count() or 1, command)
        # What failed is tried again once in a command: another program may have been missing.
        work(plans, store, engine, retry_failed=not patient, over=over, patient=patient)


def _line(record: Record) -> str:
    return f"{record['suite']}: {record['experiment']}, {record['agent']}, seed {record['seed']}"


def main(words: Sequence[str] | None = None) -> int:
    """The command line of studies that are measured by this command alone."""
    return run(tyro.cli(Options, args=words, prog="python -m benchmarks results"))

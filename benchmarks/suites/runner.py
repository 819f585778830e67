"""Runs suites: agents x experiments x seeds, on several workers, resumable at any moment.

    python -m benchmarks run --suite quick --agent ppo --agent my_agent.py --seeds 5 --out RUNS

Every finished cell is a line of ``RUNS/cells.jsonl`` (:mod:`benchmarks.suites.store`). The same
command resumes where the last one ended, however it ended; two on one folder share the work.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import tyro
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from benchmarks.suites.definitions import make_suite
from benchmarks.suites.engines import Engine, LocalEngine, RayEngine
from benchmarks.suites.store import Key, Record, Store, key_of
from textgym.errors import SettingsError, near_matches

COMPARED = (
    "kwargs",
    "timesteps",
    "floor",
    "ceiling",
    "task_hash",
    "lm_hash",
    "agent_hash",
    "settings",
)
"""Parts of the record that are equal in comparable results of a cell."""

_POLL = 0.5
"""Seconds between checks of a cell that another runner works on."""


@dataclass
class Options:
    """What to run."""

    suite: str = "quick"
    """smoke, quick, quick-long, core or probes."""
    agent: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A name in agents/, or a .py file that defines make_agent(venv, seed); may be repeated. Flags
    for its settings may follow in the same word: 'lm --sampling greedy'."""
    seeds: int = 5
    """Number of seeds: 0, 1, ..."""
    workers: int | None = None
    """Cells that run in parallel, each in a process with one thread. Default: the cores."""
    out: Path = Path("runs/suites")
    """Folder of the results; run again, the command does the missing cells."""
    retry_failed: bool = False
    """Run failed cells again."""
    redo: bool = False
    """Run the cells again whose results are of another version of task, agent or settings."""
    engine: Literal["local", "ray"] = "local"
    """Processes of this machine, or Ray (the extra ray)."""
    device: str = "cpu"
    """Device of the language models: cpu, cuda, ..."""
    tuned: bool = True
    """Use the settings that were tuned for an agent and environment (agents/settings)."""
    only: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Only this experiment of the suite, by the id of its environment; may be repeated."""


class Plan(NamedTuple):
    """A cell that is to be run.

    Attributes:
        cell: The cell, as `benchmarks.suites.cell.Cell.from_json` reads it.
        record: Its record before it is run.
    """

    cell: dict[str, Any]
    record: Record

    @property
    def key(self) -> Key:
        """Its key."""
        return key_of(self.record)


def make_plans(options: Options) -> list[Plan]:
    """The cells of a suite, those of the first seed first.

    Raises:
        SettingsError: If there is no such suite or agent, or a number is out of range.
    """
    for flag, number in (("seeds", options.seeds), ("workers", options.workers)):
        if number is not None and number < 1:
            raise SettingsError(f"--{flag} {number}: it has to be at least 1")
    if not options.agent:
        raise SettingsError("name at least one agent: --agent ppo, or --agent my_agent.py")
    suite = make_suite(options.suite)
    ids = [experiment.id for experiment in suite.experiments]
    for id in options.only:
        if id not in ids:
            raise SettingsError(
                f"--only {id}: the suite {options.suite} has no such environment"
                f"{near_matches(id, ids)}; it has: {', '.join(dict.fromkeys(ids))}"
            )
    experiments = [one for one in suite.experiments if not options.only or one.id in options.only]
    # Imports torch, and so comes late: a mistyped flag gets a quick answer.
    from benchmarks.suites.candidates import label, resolved
    from benchmarks.suites.cell import Cell, describe

    labels = [label(spec) for spec in options.agent]
    for name in labels:
        if labels.count(name) > 1:
            raise SettingsError(f"--agent: two agents are named {name!r}; rename one of the files")
    specs = list(map(resolved, options.agent))
    plans = []
    for seed, experiment, spec in product(range(options.seeds), experiments, specs):
        cell = Cell(
            suite=suite.name,
            experiment=experiment,
            agent=spec,
            seed=seed,
            eval_episodes=suite.eval_episodes,
            n_envs=suite.n_envs,
            device=options.device,
            out=str(options.out.resolve()),
            tuned=options.tuned,
        )
        plans.append(Plan(cell.to_json(), describe(cell)))
    return plans


def differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The differences between two records of one cell, in words."""
    found = []
    for name in COMPARED:
        old, new = there.get(name), now.get(name)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            names = sorted(key for key in old | new if old.get(key) != new.get(key))
            found += [f"{name}.{key} {old.get(key)} (now {new.get(key)})" for key in names]
        else:
            found.append(f"{name} {old} (now {new})")
    return found


def mixtures(plans: Iterable[Plan], records: Mapping[Key, Record]) -> list[Key]:
    """The cells whose results were made differently than planned.

    Returns:
        The keys of those that are done: a failed cell has no result that could be mixed.
    """
    return [
        plan.key
        for plan in plans
        if (there := records.get(plan.key)) is not None
        and there["status"] == "done"
        and differences(there, plan.record)
    ]


def work(
    plans: Sequence[Plan],
    store: Store,
    engine: Engine,
    retry_failed: bool = False,
    over: Callable[[Record], None] = lambda _: None,
    patient: bool = True,
) -> None:
    """Run the missing cells, and store each when it is finished.

    Args:
        plans: The cells.
        store: Their results.
        engine: Runs them; it is stopped at the end.
        retry_failed: Whether cells that have failed count as missing.
        over: Called with each finished cell, also when another runner ran it.
        patient: Whether to wait for the cells that other runners are working on.
    """
    began = store.records()
    failed = {key: record for key, record in began.items() if record["status"] == "failed"}
    again = failed if retry_failed else {}
    waiting = deque(plan for plan in plans if plan.key not in began or plan.key in again)
    running: dict[Future[Record], Plan] = {}
    try:
        while waiting or running:
            for _ in range(len(waiting)):
                if len(running) >= engine.workers:
                    break
                plan = waiting.popleft()
                if not store.claim(plan.key):
                    waiting.append(plan)
                    continue
                # Another runner may have done it since the start.
                there = store.records().get(plan.key)
                if there is not None and there != again.get(plan.key):
                    store.release(plan.key)
                    over(there)
                    continue
                running[engine.submit({"cell": plan.cell, "record": plan.record})] = plan
            if not running:
                if not patient:
                    break  # All that is left is claimed by others.
                time.sleep(_POLL)
            for future in wait(running, _POLL, FIRST_COMPLETED).done:
                record = _checked(running[future], future.result())
                store.put(record)
                store.release(running.pop(future).key)
                over(record)
    except KeyboardInterrupt:
        for future, plan in running.items():
            if future.done():
                store.put(_checked(plan, future.result()))
        raise
    finally:
        engine.stop()


def _checked(plan: Plan, record: Record) -> Record:
    """A record, marked as failed if it was made differently than planned."""
    changed = differences(record, plan.record)
    if not changed:
        return record
    error = (
        f"the code changed during the run: {'; '.join(changed)}; run the command again "
        "with --retry-failed"
    )
    return {**plan.record, "status": "failed", "error": error}


def run(options: Options, console: Console | None = None) -> int:
    """Run a suite.

    Args:
        options: What to run.
        console: Receives the progress.

    Returns:
        The exit code: 0 if every cell is done, 1 if some failed, 130 after Ctrl-C.

    Raises:
        SettingsError: If the options are impossible, or the folder's results were made differently.
    """
    console = console or Console()
    plans = make_plans(options)
    with Store(options.out) as store:
        mixed = mixtures(plans, store.records())
        if mixed and not options.redo:
            planned = {plan.key: plan.record for plan in plans}
            what = "; ".join(differences(store.records()[mixed[0]], planned[mixed[0]]))
            raise SettingsError(
                f"{store.file}: {len(mixed)} of its results were made differently, and must not be "
                f"mixed with new ones. {mixed[0]}: {what}. Give another --out, or --redo to forget "
                "these results and run their cells again"
            )
        store.drop(mixed)
        workers = options.workers or os.cpu_count() or 1
        engine = (RayEngine if options.engine == "ray" else LocalEngine)(workers)
        try:
            with _bar(console) as bar:
                already = store.records()
                left = sum(
                    plan.key not in already
                    or (options.retry_failed and already[plan.key]["status"] == "failed")
                    for plan in plans
                )
                task = bar.add_task(options.suite, total=len(plans), completed=len(plans) - left)

                def over(record: Record) -> None:
                    bar.console.print(
                        result_line(record), soft_wrap=True, markup=False, highlight=False
                    )
                    bar.advance(task)

                work(plans, store, engine, options.retry_failed, over)
        except KeyboardInterrupt:
            records = store.records()
            count = sum(plan.key in records for plan in plans)
            console.print(
                f"Interrupted: {count} of {len(plans)} cells are in {store.file}; the same command "
                "runs the others.",
                soft_wrap=True,
            )
            return 130
        records = store.records()
    failed = [plan.key for plan in plans if records[plan.key]["status"] == "failed"]
    console.print(
        f"{len(plans) - len(failed)} of {len(plans)} cells are done: {store.file}", soft_wrap=True
    )
    for key in failed:
        console.print(result_line(records[key]), soft_wrap=True, markup=False, highlight=False)
    if failed:
        console.print("The errors are in the file; --retry-failed runs these cells again.")
    console.print(f"report: python -m benchmarks report {options.out}", soft_wrap=True)
    return 1 if failed else 0


def result_line(record: Record) -> str:
    """A cell in a line."""
    if record["status"] == "failed":
        last = str(record["error"]).strip().rpartition("\n")[2]
        return f"{key_of(record)}: FAILED: {last}"
    before, after = record["before"]["mean"], record["after"]["mean"]
    return f"{key_of(record)}: {before:.3f} -> {after:.3f} in {record['wall_seconds']:.0f} s"


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("cells"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )

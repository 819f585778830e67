"""Engines that run cells: in processes of this machine, or on workers of Ray.

Either way a cell is a fresh process with one thread and the same environment variables, so its
result depends on neither the engine nor the number of workers.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from benchmarks.suites.cell_process import error_of
from benchmarks.suites.store import Record
from textgym.errors import require

ROOT = Path(__file__).parents[2]
"""The checkout, from which a cell's process imports agents and benchmarks."""

CELL = (sys.executable, "-m", "benchmarks.suites.cell_process")
"""The command that does a job: JSON on its standard input, the record on its standard output."""


class Engine(Protocol):
    """Runs jobs.

    Attributes:
        workers: Number of parallel jobs.
    """

    workers: int

    def submit(self, job: dict[str, Any]) -> Future[Record]:
        """Start a job: a dictionary with the cell and its initial ``record``."""

    def stop(self) -> None:
        """End everything at once."""


class LocalEngine:
    """Processes of this machine.

    Args:
        workers: Number of processes.
        command: Does a job.
    """

    def __init__(self, workers: int, command: Sequence[str] = CELL) -> None:
        self.workers = workers
        self._command = command
        self._threads = ThreadPoolExecutor(workers)
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._futures: set[Future[Record]] = set()

    def submit(self, job: dict[str, Any]) -> Future[Record]:
        """Start a job."""
        future = self._threads.submit(attempt, self._command, job, self._processes)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return future

    def stop(self) -> None:
        """Kill the processes."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        # A thread may be about to start one.
        while self._futures:
            for process in list(self._processes):
                kill(process)
            wait(list(self._futures), 0.1)


class RayEngine:
    """Ray's workers, in a new cluster on this machine.

    Args:
        workers: Number of workers.
        command: Does a job.

    Raises:
        MissingDependencyError: If Ray is not installed.
    """

    def __init__(self, workers: int, command: Sequence[str] = CELL) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self.workers = workers
        self._command = command
        self._ray = require("ray", "ray")
        self._ray.init(
            address="local",
            num_cpus=workers,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="warning",
            runtime_env={"env_vars": {"PYTHONPATH": _python_path()}},
        )
        self._attempt = self._ray.remote(num_cpus=1, max_retries=0)(attempt)

    def submit(self, job: dict[str, Any]) -> Future[Record]:
        """Start a job."""
        future: Future[Record] = self._attempt.remote(self._command, job).future()
        return future

    def stop(self) -> None:
        """End the cluster, and with it the processes: their standard input ends."""
        self._ray.shutdown()


def attempt(
    command: Sequence[str],
    job: dict[str, Any],
    processes: set[subprocess.Popen[bytes]] | None = None,
) -> Record:
    """Do a job in a new process.

    Args:
        command: The process.
        job: The job.
        processes: Contains the process while it runs.

    Returns:
        The record that the process wrote, or one with its exit status.
    """
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=_environment(),
            # Only the runner handles Ctrl-C.
            start_new_session=True,
        )
        processes = set() if processes is None else processes
        processes.add(process)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(json.dumps(job).encode() + b"\n")
                process.stdin.flush()
            line = process.stdout.readline()
            if line.endswith(b"\n"):
                record: Record = json.loads(line)
                return record
            ended = process.wait()  # Its output is closed, so it is ending.
            errors.seek(0)
            words = error_of(errors.read().decode("utf-8", "replace"))
            how = f"signal {signal.Signals(-ended).name}" if ended < 0 else f"exit code {ended}"
            error = f"{words}\nThe cell's process ended with {how}.".strip()
            return {**job["record"], "status": "failed", "error": error}
        finally:
            kill(process)
            process.wait()
            processes.discard(process)
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.stdout.close()


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process that may have ended, and those that it started."""
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": _python_path(),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # The order of a set of strings would differ between processes.
        "PYTHONHASHSEED": "0",
    }


def _python_path() -> str:
    others = os.environ.get("PYTHONPATH")
    return str(ROOT) if not others else f"{ROOT}{os.pathsep}{others}"

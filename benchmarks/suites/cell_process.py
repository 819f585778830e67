"""The process of one cell: cells cannot affect each other's results.

    python -m benchmarks.cell_process < JOB

The job is a line of JSON on the standard input, which stays open: when it closes, the runner has
ended, and the process ends too. The record is a line of JSON on the standard output.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

_ERROR_CHARACTERS = 2000


def error_of(text: str) -> str:
    """The end of a traceback, or of a process's output."""
    text = text.strip()
    return text if len(text) <= _ERROR_CHARACTERS else f"...{text[-_ERROR_CHARACTERS:]}"


def _leave_with_the_runner() -> None:
    """End the process when the standard input closes; called in a thread."""
    while os.read(0, 1 << 16):
        pass
    os._exit(1)


def serve(work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Do the job on the standard input, and write its record on the standard output.

    Args:
        work: From a job to its record. If it raises, the record is the job's, with the error.
    """
    # The agent's output must not get into the record.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    line = b""
    while not line.endswith(b"\n"):
        # Unbuffered, since the thread reads on; nothing comes after the line.
        piece = os.read(0, 1 << 16)
        if not piece:
            sys.exit("the job on the standard input is not a whole line")
        line += piece
    threading.Thread(target=_leave_with_the_runner, daemon=True).start()
    job = json.loads(line)
    try:
        text = json.dumps(work(job), allow_nan=False)
    except Exception:
        failed = {**job["record"], "status": "failed", "error": error_of(traceback.format_exc())}
        text = json.dumps(failed, allow_nan=False)
    out.write(text + "\n")
    out.flush()


def run(job: dict[str, Any]) -> dict[str, Any]:
    """The record of a cell."""
    # Imports torch, which takes seconds: the runner may end meanwhile.
    from benchmarks.suites.cell import Cell, run_cell

    return run_cell(Cell.from_json(job["cell"]))


if __name__ == "__main__":
    serve(run)

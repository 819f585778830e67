"""The process of one cell, so that nothing that one cell does can change another's result.

    python -m benchmarks.cell_process < JOB

The job is a line of JSON on the standard input, which stays open: when it ends, the runner is gone,
and the process goes too. The record is a line of JSON on the standard output.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback

_ERROR_CHARACTERS = 2000


def error_of(text: str) -> str:
    """The end of a traceback, or of what a process had to say."""
    text = text.strip()
    return text if len(text) <= _ERROR_CHARACTERS else f"...{text[-_ERROR_CHARACTERS:]}"


def _leave_with_the_runner() -> None:
    """End the process when the standard input does; called in a thread."""
    while os.read(0, 1 << 16):
        pass
    os._exit(1)


def main() -> None:
    """Do the job on the standard input."""
    # What the agent prints must not get into the record.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    line = b""
    while not line.endswith(b"\n"):
        # Unbuffered, since the thread reads on; nothing comes after the line.
        piece = os.read(0, 1 << 16)
        if not piece:
            sys.exit(
                "benchmarks.suites.cell_process: the job on the standard input is not a whole line"
            )
        line += piece
    threading.Thread(target=_leave_with_the_runner, daemon=True).start()
    job = json.loads(line)
    try:
        # Imports torch, which takes seconds: the runner may go meanwhile.
        from benchmarks.suites.cell import Cell, run_cell

        text = json.dumps(run_cell(Cell.from_json(job["cell"])), allow_nan=False)
    except Exception:
        failed = {**job["record"], "status": "failed", "error": error_of(traceback.format_exc())}
        text = json.dumps(failed, allow_nan=False)
    out.write(text + "\n")
    out.flush()


if __name__ == "__main__":
    main()

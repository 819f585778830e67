"""The process of one job: jobs cannot affect each other's results, nor their CPU times.

``python -m benchmarks.campaign.job_process`` reads a job as a line of JSON, and writes its record
as one (:mod:`benchmarks.suites.cell_process`).
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.suites.cell_process import serve

JOB = (sys.executable, "-m", "benchmarks.campaign.job_process")
"""The command of the process."""


def measured(work: dict[str, Any]) -> dict[str, Any]:
    """Do a job, and return its record."""
    import numpy as np
    import torch

    from benchmarks.campaign.provenance import model_hash, provenance
    from benchmarks.campaign.registry import study

    began = time.perf_counter()
    cell, record = work["cell"], work["record"]
    torch.set_num_threads(1)
    random.seed(record["seed"])
    np.random.seed(record["seed"])
    torch.manual_seed(record["seed"])
    measure = study(cell["study"]).measure
    assert measure is not None, "the cells of a suite have their own process"
    scratch = scratch_folder(Path(cell["scratch"]), record)
    scratch.mkdir(parents=True, exist_ok=True)
    result = measure(cell["spec"], scratch)
    shutil.rmtree(scratch, ignore_errors=True)
    return {
        **record,
        "status": "done",
        "provenance": provenance(),
        # Another one if the model was replaced meanwhile: the record is refused then.
        "lm_hash": model_hash(),
        "result": result,
        "wall_seconds": round(time.perf_counter() - began, 1),
        # Of the process and its children. A run that was continued has its own count.
        "cpu_seconds": round(sum(os.times()[:4]), 1),
    }


def scratch_folder(parent: Path, record: dict[str, Any]) -> Path:
    """The folder of a job's files, the same when the job is started again."""
    parts = [record[name] for name in ("suite", "experiment", "agent", "seed", "kwargs")]
    digest = hashlib.sha256(json.dumps([*parts, record["task_hash"]]).encode()).hexdigest()
    return parent / digest[:16]


if __name__ == "__main__":
    serve(measured)

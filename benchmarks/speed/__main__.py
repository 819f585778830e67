"""The speed of textgym and its alternatives: all sides in one run, in turn, with medians.

Tables go to the terminal and, with figures, machine, versions and a plot, to benchmarks/results
(or --out). Parts: rollouts (against transformers' generate and a policy that reads the whole text
for every token), updates (against SB3's own buffer), end_to_end (against TRL, which is installed
into a separate environment), roofline (against the limits of the machine) and environments
(against Gymnasium's SyncVectorEnv).
"""

from __future__ import annotations

import importlib
import time
import warnings
from pathlib import Path

import torch
import tyro

from benchmarks.speed import profiling, report
from benchmarks.speed.harness import Settings

RESULTS = Path(__file__).parents[1] / "results"


def main(settings: Settings) -> report.Record:
    """Measure the chosen parts; print and write the results."""
    torch.set_num_threads(settings.threads)
    # SB3 warns that a minibatch does not divide the rollout, and that tokens are not images.
    warnings.filterwarnings("ignore", category=UserWarning, module="stable_baselines3")
    if settings.profile is not None:
        profiling.show(settings)
        return {}
    out = settings.out
    if out is None and not settings.smoke:
        out = RESULTS
    record: report.Record = {}
    for name in settings.part:
        print(f"measuring {name} ...", flush=True)
        begin = time.perf_counter()
        result = importlib.import_module(f"benchmarks.speed.{name}").measure(settings)
        seconds = time.perf_counter() - begin
        record[name] = report.record_of(result, settings, seconds)
        # After every part, so that an interrupted run leaves what it has.
        if out is not None:
            report.write(out, record)
        print(report.markdown({name: record[name]}).removeprefix("# Speed\n\n"), flush=True)
        print(f"({seconds:.0f} s)\n", flush=True)
    if out is not None:
        print(f"written to {out}/speed.md, speed.json, speed.png and speed.svg")
    return record


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__, prog="python -m benchmarks.speed"))

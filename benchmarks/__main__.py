"""Benchmark suites: measure agents, report what was measured, compare two measurements.

python -m benchmarks run --suite quick --agent ppo --agent my_agent.py --seeds 5 --out RUNS
python -m benchmarks report RUNS --out DIR
python -m benchmarks compare RUNS_A RUNS_B
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated

import tyro

from benchmarks.suites.runner import Options, run
from textgym.errors import TextGymError


@dataclass
class Report:
    """Write a page about the results in a folder."""

    runs: tyro.conf.Positional[Path]
    """Folder of the results."""
    out: Path = Path("runs/report")
    """Folder of the page."""


@dataclass
class Compare:
    """Say in what two folders' results differ, and whether it could be chance."""

    a: tyro.conf.Positional[Path]
    """Folder of the one."""
    b: tyro.conf.Positional[Path]
    """Folder of the other."""


Command = (
    Annotated[Options, tyro.conf.subcommand("run", description="Run a suite, or go on with it.")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
)


def main(args: Sequence[str] | None = None) -> int:
    """Read the command line and do it; what textgym refuses is told without a traceback."""
    command: Options | Report | Compare = tyro.cli(
        Command,
        args=args,
        description=__doc__,
        prog="python -m benchmarks",
        # The subcommand's own flags are told after it, without a prefix.
        config=(tyro.conf.OmitArgPrefixes,),
    )
    try:
        # A report needs nothing of what runs, nor the other way round.
        if isinstance(command, Report):
            print(import_module("benchmarks.report.page").report(command.runs, command.out))
        elif isinstance(command, Compare):
            print(import_module("benchmarks.report.compare").compare(command.a, command.b))
        else:
            return run(command)
    except TextGymError as error:
        print(f"python -m benchmarks: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Benchmark suites: measure agents, report the results, compare two sets of results.

python -m benchmarks run --suite quick --agent ppo --agent my_agent.py --seeds 5 --out RUNS
python -m benchmarks report RUNS --out DIR
python -m benchmarks compare RUNS_A RUNS_B
python -m benchmarks results --list
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated

import tyro

from benchmarks.campaign import command as results
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
    """Compare the results of two folders, with intervals."""

    a: tyro.conf.Positional[Path]
    """The older folder."""
    b: tyro.conf.Positional[Path]
    """The newer folder."""


Command = (
    Annotated[Options, tyro.conf.subcommand("run", description="Run a suite, or resume it.")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[
        results.Options,
        tyro.conf.subcommand("results", description="Measure all published figures again."),
    ]
)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; errors of textgym are printed without a traceback."""
    command: Options | Report | Compare | results.Options = tyro.cli(
        Command,
        args=args,
        description=__doc__,
        prog="python -m benchmarks",
        # The flags of a subcommand follow it, without a prefix.
        config=(tyro.conf.OmitArgPrefixes,),
    )
    try:
        # A report does not need the imports of a run, nor a run those of a report.
        if isinstance(command, Report):
            print(import_module("benchmarks.report.page").report(command.runs, command.out))
        elif isinstance(command, Compare):
            print(import_module("benchmarks.report.compare").compare(command.a, command.b))
        elif isinstance(command, results.Options):
            return results.run(command)
        else:
            return run(command)
    except TextGymError as error:
        print(f"python -m benchmarks: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

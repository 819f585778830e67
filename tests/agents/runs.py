"""Runs of agents by their command lines, and what they logged."""

from __future__ import annotations

import csv
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from agents import cli


def command(agent: str, *args: str) -> Path:
    """Run an agent's command line; the run's folder."""
    module, folders = import_module(f"agents.{agent}"), []
    run = module.run

    def noted(*arguments: Any) -> Path:
        folders.append(run(*arguments))
        return folders[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "run", noted)
        cli.command_line(f"agents.{agent}", module.Settings(), None, module.main, args)
    return folders[0]


def progress(folder: Path) -> list[dict[str, str]]:
    """The rows of progress.csv, without times and what is not there."""
    rows = csv.DictReader((folder / "progress.csv").read_text().splitlines())
    return [{k: v for k, v in row.items() if v and not k.startswith("time/")} for row in rows]

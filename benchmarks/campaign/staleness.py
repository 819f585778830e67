"""Pages with figures of another model than the present textgym/tiny."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.campaign.provenance import ROOT, model_hash, models_named
from benchmarks.suites.definitions import Experiment
from benchmarks.suites.hashes import lm_hash
from benchmarks.suites.store import CELLS
from textgym.tokenization import TINY

_SUFFIXES = (".md", ".html", ".json", ".jsonl")


def stale(root: Path = ROOT) -> list[str]:
    """What README.md, docs/ and benchmarks/results/ have of another model.

    Args:
        root: The checkout.

    Returns:
        A sentence for each file; ``python -m benchmarks results --pages`` writes it again, without
        these figures.
    """
    present = model_hash()
    files = [root / "README.md"]
    for folder in (root / "docs", root / "benchmarks" / "results"):
        files += sorted(file for file in folder.rglob("*") if file.suffix in _SUFFIXES)
    found = []
    for file in files:
        text, name = file.read_text("utf-8"), file.relative_to(root)
        others = models_named(text) - {present}
        if others:
            found.append(f"{name} was measured with {TINY} sha256:{min(others)[:12]}...")
        if file.name == CELLS and any(_other(json.loads(line)) for line in text.splitlines()):
            found.append(f"{name} has cells of another model")
    return found


def _other(cell: dict[str, Any]) -> bool:
    """Whether the model of a cell, or of a study's job, has another hash now."""
    if "env" not in cell:
        return bool(cell["lm_hash"] != model_hash())
    experiment = Experiment(cell["env"], cell["kwargs"])
    return bool(cell["lm_hash"] != lm_hash(experiment, cell["settings"].get("lm")))

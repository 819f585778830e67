"""How a policy games each reward, as published in docs/rewards.md.

    python -m benchmarks results --only gaming

A job is a training of :mod:`benchmarks.studies.gaming`, one for each of its cases, without a
penalty on the KL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.campaign.provenance import measured_with
from benchmarks.campaign.study import Findings, Scale, Study, job
from benchmarks.studies import gaming
from benchmarks.studies.gaming_page import section
from benchmarks.suites.runner import Plan
from textgym.lm.model import LanguageModel
from textgym.storage.files import write_json

NAME = "gaming"
PAGE = "docs/rewards.md"
RECORD = "benchmarks/results/gaming.json"


def plans(scale: Scale) -> list[Plan]:
    """All trainings."""
    shared = scale.choose({"steps": 256, "n_envs": 8, "episodes": 8, "pairs": 60}, {})
    names = scale.choose(["length"], list(gaming.CASES))
    return [
        job(NAME, name, "ppo", 0, {"case": name, **shared}, (gaming.CASES[name].env, None))
        for name in names
    ]


def measure(spec: Mapping[str, Any], scratch: Path) -> dict[str, Any]:
    """Do a training."""
    name = spec["case"]
    sizes = {key: value for key, value in spec.items() if key != "case"}
    settings = replace(gaming.Settings(), scratch=scratch, **sizes)
    case = gaming.CASES[name]
    weights = gaming.fingerprint(LanguageModel.load(settings.lm))
    found = gaming.trained(case, settings, 0.0, weights)
    made = gaming.identity(settings, name, 0.0, weights)
    return {"settings": made, "case": name, "hope": case.hope, **found}


def write(findings: Findings) -> None:
    """Fill in the page, and write the record that it is made of."""
    known = {record["experiment"]: record["result"] for record in findings.records}
    file = findings.out / RECORD
    if known:
        write_json(file, {"measured_with": measured_with(), "trainings": known})
    else:
        file.unlink(missing_ok=True)
    findings.fill(PAGE, "gaming", section(known, list(gaming.CASES)) if known else "")


STUDIES = {
    NAME: Study(
        name=NAME,
        title="PPO on one reward at a time, judged by others",
        plans=plans,
        write=write,
        seconds=lambda plan: 180.0,
        measure=measure,
        pages=(PAGE, RECORD),
    )
}

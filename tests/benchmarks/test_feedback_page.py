"""The page about judgements: its figures by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.campaign.study import Findings
from benchmarks.studies import feedback_page
from benchmarks.studies.feedback_page import interval, needed, saving, sections

LABELS = [0, 16, 32, 64, 128, 256]


def test_judgements_needed() -> None:
    accuracy = np.array([0.5, 0.6, 0.7, 0.7, 0.9, 0.8])
    assert needed(LABELS, accuracy, 0.65) == pytest.approx(24)
    assert needed(LABELS, accuracy, 0.5) == 0
    assert needed(LABELS, accuracy, 0.8) == pytest.approx(96)
    assert needed(LABELS, accuracy, 0.91) == math.inf


def test_the_saving_of_active_choice() -> None:
    random = np.array([[0.5, 0.6, 0.65, 0.7, 0.75, 0.8]] * 5)
    active = np.array([[0.5, 0.65, 0.7, 0.75, 0.8, 0.85]] * 5)
    assert saving((LABELS, random), (LABELS, active), 256) == (0.5, 0.5, 0.5)
    never = saving((LABELS, random + 0.1), (LABELS, active), 256)
    assert never == (math.inf, math.inf, math.inf)
    # One seed in five has half of the gain: the interval is between those of the extremes.
    mixed = np.concatenate([active[:4], (random + active)[:1] / 2])
    value, low, high = saving((LABELS, random), (LABELS, mixed), 256)
    assert low == 0.5 < value < high < 1


def test_the_interval_of_five_seeds() -> None:
    mean, half = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    # Student's t with 4 degrees of freedom: 2.776 sqrt(2.5 / 5).
    assert (mean, half) == (3.0, pytest.approx(1.963, abs=1e-3))
    assert math.isnan(interval([1.0])[1])


def record(experiment: str, agent: str, seed: int, **result: Any) -> dict[str, Any]:
    return {"experiment": experiment, "agent": agent, "seed": seed, "result": result}


def test_the_page(tmp_path: Path) -> None:
    task = "TextGen/Sentiment-v0"
    curves = {"random": [0.5, 0.6, 0.65, 0.7, 0.75, 0.8],
              "uncertainty": [0.5, 0.7, 0.75, 0.8, 0.85, 0.9]}  # fmt: skip
    records = [
        record(f"accuracy {task}", how, seed, labels=LABELS, accuracy=accuracy)
        for how, accuracy in curves.items()
        for seed in range(2)
    ]
    gains = {"ppo": 0.5, "random 300": 0.2, "uncertainty 300": 0.35, "dpo 30": 0.1}
    records += [
        record(f"reward {task}", agent, seed, before=[0.3, 0.4], after=[0.3 + gain, 0.4 + gain])
        for agent, gain in gains.items()
        for seed in range(2)
    ]
    findings = Findings("feedback", [], records, tmp_path)
    page = "\n".join(sections(findings))
    assert "| uncertainty | 0.700 ± 0.000 | 0.800 ± 0.000 | 0.850 ± 0.000 | 0.900 ± 0.000 |" in page
    assert "`uncertainty` needs 25% [25%, 25%] of 64, 25% [25%, 25%] of 128, 25%" in page
    assert "half of the judgements of random choice on 1 of 1 tasks, so **not** on at least" in page
    assert "| uncertainty | 300 | 0.350 | 0.700 ± 0.000 | 70% |" in page
    assert "300 judgements reach 60% of the gain: 70%." in page
    assert page.index("| dpo | 30 |") < page.index("| random | 300 |")
    picture = feedback_page.picture(findings)
    assert picture is not None
    assert picture[:4] == b"\x89PNG"
    empty = Findings("feedback", [], [], tmp_path)
    assert sections(empty) == ["# How many judgements", ""]
    assert feedback_page.picture(empty) is None

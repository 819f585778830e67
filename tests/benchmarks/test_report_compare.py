"""What changed between two runs folders."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.report import compare
from textgym.errors import DataError

QA, STORY = "TextGen/QA-v0 level=1", "TextGen/Story-v0"


def cell(task: str, agent: str, seed: int, mean: float, **changes: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "suite": "quick",
        "experiment": task,
        "timesteps": 1000,
        "floor": 0.0,
        "ceiling": 1.0,
        "agent": agent,
        "seed": seed,
        "status": "done",
        "error": None,
        "settings": {"lr": 0.001, "seed": seed},
        "versions": {"torch": "2.13.0"},
        "task_hash": f"hash of {task}",
        "lm_hash": "lm",
        "after": {"mean": mean},
        **changes,
    }


def cells() -> list[dict[str, Any]]:
    return [
        cell(task, agent, seed, 0.3 + 0.05 * seed)
        for task in (QA, STORY)
        for agent in ("ppo", "grpo")
        for seed in range(3)
    ]


def compared(folder: Path, a: list[dict[str, Any]], b: list[dict[str, Any]]) -> str:
    for name, records in (("a", a), ("b", b)):
        (folder / name).mkdir()
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (folder / name / "cells.jsonl").write_text(lines)
    return compare(folder / "a", folder / "b")


def row(text: str, task: str, agent: str) -> list[str]:
    plain = text.replace("\\", "")
    line = next(r for r in plain.splitlines() if r.startswith(f"| {task} | {agent} |"))
    return [field.strip() for field in line.split("|")[3:-1]]


def test_equal_folders_differ_in_nothing(tmp_path: Path) -> None:
    text = compared(tmp_path, cells(), cells())
    assert "The same in both folders." in text
    assert "as 0 of 4 do" in text
    a, b, difference = row(text, QA, "ppo")
    assert a == b == "0.350 [0.300, 0.400] (n=3)"
    assert re.match(r"\+0\.000 \[-\S+, \+\S+\]", difference)


def test_a_difference_has_the_interval_of_independent_draws(tmp_path: Path) -> None:
    later = cells()
    for record in later:
        if record["agent"] == "ppo" and record["experiment"] == QA:
            record["after"] = {"mean": 0.8 + 0.05 * record["seed"]}
    text = compared(tmp_path, cells(), later)
    found = re.fullmatch(r"\*\*(\S+) \[(\S+), (\S+)\]\*\*", row(text, QA, "ppo")[2])
    assert found is not None
    value, low, high = map(float, found.groups())
    # All 27 x 27 pairs of replicates, each as likely as another.
    means = np.mean(np.stack(np.meshgrid(*[[0.0, 0.05, 0.1]] * 3)), axis=0).ravel()
    every = np.subtract.outer(0.8 + means, 0.3 + means).ravel()
    assert value == 0.5
    # The distribution has few steps, of 1/60: a percentile may come out at the next one.
    np.testing.assert_allclose([low, high], np.quantile(every, [0.025, 0.975]), atol=0.018)
    assert "**" not in "".join(row(text, QA, "grpo"))
    assert "as 1 of 4 do" in text


def test_what_is_on_one_side_only_is_said(tmp_path: Path) -> None:
    later = [r for r in cells() if r["experiment"] == QA]
    later += [cell(QA, "mine", 7, 0.5)]
    text = compared(tmp_path, cells(), later).replace("\\", "")
    assert f"Tasks only in A: {STORY}." in text
    assert "Agents only in B: mine." in text
    assert "Seeds only in B: 7." in text
    assert f"| {STORY} |" not in text


def test_other_settings_versions_and_budgets_are_said(tmp_path: Path) -> None:
    later = copy.deepcopy(cells())
    for record in later:
        record["suite"] = "full"
        record["versions"]["torch"] = "2.14.0"
        record["settings"].update({"clip": 0.2} if record["agent"] == "ppo" else {"lr": 0.01})
        record["lm_hash"] = "other"
        record["agent_hash"] = "new"
        if record["experiment"] == STORY:
            record.update(timesteps=2000, floor=-1.0)
    text = compared(tmp_path, cells(), later).replace("\\", "")
    for said in (
        'Suite: "quick" → "full".',
        'Version of torch: "2.13.0" → "2.14.0".',
        "ppo, setting clip: none → 0.2.",
        "grpo, setting lr: 0.001 → 0.01.",
        'ppo, its file (hash): null → "new".',
        'ppo, language model: "lm" → "other".',
        f"{STORY}, tokens of training: 1000 → 2000.",
        f"{STORY}, floor: 0.0 → -1.0.",
    ):
        assert said in text
    assert f"{QA}, tokens" not in text
    assert "setting seed" not in text


def test_results_of_a_task_that_changed_are_not_compared(tmp_path: Path) -> None:
    later = cells()
    for record in later:
        if record["experiment"] == STORY:
            record["task_hash"] = "new"
    text = compared(tmp_path, cells(), later)
    assert row(text, STORY, "ppo")[2] == "not computed: the task changed"
    assert row(text, QA, "ppo")[2].startswith("+0.000")
    assert f"{STORY}, the task itself (hash)" in text.replace("\\", "")


def test_failures_and_single_seeds_have_no_interval(tmp_path: Path) -> None:
    failed = [cell(QA, "ppo", 0, 0.0, status="failed", error="no", after=None)]
    before = [cell(QA, "grpo", 0, 0.25), *failed]
    text = compared(tmp_path, before, [cell(QA, "grpo", 0, 0.5), cell(QA, "ppo", 0, 0.5)])
    assert row(text, QA, "grpo") == ["0.250 (n=1)", "0.500 (n=1)", "+0.250"]
    assert row(text, QA, "ppo") == ["- (n=0, 1 failed)", "0.500 (n=1)", "not computed: no score"]


def test_folders_without_a_cell_in_common_have_no_table(tmp_path: Path) -> None:
    text = compared(tmp_path, [cell(QA, "ppo", 0, 0.1)], [cell(STORY, "ppo", 0, 0.1)])
    assert "No cell is in both folders." in text


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        compare(tmp_path / "nowhere", tmp_path)

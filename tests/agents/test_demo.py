"""The demonstration: one path for `make demo` and for a short one, and the grammar figure."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from agents import demo
from textgym.tasks.sentiment.task import Sentiment


def test_grammar_is_judged_apart_from_praise() -> None:
    task, rng = Sentiment(), np.random.default_rng(0)
    rows = [task.sample(rng) for _ in range(50)]
    fluent = [(row["prompt"], task.oracle(row)) for row in rows]
    mediocre = [(row["prompt"], task.baselines()["mediocre"](row, rng)) for row in rows]
    chant = [(row["prompt"], " good good good.") for row in rows]
    assert demo.grammatical_share(fluent) == 1.0
    assert demo.grammatical_share(mediocre) == 1.0
    assert demo.grammatical_share(chant) == 0.0
    assert demo.grammatical_share(fluent + chant) == 0.5


def test_demo_reports_rewards_grammar_and_cpu_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = dataclasses.replace(
        demo.SETTINGS, steps=256, n_envs=8, eval_episodes=8, threads=1, device="cpu", out=tmp_path
    )
    demo.main(settings)
    output = capsys.readouterr().out
    assert re.search(r"reward before 0\.\d+ ± 0\.\d+, after 0\.\d+ ± 0\.\d+", output)
    assert re.search(r"grammatical.*: \d+% of the texts before, \d+% after$", output, re.MULTILINE)
    seconds = re.search(r"^CPU time of the training: (\d+) s$", output, re.MULTILINE)
    assert seconds
    assert int(seconds[1]) < 60

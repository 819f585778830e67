"""Every agent that learns has the same results after an interruption as without one."""

from __future__ import annotations

import itertools
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from stable_baselines3.common.save_util import load_from_zip_file

from agents.running.report import TrainingLog
from tests.agents.runs import command, progress

pytestmark = pytest.mark.usefixtures("ctrl_c_is_heard")

WORDS = ["a", "b", "c", "d", "e", "f", "<eos>"]
ENVIRONMENT = {
    "prompts": [
        {"prompt": prompt, "reference": reference}
        for prompt, reference in itertools.product(["a", "b", "b c", "d e f"], ["b c d", "d"])
    ],
    "tokenizer": WORDS,
    "max_prompt_tokens": 3,
    "max_new_tokens": 6,
}
COMMON = [
    "--env", "TextGen-v0", "--reward", "distinct", "--env-kwargs", json.dumps(ENVIRONMENT),
    "--n-envs", "4", "--eval-episodes", "6", "--threads", "1", "--device", "cpu",
    "--steps", "192",
]  # fmt: skip
STEPWISE = ["--n-steps", "8"]
OWN_PAIRS = [
    *("--group-size", "2", "--n-prompts", "14", "--batch-size", "4", "--n-epochs", "9"),
    *("--held-out", "0.3"),
]
ADAPTER = ["--lora.r", "2", "--eval-every", "50", "--ema", "0.5"]
OWN = {
    "ppo": STEPWISE,
    "ppo options": [
        *(*STEPWISE, *ADAPTER, "--lr-schedule", "cosine", "--lr-warmup", "0.3"),
        *("--weight-decay", "0.1", "--micro-batch", "2", "--value-lr", "1e-3"),
        *("--value-warmup", "40", "--sampling.temperature", "0.8", "--sampling.top-k", "5"),
    ],
    "grpo options": [
        *("--group-size", "2", *ADAPTER, "--dtype", "bfloat16", "--sampling.top-p", "0.9"),
        *("--gradient-checkpointing", "--no-save-adapter"),
    ],
    "sft options": ["--batch-size", "3", *ADAPTER, "--lr-schedule", "linear"],
    "a2c": STEPWISE,
    "nlpo": [*STEPWISE, "--target-update", "2"],
    "maskable_ppo": [*STEPWISE, "--no-repeat-ngram", "2", "--banned", "f"],
    "trpo": [*STEPWISE, "--cg-max-steps", "2"],
    "grpo": ["--group-size", "2"],
    "rloo": ["--group-size", "2", "--n-episodes", "2"],
    "reinforce": ["--baseline", "value"],
    "expert_iteration": ["--k", "2", "--rounds", "2", "--batch-size", "4"],
    "expert_iteration restart": ["--k", "2", "--restart"],
    "sft": ["--batch-size", "3"],
    "dpo": OWN_PAIRS,
    "dpo kto": [*OWN_PAIRS, "--loss", "kto", "--held-out-every", "2"],
    "q_learning": ["--k", "3", "--epsilon", "0.5", "0.1", "--bonus", "0.5", "0.0"],
    # So small that old transitions are forgotten, and the target network changes often.
    "dqn_topk": [
        *("--k", "3", "--batch-size", "8", "--buffer-size", "100"),
        *("--n-steps", "2", "--target-update-interval", "24"),
    ],
    "dqn_topk qrdqn": ["--algorithm", "qrdqn", "--k", "3", "--batch-size", "8"],
}

ANY = {"episode/reward", "episode/length", "reward_terms/distinct", "diagnostics/entropy"}
OWN_TEXTS = ANY | {"diagnostics/mutual_information", "diagnostics/mutual_information_max"}
GROUPS = OWN_TEXTS | {"diagnostics/groups_without_variance"}
DIAGNOSED = {
    "sft": ANY,
    "grpo": GROUPS,
    "rloo": GROUPS,
    "dpo": ANY | {"diagnostics/groups_without_variance", "train/accuracy", "rollout/kl"},
    "expert_iteration": GROUPS,
    "q_learning": OWN_TEXTS,
    "dqn_topk": OWN_TEXTS,
    "others": OWN_TEXTS | {"train/explained_variance"},
}
"""Columns of the log that a user watches."""


def learned(folder: Path) -> dict[str, Any]:
    """Every number of what a run has learned."""
    found: dict[str, Any] = {}
    for file in sorted(folder.glob("**/lm/*.safetensors")):
        found |= {f"{file.relative_to(folder)}.{n}": one for n, one in load_file(file).items()}
    if (folder / "model.npz").exists():
        found |= dict(np.load(folder / "model.npz"))
    if (folder / "model.zip").exists():
        _, parameters, _ = load_from_zip_file(folder / "model.zip", device="cpu")
        found |= {
            f"{owner}.{name}": value
            for owner, state in (parameters or {}).items()
            for name, value in state.items()
            if hasattr(value, "shape")
        }
    return found


@pytest.mark.parametrize("kind", OWN)
def test_interrupted_twice(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By Ctrl-C, and then by a crash some updates after a checkpoint."""
    args = [*COMMON, *OWN[kind], "--out", str(tmp_path)]
    agent = kind.partition(" ")[0]
    truth = command(agent, *args, "--checkpoint-every", "0")

    interrupts = iter([(60, KeyboardInterrupt), (140, RuntimeError)])
    steps, error = next(interrupts)
    on_step = TrainingLog.on_step

    def watched(self: TrainingLog) -> bool:
        nonlocal steps, error
        if self.model.num_timesteps >= steps:
            happens = error
            steps, error = next(interrupts, (10_000, RuntimeError))
            if happens is RuntimeError:
                raise RuntimeError("the machine goes down")
            signal.raise_signal(signal.SIGINT)
        return on_step(self)

    monkeypatch.setattr(TrainingLog, "on_step", watched)
    folder = command(agent, *args, "--checkpoint-every", "48")
    record = json.loads((folder / "run.json").read_text())
    assert record["results"]["interrupted"]
    assert 60 <= record["results"]["steps"] < 140
    with pytest.raises(RuntimeError, match="goes down"):
        command(agent, "--resume", str(folder))
    assert command(agent, "--resume", str(folder)) == folder

    assert progress(folder) == progress(truth)
    columns = {name for row in progress(truth) for name in row}
    assert columns >= DIAGNOSED.get(agent, DIAGNOSED["others"])
    results = [json.loads((path / "run.json").read_text())["results"] for path in (folder, truth)]
    assert results[0]["diagnostics"] == results[1]["diagnostics"]
    assert results[0].get("evaluations") == results[1].get("evaluations")
    assert ("evaluations" in results[0]) == ("--eval-every" in args)
    assert (truth / "diagnostics.png").exists()
    assert (folder / "samples.jsonl").read_bytes() == (truth / "samples.jsonl").read_bytes()
    ours, theirs = learned(folder), learned(truth)
    assert ours.keys() == theirs.keys()
    assert ours, "nothing was learned"
    for name in theirs:
        assert (np.asarray(ours[name]) == np.asarray(theirs[name])).all(), name

"""Runs of agents by their command lines, what interrupts them, and what they logged."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from stable_baselines3 import PPO
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.running import command_line as cli
from agents.running.report import TrainingLog

WORDS = ["a", "b", "c", "d", "e", "f", "<eos>"]
ENVIRONMENT = {
    "prompts": ["a", "b c", "d e f"],
    "tokenizer": WORDS,
    "max_prompt_tokens": 3,
    "max_new_tokens": 6,
}
STEPS = 192  # 6 rollouts of 4 rows and 8 steps, which cut episodes in two.
ARGUMENTS = [
    "--env", "TextGen-v0", "--reward", "distinct", "--env-kwargs", json.dumps(ENVIRONMENT),
    "--n-envs", "4", "--n-steps", "8", "--eval-episodes", "6", "--threads", "1", "--device", "cpu",
]  # fmt: skip


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


def start(agent: str, out: Path, *args: str, steps: int = STEPS) -> Path:
    return command(agent, *ARGUMENTS, "--steps", str(steps), "--out", str(out), *args)


def progress(folder: Path) -> list[dict[str, str]]:
    """The rows of progress.csv, without times and what is not there."""
    rows = csv.DictReader((folder / "progress.csv").read_text().splitlines())
    return [{k: v for k, v in row.items() if v and not k.startswith("time/")} for row in rows]


def board(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows, by step: files of the same second are read in any order."""
    events = EventAccumulator(str(folder)).Reload()
    return {
        tag: sorted((event.step, event.value) for event in events.Scalars(tag))
        for tag in events.Tags()["scalars"]
        if not tag.startswith("time/")
    }


def assert_same_run(folder: Path, truth: Path, algorithm: Any = PPO) -> None:
    assert progress(folder) == progress(truth)
    assert board(folder) == board(truth)
    ours, theirs = (algorithm.load(path / "model.zip", device="cpu") for path in (folder, truth))
    weights = theirs.get_parameters()
    for name, weight in ours.get_parameters()["policy"].items():
        assert torch.equal(weight, weights["policy"][name]), name
    moments = (each.get_parameters()["policy.optimizer"]["state"] for each in (ours, theirs))
    for one, other in zip(*(state.values() for state in moments), strict=True):
        assert all(torch.equal(one[key], other[key]) for key in other)
    assert ours.rollout_buffer_kwargs["kl_coef"] == theirs.rollout_buffer_kwargs["kl_coef"]
    assert (folder / "curve.json").read_bytes() == (truth / "curve.json").read_bytes()
    assert (folder / "samples.jsonl").read_bytes() == (truth / "samples.jsonl").read_bytes()
    results, expected = (json.loads((f / "run.json").read_text()) for f in (folder, truth))
    for record in (results, expected):
        record["results"].pop("seconds")
        record["results"].pop("cpu_seconds")
    assert results["results"] == expected["results"]
    exported = [load_file(path / "lm" / "model.safetensors") for path in (folder, truth)]
    assert all(torch.equal(exported[0][name], exported[1][name]) for name in exported[1])


class CrashError(Exception):
    """The machine goes down, as far as the run is concerned."""


def at_step(monkeypatch: pytest.MonkeyPatch, steps: int, happens: Callable[[], Any]) -> None:
    """Let something happen in the middle of training."""
    on_step = TrainingLog.on_step

    def watched(self: TrainingLog) -> bool:
        if self.model.num_timesteps == steps:
            happens()
        return on_step(self)

    monkeypatch.setattr(TrainingLog, "on_step", watched)


def crash() -> None:
    raise CrashError

"""A run takes anything with the interface of Stable-Baselines3."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import A2C, DQN, PPO

from agents.running import run as common

MLP: dict[str, Any] = {"policy_kwargs": {"net_arch": [8]}, "device": "cpu"}


def settings(out: Path, **others: Any) -> common.RunSettings:
    arguments = {"env": "TextGen/GoodBad-v0", "n_envs": 4, "eval_episodes": 6, "threads": 1}
    return common.RunSettings(**{**arguments, "out": out, **others})


def record_of(folder: Path) -> Any:
    return json.loads((folder / "run.json").read_text())


@pytest.mark.parametrize(
    ("algorithm", "arguments", "steps"),
    [
        (PPO, {"n_steps": 16, "batch_size": 32}, 128),
        (A2C, {"n_steps": 8}, 96),
        (DQN, {"learning_starts": 8, "buffer_size": 100, "batch_size": 8}, 80),
    ],
    ids=["PPO", "A2C", "DQN"],
)
def test_stock_algorithms(algorithm: Any, arguments: Any, steps: int, tmp_path: Path) -> None:
    def make_agent(venv: Any, seed: int) -> Any:
        return algorithm("MlpPolicy", venv, seed=seed, **MLP, **arguments)

    folder = common.run("stock", settings(tmp_path, steps=steps), make_agent)
    assert record_of(folder)["results"]["steps"] == steps
    assert algorithm.load(folder / "model.zip").num_timesteps == steps
    assert not (folder / "lm").exists()
    rows = list(csv.DictReader((folder / "progress.csv").read_text().splitlines()))
    logged = [row for row in rows if row.get("reward_terms/score")]
    assert logged, "reward terms are logged whatever the algorithm"
    for row in logged:
        assert float(row["episode/reward"]) == pytest.approx(float(row["reward_terms/score"]))


class Bandit:
    """The whole of an agent that owes nothing to anyone: no callback, nothing to save."""

    def __init__(self, venv: Any, seed: int) -> None:
        self.venv, self.rng, self.best = venv, np.random.default_rng(seed), None

    def learn(self, total_timesteps: int, callback: Any = None) -> Bandit:
        self.venv.reset()
        for _ in range(total_timesteps // self.venv.num_envs):
            actions, _ = self.predict(np.empty(self.venv.num_envs))
            rewards = self.venv.step(actions)[1]
            self.best = actions[rewards.argmax()] if rewards.max() > 0 else self.best
        return self

    def predict(self, observation: Any, state: Any = None, *_: Any, **__: Any) -> tuple[Any, Any]:
        size = len(observation)
        return (
            self.rng.integers(2, size=size) if self.best is None else np.full(size, self.best)
        ), state


def test_an_agent_of_ten_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = common.run("bandit", settings(tmp_path, steps=100), Bandit)
    results = record_of(folder)["results"]
    assert results["steps"] == 100, "the environment counts, as this agent calls nobody back"
    assert results["eval_after"]["mean"] == 1.0
    assert (folder / "curve.png").exists()
    assert "model:" not in capsys.readouterr().out


def test_episodes_that_a_step_limit_cuts_off(tmp_path: Path) -> None:
    """A truncated episode has no response and no terms: it is counted, and that is all."""

    def make_agent(venv: Any, seed: int) -> Any:
        return PPO("MlpPolicy", venv, n_steps=8, batch_size=16, seed=seed, **MLP)

    limited = settings(
        tmp_path,
        env="TextGen-v0",
        steps=32,
        reward="distinct",
        eval_share=0,  # There is one prompt alone.
        env_kwargs={
            "prompts": ["the cat"],
            "tokenizer": ["the", "cat"],
            "stop_at_eos": False,
            "max_episode_steps": 3,
        },
    )
    folder = common.run("limited", limited, make_agent)
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert [(row["prompt"], row["before"]) for row in samples] == [("the cat", "")] * 6
    assert record_of(folder)["results"]["training_prompts_after"]["mean"] == 0.0

"""Runs of agents as jobs: with the code that users run, and continued after an interruption."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from agents import lm
from agents.running.environments import make_env
from agents.running.evaluation import Agent, Evaluation, evaluate
from agents.running.run import RunSettings, run

SettingsT = TypeVar("SettingsT", bound=RunSettings)

SAMPLES = 4
"""Sample texts of a result."""


def run_in(
    scratch: Path,
    name: str,
    settings: SettingsT,
    make_agent: Callable[..., Agent],
) -> Path:
    """Do a run in a folder, or continue the one that is there.

    Args:
        scratch: A folder for this run alone.
        name: The agent's name.
        settings: Its settings; ``out`` is replaced.
        make_agent: The factory of an agent's file.

    Returns:
        The folder of the run.
    """
    settings = replace(settings, out=scratch)
    started = [file.parent for file in sorted(scratch.glob("*/run.json"))]
    if started:
        record = json.loads((started[0] / "run.json").read_text("utf-8"))
        if "results" in record and not record["results"]["interrupted"]:
            return started[0]
        settings = replace(settings, resume=started[0])
    return run(name, settings, partial(make_agent, settings=settings))


def results_of(folder: Path) -> dict[str, Any]:
    """The results of a run, as in run.json."""
    results: dict[str, Any] = json.loads((folder / "run.json").read_text("utf-8"))["results"]
    return results


def samples_of(folder: Path) -> list[dict[str, Any]]:
    """The lines of samples.jsonl: prompts, texts and rewards of the evaluations."""
    lines = (folder / "samples.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def evaluated(
    settings: RunSettings, model: str | None, greedy: bool = False, seed: int = 0
) -> Evaluation:
    """Evaluate a language model on the evaluation prompts of a run's settings.

    Args:
        settings: The environment, and the number of episodes.
        model: Name or folder of the model; None for textgym/tiny.
        greedy: Take the likeliest token.
        seed: Seed of sampling. The prompts are the same for all seeds.
    """

    def make(n_envs: int, first: int) -> VecEnv:
        return make_env(settings, n_envs, first, "eval")

    own = lm.Settings(lm=model, sampling="greedy" if greedy else "sample", out=settings.out)
    venv = make(settings.n_envs, seed)
    agent = lm.make_agent(venv, seed, own)
    venv.close()
    return evaluate(agent, make, settings.eval_episodes, settings.n_envs)


def as_result(found: Evaluation) -> dict[str, Any]:
    """An evaluation as a value of a record."""
    return {
        "mean": found.mean,
        "ci95": found.half_width,
        "returns": found.returns,
        "terms": {name: round(mean, 6) for name, mean in found.term_means().items()},
    }


def paired(before: list[list[float]], after: list[list[float]]) -> tuple[float, float]:
    """The mean change of the returns, and half of its 95% interval over prompts.

    Args:
        before: Returns by seed and prompt, on the same prompts.
        after: The same, afterwards.

    Returns:
        For each prompt the mean over seeds after, less the mean before; of these differences the
        mean, and 1.96 standard errors. It says how sure the change is on new prompts for these
        seeds.
    """
    change = np.mean(after, axis=0) - np.mean(before, axis=0)
    return float(change.mean()), float(1.96 * change.std(ddof=1) / len(change) ** 0.5)

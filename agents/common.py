"""What every agent's command line shares: settings, environments, and the course of a run.

An agent's own file holds its algorithm and settings, and hands a factory ``make_agent(venv, seed,
settings)`` to :func:`run`. An agent is anything with the interface of Stable-Baselines3: see
:class:`agents.evaluation.Agent`.

A run writes one folder, ``runs/<env>-<agent>-<time>/``:

* ``run.json``: the settings as resolved, versions and results;
* ``curve.png``: reward during training, and the evaluations before and after;
* ``samples.jsonl``: the evaluation prompts with the texts before and after;
* ``progress.csv`` and TensorBoard events: every logged number, and sample texts;
* ``model.zip`` (for ``PPO.load``) and ``lm/`` (for ``LanguageModel.load`` and transformers).
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
import tyro
from rich.console import Console
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecEnv

import textgym
from agents.evaluation import Agent, Evaluation, evaluate
from agents.report import TrainingLog, plot, side_by_side
from textgym.errors import DataError, RewardError, SettingsError
from textgym.rewards import registered_rewards
from textgym.sb3 import LMPolicy, make_vec_env
from textgym.tasks.loading import make_source


@dataclass
class RunSettings:
    """Settings of a run that do not depend on the algorithm."""

    env: str | None = None
    """Environment id. Default: TextGen/Sentiment-v0, or TextGen-v0 when --prompts is given."""
    prompts: str | None = None
    """Prompts of your own: a .jsonl, .csv, .parquet or .txt file, hf:NAME, reasoning_gym:NAME."""
    reward: str | None = None
    """Reward function: a registered name, or module:function (looked up from this folder)."""
    lm: str | None = None
    """Folder or hub name of a language model, whose tokenizer the environment then uses."""
    level: int | None = None
    """Difficulty of a built-in task. Default: the task's own."""
    max_prompt_tokens: int | None = None
    """Longest prompt. Default: the environment's own."""
    max_new_tokens: int | None = None
    """Token budget of a response. Default: the environment's own."""
    steps: int = 100_000
    """Length of training in environment steps: one step is one token of one episode."""
    n_envs: int = 64
    """Number of episodes that are written side by side."""
    eval_episodes: int = 128
    """Number of evaluation episodes, before and after training."""
    seed: int = 0
    """Seed of prompts, sampling and initial weights."""
    device: str = "auto"
    """Device of the language model: auto, cpu, cuda, ..."""
    threads: int | None = None
    """CPU threads of torch. Default: torch's own choice."""
    out: Path = Path("runs")
    """Folder in which the run's own folder is made."""

    @property
    def env_id(self) -> str:
        """The environment id, with its default resolved."""
        return self.env or ("TextGen-v0" if self.prompts else "TextGen/Sentiment-v0")


SettingsT = TypeVar("SettingsT", bound=RunSettings)


def parse(
    module: str, settings: type[SettingsT], doc: str | None, args: Sequence[str] | None = None
) -> SettingsT:
    """Read a command line into settings; an unknown flag is answered with the nearest names.

    Args:
        module: The module that is run, for the usage line.
        settings: The dataclass of the agent's settings.
        doc: The head of the help page.
        args: The words of the command line; None takes the process's own.
    """
    return tyro.cli(settings, args=args, description=doc, prog=f"python -m {module}")


# ---------------------------------------------------------------- environments


def load_reward(spec: str | None) -> Any:
    """Turn ``module:function`` into the function; a registered name stays a name.

    Raises:
        RewardError: If there is no such module or function.
    """
    if spec is None or ":" not in spec:
        return spec
    module, _, function = spec.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), function)
    except (ModuleNotFoundError, AttributeError) as error:
        raise RewardError(
            f"--reward {spec}: {error}; give module:function with {module}.py in {os.getcwd()} or "
            f"installed, or a registered name: {', '.join(registered_rewards())}"
        ) from error


def eval_split(settings: RunSettings) -> str:
    """``"eval"`` where the prompts have such a split, else ``"train"``."""
    if settings.prompts is None:
        return "eval"
    try:
        make_source(settings.prompts, "eval")
    except DataError:
        return "train"
    return "eval"


def make_env(settings: RunSettings, n_envs: int, seed: int, split: str) -> VecEnv:
    """Build the vector environment that the settings describe."""
    kwargs: dict[str, Any] = {
        "prompts": settings.prompts,
        "reward": load_reward(settings.reward),
        "tokenizer": settings.lm,
        "level": settings.level,
        "max_prompt_tokens": settings.max_prompt_tokens,
        "max_new_tokens": settings.max_new_tokens,
    }
    given = {name: value for name, value in kwargs.items() if value is not None}
    return make_vec_env(settings.env_id, n_envs=n_envs, seed=seed, split=split, **given)


# ---------------------------------------------------------------- a run


def run(
    name: str, settings: SettingsT, make_agent: Callable[[VecEnv, int, SettingsT], Agent]
) -> Path:
    """Evaluate, train, evaluate again, and write everything down.

    Ctrl-C ends the training but not the run: what was learned so far is evaluated and saved.

    Args:
        name: The agent's name.
        settings: The agent's settings.
        make_agent: The agent's factory: vector environment, seed and settings to an agent.

    Returns:
        The run's folder.

    Raises:
        SettingsError: If there are too few evaluation episodes for an interval.
    """
    if settings.eval_episodes < 2:
        raise SettingsError(
            f"--eval-episodes {settings.eval_episodes}: a confidence interval takes at least 2"
        )
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    console = Console()
    split = eval_split(settings)
    venv = make_env(settings, settings.n_envs, settings.seed, "train")
    agent = make_agent(venv, settings.seed, settings)
    folder = _new_folder(settings, name)
    logger = configure(str(folder), ["csv", "tensorboard"])
    if isinstance(agent, BaseAlgorithm):
        agent.set_logger(logger)

    def make_eval_env(n_envs: int, seed: int) -> VecEnv:
        return make_env(settings, n_envs, seed, split)

    before = evaluate(agent, make_eval_env, settings.eval_episodes, settings.n_envs)
    logger.record("eval/reward", before.mean)
    logger.dump(0)
    console.print(f"{settings.env_id}: reward before training {before} ({split} prompts)")
    log, began, interrupted = TrainingLog(settings.steps), time.perf_counter(), False
    try:
        agent.learn(settings.steps, callback=log)
    except KeyboardInterrupt:
        interrupted = True
    log.close()
    seconds = time.perf_counter() - began
    if interrupted:
        console.print("Interrupted: evaluating and saving what was learned so far.")
    after = evaluate(agent, make_eval_env, settings.eval_episodes, settings.n_envs)
    logger.record("eval/reward", after.mean)
    logger.dump(log.num_timesteps)
    logger.close()

    agent.save(str(folder / "model"))
    policy = getattr(agent, "policy", None)
    if isinstance(policy, LMPolicy):
        policy.lm.save_pretrained(folder / "lm")
    plot(folder / "curve.png", f"{name} on {settings.env_id}", log, before, after)
    _write_samples(folder / "samples.jsonl", before, after)
    results = {
        "steps": log.num_timesteps,
        "seconds": round(seconds, 1),
        "interrupted": interrupted,
        "eval_split": split,
        "eval_before": {"mean": before.mean, "ci95": before.half_width},
        "eval_after": {"mean": after.mean, "ci95": after.half_width},
    }
    _write_json(folder, name, settings, results)

    side_by_side(console, before, after)
    console.print(
        f"reward before {before}, after {after} "
        f"(mean of {len(after.returns)} {split} prompts, 95% confidence interval)\n"
        f"{log.num_timesteps:,} tokens in {seconds:.0f} s\n"
        f"curve:  {folder / 'curve.png'}\n"
        f"model:  {next(folder.glob('model.*'))}\n"
        f"logs:   tensorboard --logdir {folder}",
        soft_wrap=True,
    )
    return folder


def _new_folder(settings: RunSettings, name: str) -> Path:
    """A folder for the run; never one that exists."""
    task = settings.env_id.rpartition("/")[2]
    stem = f"{task}-{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    for number in range(1000):
        folder = settings.out / (f"{stem}-{number}" if number else stem)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"{settings.out / stem} and 999 more exist")


def _write_samples(path: Path, before: Evaluation, after: Evaluation) -> None:
    columns = (before.prompts, before.responses, before.returns, after.responses, after.returns)
    names = ("prompt", "before", "reward_before", "after", "reward_after")
    with path.open("w", encoding="utf-8") as file:
        for values in zip(*columns, strict=True):
            file.write(json.dumps(dict(zip(names, values, strict=True)), ensure_ascii=False) + "\n")


def _write_json(folder: Path, name: str, settings: RunSettings, results: dict[str, Any]) -> None:
    packages = ("gymnasium", "numpy", "stable-baselines3", "torch", "transformers")
    record = {
        "agent": name,
        "settings": {**dataclasses.asdict(settings), "env": settings.env_id},
        "results": results,
        "versions": {"textgym": textgym.__version__, **{name: version(name) for name in packages}},
        "python": platform.python_version(),
    }
    (folder / "run.json").write_text(json.dumps(record, indent=2, default=str) + "\n")

"""One cell of a suite: an agent is evaluated, trained, and evaluated again, with one seed.

The runner starts a process for every cell (:mod:`benchmarks.suites.cell_process`).
"""

from __future__ import annotations

import dataclasses
import os
import platform
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

import textgym
from agents.running.command_line import parse
from agents.running.diagnosis import thinned
from agents.running.environments import make_env
from agents.running.evaluation import Evaluation, evaluate
from agents.running.report import StepCounter
from agents.running.run import LMSettings, RunSettings
from agents.running.run_record import settings_as_json
from agents.running.tuned import Tuned, tuned_settings
from agents.running.validation import unknown_device
from agents.running.warm_start import WarmStarter
from benchmarks.suites.candidates import Candidate, load_candidate
from benchmarks.suites.definitions import Experiment
from benchmarks.suites.hashes import lm_hash, task_hash
from benchmarks.suites.store import Record
from textgym.errors import SettingsError
from textgym.sb3 import DiagnosticsCallback

FORMAT = 1
"""Version of the records."""

POINTS = 50
"""Points of a learning curve, at most."""

DIAGNOSED_POINTS = 20
"""Points of the course of a diagnostic value, at most."""

SAMPLES = 4
"""Sample texts of a record."""

_NOT_RECORDED = (
    "out",
    "resume",
    "checkpoint_every",
    "threads",
    "cpu_minutes",
    "prompts",
    "eval_prompts",
    "eval_share",
    "reward",
    "tuned",
    "tuned_from",
)
"""Settings of a run that do not apply to a cell, or do not change its result."""


@dataclass(frozen=True)
class Cell:
    """An agent, an experiment and a seed.

    Attributes:
        suite: Name of the suite.
        experiment: The experiment.
        agent: A name in ``agents/``, or the path of a file, then optional flags.
        seed: Seed of prompts, weights and sampling.
        eval_episodes: Evaluation prompts.
        n_envs: Number of parallel environments.
        device: Device of the language model.
        out: The folder of the results; a model for a closed vocabulary is kept below it.
        tuned: Whether settings that were tuned for the environment are taken
            (:mod:`agents.running.tuned`).
    """

    suite: str
    experiment: Experiment
    agent: str
    seed: int
    eval_episodes: int
    n_envs: int
    device: str
    out: str
    tuned: bool = True

    def to_json(self) -> dict[str, Any]:
        """The cell as part of a job."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Cell:
        """The inverse of `to_json`."""
        experiment = dict(values["experiment"])
        experiment["tags"] = tuple(experiment["tags"])
        return cls(**{**values, "experiment": Experiment(**experiment)})


def settings_of(cell: Cell, candidate: Candidate) -> RunSettings:
    """The agent's settings, overridden by tuned ones, then by flags and the suite.

    Raises:
        SettingsError: If a flag sets something that the suite determines.
        SystemExit: If there is no such flag, as on every command line.
    """
    found = Tuned()
    if cell.tuned and candidate.ours:
        found = tuned_settings(candidate.base, cell.experiment.id, candidate.settings_class)
    kwargs = dict(cell.experiment.kwargs)
    given = {
        "env": cell.experiment.id,
        "level": kwargs.pop("level", None),
        "env_kwargs": kwargs,
        "steps": cell.experiment.timesteps,
        "n_envs": cell.n_envs,
        "eval_episodes": cell.eval_episodes,
        "seed": cell.seed,
        "device": cell.device,
        "threads": 1,
        "out": Path(cell.out),
        "tuned": cell.tuned,
        "tuned_from": dict(found.sources),
    }
    settings = candidate.settings_class(**{**found.values, **given})
    if not candidate.flags:
        return settings
    flagged = parse(f"benchmarks run --agent {candidate.base}", settings, None, candidate.flags)
    # The common settings are the suite's, except for the model.
    for one in dataclasses.fields(RunSettings):
        if one.name != "lm" and getattr(flagged, one.name) != getattr(settings, one.name):
            flag = one.name.replace("_", "-")
            raise SettingsError(f"--agent {candidate.name}: --{flag} is determined by the suite")
    return flagged


def describe(cell: Cell) -> Record:
    """The record of a cell that has not been run.

    Raises:
        SettingsError: If there is no such agent.
    """
    candidate = load_candidate(cell.agent)
    settings = settings_of(cell, candidate)
    plain = settings_as_json(settings)
    return {
        "version": FORMAT,
        "suite": cell.suite,
        "experiment": cell.experiment.name,
        "env": cell.experiment.id,
        "kwargs": dict(cell.experiment.kwargs),
        "timesteps": cell.experiment.timesteps,
        "tags": list(cell.experiment.tags),
        "floor": cell.experiment.floor,
        "ceiling": cell.experiment.ceiling,
        "agent": candidate.name,
        "seed": cell.seed,
        "status": "failed",
        "error": None,
        "settings": {name: plain[name] for name in plain if name not in _NOT_RECORDED},
        "tuned_from": settings.tuned_from,
        "versions": _versions(),
        "task_hash": _task_hash(cell.experiment.name, cell.experiment),
        "lm_hash": lm_hash(cell.experiment, settings.lm),
        "agent_hash": candidate.hash,
        "before": None,
        "after": None,
        "curve": [],
        "diagnostics": {},
        "samples": [],
        "wall_seconds": 0.0,
        "cpu_seconds": 0.0,
        "tokens_per_second": None,
    }


def run_cell(cell: Cell) -> Record:
    """Evaluate, train and evaluate again.

    Returns:
        The record; its random parts are determined by the cell.
    """
    began = time.perf_counter()
    record = describe(cell)
    candidate = load_candidate(cell.agent)
    settings = settings_of(cell, candidate)
    unknown_device(cell.device)
    torch.set_num_threads(1)
    random.seed(cell.seed)
    np.random.seed(cell.seed)
    torch.manual_seed(cell.seed)

    def make_eval_env(n_envs: int, seed: int) -> VecEnv:
        return make_env(settings, n_envs, seed, "eval")

    venv = Episodes(
        make_env(settings, settings.n_envs, cell.seed, "train", **settings.train_kwargs)
    )
    given = {"settings": settings} if candidate.takes_settings else {}
    agent: Any = candidate.make_agent(venv, cell.seed, **given)
    if hasattr(agent, "set_logger"):
        agent.set_logger(Logger(None, []))

    def evaluation() -> Evaluation:
        return evaluate(agent, make_eval_env, cell.eval_episodes, cell.n_envs)

    warm = None
    if isinstance(settings, LMSettings) and settings.warm_start:
        # A cell is done again as a whole, so nothing of it is saved on its way.
        starter = WarmStarter(dataclasses.replace(settings, checkpoint_every=0))
        with tempfile.TemporaryDirectory() as folder:
            warm = starter.run(Path(folder), evaluation, "eval", Console(quiet=True))
            given = {"settings": dataclasses.replace(settings, lm=warm.lm)}
            agent = candidate.make_agent(venv, cell.seed, **given)
        if hasattr(agent, "set_logger"):
            agent.set_logger(Logger(None, []))
    before = evaluation() if warm is None else warm.before
    heard, diagnostics = Heard(), DiagnosticsCallback(warn=lambda *_: None)
    callback = CallbackList([heard, diagnostics])
    # In rollouts. A2C's own default is 100.
    logs = {"log_interval": 1} if isinstance(agent, OnPolicyAlgorithm) else {}
    training = time.perf_counter()
    agent.learn(cell.experiment.timesteps, callback=callback, **logs)
    seconds = time.perf_counter() - training
    after = evaluation()
    # An agent that learns from a file counts its tokens itself; one that does not learn has none.
    steps = max(venv.steps, int(getattr(agent, "num_timesteps", 0)))
    return {
        **record,
        "status": "done",
        "before": _evaluation(before),
        "after": _evaluation(after),
        "curve": learning_curve(heard.episodes or venv.episodes),
        "diagnostics": {
            "courses": thinned(diagnostics.watch.courses(), DIAGNOSED_POINTS),
            "warnings": [list(warning) for warning in diagnostics.watch.warnings],
        },
        "samples": [
            {"prompt": prompt, "before": first, "after": last}
            for prompt, first, last, _ in zip(
                before.prompts, before.responses, after.responses, range(SAMPLES), strict=False
            )
        ],
        "wall_seconds": round(time.perf_counter() - began, 3),
        # Of the process and its children, such as a code task's sandbox.
        "cpu_seconds": round(sum(os.times()[:4]), 3),
        "tokens_per_second": round(steps / seconds, 3) if steps else None,
        **({} if warm is None else {"warm_start": warm.results()}),
    }


class Episodes(StepCounter):
    """Records the returns of an agent without callbacks.

    Attributes:
        episodes: For each finished episode, the steps until then and the return.
    """

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        self.episodes: list[tuple[int, float]] = []

    def step_wait(self) -> VecEnvStepReturn:
        """Record the episodes that ended."""
        observations, rewards, dones, infos = super().step_wait()
        self.episodes += _ended(self.steps, dones, infos)
        return observations, rewards, dones, infos


class Heard(BaseCallback):
    """Records the returns that an agent reports: only the agent knows which episodes are training.

    Attributes:
        episodes: For each finished episode, the steps until then and the return.
    """

    def __init__(self) -> None:
        super().__init__()
        self.episodes: list[tuple[int, float]] = []

    def _on_step(self) -> bool:
        if "dones" in self.locals and "infos" in self.locals:
            ended = _ended(self.num_timesteps, self.locals["dones"], self.locals["infos"])
            self.episodes += ended
        return True


def learning_curve(
    episodes: Sequence[tuple[int, float]], points: int = POINTS
) -> list[list[float]]:
    """Mean returns of the episodes that ended in each of some equal stretches of the training.

    Args:
        episodes: Steps and return of each, in order.
        points: Number of stretches; those in which no episode ended are left out.

    Returns:
        ``[steps of its last episode, mean return]`` of each stretch.
    """
    stretches: dict[int, list[tuple[int, float]]] = {}
    for steps, value in episodes:
        stretches.setdefault(-(-steps * points // max(1, episodes[-1][0])), []).append(
            (steps, value)
        )
    return [
        [part[-1][0], round(float(np.mean([value for _, value in part])), 6)]
        for part in stretches.values()
    ]


def _ended(steps: int, dones: Any, infos: Any) -> list[tuple[int, float]]:
    return [(steps, float(infos[row]["episode"]["r"])) for row in np.flatnonzero(dones)]


def _evaluation(found: Evaluation) -> dict[str, Any]:
    terms = {name: round(mean, 6) for name, mean in found.term_means().items()}
    scores = {"mean": found.mean, "ci95": found.half_width, "returns": found.returns}
    return {**scores, "terms": terms} if terms else scores


@cache
def _versions() -> dict[str, str]:
    packages = ("gymnasium", "numpy", "stable-baselines3", "torch", "transformers")
    return {
        "textgym": textgym.__version__,
        **{name: version(name) for name in packages},
        "python": platform.python_version(),
    }


_HASHES: dict[str, str] = {}


def _task_hash(name: str, experiment: Experiment) -> str:
    """A task's hash takes thousands of scores, and is the same for all its cells."""
    if name not in _HASHES:
        _HASHES[name] = task_hash(experiment)
    return _HASHES[name]

"""Runs of agents: :func:`run`, and the settings that all agents share.

An agent's file passes a factory ``make_agent(venv, seed)`` to :func:`run`. An agent is any object
with the interface of Stable-Baselines3 (:class:`agents.running.evaluation.Agent`).

A run writes one folder, ``runs/<env>-<agent>-<time>/``:

* ``run.json``: the resolved settings, versions and results;
* ``curve.png``: reward during training, and the evaluations before and after;
* ``diagnostics.png``: what to watch in a training (:class:`textgym.sb3.DiagnosticsCallback`);
* ``samples.jsonl``: the evaluation prompts with the texts before and after;
* ``progress.csv`` and TensorBoard events: all logged values, and sample texts;
* ``model.zip`` (for ``load`` of the agent's class, such as ``PPO.load``, which unpickles it, or for
  :func:`textgym.sb3.load_agent`, which executes nothing from it; REINFORCE writes a
  ``model.safetensors`` for ``LMPolicy.load``, Q-learning a ``model.npz`` for ``QLearning.load``)
  and ``lm/`` (for ``LanguageModel.load`` and transformers), where the agent has them. The reference
  model, from which the training started, is found by its name and has to stay where it is;
* ``checkpoints/``: the state that ``--resume`` continues from (:mod:`agents.running.resuming`);
* ``warm-start/``: the same of a warm start, and its model (:mod:`agents.running.warm_start`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from agents.running.lm_settings import CriticSettings, LMSettings, ModelSettings
from agents.running.run_record import check_run
from agents.running.settings import RunSettings, StepSettings
from textgym.errors import SettingsError

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

    from agents.running.evaluation import Agent

__all__ = [
    "CriticSettings",
    "LMSettings",
    "ModelSettings",
    "RunSettings",
    "StepSettings",
    "run",
]


def run(name: str, settings: RunSettings, make_agent: Callable[[VecEnv, int], Agent]) -> Path:
    """Evaluate, train, evaluate again if the agent learns, and write the run's folder.

    Ctrl-C ends the training but not the run: the agent is evaluated and saved as it is, and the run
    can be resumed, like one that was killed.

    Args:
        name: The agent's name.
        settings: The settings of the run.
        make_agent: The agent's factory, from vector environment and seed to an agent. Bind further
            arguments with `functools.partial`. For a warm start it takes ``settings``, whose ``lm``
            is the language model.

    Returns:
        The run's folder.

    Raises:
        SettingsError: If there are too few evaluation episodes for an interval, the run cannot be
            resumed with these settings, another process is running it, torch does not know the
            device, or no folder can be made.
        StorageError: If a file cannot be written; the file that it replaces stays intact.
    """
    if settings.eval_episodes < 2:
        raise SettingsError(
            f"--eval-episodes {settings.eval_episodes}: a confidence interval takes at least 2"
        )
    if settings.resume is not None:
        check_run(settings.resume, settings, name)
    # Imported here, so that errors of settings do not wait for torch.
    from agents.running.experiment import experiment

    return experiment(name, settings, make_agent)

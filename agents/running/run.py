"""What every agent's command line shares: settings, environments, and the course of a run.

An agent's own file holds its algorithm and settings, and hands a factory ``make_agent(venv, seed)``
to :func:`run`. An agent is anything with the interface of Stable-Baselines3: see
:class:`agents.running.evaluation.Agent`.

A run writes one folder, ``runs/<env>-<agent>-<time>/``:

* ``run.json``: the settings as resolved, versions and results;
* ``curve.png``: reward during training, and the evaluations before and after;
* ``samples.jsonl``: the evaluation prompts with the texts before and after;
* ``progress.csv`` and TensorBoard events: every logged number, and sample texts;
* ``model.zip`` (for ``load`` of the agent's class, such as ``PPO.load``, which unpickles it, or for
  :func:`textgym.sb3.load_agent`, which runs nothing in it; REINFORCE writes a
  ``model.safetensors`` for ``LMPolicy.load``, Q-learning a ``model.npz`` for ``QLearning.load``)
  and ``lm/`` (for ``LanguageModel.load`` and transformers), where the agent has them. The agent
  finds the model that it started from, its reference, by its name: that has to stay where it was;
* ``checkpoints/``: what ``--resume`` goes on from, however the run ended
  (:mod:`agents.running.resuming`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from agents.running.command_line import Json
from agents.running.validation import at_least, within
from textgym.errors import SettingsError

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv
    from stable_baselines3.common.vec_env import VecEnv

    from agents.running.evaluation import Agent


@dataclass
class RunSettings:
    """Settings of a run that do not depend on the algorithm."""

    env: str | None = None
    """Environment id. Default: TextGen/Sentiment-v0, or TextGen-v0 when --prompts is given."""
    prompts: str | None = None
    """Prompts of your own: a .jsonl, .csv, .parquet or .txt file, hf:NAME, reasoning_gym:NAME."""
    eval_prompts: str | None = None
    """Prompts to evaluate on, in the same forms; no agent may be trained on them."""
    eval_share: float | None = None
    """Share of --prompts that is held out for evaluation, by a hash of each prompt.
    Default: 0.1 where they have no evaluation split. With 0 the training prompts are measured."""
    reward: str | None = None
    """Reward function: a registered name, or module:function (looked up from this folder)."""
    lm: str | None = None
    """Folder or hub name of a language model, whose tokenizer the environment then uses."""
    level: int | None = None
    """Difficulty of a built-in task. Default: the task's own."""
    chat: Literal["auto", "true", "false"] | None = None
    """Whether the chat template of --lm renders the prompts. Default: auto, if they are messages.
    With true a prompt that is a string is one message of the user."""
    max_prompt_tokens: int | None = None
    """Longest prompt. Default: the environment's own."""
    max_new_tokens: int | None = None
    """Token budget of a response. Default: the environment's own."""
    env_kwargs: Json = field(default_factory=dict)
    """Further arguments of the environment, as JSON: '{"stop": ["."], "stop_at_eos": false}'."""
    steps: int = 100_000
    """Length of training in environment steps: one step is one token of one episode.
    Agents that learn from rollouts end with a whole one."""
    n_envs: int = 128
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
    checkpoint_every: int | None = None
    """Environment steps between two checkpoints; 0 saves none.
    Default: 20,000, where the agent can be resumed."""
    resume: Path | None = None
    """Folder of a run that was interrupted: go on with it, to the same result.
    Its settings count; --steps may be more, and --device, --threads, --checkpoint-every others."""
    tuned: bool = True
    """Take what was tuned for the environment (agents/settings) for defaults; flags still win."""
    tuned_from: tyro.conf.Suppress[dict[str, str]] = field(default_factory=dict)
    """Where tuned settings come from, by entry; the command line notes it for run.json."""

    def __post_init__(self) -> None:
        """Refuse impossible numbers.

        Raises:
            SettingsError: If there is one.
        """
        at_least(0, steps=self.steps)
        at_least(1, n_envs=self.n_envs, threads=self.threads)
        within(0, 2**31, seed=self.seed)
        if self.eval_share is not None and not 0 <= self.eval_share < 1:
            raise SettingsError(f"--eval-share {self.eval_share}: it has to be from 0 to below 1")
        if self.eval_share and not (self.prompts or self.env_kwargs.get("prompts")):
            raise SettingsError(
                f"--eval-share {self.eval_share}: this is for --prompts of your own; a task has "
                "evaluation prompts already"
            )
        if self.eval_prompts is not None and self.eval_share is not None:
            raise SettingsError("--eval-prompts and --eval-share: leave one of the two out")

    @property
    def env_id(self) -> str:
        """The environment id, with its default resolved."""
        return self.env or ("TextGen-v0" if self.prompts else "TextGen/Sentiment-v0")

    @property
    def train_kwargs(self) -> dict[str, Any]:
        """Arguments of the training environment alone, as the agent needs them."""
        return {}

    def wrap(self, envs: VectorEnv[Any, Any, Any]) -> VectorEnv[Any, Any, Any]:
        """Wrap the batch as the agent needs it; an agent that chooses tokens needs nothing."""
        return envs


def run(name: str, settings: RunSettings, make_agent: Callable[[VecEnv, int], Agent]) -> Path:
    """Evaluate, train, evaluate again if anything was trained, and write everything down.

    Ctrl-C ends the training but not the run: what was learned so far is evaluated and saved, and
    the run can be resumed, as can one that was killed.

    Args:
        name: The agent's name.
        settings: The settings of the run.
        make_agent: The agent's factory, from vector environment and seed to an agent. One that
            takes settings of its own gets them by `functools.partial`.

    Returns:
        The run's folder.

    Raises:
        SettingsError: If there are too few evaluation episodes for an interval, or the run cannot
            be resumed as the settings ask, another process is running it, torch does not know the
            device, or no folder can be made.
        StorageError: If a file cannot be written; the one that it was to replace is intact.
    """
    # Here, so that reading settings does not wait for torch.
    from agents.running.experiment import experiment

    return experiment(name, settings, make_agent)

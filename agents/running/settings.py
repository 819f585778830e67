"""The settings that all agents share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from agents.running.command_line import Json
from agents.running.validation import above, at_least, within
from textgym.errors import SettingsError

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

Tracker = Literal["tensorboard", "wandb", "trackio", "mlflow"]
"""The name of an experiment tracker."""


@dataclass
class RunSettings:
    """Settings of a run, which all agents share."""

    env: str | None = None
    """Environment id. Default: TextGen/Sentiment-v0, or TextGen-v0 when --prompts is given."""
    prompts: str | None = None
    """Your prompts: a .jsonl, .csv, .parquet or .txt file, hf:NAME, or reasoning_gym:NAME."""
    eval_prompts: str | None = None
    """Prompts to evaluate on, in the same forms; they may not be among the training prompts."""
    eval_share: float | None = None
    """Share of --prompts that is held out for evaluation, by a hash of each prompt.
    Default: 0.1 where they have no evaluation split. With 0 the training prompts are evaluated."""
    reward: str | None = None
    """Reward function: a registered name, or module:function (also of this folder)."""
    lm: str | None = None
    """Language model, a folder or hub name; the environment uses its tokenizer."""
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
    """Length of the training in environment steps: one step is one token of one episode.
    The last rollout is always completed."""
    cpu_minutes: float | None = None
    """End the training after this many CPU minutes, if it is not over by then: at the end of an
    update. A warm start counts, evaluations do not. Default: no limit."""
    n_envs: int = 128
    """Number of episodes that are written in parallel."""
    eval_episodes: int = 128
    """Number of evaluation episodes, before and after training."""
    eval_every: int | None = None
    """Evaluate during the training too, whenever this many environment steps are over, and keep the
    best agent in the folder best/."""
    seed: int = 0
    """Seed of prompts, sampling and initial weights."""
    device: str = "auto"
    """Device of the language model: auto, cpu, cuda, ..."""
    threads: int | None = None
    """CPU threads of torch. Default: torch's own choice."""
    out: Path = Path("runs")
    """Folder in which the run gets a folder of its own."""
    track: tuple[Tracker, ...] = ("tensorboard",)
    """Experiment trackers that get the logged values, besides progress.csv. wandb, trackio and
    mlflow are extras; their variables (WANDB_MODE=offline, MLFLOW_TRACKING_URI) work as usual."""
    checkpoint_every: int | None = None
    """Environment steps between two checkpoints; 0 saves none.
    Default: 20,000, where the agent can be resumed."""
    resume: Path | None = None
    """Folder of an interrupted run: continue it, to the same result as without interruption.
    Its settings are used; --steps may be raised, --device, --threads, --checkpoint-every differ."""
    tuned: bool = True
    """Use the tuned settings of the environment (agents/settings) as defaults."""
    tuned_from: tyro.conf.Suppress[dict[str, str]] = field(default_factory=dict)
    """The sources of the tuned settings in use, by entry; set by the command line."""

    def __post_init__(self) -> None:
        """Refuse impossible numbers.

        Raises:
            SettingsError: If there is one.
        """
        at_least(0, steps=self.steps)
        at_least(1, n_envs=self.n_envs, threads=self.threads)
        at_least(1, eval_every=self.eval_every)
        above(0, cpu_minutes=self.cpu_minutes)
        within(0, 2**31, seed=self.seed)
        if self.eval_share is not None and not 0 <= self.eval_share < 1:
            raise SettingsError(f"--eval-share {self.eval_share}: it has to be from 0 to below 1")
        if self.eval_share and not (self.prompts or self.env_kwargs.get("prompts")):
            raise SettingsError(
                f"--eval-share {self.eval_share}: this is for --prompts; a task has evaluation "
                "prompts already"
            )
        if self.eval_prompts is not None and self.eval_share is not None:
            raise SettingsError("--eval-prompts and --eval-share: leave one of the two out")

    def settle(self) -> None:
        """Replace what depends on the machine, so that a resumed run is the same on another one."""

    @property
    def env_id(self) -> str:
        """The environment id, with its default resolved."""
        return self.env or ("TextGen-v0" if self.prompts else "TextGen/Sentiment-v0")

    @property
    def train_kwargs(self) -> dict[str, Any]:
        """Arguments that the agent needs in the training environment, but not in evaluation."""
        return {}

    def wrap(self, envs: VectorEnv[Any, Any, Any]) -> VectorEnv[Any, Any, Any]:
        """Wrap the batch as the agent needs it. By default, actions are tokens."""
        return envs


@dataclass
class StepSettings(RunSettings):
    """Settings shared by agents that credit each token with the rewards that follow it."""

    gamma: float = 1.0
    """Discount, which each agent's own file documents."""
    dense: bool = False
    """Reward each sentence, token or turn in training, where the environment's task can judge an
    unfinished text. The best policy stays the best (potential-based shaping)."""

    @property
    def train_kwargs(self) -> dict[str, Any]:
        """Arguments of the training environment alone: an evaluation is of the score."""
        shaping = {"dense": True, "step_reward_gamma": self.gamma} if self.dense else {}
        return {**super().train_kwargs, **shaping}

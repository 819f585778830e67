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
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from gymnasium.vector import VectorEnv
from rich.console import Console
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from agents.running.command_line import Json
from agents.running.environments import make_env
from agents.running.evaluation import Agent, evaluate
from agents.running.held_out import EvalPrompts, eval_prompts
from agents.running.logs import open_logger
from agents.running.report import StepCounter, TrainingLog, plot, side_by_side, write_samples
from agents.running.resuming import Saver
from agents.running.run_record import check_run, new_folder, write_record
from agents.running.validation import at_least, unknown_device, within
from agents.running.word_model import WORD_MODELS
from textgym.errors import SettingsError
from textgym.sb3 import LMPolicy, keep_kl_coef
from textgym.storage.files import replacing_folder
from textgym.storage.lock import locked


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
    if settings.eval_episodes < 2:
        raise SettingsError(
            f"--eval-episodes {settings.eval_episodes}: a confidence interval takes at least 2"
        )
    unknown_device(settings.device)
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--out {settings.out}: no folder can be made there: {error}") from None
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    if settings.resume is not None:
        check_run(settings.resume, settings, name)
    console = Console()
    venv = StepCounter(
        make_env(settings, settings.n_envs, settings.seed, "train", **settings.train_kwargs)
    )
    judged_on = eval_prompts(settings, venv)
    agent = make_agent(venv, settings.seed)
    log = TrainingLog(settings.steps)
    saver = Saver(agent, settings, log)
    folder = settings.resume or new_folder(settings, name)
    with locked(folder):
        return _run_in(folder, name, settings, agent, venv, judged_on, saver, console)


def _run_in(
    folder: Path,
    name: str,
    settings: RunSettings,
    agent: Any,
    venv: StepCounter,
    judged_on: EvalPrompts,
    saver: Saver,
    console: Console,
) -> Path:
    """The part of `run` that reads and writes the run's folder, which no other run uses now."""
    saved = saver.open(folder)
    write_record(folder, name, settings)
    logger = open_logger(folder, saved, resumes=settings.resume is not None)
    if hasattr(agent, "set_logger"):
        agent.set_logger(logger)

    policy = getattr(agent, "policy", None)
    if isinstance(policy, LMPolicy):
        console.print(f"language model: {_origin(policy)}", soft_wrap=True)
    with closing(logger):
        if saved is None:
            if settings.resume is not None:
                console.print(f"{folder}: nothing was saved yet, so the run begins anew")
            before = evaluate(agent, judged_on.make_env, settings.eval_episodes, settings.n_envs)
            logger.record(f"{judged_on.key}/reward", before.mean)
            logger.dump(0)
        else:
            before = saved.before
            console.print(f"{folder}: resumed at {saved.steps:,} of {settings.steps:,} steps")
        console.print(f"{settings.env_id}: reward before training {before} ({judged_on})")
        interrupted = saver.learn(before, console)
        if interrupted:
            console.print("Interrupted: evaluating and saving what was learned so far.")
        if isinstance(agent, OnPolicyAlgorithm):
            keep_kl_coef(agent)
        # Now: Ctrl-C in the evaluation does not lose it.
        if hasattr(agent, "save"):
            with replacing_folder(folder) as scratch:
                agent.save(str(scratch / "model"))
        if isinstance(policy, LMPolicy):
            policy.lm.save_pretrained(folder / "lm")
        # An agent that learns from a file counts its tokens itself.
        steps = max(venv.steps, getattr(agent, "num_timesteps", 0))
        trained = getattr(agent, "learns", True)
        after = before
        if trained:
            after = evaluate(agent, judged_on.make_env, settings.eval_episodes, settings.n_envs)
            logger.record(f"{judged_on.key}/reward", after.mean)
            logger.dump(steps)

    plot(
        folder / "curve.png",
        f"{name} on {settings.env_id}",
        steps,
        saver.log,
        before,
        after,
        prompts=str(judged_on),
    )
    write_samples(folder, before, after)
    results = {
        "steps": steps,
        "seconds": round(saver.seconds, 1),
        "interrupted": interrupted,
        "eval_split": judged_on.split if judged_on.held_out else None,
        f"{judged_on.key}_before": before.summary(),
        f"{judged_on.key}_after": after.summary(),
        # What "auto" came to.
        **({"device": str(agent.device)} if hasattr(agent, "device") else {}),
    }
    write_record(folder, name, settings, results)

    side_by_side(console, before, after)
    models = "".join(f"model:  {path}\n" for path in sorted(folder.glob("model*")))
    rewards = f"before {before}, after {after}" if trained else str(before)
    console.print(
        f"reward {rewards} "
        f"(mean of {len(after.returns)} {judged_on}, 95% confidence interval)\n"
        f"{steps:,} tokens in {saver.seconds:.0f} s\n"
        f"curve:  {folder / 'curve.png'}\n"
        f"{models}"
        f"logs:   tensorboard --logdir {folder}"
        + (f"\nresume: {advice}" if interrupted and (advice := saver.advice(name)) else ""),
        soft_wrap=True,
    )
    return folder


def _origin(policy: LMPolicy) -> str:
    """Name a policy's language model, and say so if it has learned nothing yet."""
    lm = policy.lm
    if Path(lm.name).parent.name != WORD_MODELS:
        return lm.name
    return (
        f"a small GPT-2 with random weights, made for the environment's {lm.vocab_size} words\n"
        f"({lm.name})"
    )

"""One run: evaluation, training, evaluation, and the files in the run's folder.

:mod:`agents.running.run` lists the files, and its `run` calls this module.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from agents.running.diagnosis import plot_diagnostics, print_table, print_warning, summary
from agents.running.environments import make_env, own_prompts
from agents.running.evaluation import Agent, Evaluation, evaluate
from agents.running.held_out import EvalPrompts, eval_prompts
from agents.running.lm_settings import LMSettings
from agents.running.logs import open_logger
from agents.running.midway import BEST, Evaluations, WeightAverage
from agents.running.report import (
    Measured,
    StepCounter,
    TrainingLog,
    plot,
    side_by_side,
    write_samples,
)
from agents.running.resuming import PROGRESS, Saver, resume_advice
from agents.running.run_record import new_folder, settings_as_json, write_record
from agents.running.saved_models import describe_training, save_lm, write_card
from agents.running.settings import RunSettings
from agents.running.validation import unknown_device
from agents.running.warm_start import WarmStart, WarmStarter, finished
from agents.running.word_model import WORD_MODELS
from textgym.errors import SettingsError
from textgym.sb3 import DiagnosticsCallback, LMPolicy, keep_kl_coef
from textgym.storage.files import replacing_folder
from textgym.storage.lock import locked


def experiment(
    name: str, settings: RunSettings, make_agent: Callable[[VecEnv, int], Agent]
) -> Path:
    """Evaluate, train, evaluate again, and write everything down; see `agents.running.run.run`."""
    unknown_device(settings.device)
    if settings.resume is None:
        settings.settle()  # In place: the factory has the same settings.
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--out {settings.out}: no folder can be made there: {error}") from None
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    console = Console()
    venv = StepCounter(
        make_env(settings, settings.n_envs, settings.seed, "train", **settings.train_kwargs)
    )
    prompts = eval_prompts(settings, venv)
    agent: Any = make_agent(venv, settings.seed)
    saver = _saver(agent, settings)
    warm, starter = None, None
    if isinstance(settings, LMSettings) and settings.warm_start:
        warm = finished(settings.resume)
        starter = None if warm else WarmStarter(settings)
    folder = settings.resume or new_folder(settings, name)
    with locked(folder):
        if starter is not None:
            write_record(folder, name, settings)
            warm = _warmed_up(folder, name, settings, agent, prompts, starter, console)
        if warm is not None:
            del agent  # Its model and reference are of no further use.
            agent = _with_lm(make_agent, settings, warm.lm)(venv, settings.seed)
            saver = _saver(agent, settings, warm.cpu_seconds)
        return _run_in_folder(folder, name, settings, agent, venv, prompts, saver, console, warm)


def _saver(agent: Agent, settings: RunSettings, spent: float = 0.0) -> Saver:
    log, diagnostics = TrainingLog(settings.steps), DiagnosticsCallback(warn=print_warning)
    return Saver(agent, settings, log, diagnostics, spent)


def _warmed_up(
    folder: Path,
    name: str,
    settings: RunSettings,
    agent: Agent,
    prompts: EvalPrompts,
    starter: WarmStarter,
    console: Console,
) -> WarmStart:
    """Do the warm start; `agent` is the one that is evaluated before it."""

    def before() -> Evaluation:
        return evaluate(agent, prompts.make_env, settings.eval_episodes, settings.n_envs)

    try:
        return starter.run(folder, before, prompts.key, console)
    except KeyboardInterrupt:
        advice = resume_advice(name, folder)
        console.print(f"Interrupted in the warm start.\nresume: {advice}", soft_wrap=True)
        raise


def _with_lm(
    make_agent: Callable[..., Agent], settings: RunSettings, lm: str
) -> Callable[[VecEnv, int], Agent]:
    """The factory of the same agent with another language model.

    Raises:
        SettingsError: If the factory does not take settings.
    """
    if "settings" not in inspect.signature(make_agent).parameters:
        raise SettingsError(
            "--warm-start: the agent's factory has to take the language model from its settings; "
            "give run() partial(make_agent, settings=settings)"
        )
    return partial(make_agent, settings=dataclasses.replace(settings, lm=lm))


def _run_in_folder(
    folder: Path,
    name: str,
    settings: RunSettings,
    agent: Any,
    venv: StepCounter,
    prompts: EvalPrompts,
    saver: Saver,
    console: Console,
    warm: WarmStart | None,
) -> Path:
    """The part of `experiment` after the warm start, in the folder, which is locked."""
    policy = getattr(agent, "policy", None)
    adapter: bool = getattr(settings, "save_adapter", True)

    def save(where: Path) -> None:
        if hasattr(agent, "save"):
            agent.save(str(where / "model"))
        if isinstance(policy, LMPolicy):
            save_lm(policy.lm, where / "lm", adapter)

    def evaluated() -> Evaluation:
        return evaluate(agent, prompts.make_env, settings.eval_episodes, settings.n_envs)

    average = None
    decay = getattr(settings, "ema", None)
    if decay is not None and isinstance(policy, LMPolicy):
        average = saver.midway["average"] = WeightAverage(policy, decay)
    midway = None
    if settings.eval_every is not None:
        midway = saver.midway["evaluations"] = Evaluations(
            settings.eval_every, evaluated, prompts.key, save, folder, console, average
        )
    saved = saver.open(folder)
    write_record(folder, name, settings)
    logger = open_logger(
        folder, saved, settings.resume is not None, settings.track, settings_as_json(settings)
    )
    if hasattr(agent, "set_logger"):
        agent.set_logger(logger)

    if isinstance(policy, LMPolicy):
        console.print(f"language model: {_origin(policy)}", soft_wrap=True)
        if getattr(agent, "learns", True):
            console.print(describe_training(policy, adapter), soft_wrap=True)
    with closing(logger):
        if saved is None:
            if settings.resume is not None:
                since = "the run starts over" if warm is None else "it starts from the warm start"
                console.print(f"{folder}: there is no checkpoint yet, so {since}")
            before = evaluated()
            logger.record(f"{prompts.key}/reward", before.mean)
            logger.dump(0)
        else:
            before = saved.before
            console.print(f"{folder}: resumed at {saved.steps:,} of {settings.steps:,} steps")
        _print_default_reward(settings, venv, console)
        different = len(set(before.prompts))
        users = own_prompts(settings) is not None or settings.eval_prompts is not None
        if users and different < min(8, len(before.prompts)):
            console.print(
                f"{len(before.prompts)} evaluation episodes are on {different} different prompts: "
                "intervals say nothing about other prompts"
            )
        when = "before training" if warm is None else "after the warm start"
        console.print(f"{settings.env_id}: reward {when} {before} ({prompts})")
        interrupted = saver.learn(before, console)
        if interrupted:
            console.print("Interrupted: evaluating and saving the agent as it is.")
        if isinstance(agent, OnPolicyAlgorithm):
            keep_kl_coef(agent)
        if average is not None:
            average.finish()
        # Before the evaluation, in which Ctrl-C would lose the agent.
        with replacing_folder(folder) as scratch:
            save(scratch)
        # An agent that learns from a file counts its own tokens.
        steps = max(venv.steps, getattr(agent, "num_timesteps", 0))
        trained = getattr(agent, "learns", True)
        after = before
        if trained:
            after = evaluated()
            logger.record(f"{prompts.key}/reward", after.mean)
            logger.dump(steps)

    done = _Outcome(before, after if trained else None, steps, interrupted, warm, midway)
    _write_down(folder, name, settings, agent, prompts, saver, done, console)
    return folder


@dataclasses.dataclass(frozen=True)
class _Outcome:
    """What came of a run.

    Attributes:
        before: The evaluation before training.
        after: That after it; None for an agent that learns nothing.
        steps: Environment steps.
        interrupted: Whether Ctrl-C ended the training.
        warm: The warm start, if there was one.
        midway: The evaluations during the training, if there were any.
    """

    before: Evaluation
    after: Evaluation | None
    steps: int
    interrupted: bool
    warm: WarmStart | None
    midway: Evaluations | None

    @property
    def evaluations(self) -> dict[str, Evaluation]:
        """The evaluations with texts, by name."""
        found = {"before": self.before}
        if self.warm is not None:
            found = {"before": self.warm.before, "warm_started": self.before}
        return found if self.after is None else {**found, "after": self.after}

    @property
    def places(self) -> list[tuple[int, Measured]]:
        """All evaluations with their environment steps, for the curve."""
        found: list[tuple[int, Measured]] = [(0, self.before)]
        if self.warm is not None:
            found.insert(0, (-self.warm.tokens, self.warm.before))
        if self.midway is not None:
            found += [(point.steps, point) for point in self.midway.points]
        return [*found, (self.steps, self.after or self.before)]


def _write_down(
    folder: Path,
    name: str,
    settings: RunSettings,
    agent: Any,
    prompts: EvalPrompts,
    saver: Saver,
    done: _Outcome,
    console: Console,
) -> None:
    """Write the files of a run that is over, and print its results."""
    evaluations, warm = done.evaluations, done.warm
    title = f"{name} on {settings.env_id}"
    plot(folder / "curve.png", title, saver.log, done.places, prompts=str(prompts))
    courses, warnings = saver.diagnostics.watch.courses(), saver.diagnostics.watch.warnings
    plot_diagnostics(folder / "diagnostics.png", title, courses)
    write_samples(folder, evaluations)
    points = [] if done.midway is None else done.midway.points
    best = None if done.midway is None else done.midway.best
    policy = getattr(agent, "policy", None)
    results = {
        "steps": done.steps,
        "seconds": round(saver.seconds, 1),
        "cpu_seconds": round(saver.cpu_seconds, 1),
        "interrupted": done.interrupted,
        "out_of_time": saver.out_of_time,
        "eval_split": prompts.split if prompts.held_out else None,
        # An agent that learns nothing is evaluated once.
        **{
            f"{prompts.key}_{when}": found.summary()
            for when, found in ({"after": done.before} | evaluations).items()
        },
        **({"evaluations": list(map(dataclasses.asdict, points))} if points else {}),
        **({"best": dataclasses.asdict(best)} if best else {}),
        **({} if warm is None else {"warm_start": warm.results()}),
        **({"diagnostics": summary(courses, warnings)} if courses else {}),
        # What "auto" stood for.
        **({"device": str(agent.device)} if hasattr(agent, "device") else {}),
        **({"dtype": str(policy.lm.compute_dtype)} if isinstance(policy, LMPolicy) else {}),
    }
    write_record(folder, name, settings, results)
    if isinstance(policy, LMPolicy):
        plain = settings_as_json(settings)
        write_card(folder / "lm", name, plain, policy.lm_name, evaluations, done.steps)

    side_by_side(console, evaluations)
    print_table(console, courses, warnings)
    models = "".join(f"model:  {path}\n" for path in sorted(folder.glob("model*")))
    if best is not None:
        models += f"best:   {folder / BEST}, reward {best.mean:.3f} at {best.steps:,} steps\n"
    said = [f"{when.replace('_', ' ')} {found}" for when, found in evaluations.items()]
    advice = saver.advice(name) if done.interrupted else ""
    board = "tensorboard" in settings.track
    logs = f"tensorboard --logdir {folder}" if board else str(folder / PROGRESS)
    console.print(
        f"reward {done.before if done.after is None else ', '.join(said)} "
        f"(mean of {len(done.before.returns)} {prompts}, 95% confidence interval)\n"
        f"{_spent(settings, saver, done)}\n"
        f"curve:  {folder / 'curve.png'}\n"
        f"{models}"
        f"logs:   {logs}" + (f"\nresume: {advice}" if advice else ""),
        soft_wrap=True,
    )


def _spent(settings: RunSettings, saver: Saver, done: _Outcome) -> str:
    """Tokens and time, in a sentence."""
    spent = f"{done.steps:,} tokens in {saver.seconds:.0f} s ({saver.cpu_seconds:.0f} CPU s)"
    if done.warm is not None:
        spent = f"{done.warm}, then {spent}"
    if saver.out_of_time:
        spent += f": --cpu-minutes {settings.cpu_minutes} ended the training"
    return spent


def _print_default_reward(settings: RunSettings, venv: VecEnv, console: Console) -> None:
    """Say by which reward a user's prompts are scored, if nothing chose it."""
    if own_prompts(settings) is None or settings.reward or "reward" in settings.env_kwargs:
        return
    reward = venv.get_attr("settings", [0])[0].source.default_reward()
    if isinstance(reward, str):
        console.print(f"reward: {reward}, the default for these prompts (--reward chooses another)")


def _origin(policy: LMPolicy) -> str:
    """The name of a policy's language model, with a note if it is a new one."""
    lm = policy.lm
    if Path(lm.name).parent.name != WORD_MODELS:
        return lm.name
    return (
        f"a small GPT-2 with random weights, made for the environment's {lm.vocab_size} words\n"
        f"({lm.name})"
    )

"""Checkpoints of a run during training, and resuming from them.

Checkpoints contain the agent and its environment (:mod:`textgym.sb3.checkpoints`), and the state of
the run: the evaluation before training, the curve and the logs so far. An agent can be resumed if
it is an on-policy algorithm of Stable-Baselines3, or an off-policy one with an `LMReplayBuffer`, or
has ``get_state()`` and ``set_state(state)`` (:mod:`textgym.sb3.checkpoints.model_state`). All
agents here that learn can.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from agents.running.evaluation import Agent, Evaluation
from agents.running.report import TrainingLog
from textgym.errors import DataError, SettingsError
from textgym.sb3 import (
    Checkpoints,
    DiagnosticsCallback,
    check_resumable,
    latest_checkpoint,
    load_checkpoint,
)

CHECKPOINT_EVERY = 20_000
"""Default number of environment steps between two checkpoints."""

PROGRESS = "progress.csv"


class CheckpointSettings(Protocol):
    """The settings that checkpoints depend on."""

    resume: Path | None
    checkpoint_every: int | None
    cpu_minutes: float | None
    steps: int


@dataclass
class Saved:
    """The state of a run in a checkpoint, apart from the agent and its environment.

    Attributes:
        before: The evaluation before training.
        steps: Environment steps so far.
        seconds: Duration of the training so far.
        progress: The text of progress.csv.
    """

    before: Evaluation
    steps: int
    seconds: float
    progress: str


class Saver:
    """Trains an agent with checkpoints, from the last one in the run's folder if there is one.

    Args:
        agent: The agent.
        settings: The settings of the run.
        log: Progress and curve, which are saved too.
        diagnostics: The diagnostics, which are saved too.
        spent: CPU seconds before this training that count towards ``--cpu-minutes``.

    Attributes:
        seconds: Duration of the training without interruptions.
        cpu_seconds: CPU time of the training, that of child processes which have ended included.
        out_of_time: Whether ``--cpu-minutes`` has ended the training.
        saves: Whether checkpoints are written.
        log: As given.
        diagnostics: As given.
        midway: Further callbacks with a state (:mod:`agents.running.midway`), by name.

    Raises:
        SettingsError: If the agent cannot be resumed, but the settings ask for it.
    """

    def __init__(
        self,
        agent: Agent,
        settings: CheckpointSettings,
        log: TrainingLog,
        diagnostics: DiagnosticsCallback,
        spent: float = 0.0,
    ) -> None:
        self.seconds = self.cpu_seconds = 0.0
        self.out_of_time = False
        self._spent = spent
        self.saves = _is_resumable(agent, settings) and settings.checkpoint_every != 0
        self._agent: Any = agent
        self._settings = settings
        self.log = log
        self.diagnostics = diagnostics
        self.midway: dict[str, Any] = {}
        self._folder = Path()
        self._resumed = False

    def open(self, folder: Path) -> Saved | None:
        """Restore agent, environment and curve from the last checkpoint of a folder.

        Returns:
            The rest of the checkpoint; None without a checkpoint, so that the run starts over.
        """
        self._folder = folder
        if latest_checkpoint(self._checkpoints) is None:
            return None
        extra = load_checkpoint(self._agent, self._checkpoints)
        self._resumed = True
        try:
            self.log.steps, self.log.rewards = extra["curve"]
            self.seconds = extra["seconds"]
            if "diagnostics" in extra:  # Not in checkpoints of version 0.1.0.
                self.diagnostics.set_state(extra["diagnostics"])
            # Not in checkpoints of version 0.1.0, like what follows.
            for name, state in extra.get("midway", {}).items():
                if name in self.midway:
                    self.midway[name].set_state(state)
            self.cpu_seconds = extra.get("cpu_seconds", 0.0)
            before = Evaluation(**extra["before"])
            if not before.returns:
                raise ValueError("the evaluation before training is empty")
            return Saved(before, self._agent.num_timesteps, self.seconds, extra["progress"])
        except (KeyError, TypeError, ValueError, DataError) as error:
            raise SettingsError(
                f"{latest_checkpoint(self._checkpoints)} is not a checkpoint of a run "
                f"({type(error).__name__}: {error}); if there is an older one in its folder, "
                "delete this one"
            ) from error

    def learn(self, before: Evaluation, console: Console) -> bool:
        """Train to the end, until the CPU time is spent, or until Ctrl-C.

        Args:
            before: The evaluation before training.
            console: Prints the effect of Ctrl-C.

        Returns:
            Whether it was interrupted by Ctrl-C.
        """
        began, earlier = time.perf_counter(), self.seconds
        cpu_began, cpu_earlier = cpu_time(), self.cpu_seconds

        def cpu_seconds() -> float:
            return cpu_earlier + cpu_time() - cpu_began

        def extra() -> dict[str, Any]:
            return {
                "before": dataclasses.asdict(before),
                "curve": [self.log.steps, self.log.rewards],
                "diagnostics": self.diagnostics.get_state(),
                "midway": {name: one.get_state() for name, one in self.midway.items()},
                "seconds": earlier + time.perf_counter() - began,
                "cpu_seconds": cpu_seconds(),
                "progress": (self._folder / PROGRESS).read_text("utf-8"),
            }

        callbacks: list[BaseCallback] = [*self.midway.values(), self.diagnostics, self.log]
        checkpoints = None
        if self.saves:
            every = self._settings.checkpoint_every or CHECKPOINT_EVERY
            checkpoints = Checkpoints(self._checkpoints, every, keep=1, extra=extra)
            callbacks.append(checkpoints)
        minutes, limit = self._settings.cpu_minutes, None
        if minutes is not None:
            limit = _CPULimit(60 * minutes - self._spent, cpu_seconds, checkpoints)
            callbacks.insert(0, limit)  # Before the checkpoints, through which it stops.
        try:
            with _interruptible(checkpoints, console):
                steps, others = self._settings.steps, {}
                if isinstance(self._agent, OffPolicyAlgorithm):
                    # In episodes: one line of the log for as many as there are rows.
                    others["log_interval"] = self._agent.n_envs
                elif isinstance(self._agent, OnPolicyAlgorithm):
                    others["log_interval"] = 1  # In rollouts. A2C's own default is 100.
                if self._resumed:
                    steps = max(0, steps - self._agent.num_timesteps)
                    others["reset_num_timesteps"] = False
                self._agent.learn(steps, callback=CallbackList(callbacks), **others)
        except KeyboardInterrupt:
            self.out_of_time = limit is not None and limit.reached
            return not self.out_of_time
        finally:
            self.log.close()
            self.seconds = earlier + time.perf_counter() - began
            self.cpu_seconds = cpu_seconds()
        return False

    def advice(self, name: str) -> str:
        """The command that resumes the run; empty without a checkpoint."""
        return resume_advice(name, self._folder) if latest_checkpoint(self._checkpoints) else ""

    @property
    def _checkpoints(self) -> Path:
        return self._folder / "checkpoints"


def resume_advice(name: str, folder: Path) -> str:
    """The command that resumes the run of an agent in a folder."""
    if not (Path(__file__).parents[1] / f"{name}.py").is_file():
        return f"--resume {folder}, or RunSettings(resume=...)"
    return f"python -m agents.{name} --resume {folder}"


class _CPULimit(BaseCallback):
    """Ends a training between two rollouts, as Ctrl-C does, when its CPU time is spent.

    Args:
        seconds: CPU seconds that the training may take.
        spent: Returns those so far.
        checkpoints: Called after this callback: they save the training before they end it.
    """

    def __init__(
        self, seconds: float, spent: Callable[[], float], checkpoints: Checkpoints | None
    ) -> None:
        super().__init__()
        self.reached = False
        self._seconds, self._spent, self._checkpoints = seconds, spent, checkpoints

    def _on_rollout_start(self) -> None:
        self.reached = self._spent() >= self._seconds
        if self.reached and self._checkpoints is not None:
            self._checkpoints.stop()
        elif self.reached:
            raise KeyboardInterrupt

    def _on_step(self) -> bool:
        return True


def cpu_time() -> float:
    """CPU seconds of this process, and of those of its child processes that have ended."""
    return sum(os.times()[:4])


@contextmanager
def _interruptible(checkpoints: Checkpoints | None, console: Console) -> Iterator[None]:
    """Let Ctrl-C stop the training after the current update; a second one stops it at once."""
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    # Background jobs of a shell ignore Ctrl-C.
    if checkpoints is None or not in_main or before == signal.SIG_IGN:
        yield
        return

    def stop(*_: Any) -> None:
        signal.signal(signal.SIGINT, before)
        console.print("\nInterrupted: finishing the current update. Ctrl-C again stops at once.")
        checkpoints.stop()

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _is_resumable(agent: Any, settings: CheckpointSettings) -> bool:
    """Whether an agent can be resumed.

    Raises:
        SettingsError: If it cannot, but the settings ask for it, or a setting is impossible.
    """
    every = settings.checkpoint_every
    if every is not None and every < 0:
        raise SettingsError(f"--checkpoint-every {every}: give a number of steps, or 0 for none")
    try:
        check_resumable(agent)
        parameters = inspect.signature(agent.learn).parameters
        if "reset_num_timesteps" not in parameters:
            raise SettingsError(
                f"a training by {type(agent).__name__} cannot be resumed: its learn() takes no "
                "reset_num_timesteps=False"
            )
    except (SettingsError, DataError) as error:
        if settings.resume is not None or every:
            flag = f"--checkpoint-every {every}" if settings.resume is None else "--resume"
            raise SettingsError(f"{flag}: {error}") from error
        return False
    return True

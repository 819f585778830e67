"""Output of a run: progress and logs during training, then a learning curve and sample texts."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import matplotlib

matplotlib.use("Agg")  # Writes files only; no display is needed.

import numpy as np
from matplotlib import pyplot as plt
from rich.console import Console
from rich.table import Table
from rich.text import Text
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn
from tqdm import tqdm

from agents.running.evaluation import Evaluation
from textgym.storage.files import replacing, write_bytes


class Measured(Protocol):
    """A mean reward with its interval."""

    @property
    def mean(self) -> float:
        """Mean reward."""

    @property
    def half_width(self) -> float:
        """Half the width of its 95% confidence interval."""


class StepCounter(VecEnvWrapper):
    """Counts environment steps, also of agents without callbacks.

    Attributes:
        steps: Steps so far, all rows together.
    """

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        self.reset_infos = venv.reset_infos  # SB3 fills the list of the inner environment alone.
        self.steps = 0

    def reset(self) -> Any:
        """Start new episodes."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Count the step."""
        self.steps += self.num_envs
        return self.venv.step_wait()

    def get_state(self) -> dict[str, Any]:
        """The state for checkpoints."""
        return {"steps": self.steps}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state of `get_state`."""
        self.steps = state["steps"]


class TrainingLog(BaseCallback):
    """Progress bar, learning curve, speed and a sample text, one record per rollout.

    It works with every algorithm of Stable-Baselines3. All other values are logged by
    :class:`textgym.sb3.DiagnosticsCallback`.

    Args:
        total_steps: Length of the training, for the progress bar.
        name: Label of the progress bar.

    Attributes:
        steps: Environment steps at the end of each rollout.
        rewards: Mean return of the episodes that ended in each rollout, without KL penalty.
    """

    def __init__(self, total_steps: int, name: str = "training") -> None:
        super().__init__()
        self.name = name
        self.steps: list[int] = []
        self.rewards: list[float] = []
        self._total_steps = total_steps
        self._bar: tqdm[Any] | None = None
        self._ended: list[dict[str, Any]] = []

    def _on_training_start(self) -> None:
        rollout = self.training_env.num_envs
        if isinstance(self.model, OnPolicyAlgorithm):
            rollout *= self.model.n_steps
        self._bar = tqdm(
            total=-(-self._total_steps // rollout) * rollout,  # A rollout is never cut short.
            initial=self.num_timesteps,
            desc=self.name,
            unit=" tokens",
            unit_scale=True,
            smoothing=0.0,  # Rollouts are fast and updates slow: show the average of both.
            mininterval=0.5 if sys.stderr.isatty() else 20.0,
        )
        self._began, self._steps_before = time.perf_counter(), self.num_timesteps

    def _on_step(self) -> bool:
        for row in np.flatnonzero(self.locals["dones"]):
            self._ended.append(self.locals["infos"][row])
        if self._bar is not None:
            self._bar.update(self.num_timesteps - self._bar.n)
        return True

    def _on_rollout_end(self) -> None:
        elapsed = time.perf_counter() - self._began
        written = self.num_timesteps - self._steps_before
        self.logger.record("time/tokens_per_second", written / elapsed)
        if not self._ended:
            return
        reward = float(np.mean([info["episode"]["r"] for info in self._ended]))
        self.steps.append(self.num_timesteps)
        self.rewards.append(reward)
        if self._bar is not None:
            self._bar.set_postfix(reward=f"{reward:.3f}")
        # A truncated episode is not scored, and has no response.
        scored = [info for info in self._ended if "response" in info]
        if scored:
            last = scored[-1]
            text = f"{last['prompt']}**{last['response']}** (reward {last['episode']['r']:.3f})"
            self.logger.record("samples/last", text, exclude=("csv", "stdout", "log"))
        self._ended.clear()

    def close(self) -> None:
        """Close the progress bar, if the agent has started it."""
        if self._bar is not None:
            self._bar.close()


def plot(
    path: Path,
    title: str,
    log: TrainingLog,
    evaluations: Sequence[tuple[int, Measured]],
    prompts: str = "eval prompts",
) -> None:
    """Draw the learning curve, with the evaluations and their 95% intervals.

    Args:
        path: The file.
        title: The title.
        log: The curve.
        evaluations: Environment steps and evaluation; steps below 0 are those of a warm start.
        prompts: Name of the evaluation prompts, for the legend.
    """
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    if log.steps:
        axes.plot(log.steps, log.rewards, color="tab:blue", label="training, mean of each rollout")
    axes.errorbar(
        [steps for steps, _ in evaluations],
        [found.mean for _, found in evaluations],
        yerr=[found.half_width for _, found in evaluations],
        fmt="o",
        capsize=4,
        color="tab:orange",
        label=f"{prompts}, 95% interval",
    )
    first = min(steps for steps, _ in evaluations)
    if first < 0:
        axes.axvspan(first, 0, color="lightgrey", alpha=0.4, label="warm start")
    axes.set(xlabel="environment steps (tokens)", ylabel="reward", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    with replacing(path) as file:
        figure.savefig(file, dpi=120, format="png")
    plt.close(figure)


def write_samples(folder: Path, evaluations: Mapping[str, Evaluation]) -> None:
    """Write samples.jsonl: the evaluation prompts with the texts of each evaluation.

    Args:
        folder: The folder of the file.
        evaluations: Evaluations on the same prompts, by name: ``before``, ``after``, ... A line has
            ``prompt``, and for each NAME the text NAME and its reward ``reward_NAME``. A run that
            trained nothing has the same texts before and after.
    """
    (first, *_) = evaluations.values()
    columns: dict[str, Sequence[Any]] = {"prompt": first.prompts}
    for name, found in {"before": first, "after": first, **evaluations}.items():
        columns |= {name: found.responses, f"reward_{name}": found.returns}
    rows = (
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    )
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    # A text may have a lone surrogate, which UTF-8 cannot encode, but JSON's escapes can.
    data = "".join(lines).encode("utf-8", "backslashreplace")
    write_bytes(folder / "samples.jsonl", data)


def side_by_side(console: Console, evaluations: Mapping[str, Evaluation], count: int = 5) -> None:
    """Print some prompts with the texts of each evaluation, and their rewards.

    Args:
        console: The console.
        evaluations: As for `write_samples`; a single one is that of an agent that does not learn.
        count: Number of prompts.
    """
    headings = {"before": "before training", "after": "after training"}
    shown = {headings.get(name, name.replace("_", " ")): one for name, one in evaluations.items()}
    if len(shown) == 1:
        shown = {"response": evaluations["before"]}
    table = Table(show_lines=True, expand=True)
    for heading in ("prompt", *shown):
        table.add_column(heading, ratio=1)
    (first, *_) = shown.values()
    for row in range(min(count, len(first.prompts))):
        table.add_row(
            Text(first.prompts[row]),
            *(Text(f"{e.responses[row].strip()}\n({e.returns[row]:.2f})") for e in shown.values()),
        )
    console.print(table)

"""End to end: PPO here and TRL's trainers, from the same weights and prompts to the same reward.

The task is to write tokens with even ids (:mod:`benchmarks.speed.even_tokens`), which any trainer
can learn from random weights within a minute:

* *dense*: +1 for each even token, 16 tokens, a small budget of about 5,000 tokens in all. PPO gets
  each point when it is earned (``step_reward``), which TRL's trainers cannot take.
* *terminal*: the share of even tokens, paid at the end of 64 tokens; 64 texts per update.

Both sides call the same reward function, which also records the learning curve. The clock covers
the training only, not loading and imports. The final reward is that of texts that transformers'
``generate`` writes with the trained weights, for all sides.

TRL runs in a separate virtual environment (:func:`trl_python`), in a separate process
(:mod:`benchmarks.speed.trl_side`). If that cannot be made, TRL is reported as not measured.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from benchmarks.speed.even_tokens import Curve, even_count, even_share, reached
from benchmarks.speed.harness import Comparison, Result, Run, Settings, Table
from benchmarks.speed.models import PROMPT_TOKENS, SMALL, TINY, Case, Shape, spell, write_model
from benchmarks.speed.rollouts import generator
from textgym.sb3 import LMPolicy, LMRolloutBuffer, make_vec_env

TRL = "1.16.0"
ROOT = Path(__file__).parents[2]
TEXTGYM = "textgym PPO"
IN_BFLOAT16 = "textgym PPO, bfloat16"


@dataclass(frozen=True)
class Task:
    """One task and everyone's settings for it.

    Attributes:
        name: Its name.
        shape: The model, with random weights.
        rows: Texts per update, on textgym's side.
        tokens: Length of a text.
        dense: Whether textgym's side gets rewards token by token.
        budget: Tokens of training; None trains until `goals` are reached or time is up.
        goals: Rewards, the time to which is reported.
        ppo: Settings of SB3's PPO.
        bfloat16: Whether textgym's side is also measured with ``dtype="bfloat16"``. TRL's trainers
            are slower with it on a CPU.
        trl: For each of TRL's trainers its settings; ``rows`` is its texts per update.
    """

    name: str
    shape: Shape
    rows: int
    tokens: int
    dense: bool
    budget: int | None
    goals: tuple[float, ...]
    ppo: dict[str, Any]
    bfloat16: bool = False
    trl: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def reward(self) -> str:
        """The name of the reward function."""
        return "even_count" if self.dense else "even_share"

    @property
    def best(self) -> float:
        """The highest possible reward."""
        return float(self.tokens) if self.dense else 1.0


DENSE = Task(
    name="dense",
    shape=Shape("gpt2", 2, 128, 2, 2000),
    rows=16,
    tokens=16,
    dense=True,
    budget=5120,
    goals=(),
    # A token's reward is its own, so nothing has to be passed back: lambda is 0.
    ppo={"learning_rate": 1e-3, "n_epochs": 4, "minibatches": 1, "gae_lambda": 0.0},
    # The best of some trials: texts an update and steps an update as on the other side.
    trl={
        "GRPO": {"rows": 16, "learning_rate": 1e-3, "num_generations": 16, "num_iterations": 4},
        "RLOO": {"rows": 16, "learning_rate": 1e-3, "num_generations": 16, "num_iterations": 4},
    },
)
TERMINAL = Task(
    name="terminal",
    shape=SMALL,
    rows=64,
    tokens=64,
    dense=False,
    budget=None,
    goals=(0.75, 0.9),
    ppo={"learning_rate": 3e-3, "n_epochs": 1, "minibatches": 8, "gae_lambda": 1.0},
    bfloat16=True,
    trl={
        "GRPO": {"rows": 64, "learning_rate": 3e-3, "num_generations": 64},
        "RLOO": {"rows": 64, "learning_rate": 3e-3, "num_generations": 64},
    },
)


@dataclass
class Outcome:
    """One training: its learning curve, its time, and the reward of the trained model."""

    points: list[list[float]]
    wall: float
    cpu: float
    final: float

    @property
    def run(self) -> Run:
        """Tokens, and the seconds until they were learned from."""
        return Run(self.points[-1][0], self.wall, self.cpu)


def tasks(settings: Settings) -> list[Task]:
    """The tasks, by the size of the run."""
    if not settings.smoke:
        return [DENSE, TERMINAL]
    tiny: dict[str, Any] = {"shape": TINY, "rows": 4, "tokens": 8, "budget": 64, "trl": {}}
    return [
        replace(DENSE, **tiny),
        replace(TERMINAL, **tiny, ppo=TERMINAL.ppo | {"minibatches": 2}),
    ]


def measure(settings: Settings) -> Result:
    """Train all sides in turn, for each seed."""
    result = Result(
        "End to end",
        "tokens/s",
        [],
        notes=[
            "tokens/s: new tokens a second of training, rollouts and updates together",
            "dense: +1 for each even token of 16, about 5,000 tokens of training; textgym's side "
            "is paid token by token, TRL's trainers at the end of a text",
            "terminal: the share of even tokens, paid at the end of 64 tokens",
        ],
    )
    python, reason = None, "--smoke"
    if not settings.smoke:
        try:
            python = trl_python(settings.trl_venv)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = _last_line(error)
    if python is None:
        result.notes.append(f"TRL {TRL} was not measured: {reason}")
    else:
        result.notes.append(
            f"TRL {TRL}, in a separate environment; a release has GRPO and RLOO, but no PPO"
        )
    seconds = float(settings.choose(30, 120, 600))
    for task in tasks(settings):
        seeds = int(settings.choose(1, 3 if task.budget else 1, 3))
        outcomes: dict[str, list[Outcome]] = {}
        for seed in range(settings.seed, settings.seed + seeds):
            with tempfile.TemporaryDirectory() as folder:
                ours = {TEXTGYM: "auto"} | ({IN_BFLOAT16: "bfloat16"} if task.bfloat16 else {})
                for name, dtype in ours.items():
                    outcome = train(task, seed, Path(folder), settings, seconds, dtype)
                    outcomes.setdefault(name, []).append(outcome)
                for trainer in task.trl if python else ():
                    peer = train_trl(task, trainer, seed, Path(folder), settings, seconds, python)
                    outcomes.setdefault(f"TRL {trainer}", []).append(peer)
        runs = {name: [outcome.run for outcome in some] for name, some in outcomes.items()}
        result.comparisons.append(
            Comparison(f"{task.name}, {task.rows} x {task.tokens}, {task.shape}", runs)
        )
        result.tables.append(_table(task, outcomes, seconds))
    return result


def train(
    task: Task,
    seed: int,
    folder: Path,
    settings: Settings,
    seconds: float,
    dtype: str = "auto",
) -> Outcome:
    """Train with SB3's PPO on textgym."""
    lm = write_model(folder, task.shape, seed)
    torch.manual_seed(seed)
    curve = _curve(task, seconds)
    venv = make_vec_env(
        "TextGen-v0",
        n_envs=task.rows,
        seed=seed,
        prompts=_prompts(task, seed),
        reward=curve,
        step_reward=even_count if task.dense else None,
        tokenizer=lm,
        max_prompt_tokens=PROMPT_TOKENS,
        max_new_tokens=task.tokens,
        stop_at_eos=False,
    )
    ppo = dict(task.ppo)
    model = PPO(
        LMPolicy,
        venv,
        n_steps=task.tokens,
        batch_size=task.rows * task.tokens // ppo.pop("minibatches"),
        gamma=1.0,
        max_grad_norm=1.0,
        # Adam's default epsilon, as in TRL: SB3's 1e-5 is large compared with the gradients of rare
        # tokens' embeddings, and slows learning.
        policy_kwargs={"lm": lm, "dtype": dtype, "optimizer_kwargs": {"eps": 1e-8}},
        rollout_buffer_class=LMRolloutBuffer,
        seed=seed,
        device=settings.device,
        **ppo,
    )
    curve.begin()
    model.learn(task.budget or sys.maxsize, callback=_Stop(curve))
    wall, cpu = curve.elapsed()
    trained = folder / "textgym"
    model.policy.lm.save_pretrained(trained)  # type: ignore[operator,union-attr]
    return Outcome(curve.points, wall, cpu, final_reward(task, trained, settings))


def train_trl(
    task: Task,
    trainer: str,
    seed: int,
    folder: Path,
    settings: Settings,
    seconds: float,
    python: Path | None,
) -> Outcome:
    """Train with one of TRL's trainers, in its own process."""
    own = dict(task.trl[trainer])
    rows, lr = own.pop("rows"), own.pop("learning_rate")
    curve = _curve(task, seconds)
    # One optimizer step per pass over the texts of an update.
    passes = own.get("num_iterations", 1)
    updates = 10**6 if task.budget is None else task.budget // (rows * task.tokens) * passes
    trained = folder / trainer
    job = {
        "trainer": trainer,
        "lm": write_model(folder, task.shape, seed),
        "prompts": _prompts(task, seed),
        "reward": task.reward,
        "rows": rows,
        "tokens": task.tokens,
        "updates": updates,
        "lr": lr,
        "seed": seed,
        "threads": settings.threads,
        "device": settings.device,
        "settings": own,
        "save": str(trained),
        "stop_at": _finite(curve.stop_at),
        "seconds": _finite(curve.seconds),
    }
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(settings.threads),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(ROOT),
    }
    command = [str(python), "-m", "benchmarks.speed.trl_side", json.dumps(job)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"TRL's {trainer} failed:\n{done.stderr}")
    answer = json.loads(done.stdout.splitlines()[-1])
    final = final_reward(task, trained, settings)
    return Outcome(answer["points"], answer["wall"], answer["cpu"], final)


def trl_python(folder: Path) -> Path:
    """The Python of a virtual environment with TRL; the environment is made if need be.

    It gets the versions of constraints.txt and the version of torch that runs here.

    Args:
        folder: The environment's folder.

    Raises:
        OSError: If it cannot be made; also `subprocess.CalledProcessError`.
    """
    python = folder.absolute() / "bin" / "python"
    check = [str(python), "-c", "import trl; print(trl.__version__)"]
    if python.exists():
        found = subprocess.run(check, capture_output=True, text=True)
        if found.returncode == 0 and found.stdout.split()[-1] == TRL:
            return python
    print(f"Installing TRL {TRL} into {folder} (some minutes) ...", flush=True)
    same_torch = f"torch=={torch.__version__.partition('+')[0]}"
    install = ["-m", "pip", "install", "--quiet", "--no-compile", "-c", "constraints.txt"]
    for command in (
        [sys.executable, "-m", "venv", str(folder.absolute())],
        [str(python), *install, same_torch, f"trl=={TRL}"],
        check,
    ):
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return python


def final_reward(task: Task, folder: Path, settings: Settings) -> float:
    """Mean reward of 256 texts that transformers' ``generate`` writes with some weights."""
    torch.manual_seed(settings.seed)
    in_float32 = replace(settings, dtype="float32")
    write = generator(Case(task.shape, 256, task.tokens), str(folder), in_float32)
    score = even_count if task.dense else even_share
    return statistics.mean(score(write()))


def _prompts(task: Task, seed: int) -> list[str]:
    return [spell(prompt) for prompt in Case(task.shape, task.rows, task.tokens).prompts(seed)]


def _curve(task: Task, seconds: float) -> Curve:
    if task.budget is not None:
        return Curve(task.reward)
    return Curve(task.reward, stop_at=max(task.goals), seconds=seconds)


def _finite(number: float) -> float | None:
    """JSON has no infinity."""
    return number if number < float("inf") else None


def _table(task: Task, outcomes: dict[str, list[Outcome]], seconds: float) -> Table:
    """Final rewards, and the time to each goal."""
    seeds = len(outcomes[TEXTGYM])
    head = ["", f"reward at the end (of {task.best:g})", "tokens", "wall s", "CPU s"]
    head += [f"wall s / CPU s to {goal:g}" for goal in task.goals]
    rows = []
    for name, some in outcomes.items():
        finals = [outcome.final for outcome in some]
        shown = f"{statistics.median(finals):.2f}"
        if seeds > 1:
            shown += f" ({min(finals):.2f} to {max(finals):.2f})"
        runs = [outcome.run for outcome in some]
        row = [
            name,
            shown,
            f"{statistics.median(run.work for run in runs):,.0f}",
            f"{statistics.median(run.wall for run in runs):.1f}",
            f"{statistics.median(run.cpu for run in runs):.1f}",
        ]
        for goal in task.goals:
            points = [reached(outcome.points, goal) for outcome in some]
            hits = [point for point in points if point is not None]
            if 2 * len(hits) > seeds:
                # A seed that never gets there counts as slower than all others.
                middle = (seeds - 1) // 2
                wall, cpu = (sorted(point[at] for point in hits)[middle] for at in (1, 2))
                row.append(f"{wall:.0f} / {cpu:.0f}")
            else:
                row.append("not reached")
        rows.append(row)
    limit = "" if task.budget else f", at most {seconds:.0f} s"
    return Table(f"{task.name}: medians of {seeds} seed(s){limit}", head, rows)


def _last_line(error: Exception) -> str:
    """The last line of a failed command's output."""
    text = str(getattr(error, "stderr", "") or error).strip()
    return text.splitlines()[-1] if text else type(error).__name__


class _Stop(BaseCallback):
    """Ends the training when the curve is done."""

    def __init__(self, curve: Curve) -> None:
        super().__init__()
        self.curve = curve

    def _on_rollout_start(self) -> None:
        self.go_on = not self.curve.done

    def _on_step(self) -> bool:
        return self.go_on

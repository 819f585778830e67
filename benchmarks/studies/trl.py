"""GRPO and PPO here, and TRL's GRPO: the same model, tasks and tokens; how far, at what CPU time?

    python -m benchmarks results --only trl

All sides start from textgym/tiny, are rewarded by the task's score, and write the same number of
tokens; each with one thread. During the training the model is saved at equal distances, with the
clock stopped, and every saved model is evaluated by the same code on the same evaluation prompts,
sampled at temperature 1. TRL's GRPO and ours have the same settings: rollouts of 128 texts in
groups of 8, two passes with two gradient steps each, learning rate, clipping, a fixed KL weight,
loss averaged as in the paper. TRL is installed into a separate environment
(``runs/trl-venv``, or the variable ``TEXTGYM_TRL_VENV``).
"""

from __future__ import annotations

import io
import json
import os
import subprocess
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure

from agents import grpo, ppo
from agents.running.environments import make_env
from agents.running.run import LMSettings
from benchmarks.campaign.agent_runs import evaluated
from benchmarks.campaign.provenance import ROOT
from benchmarks.campaign.study import Findings, Scale, Study, job
from benchmarks.speed.end_to_end import trl_python
from benchmarks.studies.trl_side import Snapshots
from benchmarks.suites.runner import Plan
from textgym.storage.files import write_json
from textgym.tokenization import TINY_DIR

matplotlib.use("Agg")
from matplotlib import pyplot as plt

NAME = "trl"
PAGE = "docs/trl.md"
PICTURE = "docs/trl.png"
TASKS = tuple(f"TextGen/{name}-v0" for name in ("Sentiment", "Summarize", "QA", "Story"))
OURS: dict[str, Any] = {"textgym GRPO": grpo, "textgym PPO": ppo}
TRL = "TRL GRPO"
SIDES = (*OURS, TRL)
NEEDED = ("gymnasium", "rapidfuzz", "regex")
"""Packages that textgym's tasks need in TRL's environment."""


def plans(scale: Scale) -> list[Plan]:
    """All sides on every task, those of the first seed first."""
    spec = {
        "tokens": scale.choose(256, 65_536),
        "points": scale.choose(2, 8),
        "episodes": scale.choose(8, 256),
        "rows": scale.choose(16, 128),
        "kl_coef": 0.02,
    }
    tasks = scale.choose(("TextGen/QA-v0",), TASKS)
    return [
        job(NAME, task, side, seed, {"task": task, "side": side, "seed": seed, **spec},
            (task, None))
        for seed, task, side in product(range(scale.choose(1, 3)), tasks, SIDES)
    ]  # fmt: skip


def measure(spec: Mapping[str, Any], scratch: Path) -> dict[str, Any]:
    """Train one side, and evaluate what it saved."""
    points = _train_trl(spec, scratch) if spec["side"] == TRL else _train(spec, scratch)
    settings = _settings(LMSettings, spec)
    start = evaluated(settings, None)
    curve = [{"tokens": 0, "cpu": 0.0, "wall": 0.0, "mean": start.mean, "ci95": start.half_width}]
    for point in points:
        found = evaluated(settings, str(scratch / point.pop("folder")))
        curve.append({**point, "mean": found.mean, "ci95": found.half_width})
    return {"curve": curve}


def _settings(kind: Any, spec: Mapping[str, Any], **others: Any) -> Any:
    return kind(
        env=spec["task"], n_envs=spec["rows"], eval_episodes=spec["episodes"], seed=spec["seed"],
        threads=1, device="cpu", **others,
    )  # fmt: skip


class _Saving(BaseCallback):
    """Saves snapshots between rollouts, and ends the training after the last one."""

    def __init__(self, snapshots: Snapshots) -> None:
        super().__init__()
        self.snapshots = snapshots

    def _on_rollout_start(self) -> None:
        policy: Any = self.model.policy
        self.snapshots.take(policy.lm.save_pretrained)

    def _on_step(self) -> bool:
        ended = np.flatnonzero(self.locals["dones"])
        lengths = (self.locals["infos"][row]["episode"]["l"] for row in ended)
        self.snapshots.tokens += int(sum(lengths))
        return not self.snapshots.done


def _train(spec: Mapping[str, Any], scratch: Path) -> list[dict[str, Any]]:
    """Train an agent of ours."""
    module = OURS[spec["side"]]
    settings = _settings(module.Settings, spec, kl_coef=spec["kl_coef"], kl_target=None)
    venv = make_env(settings, settings.n_envs, spec["seed"], "train", **settings.train_kwargs)
    agent = module.make_agent(venv, spec["seed"], settings)
    agent.set_logger(configure(None, []))
    snapshots = Snapshots(scratch, spec["tokens"], spec["points"])
    agent.learn(10**9, callback=_Saving(snapshots))
    return snapshots.points


def _train_trl(spec: Mapping[str, Any], scratch: Path) -> list[dict[str, Any]]:
    """Train TRL's GRPO in its own environment."""
    default = grpo.Settings()
    updates = default.minibatches * default.n_epochs
    order = {
        "lm": str(TINY_DIR),
        "task": spec["task"],
        "prompts": 4096,
        "seed": spec["seed"],
        "tokens": spec["tokens"],
        "points": spec["points"],
        "steps_per_rollout": updates,
        "settings": {
            "per_device_train_batch_size": spec["rows"] // default.minibatches,
            "steps_per_generation": default.minibatches,
            "num_generations": default.group_size,
            "num_iterations": default.n_epochs,
            "learning_rate": default.lr,
            "max_grad_norm": default.max_grad_norm,
            "epsilon": default.clip_range,
            "beta": spec["kl_coef"],
            "loss_type": default.loss_type,
            "scale_rewards": "group",
            # Adam's epsilon of Stable-Baselines3's policies.
            "adam_epsilon": 1e-5,
        },
    }
    file = scratch / "job.json"
    write_json(file, order)
    done = subprocess.run(
        [str(trl_venv()), "-m", "benchmarks.studies.trl_side", str(file)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"TRL's GRPO failed:\n{done.stderr[-2000:]}")
    points: list[dict[str, Any]] = json.loads((scratch / "points.json").read_text())["points"]
    return points


def trl_venv() -> Path:
    """The Python of an environment with TRL and what textgym's tasks need; made if need be."""
    folder = Path(os.environ.get("TEXTGYM_TRL_VENV", ROOT / "runs" / "trl-venv"))
    python = trl_python(folder)
    check = subprocess.run([str(python), "-c", f"import {', '.join(NEEDED)}"], capture_output=True)
    if check.returncode:
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", "-c", "constraints.txt", *NEEDED],
            cwd=ROOT,
            check=True,
        )
    return python


# -- the page --------------------------------------------------------------------------------------


def curves(findings: Findings, task: str, side: str) -> list[list[dict[str, Any]]]:
    """The curves of the seeds."""
    return [record["result"]["curve"] for record in findings.of(task, side)]


def at(curve: list[dict[str, Any]], clock: str, place: float) -> float:
    """The score of a curve at a number of tokens or CPU seconds, between its points linear."""
    xs = [point[clock] for point in curve]
    return float(np.interp(place, xs, [point["mean"] for point in curve]))


def write(findings: Findings) -> None:
    """Write the page and the plot."""
    tasks = [task for task in dict.fromkeys(plan.key.experiment for plan in findings.plans)
             if any(curves(findings, task, side) for side in SIDES)]  # fmt: skip
    lines = ["# TRL's GRPO and ours: the same model, tasks and tokens", ""]
    if tasks:
        spec = findings.plans[0].record["kwargs"]
        lines += [
            f"From `textgym/tiny`, for {spec['tokens']:,} written tokens, one thread each: "
            "`agents.grpo` and TRL's GRPO with the same settings (rollouts of "
            f"{spec['rows']} texts in groups of 8, four gradient steps on each, learning rate "
            f"5e-4, KL weight {spec['kl_coef']} and not adapted), and `agents.ppo` with that KL "
            f"weight. Means over the seeds of the score on {spec['episodes']} evaluation prompts, "
            "by the same evaluation for all sides; in brackets the smallest and largest. CPU "
            "seconds are of rollouts and updates. The last column compares at equal CPU time: when "
            "the first side of a task is done, in the mean of its seeds.",
            "",
            "| task | side | seeds | before | after | CPU s | tokens per CPU s | at equal CPU s |",
            "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for task in tasks:
            lines += rows_of(findings, task)
        lines += ["", "![score against tokens and CPU seconds](trl.png)", ""]
    findings.write(PAGE, "\n".join(lines))
    findings.picture(PICTURE, plot(findings, tasks) if tasks else None)


def rows_of(findings: Findings, task: str) -> list[str]:
    """A task's lines of the table."""
    found = {side: some for side in SIDES if (some := curves(findings, task, side))}
    spent = {side: float(np.mean([c[-1]["cpu"] for c in some])) for side, some in found.items()}
    first = min(spent.values())
    rows = []
    for side, some in found.items():
        ends = [curve[-1]["mean"] for curve in some]
        speed = float(np.mean([curve[-1]["tokens"] / curve[-1]["cpu"] for curve in some]))
        equal = float(np.mean([at(curve, "cpu", first) for curve in some]))
        cells = [
            f"`{task}`", side, f"{len(some)}", f"{np.mean([c[0]['mean'] for c in some]):.3f}",
            f"{np.mean(ends):.3f} [{min(ends):.3f}, {max(ends):.3f}]", f"{spent[side]:.0f}",
            f"{speed:,.0f}", f"{equal:.3f} at {first:.0f} s",
        ]  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def plot(findings: Findings, tasks: list[str]) -> bytes:
    """Score against tokens above, against CPU seconds below; bands from the worst to the best."""
    figure, axes = plt.subplots(
        2, len(tasks), figsize=(1 + 3 * len(tasks), 5.5), squeeze=False, layout="constrained"
    )
    for column, task in enumerate(tasks):
        for side, color in zip(SIDES, ("tab:orange", "tab:blue", "tab:grey"), strict=True):
            some = curves(findings, task, side)
            for row, clock in enumerate(("tokens", "cpu") if some else ()):
                stop = min(curve[-1][clock] for curve in some)
                grid = np.linspace(0, stop, 50)
                values = [[at(curve, clock, place) for place in grid] for curve in some]
                panel = axes[row, column]
                panel.plot(grid, np.mean(values, axis=0), color=color, label=side)
                panel.fill_between(
                    grid, np.min(values, axis=0), np.max(values, axis=0), color=color, alpha=0.2
                )
        axes[0, column].set_title(task)
        axes[0, column].set_xlabel("tokens")
        axes[1, column].set_xlabel("CPU seconds")
        for row in range(2):
            axes[row, column].grid(alpha=0.3)
    axes[0, 0].set_ylabel("score")
    axes[1, 0].set_ylabel("score")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(SIDES))
    data = io.BytesIO()
    figure.savefig(data, dpi=110, format="png")
    plt.close(figure)
    return data.getvalue()


STUDIES = {
    NAME: Study(
        name=NAME,
        title="TRL's GRPO and ours, and PPO, four tasks, three seeds",
        plans=plans,
        write=write,
        seconds=lambda plan: 500.0 if plan.key.agent == TRL else 250.0,
        measure=measure,
        pages=(PAGE, PICTURE),
    )
}

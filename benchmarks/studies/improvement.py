"""Does PPO improve the built-in model on every task? One budget, one set of settings for all.

    python -m benchmarks.improvement
    python -m benchmarks.improvement --seeds 0 --tasks TextGen/QA-v0 --steps 20000

Each run starts from textgym/tiny, trains with the settings of ``agents.ppo`` for `steps` tokens on
a task's default level, and is judged on the same evaluation prompts before and after. A finished
run is a file in `runs`: started again, the command does the missing ones, and two of
them at once share the work (``--part 0 2`` and ``--part 1 2``). The table and the chart are made of
all runs that are there.

The interval of a change is paired: for each prompt the mean over seeds after, less the mean over
seeds before, then the mean of these differences and 1.96 standard errors. It says how sure the
change is on new prompts for these seeds; the means of the seeds are listed next to it.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
import tyro
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecEnv

from agents.ppo import Settings, make_agent
from agents.running.environments import make_env
from agents.running.evaluation import evaluate
from textgym.storage.files import write_json, write_text
from textgym.tasks import make_task
from textgym.tasks.registry import built_in_tasks

matplotlib.use("Agg")
from matplotlib import pyplot as plt

DOCS = Path(__file__).parents[2] / "docs"


def trained_tasks() -> list[str]:
    """The tasks in open text."""
    return [name for name in built_in_tasks() if make_task(name).tokenizer is None]


@dataclass
class Args:
    """Settings of the measurement."""

    tasks: list[str] = field(default_factory=trained_tasks)
    """Task ids."""
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    """Seeds of the training."""
    steps: int = 65_536
    """Tokens of each training."""
    episodes: int = 256
    """Evaluation prompts."""
    part: tuple[int, int] = (0, 1)
    """Do every so-manyth run, beginning with this one."""
    runs: Path = Path("runs/improvement")
    """Folder of the finished runs."""
    out: Path = DOCS
    """Folder for improvement.md and improvement.png."""


def train(task: str, seed: int, args: Args) -> dict[str, Any]:
    """One run: scores before and after, on the same prompts."""
    torch.set_num_threads(1)
    settings = Settings(env=task, steps=args.steps, eval_episodes=args.episodes, threads=1)

    def make(n_envs: int, first: int) -> VecEnv:
        return make_env(settings, n_envs, first, "eval")

    began = time.process_time()
    agent = make_agent(make_env(settings, settings.n_envs, seed, "train"), seed, settings)
    agent.set_logger(configure(None, []))
    before = evaluate(agent, make, args.episodes, settings.n_envs)
    agent.learn(args.steps)
    after = evaluate(agent, make, args.episodes, settings.n_envs)
    assert before.prompts == after.prompts
    return {
        "task": task,
        "level": make_task(task).level,
        "seed": seed,
        "steps": args.steps,
        "cpu_seconds": round(time.process_time() - began),
        "before": before.returns,
        "after": after.returns,
        "samples": [
            {"prompt": prompt, "before": first, "after": last}
            for prompt, first, last in list(
                zip(before.prompts, before.responses, after.responses, strict=True)
            )[:4]
        ],
    }


@dataclass(frozen=True)
class Change:
    """The effect of training on one task."""

    task: str
    level: int
    before: float
    after: float
    change: float
    error: float
    """Half the width of the 95 % interval of the change."""
    seeds: list[float]
    """The mean after training, of each seed."""
    cpu_seconds: float

    @property
    def verdict(self) -> str:
        """The change in a word."""
        if abs(self.change) <= self.error:
            return "no significant change"
        return "better" if self.change > 0 else "**worse**"


def change_of(runs: list[dict[str, Any]]) -> Change:
    """Combine the runs of one task."""
    before = np.array([run["before"] for run in runs])
    after = np.array([run["after"] for run in runs])
    paired = after.mean(0) - before.mean(0)
    return Change(
        task=runs[0]["task"],
        level=runs[0]["level"],
        before=float(before.mean()),
        after=float(after.mean()),
        change=float(paired.mean()),
        error=float(1.96 * paired.std(ddof=1) / len(paired) ** 0.5),
        seeds=[float(mean) for mean in after.mean(1)],
        cpu_seconds=float(np.mean([run["cpu_seconds"] for run in runs])),
    )


def page(changes: list[Change], steps: int, seeds: int, episodes: int) -> str:
    """The page with the table."""
    better = sum(change.verdict == "better" for change in changes)
    lines = [
        "# PPO from the built-in model, task by task",
        "",
        f"By `python -m benchmarks.improvement --seeds {' '.join(map(str, range(seeds)))}`: PPO "
        f"from textgym/tiny for {steps:,} tokens, with the default settings of `agents.ppo` for "
        f"every task; returns on {episodes} evaluation prompts before and after (texts are "
        "sampled; the oracle gets 1). The interval of the change is paired over prompts, at 95 %; "
        "means over seeds where several are listed.",
        "",
        f"{better} of {len(changes)} tasks become better.",
        "",
        "| task | level | before | after | change | each seed after | CPU s a run | |",
        "| --- | ---: | ---: | ---: | ---: | --- | ---: | --- |",
    ]
    lines += [
        f"| `{c.task}` | {c.level} | {c.before:.3f} | {c.after:.3f} | "
        f"{c.change:+.3f} ± {c.error:.3f} | {', '.join(f'{mean:.3f}' for mean in c.seeds)} | "
        f"{c.cpu_seconds:.0f} | {c.verdict} |"
        for c in changes
    ]
    return "\n".join([*lines, "", "![before and after](improvement.png)", ""])


def chart(changes: list[Change], path: Path) -> None:
    """Before and after, one line per task."""
    names = [change.task.removeprefix("TextGen/").removesuffix("-v0") for change in changes]
    places = np.arange(len(names))[::-1]
    figure, axes = plt.subplots(figsize=(7, 0.36 * len(names) + 1), layout="constrained")
    axes.hlines(places, [c.before for c in changes], [c.after for c in changes], color="lightgrey")
    axes.plot([c.before for c in changes], places, "o", color="grey", label="textgym/tiny")
    axes.errorbar(
        [c.after for c in changes],
        places,
        xerr=[c.error for c in changes],
        fmt="o",
        color="tab:blue",
        label="after PPO, interval of the change",
    )
    axes.set_yticks(places, names)
    axes.set_xlim(0, 1)
    axes.set_xlabel("return on evaluation prompts")
    axes.legend(loc="lower right", fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def report(args: Args) -> None:
    """Write the page of all finished runs."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(args.runs.glob("*.json")):
        run = json.loads(file.read_text("utf-8"))
        if run["steps"] == args.steps and len(run["before"]) == args.episodes:
            runs.setdefault(run["task"], []).append(run)
    if not runs:
        return
    changes = [change_of(runs[task]) for task in sorted(runs)]
    most = max(map(len, runs.values()))
    args.out.mkdir(parents=True, exist_ok=True)
    text = page(changes, args.steps, most, args.episodes)
    write_text(args.out / "improvement.md", text)
    chart(changes, args.out / "improvement.png")


def main() -> None:
    """Train what is missing, and report."""
    args = tyro.cli(Args, description=__doc__, prog="python -m benchmarks.improvement")
    args.runs.mkdir(parents=True, exist_ok=True)
    first, parts = args.part
    for seed, task in list(product(args.seeds, args.tasks))[first::parts]:
        file = args.runs / f"{task.replace('/', '-')}-{args.steps}-{seed}.json"
        if not file.exists():
            run = train(task, seed, args)
            write_json(file, run, indent=None)
            means = f"{np.mean(run['before']):.3f} -> {np.mean(run['after']):.3f}"
            print(f"{task}, seed {seed}: {means} in {run['cpu_seconds']} s", flush=True)
        report(args)


if __name__ == "__main__":
    main()

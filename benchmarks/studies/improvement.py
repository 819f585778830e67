"""What do PPO and GRPO make of the built-in model on every task? One set of settings for all.

    python -m benchmarks results --only improvement

Each run starts from textgym/tiny, trains with the default settings of its agent on a task's default
level, and is judged on the same evaluation prompts before and after. It ends after ten CPU minutes
of training, if its tokens are not written by then. Next to the runs, the model itself is measured
on these prompts: its likeliest texts, and the best of sixteen samples.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from agents import grpo, ppo
from agents.running.run import LMSettings
from benchmarks.campaign.agent_runs import (
    SAMPLES,
    as_result,
    evaluated,
    paired,
    results_of,
    run_in,
    samples_of,
)
from benchmarks.campaign.command import main as results
from benchmarks.campaign.study import Findings, Scale, Study, job
from benchmarks.suites.runner import Plan
from textgym.tasks import make_task
from textgym.tasks.registry import built_in_tasks

matplotlib.use("Agg")
from matplotlib import pyplot as plt

NAME = "improvement"
PAGE = "docs/improvement.md"
PICTURE = "docs/improvement.png"
AGENTS: dict[str, Any] = {"ppo": ppo, "grpo": grpo}
"""The modules of the agents."""

START = "textgym/tiny"
"""The name of the jobs that measure the model itself."""

DRAWS = 16
"""Texts of which the best is taken."""

DOUBLED, HIGH, GAIN = 2.0, 0.7, 0.15
"""A task is learned if the score is at least doubled, or is this high; and gains at least this."""


def trained_tasks() -> list[str]:
    """The tasks in open text."""
    return [name for name in built_in_tasks() if make_task(name).tokenizer is None]


def short(task: str) -> str:
    """A task's name without ``TextGen/`` and its version."""
    return task.removeprefix("TextGen/").removesuffix("-v0")


def plans(scale: Scale) -> list[Plan]:
    """The model on every task, then all runs, those of the first seed first."""
    tasks = scale.choose(["TextGen/QA-v0"], trained_tasks())
    shared = {
        "episodes": scale.choose(8, 256),
        "n_envs": scale.choose(8, 128),
    }
    training = {"steps": scale.choose(64, 65_536), "cpu_minutes": 10.0}
    found = [
        job(NAME, task, START, 0, {"task": task, "draws": scale.choose(2, DRAWS), **shared},
            (task, None))
        for task in tasks
    ]  # fmt: skip
    for seed, task, agent in product(range(scale.choose(1, 3)), tasks, AGENTS):
        spec = {"task": task, "agent": agent, "seed": seed, **training, **shared}
        found.append(job(NAME, task, agent, seed, spec, (task, None)))
    return found


def measure(spec: Mapping[str, Any], scratch: Path) -> dict[str, Any]:
    """Measure the model, or do a run."""
    common: dict[str, Any] = {
        "env": spec["task"], "n_envs": spec["n_envs"], "eval_episodes": spec["episodes"],
        "threads": 1, "device": "cpu",
    }  # fmt: skip
    if "draws" in spec:
        plain = LMSettings(**common)
        draws = [evaluated(plain, None, seed=seed) for seed in range(spec["draws"])]
        greedy = evaluated(plain, None, greedy=True)
        best = np.max([found.returns for found in draws], axis=0)
        return {
            "sampled": as_result(draws[0]),
            "mean": float(np.mean([found.returns for found in draws])),
            "greedy": as_result(greedy),
            "best": {"mean": float(best.mean()), "returns": best.tolist()},
        }
    module = AGENTS[spec["agent"]]
    settings = module.Settings(
        **common, steps=spec["steps"], cpu_minutes=spec["cpu_minutes"], seed=spec["seed"]
    )
    folder = run_in(scratch, spec["agent"], settings, module.make_agent)
    samples = samples_of(folder)
    return {
        **results_of(folder),
        "before": [line["reward_before"] for line in samples],
        "after": [line["reward_after"] for line in samples],
        "greedy_after": as_result(evaluated(settings, str(folder / "lm"), greedy=True)),
        "samples": samples[:SAMPLES],
    }


@dataclass(frozen=True)
class Change:
    """The effect of training on one task, by one agent.

    Attributes:
        before: Mean return before.
        after: Mean return after.
        change: Mean change.
        error: Half of the 95% interval of the change.
        seeds: The mean after training, of each seed.
        greedy: Mean return of the likeliest texts after training.
        tokens: Tokens of a run, in the mean.
        minutes: CPU minutes of a run's training, in the mean.
        terms: The means of reported terms of the reward, before and after.
    """

    before: float
    after: float
    change: float
    error: float
    seeds: list[float]
    greedy: float
    tokens: float
    minutes: float
    terms: dict[str, tuple[float, float]]

    @classmethod
    def of(cls, runs: list[dict[str, Any]]) -> Change:
        """Combine the results of the seeds."""
        before, after = ([run[when] for run in runs] for when in ("before", "after"))
        change, error = paired(before, after)
        key = "reward_terms/"
        names = [name for name in runs[0]["eval_before"] if name.startswith(key)]

        def mean(name: str, when: str) -> float:
            values = [run[f"eval_{when}"].get(name, np.nan) for run in runs]
            return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")

        return cls(
            before=float(np.mean(before)),
            after=float(np.mean(after)),
            change=change,
            error=error,
            seeds=[float(np.mean(values)) for values in after],
            greedy=float(np.mean([run["greedy_after"]["mean"] for run in runs])),
            tokens=float(np.mean([run["steps"] for run in runs])),
            minutes=float(np.mean([run["cpu_seconds"] for run in runs])) / 60,
            terms={
                name.removeprefix(key): (mean(name, "before"), mean(name, "after"))
                for name in names
            },
        )

    @property
    def verdict(self) -> str:
        """The change in a word."""
        if abs(self.change) <= self.error:
            return "no significant change"
        return "better" if self.change > 0 else "**worse**"

    @property
    def learned(self) -> bool:
        """Whether the score is at least doubled, or high in the end."""
        return self.after >= DOUBLED * self.before or self.after >= HIGH


Changes = dict[str, dict[str, Change]]
"""By task, then by agent."""


def changes_of(findings: Findings) -> Changes:
    """The effects on all tasks of which there are runs."""
    found: Changes = {}
    for task in dict.fromkeys(plan.key.experiment for plan in findings.plans):
        for agent in AGENTS:
            runs = [record["result"] for record in findings.of(task, agent)]
            if runs:
                found.setdefault(task, {})[agent] = Change.of(runs)
    return found


def write(findings: Findings) -> None:
    """Write the page, the chart, and the README's sentence on the model itself."""
    starts = {record["experiment"]: record["result"] for record in findings.of(agent=START)}
    changes = changes_of(findings)
    findings.write(PAGE, page(findings, starts, changes))
    findings.picture(PICTURE, chart(starts, changes) if changes else None)
    findings.fill("README.md", "start", sentence(starts))


def page(findings: Findings, starts: Mapping[str, Any], changes: Changes) -> str:
    """The page with the tables."""
    lines = ["# Reinforcement learning from the built-in model, task by task", ""]
    if not starts and not changes:
        return "\n".join(lines)
    (spec, *_) = [plan.record["kwargs"] for plan in findings.plans if plan.key.agent != START]
    lines += [
        "From `textgym/tiny`, with one set of settings for all tasks: the defaults of `agents.ppo` "
        f"and `agents.grpo`, for {spec['steps']:,} tokens or {spec['cpu_minutes']:.0f} CPU minutes "
        f"of training, whichever ends first. Returns on {spec['episodes']} evaluation prompts "
        "before and after (texts are sampled; the oracle's score is 1, and Dialogue also "
        "rewards its turns). The interval of a change is paired over prompts, at 95 %; means over "
        "the seeds whose scores after training are listed. Greedy: the likeliest text in place "
        "of a sample.",
        "",
    ]
    if changes:
        lines += [*verdicts(changes), ""]
    if starts:
        lines += [
            "## The model itself",
            "",
            f"| task | level | sampled | greedy | best of {DRAWS} |",
            "| --- | ---: | ---: | ---: | ---: |",
            *(
                f"| `{task}` | {make_task(task).level} | {found['mean']:.3f} | "
                f"{found['greedy']['mean']:.3f} | {found['best']['mean']:.3f} |"
                for task, found in starts.items()
            ),
            "",
        ]
    for agent in AGENTS:
        rows = {task: found[agent] for task, found in changes.items() if agent in found}
        if rows:
            lines += [f"## `agents.{agent}`", "", *_table(rows), ""]
    terms = [
        f"| `{task}` | `{agent}` | {name} | {before:.3f} | {after:.3f} |"
        for task, found in changes.items()
        for agent, change in found.items()
        for name, (before, after) in change.terms.items()
    ]
    if terms:
        lines += ["## Parts of the score", "", "Means over the texts that they apply to.", ""]
        lines += ["| task | agent | part | before | after |", "| --- | --- | --- | ---: | ---: |"]
        lines += [*terms, ""]
    return "\n".join([*lines, "![before and after](improvement.png)" if changes else "", ""])


def verdicts(changes: Changes) -> list[str]:
    """On how many tasks the better of the agents learns."""
    best = [max(found.values(), key=lambda change: change.after) for found in changes.values()]
    learned = sum(change.learned for change in best)
    gained = sum(change.change >= GAIN for change in best)
    slowest = max(change.minutes for found in changes.values() for change in found.values())
    return [
        f"With the better of the agents, the score is at least doubled or ends above {HIGH} on "
        f"{learned} of {len(best)} tasks, and rises by at least {GAIN} on {gained}. The training "
        f"of a run takes at most {slowest:.1f} CPU minutes in the mean of its seeds.",
    ]


def _table(rows: Mapping[str, Change]) -> list[str]:
    lines = [
        "| task | before | after | change | each seed after | greedy after | tokens | CPU min | |",
        "| --- | ---: | ---: | ---: | --- | ---: | ---: | ---: | --- |",
    ]
    return lines + [
        f"| `{task}` | {c.before:.3f} | {c.after:.3f} | {c.change:+.3f} ± {c.error:.3f} | "
        f"{', '.join(f'{mean:.3f}' for mean in c.seeds)} | {c.greedy:.3f} | {c.tokens:,.0f} | "
        f"{c.minutes:.1f} | {c.verdict} |"
        for task, c in rows.items()
    ]


def sentence(starts: Mapping[str, Any]) -> str:
    """The scores of the model itself, for the README."""
    if not starts:
        return ""
    scores = sorted(((found["mean"], short(task)) for task, found in starts.items()), reverse=True)
    listed = ", ".join(f"{score:.2f} in {task}" for score, task in scores)
    return f"It starts each task fluent but mediocre: sampled, at level 1, it gets {listed}."


def chart(starts: Mapping[str, Any], changes: Changes) -> bytes:
    """Before and after, one line per task."""
    names = list(changes)
    places = np.arange(len(names))[::-1].astype(float)
    figure, axes = plt.subplots(figsize=(7, 0.42 * len(names) + 1.2), layout="constrained")
    best = [(at, starts[task]["best"]["mean"]) for at, task in zip(places, names, strict=True)
            if task in starts]  # fmt: skip
    if best:
        axes.plot([score for _, score in best], [at for at, _ in best], "|", color="grey",
                  markersize=12, label=f"textgym/tiny, best of {DRAWS}")  # fmt: skip
    first = [next(iter(changes[task].values())).before for task in names]
    axes.plot(first, places, "o", color="grey", label="textgym/tiny, sampled")
    for number, agent in enumerate(AGENTS):
        rows = [
            (at - 0.12 + 0.24 * number, changes[task][agent])
            for at, task in zip(places, names, strict=True)
            if agent in changes[task]
        ]
        if not rows:
            continue
        axes.errorbar(
            [change.after for _, change in rows],
            [at for at, _ in rows],
            xerr=[change.error for _, change in rows],
            fmt="o",
            color=("tab:blue", "tab:orange")[number],
            label=f"after {agent.upper()}, interval of the change",
        )
    axes.set_yticks(places, [short(name) for name in names])
    axes.set_xlim(0, max(1.0, axes.get_xlim()[1]))  # Dialogue rewards turns as well.
    axes.set_xlabel("return on evaluation prompts")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    data = io.BytesIO()
    figure.savefig(data, dpi=120, format="png")
    plt.close(figure)
    return data.getvalue()


def seconds(plan: Plan) -> float:
    """An estimate of a job's CPU seconds."""
    return 120.0 if plan.key.agent == START else 350.0


STUDIES = {
    NAME: Study(
        name=NAME,
        title="PPO and GRPO on all tasks, three seeds",
        plans=plans,
        write=write,
        seconds=seconds,
        measure=measure,
        pages=(PAGE, PICTURE, "README.md"),
    )
}


def main() -> int:
    """Do this study alone."""
    return results(["--only", NAME])


if __name__ == "__main__":
    main()

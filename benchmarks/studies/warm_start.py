"""References first, then reinforcement learning: what each stage brings, on every task.

    python -m benchmarks results --only warm_start

``python -m agents.ppo --warm-start 60_000`` with the default settings on each task: the score of
textgym/tiny, after supervised fine-tuning on 60,000 tokens of references, and after PPO from there,
each with its CPU time. PPO alone is that of the study ``improvement``, where it is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from agents import ppo
from benchmarks.campaign.agent_runs import (
    SAMPLES,
    as_result,
    evaluated,
    paired,
    results_of,
    run_in,
    samples_of,
)
from benchmarks.campaign.study import Findings, Scale, Study, job
from benchmarks.studies.improvement import trained_tasks
from benchmarks.suites.runner import Plan

NAME = "warm_start"
PAGE = "docs/warm_start.md"
STAGES = ("before", "warm_started", "after")


def plans(scale: Scale) -> list[Plan]:
    """All runs, those of the first seed first."""
    spec = {
        "warm_start": scale.choose(64, 60_000),
        "steps": scale.choose(64, 65_536),
        "cpu_minutes": 10.0,
        "episodes": scale.choose(8, 256),
        "n_envs": scale.choose(8, 128),
    }
    tasks = scale.choose(["TextGen/QA-v0"], trained_tasks())
    return [
        job(NAME, task, "ppo", seed, {"task": task, "seed": seed, **spec}, (task, None))
        for seed, task in product(range(scale.choose(1, 3)), tasks)
    ]


def measure(spec: Mapping[str, Any], scratch: Path) -> dict[str, Any]:
    """Do a run."""
    settings = ppo.Settings(
        env=spec["task"],
        warm_start=spec["warm_start"],
        steps=spec["steps"],
        cpu_minutes=spec["cpu_minutes"],
        n_envs=spec["n_envs"],
        eval_episodes=spec["episodes"],
        seed=spec["seed"],
        threads=1,
        device="cpu",
    )
    folder = run_in(scratch, "ppo", settings, ppo.make_agent)
    samples = samples_of(folder)
    models = {"warm_started": folder / "warm-start" / "lm", "after": folder / "lm"}
    return {
        **results_of(folder),
        "returns": {stage: [line[f"reward_{stage}"] for line in samples] for stage in STAGES},
        "greedy": {
            stage: as_result(evaluated(settings, str(model), greedy=True))
            for stage, model in models.items()
        },
        "samples": samples[:SAMPLES],
    }


def write(findings: Findings) -> None:
    """Write the page."""
    lines = ["# References first, then reinforcement learning", ""]
    tasks = list(dict.fromkeys(plan.key.experiment for plan in findings.plans))
    rows = [
        _row(task, [record["result"] for record in records])
        for task in tasks
        if (records := findings.of(task))
    ]
    if rows:
        spec = findings.plans[0].record["kwargs"]
        lines += [
            f"By `python -m agents.ppo --env TASK --warm-start {spec['warm_start']:_} --steps "
            f"{spec['steps']:_} --cpu-minutes {spec['cpu_minutes']:.0f}`, from `textgym/tiny`, "
            "with the default settings: supervised fine-tuning on references of training prompts, "
            f"then PPO from its result. Returns on {spec['episodes']} evaluation prompts, means "
            "over the seeds; greedy: of the likeliest texts. The change by PPO has its 95 % "
            "interval, paired over prompts. CPU minutes are of a run's stages, in the mean. What "
            "PPO does without references is in [improvement.md](improvement.md).",
            "",
            "| task | seeds | before | after SFT | greedy | CPU min | after SFT and PPO | "
            "change by PPO | greedy | CPU min |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
            *rows,
            "",
        ]
    findings.write(PAGE, "\n".join(lines))


def _row(task: str, runs: list[dict[str, Any]]) -> str:
    """A task's line of the table."""
    returns = {stage: [run["returns"][stage] for run in runs] for stage in STAGES}
    before, warm, after = (float(np.mean(returns[stage])) for stage in STAGES)
    greedy = [
        float(np.mean([run["greedy"][stage]["mean"] for run in runs])) for stage in STAGES[1:]
    ]
    change, error = paired(returns["warm_started"], returns["after"])
    minutes = [
        float(np.mean([part["cpu_seconds"] for part in parts])) / 60
        for parts in ([run["warm_start"] for run in runs], runs)
    ]
    cells = [
        f"`{task}`", f"{len(runs)}", f"{before:.3f}", f"{warm:.3f}", f"{greedy[0]:.3f}",
        f"{minutes[0]:.1f}", f"{after:.3f}", f"{change:+.3f} ± {error:.3f}", f"{greedy[1]:.3f}",
        f"{minutes[1]:.1f}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


STUDIES = {
    NAME: Study(
        name=NAME,
        title="SFT on 60,000 tokens, then PPO, on all tasks, three seeds",
        plans=plans,
        write=write,
        seconds=lambda plan: 350.0,
        measure=measure,
        pages=(PAGE,),
    )
}

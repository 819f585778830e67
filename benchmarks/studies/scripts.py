"""The studies of one or few jobs each, whose scripts are in this folder: their pages.

    python -m benchmarks results --only tasks --only adversarial --only preferences --only rewards

* ``tasks``: the scale of every task, with the model's score (docs/tasks.md);
* ``adversarial``: a policy and a discriminator (benchmarks/results/adversarial.md);
* ``preferences``: a reward from preferences, and its calibration (docs/rewards.md);
* ``rewards``: how fast the rewards are, which depends on the model's size
  (benchmarks/results/rewards.md).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.campaign.provenance import measured_with
from benchmarks.campaign.study import (
    Findings,
    Scale,
    Study,
    as_bytes,
    as_text,
    job,
    only_result,
)
from benchmarks.studies import adversarial, preferences, rewards
from benchmarks.studies import tasks as scales
from benchmarks.suites.runner import Plan
from textgym.storage.files import write_json
from textgym.tasks import make_task
from textgym.tasks.mix import Mix
from textgym.tasks.registry import built_in_tasks

RESULTS = "benchmarks/results"

# -- tasks -----------------------------------------------------------------------------------------


def tasks_plans(scale: Scale) -> list[Plan]:
    """A job for each task and level."""
    sizes = {"rows": scale.choose(4, 200), "timed": scale.choose(20, 3000)}
    names = [n for n in built_in_tasks() if n != Mix.id and "Probe-" not in n]
    names = scale.choose(names[:1], names)
    return [
        job("tasks", f"{name} level={level}", "lines", 0, {"task": name, "level": level, **sizes},
            (name, level))
        for name in names
        for level in make_task(name).levels
    ]  # fmt: skip


def measure_task(spec: Mapping[str, Any], scratch: Path) -> dict[str, Any]:
    """A line of the table."""
    settings = scales.Settings(rows=spec["rows"], timed=spec["timed"])
    return {"line": scales.line(make_task(spec["task"], spec["level"]), settings)}


def write_tasks(findings: Findings) -> None:
    """Write docs/tasks.md."""
    lines = [record["result"]["line"] for record in findings.records]
    title = "# The tasks' scales"
    command = "python -m benchmarks results --only tasks"
    text = scales.text(command, scales.Settings().lm, lines) if lines else title
    findings.write("docs/tasks.md", f"{text}\n")


# -- adversarial -----------------------------------------------------------------------------------


def adversarial_plans(scale: Scale) -> list[Plan]:
    """One training."""
    sizes = {
        "steps": 256, "every": 128, "episodes": 16, "judge_texts": 200, "warm_up": 32, "n_envs": 8,
    }  # fmt: skip
    spec = scale.choose(sizes, {"steps": 262_144})
    env = adversarial.Args().env
    return [job("adversarial", env, "ppo", 0, spec, (env, None))]


def measure_adversarial(spec: Mapping[str, Any], scratch: Path) -> dict[str, Any]:
    """Do the training."""
    adversarial.main(replace(adversarial.Args(), **spec, out=scratch))
    return {
        "page": (scratch / "adversarial.md").read_text("utf-8"),
        "record": json.loads((scratch / "adversarial.json").read_text("utf-8")),
        "plot": as_text((scratch / "adversarial.png").read_bytes()),
    }


def write_adversarial(findings: Findings) -> None:
    """Write page, record and plot, and the sentence in docs/rewards.md."""
    result = only_result(findings)
    page, record = f"{RESULTS}/adversarial.md", findings.out / RESULTS / "adversarial.json"
    if result is None:
        findings.write(page, "# An adversarial reward\n")
        findings.picture(f"{RESULTS}/adversarial.png", None)
        record.unlink(missing_ok=True)
        findings.fill("docs/rewards.md", "adversarial", "")
        return
    findings.write(page, result["page"])
    findings.picture(f"{RESULTS}/adversarial.png", as_bytes(result["plot"]))
    settings = {key: value for key, value in result["record"]["settings"].items() if key != "out"}
    write_json(record, {"measured_with": measured_with(), **result["record"], "settings": settings})
    first, last = result["record"]["points"][0], result["record"]["points"][-1]
    findings.fill(
        "docs/rewards.md",
        "adversarial",
        "PPO on Story with the discriminator as the only reward: the gap to the references in "
        f"log-likelihood goes from {first['gap']:+.2f} to {last['gap']:+.2f} nats per token,\n"
        f"the discriminator's accuracy from {first['accuracy']:.2f} to {last['accuracy']:.2f}, and "
        f"the task's own score from {first['score']:.2f} to {last['score']:.2f} "
        "([results](../benchmarks/results/adversarial.md)).",
    )


# -- preferences -----------------------------------------------------------------------------------


def preferences_plans(scale: Scale) -> list[Plan]:
    """One training."""
    spec = scale.choose({"pairs": 60, "test_pairs": 40, "epochs": 1}, {"pairs": 4000})
    return [job("preferences", preferences.TASK, "reward_model", 0, {**spec, "seed": 1},
                (preferences.TASK, None))]  # fmt: skip


def measure_preferences(spec: Mapping[str, Any], scratch: Path) -> dict[str, Any]:
    """Do the training."""
    settings = preferences.Settings(
        **spec, out=scratch / "model", plot=scratch / "calibration.png", device="cpu"
    )
    compared = preferences.compare(settings)
    plot = as_text((scratch / "calibration.png").read_bytes())
    return {**preferences.figures(*compared, settings.sharpness), "plot": plot}


def write_preferences(findings: Findings) -> None:
    """Write the sentences in docs/rewards.md, and the plot."""
    result = only_result(findings)
    findings.picture("docs/calibration.png", None if result is None else as_bytes(result["plot"]))
    text = ""
    if result is not None:
        pairs = findings.plans[0].record["kwargs"]["pairs"]
        text = (
            f"Of {pairs:,} preferences it learns to agree with the judge on {result['agrees']:.0%} "
            f"of new pairs, where the score itself agrees on {result['ceiling']:.0%}; it ranks\n"
            f"{result['ranks']:.0%} of them as the score does.\n\n"
            "![how often the judge agrees, against how confident the reward is](calibration.png)"
        )
    findings.fill("docs/rewards.md", "preferences", text)


# -- rewards ---------------------------------------------------------------------------------------


def rewards_plans(scale: Scale) -> list[Plan]:
    """One measurement of all rewards."""
    sizes = scale.choose({"texts": 4, "alone": 1, "repeats": 1}, {})
    return [job("rewards", "all rewards", "speed", 0, sizes)]


def measure_rewards(spec: Mapping[str, Any], scratch: Path) -> dict[str, Any]:
    """Measure the speeds."""
    rewards.main(rewards.Settings(**spec, out=scratch))
    return {"page": (scratch / "rewards.md").read_text("utf-8")}


def write_rewards(findings: Findings) -> None:
    """Write the page."""
    result = only_result(findings)
    page = "# How fast the rewards are\n" if result is None else result["page"]
    findings.write(f"{RESULTS}/rewards.md", page)


STUDIES = {
    "tasks": Study(
        name="tasks",
        title="the scale of every task and level, with the model's score",
        plans=tasks_plans,
        write=write_tasks,
        seconds=lambda plan: 25.0,
        measure=measure_task,
        pages=("docs/tasks.md",),
    ),
    "adversarial": Study(
        name="adversarial",
        title="PPO with a discriminator as the reward",
        plans=adversarial_plans,
        write=write_adversarial,
        seconds=lambda plan: 2400.0,
        measure=measure_adversarial,
        pages=(f"{RESULTS}/adversarial.md", f"{RESULTS}/adversarial.json", "docs/rewards.md"),
    ),
    "preferences": Study(
        name="preferences",
        title="a reward from preferences, and its calibration",
        plans=preferences_plans,
        write=write_preferences,
        seconds=lambda plan: 400.0,
        measure=measure_preferences,
        pages=("docs/rewards.md", "docs/calibration.png"),
    ),
    "rewards": Study(
        name="rewards",
        title="speed of the rewards",
        plans=rewards_plans,
        write=write_rewards,
        seconds=lambda plan: 600.0,
        measure=measure_rewards,
        pages=(f"{RESULTS}/rewards.md",),
    ),
}

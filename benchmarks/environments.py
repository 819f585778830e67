"""How fast are the environments? The native batch beside Gymnasium's SyncVectorEnv.

``python -m benchmarks.environments`` steps both with the same random actions, in turn, several
times, and prints medians as a Markdown table; ``--out FOLDER`` also writes it there, with the raw
figures, the machine and the versions as JSON. Rewards, resets and infos are included: rows end, are
scored and start anew. A token-step is one row that takes one action.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import tyro
from gymnasium.utils.performance import benchmark_vector_step

import textgym


@dataclass
class Args:
    """Settings of the measurement."""

    env: tuple[str, ...] = ("plain", "TextGen/Sentiment-v0", "TextGen/Story-v0")
    """Environment ids; "plain" is TextGen-v0 with a list of prompts and a reward that costs next to
    nothing, so that the environment itself is measured."""
    num_envs: int = 1024
    """Rows of the batch."""
    steps: int = 200
    """Steps of the batch in one measurement; the loop takes a twentieth."""
    repeats: int = 5
    """Measurements of each; the median counts."""
    seed: int = 0
    """Seed of the environments and of the actions."""
    out: Path | None = None
    """Folder for environments.md and environments.json."""


def token_steps_per_second(
    envs: gym.vector.VectorEnv[Any, Any, Any], steps: int, seed: int
) -> float:
    """Step with random tokens, and count."""
    assert isinstance(envs.single_action_space, gym.spaces.Discrete)
    actions = np.random.default_rng(seed).integers(
        0, int(envs.single_action_space.n), (steps, envs.num_envs)
    )
    begin = time.perf_counter()
    for chosen in actions:
        envs.step(chosen)
    return steps * envs.num_envs / (time.perf_counter() - begin)


def text_length(completions: list[str]) -> list[float]:
    """A reward that costs next to nothing."""
    return [float(len(text)) for text in completions]


def measure(env_id: str, args: Args) -> dict[str, Any]:
    """Measure one id: batch and loop in turn, then Gymnasium's own meter on both."""
    kwargs: dict[str, Any] = {}
    if env_id == "plain":
        kwargs = {"prompts": [f"Prompt number {n}." for n in range(100)], "reward": text_length}
    batch, loop = (
        gym.make_vec(
            "TextGen-v0" if kwargs else env_id,
            num_envs=args.num_envs,
            vectorization_mode=mode,
            **kwargs,
        )
        for mode in ("vector_entry_point", "sync")
    )
    # Rows of a fresh batch all end in the same step; stepping beyond that spreads them out.
    for envs, warm_up in ((batch, 150), (loop, 10)):
        envs.reset(seed=args.seed)
        token_steps_per_second(envs, warm_up, args.seed)
    figures: dict[str, list[float]] = {"batch": [], "loop": []}
    for repeat in range(args.repeats):
        figures["batch"].append(token_steps_per_second(batch, args.steps, repeat))
        figures["loop"].append(token_steps_per_second(loop, max(1, args.steps // 20), repeat))
    ratios = [fast / slow for fast, slow in zip(figures["batch"], figures["loop"], strict=True)]
    neutral = {
        name: statistics.median(benchmark_vector_step(envs, target_duration=2) for _ in range(3))
        for name, envs in (("batch", batch), ("loop", loop))
    }
    batch.close()
    loop.close()
    return {
        "env": env_id,
        "token_steps_per_second": figures,
        "ratio": ratios,
        "benchmark_vector_step": neutral,
    }


def table(results: list[dict[str, Any]], num_envs: int) -> str:
    """The medians as a Markdown table."""
    lines = [
        f"| environment ({num_envs} rows) | batch, token-steps/s | SyncVectorEnv, token-steps/s | "
        "ratio (median; min to max) | ratio by `benchmark_vector_step` |",
        "|---|---:|---:|---:|---:|",
    ]
    for result in results:
        medians = {
            name: statistics.median(values)
            for name, values in result["token_steps_per_second"].items()
        }
        ratio, neutral = result["ratio"], result["benchmark_vector_step"]
        lines.append(
            f"| {result['env']} | {medians['batch']:,.0f} | {medians['loop']:,.0f} | "
            f"{statistics.median(ratio):.0f} ({min(ratio):.0f} to {max(ratio):.0f}) | "
            f"{neutral['batch'] / neutral['loop']:.0f} |"
        )
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    packages = ("gymnasium", "numpy", "tokenizers")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "versions": {"textgym": textgym.__version__} | {name: version(name) for name in packages},
    }


def main() -> None:
    """Measure, print, and write."""
    args = tyro.cli(Args, description=__doc__)
    results = [measure(env_id, args) for env_id in args.env]
    text = table(results, args.num_envs)
    print(text)
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "environments.md").write_text(text + "\n")
        record = {
            "machine": machine(),
            "settings": asdict(args) | {"out": str(args.out)},
            "results": results,
        }
        (args.out / "environments.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    assert textgym.__version__  # Importing it registers the ids.
    main()

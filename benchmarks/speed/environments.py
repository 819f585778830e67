"""Environments: token-steps per second of the native batch and of Gymnasium's ``SyncVectorEnv``.

Both step with the same random actions. Rewards, resets and infos are included: rows end, are scored
and start again. A token-step is one action of one row. The loop is slower and its cost per step is
constant, so it takes a twentieth of the steps. ``benchmark_vector_step`` is Gymnasium's benchmark,
which also counts the time to sample the actions.

No language model runs here, so device, dtype and threads do not matter.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.performance import benchmark_vector_step

from benchmarks.speed.harness import Comparison, Result, Settings, interleaved
from benchmarks.speed.models import text_length
from textgym.tasks.registry import built_in_tasks

MODES = {"batch": "vector_entry_point", "SyncVectorEnv": "sync"}
# Steps before the measurement: the rows of a new batch end together; later they are spread out.
_WARM_UP = {"batch": 150, "SyncVectorEnv": 10}


def measure(settings: Settings) -> Result:
    """Measure a plain environment with nearly no cost, and two tasks."""
    rows, steps = settings.choose((8, 20), (1024, 200), (1024, 400))
    ids = settings.choose(("plain",), ("plain", "TextGen/Sentiment-v0", "TextGen/Story-v0"), None)
    tasks = [name for name in built_in_tasks() if "Probe-" not in name]
    comparisons = [compare(env_id, rows, steps, settings) for env_id in ids or ("plain", *tasks)]
    return Result(
        "Environments",
        "token-steps/s",
        comparisons,
        notes=[
            f"{rows} rows, random actions; resets, rewards and infos included",
            "plain: TextGen-v0 with a list of prompts and a reward that costs next to nothing",
        ],
    )


def compare(env_id: str, rows: int, steps: int, settings: Settings) -> Comparison:
    """Measure one id in turn, then with Gymnasium's benchmark."""
    made = {name: make(env_id, rows, mode) for name, mode in MODES.items()}
    sides = {}
    for name, envs in made.items():
        envs.reset(seed=settings.seed)
        stepper(envs, min(_WARM_UP[name], steps), settings.seed)()
        share = 1 if name == "batch" else 20
        sides[name] = stepper(envs, max(1, steps // share), settings.seed)
    runs = interleaved(sides, settings.count)
    seconds = settings.choose(0.05, 1.0, 2.0)
    neutral = {
        name: statistics.median(
            benchmark_vector_step(envs, target_duration=seconds) for _ in range(settings.count)
        )
        for name, envs in made.items()
    }
    for envs in made.values():
        envs.close()
    ratio = neutral["batch"] / neutral["SyncVectorEnv"]
    return Comparison(env_id, runs, {"ratio by `benchmark_vector_step`": f"{ratio:.0f}"})


def make(env_id: str, rows: int, mode: str) -> gym.vector.VectorEnv[Any, Any, Any]:
    """A batch of an id, or of the plain environment."""
    kwargs: dict[str, Any] = {}
    if env_id == "plain":
        env_id = "TextGen-v0"
        kwargs = {"prompts": [f"Prompt number {n}." for n in range(100)], "reward": text_length}
    return gym.make_vec(env_id, num_envs=rows, vectorization_mode=mode, **kwargs)


def stepper(
    envs: gym.vector.VectorEnv[Any, Any, Any], steps: int, seed: int
) -> Callable[[], float]:
    """Steps with random tokens; a call returns the number of token-steps."""
    assert isinstance(envs.single_action_space, gym.spaces.Discrete)
    rng = np.random.default_rng(seed)
    actions = rng.integers(0, int(envs.single_action_space.n), (steps, envs.num_envs))

    def work() -> float:
        for chosen in actions:
            envs.step(chosen)
        return float(actions.size)

    return work

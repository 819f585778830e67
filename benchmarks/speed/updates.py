"""Updates: time and memory of ``PPO.train()``, on whole sequences and on timesteps.

All sides have the same rollout and weights, and run SB3's unmodified ``PPO.train`` for one epoch:

* *textgym*: ``LMRolloutBuffer``, four minibatches of whole sequences.
* *SB3's buffer*: one sample per timestep, the whole text in each, in minibatches of 64 (SB3's
  default; much larger ones do not fit into memory for long texts). Each minibatch is drawn from all
  timesteps at random and costs the same, so only a few are timed, and the rate is that of their
  samples. The policy is textgym's, which cuts the padding off.
* *SB3's buffer, padded*: the same with the plain policy of :mod:`benchmarks.speed.prefix_policy`,
  which reads the padding too, as RL4LMs does.

The texts are random tokens, which cost as much as any others. Peak memory is measured in a new
process, relative to the state before ``train()``: the high-water mark of resident memory (Linux),
or torch's allocations on a GPU. It includes Adam's state, twice the weights.
"""

from __future__ import annotations

import gc
import itertools
import math
import multiprocessing
import tempfile
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples

from benchmarks.speed.harness import Comparison, Result, Settings, interleaved
from benchmarks.speed.models import SMALL, SMALL_WIDE, TINY, Case, environment, write_model
from benchmarks.speed.prefix_policy import PrefixPolicy
from textgym.lm import Decision
from textgym.sb3 import LMPolicy, LMRolloutBuffer

SIDES = ("textgym", "SB3's buffer", "SB3's buffer, padded")
# Minibatches of textgym's side.
_MINIBATCHES = 4
# Samples in a minibatch of SB3's side, and how many minibatches are timed.
_STOCK_BATCH = 64
_STOCK_COUNT = 2


class SomeMinibatches(RolloutBuffer):
    """SB3's buffer, which stops after a few minibatches.

    Args:
        *args: As for SB3's buffer.
        count: Number of minibatches; None is all of them.
        **kwargs: As for SB3's buffer.
    """

    def __init__(self, *args: Any, count: int | None = None, **kwargs: Any) -> None:
        self.count = count
        super().__init__(*args, **kwargs)

    def get(self, batch_size: int | None = None) -> Generator[RolloutBufferSamples, None, None]:
        """Yield the first minibatches of SB3's."""
        yield from itertools.islice(super().get(batch_size), self.count)


def cases(settings: Settings) -> list[Case]:
    """The cases, by the size of the run."""
    if settings.smoke:
        return [Case(TINY, 4, 8)]
    lengths = (32, 64, 128, 256)
    return [*(Case(SMALL, 64, tokens) for tokens in lengths), Case(SMALL_WIDE, 64, 128)]


def measure(settings: Settings) -> Result:
    """Measure time and memory of all cases."""
    comparisons = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(settings):
            lm = write_model(Path(folder), case.shape, settings.seed, settings.torch_dtype)
            sides = {name: side(name, case, lm, settings) for name in SIDES}
            comparison = Comparison(str(case), interleaved(sides, settings.count, settings.device))
            del sides
            decisions = case.rows * case.tokens
            for name in SIDES:
                rate = comparison.rate(name)
                comparison.extra[f"{name}, s an update"] = f"{decisions / rate:.2f}"
            for name in SIDES:
                memory = peak_memory(name, case, lm, settings)
                shown = "not measured" if memory is None else f"{memory / 2**20:,.0f}"
                comparison.extra[f"{name}, peak MiB"] = shown
            comparisons.append(comparison)
    return Result(
        "Updates",
        "tokens/s",
        comparisons,
        notes=[
            "`PPO.train()`, one epoch; tokens are decisions (new tokens), prompts of 16 tokens "
            "are not counted",
            f"textgym: {_MINIBATCHES} minibatches of whole sequences; SB3's buffer: minibatches of "
            f"{_STOCK_BATCH} timesteps, of which {_STOCK_COUNT} are timed, as each costs the same "
            "(seconds an update are those of all)",
            "peak MiB: memory of the process during `train()`, over that before it, with the "
            "minibatches of above; Adam's state (twice the weights) is in both",
        ],
    )


def side(name: str, case: Case, lm: str, settings: Settings) -> Callable[[], float]:
    """One side's update; a call returns the number of decisions that it learned from."""
    model = agent(name, case, lm, settings)
    count = case.rows * case.tokens if name == SIDES[0] else _STOCK_COUNT * _STOCK_BATCH

    def work() -> float:
        model.train()
        return float(min(count, case.rows * case.tokens))

    return work


def agent(name: str, case: Case, lm: str, settings: Settings, whole: bool = False) -> PPO:
    """An agent with a full buffer.

    Args:
        name: The side.
        case: Sizes.
        lm: Path of the model.
        settings: Device, dtype, seed.
        whole: One minibatch of everything, on either side.
    """
    decisions = case.rows * case.tokens
    if name == SIDES[0]:
        buffer: type[RolloutBuffer] = LMRolloutBuffer
        batch_size, cache = decisions // _MINIBATCHES, True
        buffer_kwargs: dict[str, Any] = {}
    else:
        buffer = SomeMinibatches
        batch_size, cache = min(_STOCK_BATCH, decisions), False
        buffer_kwargs = {"count": None if whole else _STOCK_COUNT}
    plain = name == SIDES[2]
    model = PPO(
        PrefixPolicy if plain else LMPolicy,
        environment(case, lm, settings.seed),
        n_steps=case.tokens,
        batch_size=decisions if whole else batch_size,
        n_epochs=1,
        learning_rate=1e-5,
        policy_kwargs={"lm": lm} if plain else {"lm": lm, "cache": cache},
        rollout_buffer_class=buffer,
        rollout_buffer_kwargs=buffer_kwargs,
        seed=settings.seed,
        device=settings.device,
    )
    language_model: Any = model.policy.model if plain else model.policy.lm
    language_model.to(settings.torch_dtype)
    model._setup_learn(decisions)
    fill(model, case, settings.seed)
    return model


def fill(model: PPO, case: Case, seed: int) -> None:
    """Fill an agent's buffer with a rollout of random tokens; the same for the same seed."""
    rng = np.random.default_rng(seed)
    venv, buffer = model.env, model.rollout_buffer
    assert venv is not None
    venv.seed(seed)
    observations = venv.reset()
    starts = np.ones(case.rows, dtype=bool)
    value = torch.zeros(case.rows, 1)
    log_prob = torch.full((case.rows,), -math.log(case.shape.vocabulary))
    if isinstance(model.policy, LMPolicy):  # The buffer takes the policy's record.
        Decision(model.policy.lm, model.policy.sampler, None).attach(log_prob)
    buffer.reset()
    for _ in range(case.tokens):
        actions = rng.integers(0, case.shape.vocabulary, case.rows)
        after, _, dones, _ = venv.step(actions)
        rewards = rng.random(case.rows)
        buffer.add(observations, actions[:, None], rewards, starts, value, log_prob)  # type: ignore[arg-type]
        observations, starts = after, dones
    buffer.compute_returns_and_advantage(value, starts)


def peak_memory(name: str, case: Case, lm: str, settings: Settings) -> float | None:
    """Bytes that an update takes at its peak, measured in a new process; None if unknown."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_peak_here, name, case, lm, settings).result()


def _peak_here(name: str, case: Case, lm: str, settings: Settings) -> float | None:
    torch.set_num_threads(settings.threads)
    model = agent(name, case, lm, settings)
    gc.collect()
    if torch.device(settings.device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(settings.device)
        before = torch.cuda.memory_allocated(settings.device)
        model.train()
        return float(torch.cuda.max_memory_allocated(settings.device) - before)
    # Not getrusage's ru_maxrss: that starts at the size of the parent process, and never falls.
    try:
        Path("/proc/self/clear_refs").write_text("5")
        at_start = _status("VmRSS")
        model.train()
        return float(_status("VmHWM") - at_start)
    except OSError:
        return None


def _status(key: str) -> int:
    """A line of Linux's /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {key} in /proc/self/status")

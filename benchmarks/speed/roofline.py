"""Roofline: speed as a share of the machine's limits.

First the machine is measured, with torch and the same threads: bytes read per second, and
operations per second of a matrix product. From the sizes of a model follows the least time of a
decode step and of an update (the roofline model: Williams et al. 2009):

* A decode step of N rows at context c reads every weight once, and each row's keys and values up to
  c; it does 2 operations a row for each weight of a matrix, and 4 c d a row and layer in attention.
* An update does three times the operations of a forward pass (forward, and the gradients by inputs
  and by weights). Positions of the prompt need no logits. Attention is causal, half of the square.

The bound is the larger of bytes / bandwidth and operations / rate. Bandwidth is that of reading an
array of the same size as a step's reads: a small model fits in the processor's cache.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from stable_baselines3 import PPO
from torch import Tensor

from benchmarks.speed import updates
from benchmarks.speed.harness import Comparison, Result, Run, Settings, Table, interleaved, timed
from benchmarks.speed.models import GPT2_124M, PROMPT_TOKENS, SMALL, TINY, Case, Shape, write_model
from benchmarks.speed.rollouts import textgym_side


def measure(settings: Settings) -> Result:
    """Measure the machine, the decode steps, the rollouts and the updates."""
    decode, update = cases(settings)
    comparisons, rows = [], []
    *large, peak = large_rates(settings)
    rows.append(["large", *(_si(rate) for rate in (*large, peak))])
    with tempfile.TemporaryDirectory() as folder:
        for case in decode:
            lm = write_model(Path(folder), case.shape, settings.seed, settings.torch_dtype)
            read, operations = decode_cost(case, settings.torch_dtype.itemsize)
            bandwidth, _ = bandwidths(int(read), settings)
            rate = matmul_rate(case.rows, case.shape.width, 4 * case.shape.width, settings)
            rows.append([f"as in {case}", _si(bandwidth), "", _si(rate)])
            peak = max(peak, rate)
            limit = case.rows / max(read / bandwidth, operations / peak)
            sides = {
                "decode steps": decode_side(case, lm, settings),
                "whole rollout": textgym_side(case, lm, settings),
            }
            for name, runs in interleaved(sides, settings.count, settings.device).items():
                comparisons.append(_share(f"{name}: {case}", runs, limit))
        for case in update:
            lm = write_model(Path(folder), case.shape, settings.seed, settings.torch_dtype)
            limit = case.rows * case.tokens / (update_cost(case) / peak)
            sides = {"update": updates.side("textgym", case, lm, settings)}
            runs = interleaved(sides, settings.count, settings.device)["update"]
            comparisons.append(_share(f"update: {case}", runs, limit))
    return Result(
        "Roofline",
        "tokens/s",
        comparisons,
        [Table("Limits of the machine", ["", "read B/s", "copy B/s", "matmul FLOP/s"], rows)],
        [
            "the limit follows from bytes to read and operations to do, at the measured rates; the "
            "ratio is the share of it that is reached",
            "decode steps: the policy alone (hidden states, values, sampling) on observations that "
            "grow; whole rollout: with environment and buffer, as in the part rollouts",
        ],
    )


def cases(settings: Settings) -> tuple[list[Case], list[Case]]:
    """Decode steps and updates to measure, by the size of the run."""
    if settings.smoke:
        return [Case(TINY, 4, 8)], [Case(TINY, 4, 8)]
    rows = settings.choose((), (16, 64), (1, 16, 64, 256))
    decode = [Case(SMALL, count, 64) for count in rows]
    large = (16,) if settings.on_cpu else (64, 256)
    tokens = 16 if settings.on_cpu else 128
    return [*decode, *(Case(GPT2_124M, count, tokens) for count in large)], [Case(SMALL, 64, 64)]


def matrix_weights(shape: Shape) -> int:
    """Weights of the matrices in the layers, each used once a token (both kinds have 12 d^2)."""
    d = shape.width
    mlp = 8 * d * d if shape.kind == "gpt2" else 3 * d * (8 * d // 3)
    return shape.layers * (4 * d * d + mlp)


def decode_cost(case: Case, itemsize: int) -> tuple[float, float]:
    """Bytes and operations of one decode step of all rows, at the mean context of a rollout."""
    shape = case.shape
    context = PROMPT_TOKENS + case.tokens / 2
    weights = matrix_weights(shape) + shape.vocabulary * shape.width
    memory = 2 * shape.layers * shape.width * context * case.rows
    attention = 4 * shape.layers * shape.width * context * case.rows
    return (weights + memory) * itemsize, 2 * weights * case.rows + attention


def update_cost(case: Case) -> float:
    """Operations of one pass over all decisions of a rollout, forward and backward."""
    shape, length = case.shape, case.width - 1
    layers = 2 * matrix_weights(shape) * length
    attention = 4 * shape.layers * shape.width * length * (length + 1) / 2
    head = 2 * shape.vocabulary * shape.width * case.tokens
    return 3.0 * case.rows * (layers + attention + head)


def decode_side(case: Case, lm: str, settings: Settings) -> Callable[[], float]:
    """Decode steps of the policy alone, on observations that grow by one token per step."""
    model: PPO = updates.agent("textgym", case, lm, settings)
    policy = model.policy
    observations = torch.from_numpy(model.rollout_buffer.observations).to(model.device)

    @torch.no_grad()
    def work() -> float:
        policy.set_training_mode(True)  # Weights changed: the cache is invalid.
        policy.set_training_mode(False)
        for step in observations:
            policy(step)
        return float(observations.shape[0] * observations.shape[1])

    return work


def large_rates(settings: Settings) -> tuple[float, float, float]:
    """Bytes read and copied a second on a large array, and operations of a large product."""
    size = settings.choose(2**20, 2**29, 2**30)
    read, copy = bandwidths(size, settings)
    side = settings.choose(64, 1024, 1024) if settings.on_cpu else 8192
    return read, copy, matmul_rate(side, side, side, settings)


def bandwidths(size: int, settings: Settings) -> tuple[float, float]:
    """Bytes a second that are read (a sum), and read and written (a copy)."""
    # Whole numbers in float32: a sum of half precision would be bound by its conversions.
    values = torch.ones(max(1, size // 4), device=settings.device)
    other = torch.empty_like(values)
    nbytes = values.numel() * 4
    read = _best(lambda: values.sum(), nbytes, settings)
    copy = _best(lambda: other.copy_(values), 2 * nbytes, settings)
    return read, copy


def matmul_rate(rows: int, inner: int, columns: int, settings: Settings) -> float:
    """Operations a second of a product ``[rows, inner] @ [inner, columns]``."""
    kind = {"dtype": settings.torch_dtype, "device": settings.device}
    left, right = torch.randn(rows, inner, **kind), torch.randn(inner, columns, **kind)  # type: ignore[call-overload]
    out = left @ right
    return _best(lambda: torch.mm(left, right, out=out), 2 * rows * inner * columns, settings)


def _best(work: Callable[[], Tensor], amount: float, settings: Settings) -> float:
    """The highest rate of several measurements."""
    work()
    one = timed(lambda: float(work().numel()), settings.device).wall
    count = max(1, int(0.05 / max(one, 1e-7)))

    def many() -> float:
        for _ in range(count):
            work()
        return amount * count

    runs = [timed(many, settings.device) for _ in range(settings.choose(2, 10, 20))]
    return max(run.work / run.wall for run in runs)


def _share(case: str, runs: list[Run], limit: float) -> Comparison:
    return Comparison(case, {"textgym": runs, "limit": [Run(limit, 1.0, 1.0) for _ in runs]})


def _si(rate: float) -> str:
    for factor, prefix in ((1e12, "T"), (1e9, "G")):
        if rate >= factor:
            return f"{rate / factor:.1f} {prefix}"
    return f"{rate / 1e6:.1f} M"

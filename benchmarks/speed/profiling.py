"""Where the time of textgym's side goes: ``python -m benchmarks.speed --profile rollouts``."""

from __future__ import annotations

import cProfile
import pstats
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.speed import updates
from benchmarks.speed.harness import Settings
from benchmarks.speed.models import SMALL, TINY, Case, write_model
from benchmarks.speed.rollouts import textgym_side

_ROWS = 25


def show(settings: Settings) -> None:
    """Print torch's operations and Python's functions by their own time, textgym's side alone."""
    case = settings.choose(Case(TINY, 4, 8), Case(SMALL, 64, 64), Case(SMALL, 64, 128))
    with tempfile.TemporaryDirectory() as folder:
        lm = write_model(Path(folder), case.shape, settings.seed, settings.torch_dtype)
        work: Callable[[], float]
        if settings.profile == "rollouts":
            work = textgym_side(case, lm, settings)
        else:
            work = updates.side("textgym", case, lm, settings)
        work()
        activities = [ProfilerActivity.CPU]
        order = "self_cpu_time_total"
        if not settings.on_cpu:
            activities.append(ProfilerActivity.CUDA)
            order = "self_cuda_time_total"
        with profile(activities=activities) as operations:
            work()
            if not settings.on_cpu:
                torch.cuda.synchronize(settings.device)
        with cProfile.Profile() as functions:
            work()
    print(f"{settings.profile}: {case}")
    print(operations.key_averages().table(sort_by=order, row_limit=_ROWS))
    pstats.Stats(functions).sort_stats("tottime").print_stats(_ROWS)

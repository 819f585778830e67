"""A learning-rate schedule."""

from __future__ import annotations

import math


def warmup_cosine(step: int, steps: int, warmup: int, peak: float) -> float:
    """Linear warm-up, then a cosine decay to a twentieth of the peak.

    Args:
        step: Index of the next step.
        steps: Number of steps of the training.
        warmup: Number of steps of the warm-up.
        peak: The highest learning rate.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * share)))

"""Learning rates that change over a training."""

from __future__ import annotations

import math
from typing import Literal, get_args

from textgym.errors import SettingsError

ScheduleKind = Literal["constant", "linear", "cosine"]


class WarmupSchedule:
    """A learning rate that rises from 0, and then stays, or falls linearly or as a cosine.

    For the argument ``learning_rate`` of Stable-Baselines3's algorithms. With warm-up, the rate is
    ``start`` times the share of the warm-up that is over, and the fall begins at its end.

    Args:
        start: The highest rate.
        end: The rate at the end of the training; not used by ``"constant"``.
        kind: ``"constant"``, ``"linear"``, or ``"cosine"`` (Loshchilov and Hutter 2017, "SGDR",
            https://arxiv.org/abs/1608.03983, equation 5).
        warmup: Share of the training over which the rate rises, from 0 to below 1.

    Raises:
        SettingsError: If the kind is unknown, or the warm-up is not a share.
    """

    def __init__(
        self, start: float, end: float = 0.0, kind: ScheduleKind = "linear", warmup: float = 0.0
    ) -> None:
        if kind not in get_args(ScheduleKind):
            raise SettingsError(f"kind={kind!r} must be one of {', '.join(get_args(ScheduleKind))}")
        if not 0 <= warmup < 1:
            raise SettingsError(f"warmup={warmup} must be a share of the training, 0 to below 1")
        self.start = float(start)
        self.end = float(end)
        self.kind: ScheduleKind = kind
        self.warmup = float(warmup)

    def __call__(self, progress_remaining: float) -> float:
        """The rate when this share of the training is left, from 1 to 0."""
        done = min(1.0, max(0.0, 1.0 - progress_remaining))
        if done < self.warmup:
            return self.start * done / self.warmup
        fallen = (done - self.warmup) / (1.0 - self.warmup)
        if self.kind == "constant":
            return self.start
        if self.kind == "cosine":
            fallen = (1.0 - math.cos(math.pi * fallen)) / 2
        return self.start + fallen * (self.end - self.start)

    def __repr__(self) -> str:
        return (
            f"WarmupSchedule(start={self.start!r}, end={self.end!r}, kind={self.kind!r}, "
            f"warmup={self.warmup!r})"
        )

"""The task of :mod:`end_to_end`: write tokens with even ids. Plain Python, for every trainer.

TRL's reward functions and textgym's have the same signature, so both sides call the same functions.
TRL runs in a separate environment, so this file imports the standard library only.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any


def even_count(completion_ids: list[list[int]], **_: Any) -> list[float]:
    """The number of even tokens in each text."""
    return [float(sum(token % 2 == 0 for token in ids)) for ids in completion_ids]


def even_share(completion_ids: list[list[int]], **_: Any) -> list[float]:
    """The share of even tokens in each text; 0 for an empty text."""
    counts = even_count(completion_ids)
    return [count / max(1, len(ids)) for count, ids in zip(counts, completion_ids, strict=True)]


REWARDS = {"even_count": even_count, "even_share": even_share}


@dataclass
class Curve:
    """A reward function that records its rewards and their times.

    Args:
        reward: The name of the reward function.

    Attributes:
        points: For each call ``[tokens so far, wall seconds, CPU seconds, mean reward]``.
        stop_at: Ends the training when the mean reward of a call is this high...
        seconds: ... or after this many seconds of wall time.
    """

    reward: str
    stop_at: float = float("inf")
    seconds: float = float("inf")
    points: list[list[float]] = field(default_factory=list)

    def begin(self) -> None:
        """Start the clocks."""
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def elapsed(self) -> tuple[float, float]:
        """Wall and CPU seconds since the start."""
        return time.perf_counter() - self._wall, time.process_time() - self._cpu

    @property
    def __name__(self) -> str:
        """The name under which a trainer logs the reward."""
        return self.reward

    def __call__(self, completion_ids: list[list[int]], **columns: Any) -> list[float]:
        """Return and record the rewards of texts."""
        rewards = REWARDS[self.reward](completion_ids, **columns)
        before = self.points[-1][0] if self.points else 0.0
        tokens = before + sum(map(len, completion_ids))
        self.points.append([tokens, *self.elapsed(), sum(rewards) / len(rewards)])
        return rewards

    @property
    def done(self) -> bool:
        """Whether the training has reached its goal, or run out of time."""
        if not self.points:
            return False
        _, wall, _, reward = self.points[-1]
        return reward >= self.stop_at or wall >= self.seconds


def reached(points: list[list[float]], reward: float) -> list[float] | None:
    """The first point of a curve with at least this reward, or None."""
    return next((point for point in points if point[3] >= reward), None)

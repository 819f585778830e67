"""Detects that a learned reward is being gamed: it rises while people's preference falls.

A policy that is trained on a learned reward finds texts that the reward overrates. At some point
people like its texts less, although the learned reward goes on rising (Gao, Schulman and Hilton
2023, https://arxiv.org/abs/2210.10760). It shows in comparisons of the present policy with the
initial one that were drawn at random: the learned reward predicts how often the present policy
wins, and people say how often it does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

CRITICAL = 1.645
"""One-sided 5 % quantile of the normal distribution."""


class Window(NamedTuple):
    """Successive comparisons of the present policy with the initial one.

    Attributes:
        predicted: Mean probability, by the learned reward, that the present policy wins.
        won: Share of the comparisons that it won; a tie counts half.
        comparisons: Number of comparisons.
    """

    predicted: float
    won: float
    comparisons: int


@dataclass
class Overoptimization:
    """The comparisons so far, in windows, and the alarm.

    Attributes:
        size: Comparisons of a window.
        windows: The complete windows.
        alarms: Number of windows with an alarm at the end of the sequence, one after the other.
    """

    size: int = 20
    windows: list[Window] = field(default_factory=list)
    alarms: int = 0
    _pending: list[tuple[float, float]] = field(default_factory=list)

    def add(self, predicted: float, won: float) -> str | None:
        """Add a comparison.

        Args:
            predicted: Probability that the present policy wins, by the learned reward of the time
                when its text was written.
            won: 1 if it won, 0 if the initial policy won, 0.5 for a tie.

        Returns:
            A warning if the comparison completes a window with an alarm: against the window that
            people liked best, the prediction is higher, and the share of wins lower by more than
            chance (a one-sided test at 5 %).
        """
        self._pending.append((predicted, won))
        if len(self._pending) < self.size:
            return None
        window = _window(self._pending)
        self._pending = []
        best = max(self.windows, key=lambda one: one.won, default=None)
        self.windows.append(window)
        if best is None or window.predicted <= best.predicted or not _worse(window, best):
            self.alarms = 0
            return None
        self.alarms += 1
        return (
            "the learned reward rises while people's preference falls: the policy is predicted to "
            f"win {window.predicted:.0%} of the comparisons with the initial one "
            f"({best.predicted:.0%} before), but won {window.won:.0%} ({best.won:.0%} before) of "
            f"{window.comparisons}. It may be gaming the reward: look at its texts, judge more "
            "pairs, or raise --kl-coef"
        )

    @property
    def last(self) -> Window | None:
        """The comparisons of the last window; those so far if none is complete."""
        if self.windows:
            return self.windows[-1]
        return _window(self._pending) if self._pending else None

    def state(self) -> dict[str, Any]:
        """The state as values of a checkpoint."""
        return {
            "windows": [list(window) for window in self.windows],
            "alarms": self.alarms,
            "pending": [list(pair) for pair in self._pending],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state of `state`."""
        self.windows = [Window(*window) for window in state["windows"]]
        self.alarms = state["alarms"]
        self._pending = [(predicted, won) for predicted, won in state["pending"]]


def _window(pairs: Sequence[tuple[float, float]]) -> Window:
    predicted, won = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
    return Window(predicted, won, len(pairs))


def _worse(window: Window, best: Window) -> bool:
    """Whether the share of wins is lower by more than chance: the test of two proportions."""
    count = window.comparisons + best.comparisons
    pooled = (window.won * window.comparisons + best.won * best.comparisons) / count
    error = math.sqrt(pooled * (1 - pooled) * (1 / window.comparisons + 1 / best.comparisons))
    return best.won - window.won > CRITICAL * error

"""Normalization of a reward by its running mean and standard deviation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textgym.errors import RewardError
from textgym.rewards.combinators import Combinator, clipped
from textgym.rewards.nested import Values
from textgym.rewards.registry import RewardFunction
from textgym.rewards.values import is_number, is_whole

# The deviation of a constant reward is a rounding error, and below this.
_LEAST_DEVIATION = 1e-8


class Normalize(Combinator):
    """A reward minus its running mean, divided by its running standard deviation.

    The statistics include the current batch. Count, mean and sum of squared deviations are updated
    batch by batch (Chan et al. 1983, "Algorithms for Computing the Sample Variance"), so they do
    not depend on the batch size. None is not counted, and stays None.

    **The reward becomes non-stationary**: the same text gets another reward later, and the mean
    stays at 0 while the policy improves. Log the unnormalized reward with a weight of 0, and
    `freeze` the statistics for an evaluation, or after a while.

    The statistics belong to this object. Environments that are given the same object share them;
    worker processes have separate copies.

    Range: [-clip, clip]; 0 during the warm-up.
    Needs: what the reward needs.
    Cost: the cost of the reward, and 10 us per batch.
    Gaming: like the reward. A policy cannot profit from moving the mean, but old texts count as
    much as new ones.

    Args:
        reward: A registered name, or a reward function.
        warmup: The reward is 0 until this number of texts has been judged, because the standard
            deviation of a few texts means little. The call that reaches it is normalized.
        clip: Bound on the absolute value of the result; None leaves it open.

    Raises:
        RewardError: If the reward is unknown, warmup is not an integer >= 0, or clip is not
            positive.

    Example:
        >>> from textgym.rewards.normalization import Normalize
        >>> reward = Normalize(lambda completions: [float(len(text)) for text in completions],
        ...                    warmup=3)
        >>> reward(["", ""], ["a", "abc"]), reward(["", ""], ["abc", "a"])
        ([0.0, 0.0], [1.0, -1.0])
    """

    def __init__(
        self, reward: str | RewardFunction, warmup: int = 32, clip: float | None = 10.0
    ) -> None:
        super().__init__(reward)
        if not is_whole(warmup, 0):
            raise RewardError(f"Normalize: warmup must be an integer >= 0, not {warmup!r}")
        if clip is not None and (not is_number(clip) or clip <= 0):
            raise RewardError(f"Normalize: clip must be a finite number > 0, or None, not {clip!r}")
        self.warmup, self.clip = warmup, clip
        self.frozen = False
        self._count, self._mean, self._squares = 0, 0.0, 0.0

    @property
    def count(self) -> int:
        """Number of values so far."""
        return self._count

    @property
    def mean(self) -> float:
        """Mean of the values so far; 0 before the first."""
        return self._mean

    @property
    def std(self) -> float:
        """Population standard deviation of the values so far; 0 before the first."""
        return math.sqrt(self._squares / self._count) if self._count else 0.0

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> Values:
        """Return N rewards."""
        values = self._inner[0](prompts, completions, columns)
        if not self.frozen:
            self._update(np.array([value for value in values if value is not None], np.float64))
        if self._count < self.warmup:
            return [None if value is None else 0.0 for value in values]
        deviation = max(self.std, _LEAST_DEVIATION)
        low = None if self.clip is None else -self.clip
        return [
            None if value is None
            else clipped((value - self._mean) / deviation, low, self.clip) for value in values
        ]  # fmt: skip

    def freeze(self, frozen: bool = True) -> None:
        """Stop updating the statistics; ``freeze(False)`` resumes."""
        self.frozen = frozen

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics, as values that JSON can represent.

        For :class:`textgym.sb3.Checkpoints`: ``extra=lambda: {"reward": reward.state_dict()}``.
        """
        return {
            "count": self._count,
            "mean": self._mean,
            "squares": self._squares,
            "frozen": self.frozen,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state from `state_dict`.

        Raises:
            RewardError: If the state is invalid; nothing is changed then.
        """
        try:
            count, mean = int(state["count"]), float(state["mean"])
            squares, frozen = float(state["squares"]), bool(state["frozen"])
        except (KeyError, TypeError, ValueError) as error:
            raise RewardError(
                f"{self.name}: {state!r:.200} is not a state from state_dict() ({error!r})"
            ) from error
        if count < 0 or not math.isfinite(mean) or not 0 <= squares < math.inf:
            raise RewardError(f"{self.name}: the state {state!r:.200} is damaged")
        self._count, self._mean, self._squares, self.frozen = count, mean, squares, frozen

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Restore the pickled statistics."""
        self.load_state_dict(state)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the specification and the statistics."""
        return (*super().__reduce__(), self.state_dict())

    def _update(self, values: NDArray[np.float64]) -> None:
        """Merge the statistics of a batch."""
        if not len(values):
            return
        total = self._count + len(values)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = values.mean()
            away = mean - self._mean
            squares = self._squares + np.square(values - mean).sum()
            squares += away * away * (self._count * len(values) / total)
            merged = self._mean + away * (len(values) / total)
        if not (np.isfinite(squares) and np.isfinite(merged)):
            raise RewardError(
                f"has the inner reward {self._inner[0].name!r}, whose squared values overflow (up "
                f"to {np.abs(values).max():g}); Clip or Scale it first"
            )
        self._count, self._mean, self._squares = total, float(merged), float(squares)

    def _options(self) -> dict[str, Any]:
        return {"warmup": self.warmup, "clip": self.clip}

"""A reward on the scale of what was seen of it so far."""

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

# Deviations below this are rounding errors of a reward that is constant.
_LEAST_DEVIATION = 1e-8


class Normalize(Combinator):
    """A reward minus its running mean, divided by its running standard deviation.

    The statistics are those of all values so far, the batch under way included: count, mean and sum
    of squared deviations, updated batch by batch (Chan et al. 1983, "Algorithms for Computing the
    Sample Variance"), so that they do not depend on how the texts fall into batches. A None is no
    value, and stays None.

    **It makes rewards non-stationary**: the same text gets another reward later, a policy that
    improves does not see its mean reward grow, and curves of it say nothing; log the reward itself
    beside it with a weight of 0. `freeze` it for an evaluation, or after a while.

    The statistics belong to this object. It is shared where the same object is given to several
    environments; worker processes have copies, which go their own ways.

    Range: [-clip, clip]; 0 during the warm-up.
    Needs: what the reward needs.
    Cost: the reward's, and 10 us a batch.
    Gaming: the reward's. A policy cannot profit from moving the mean, but old texts count as much
    as new ones.

    Args:
        reward: A registered name, or a reward function.
        warmup: Until so many texts were judged, everything gets 0: a deviation of a few texts
            means little. The call that reaches the number is normalised.
        clip: The largest result, and minus it the smallest; None for none.

    Raises:
        RewardError: If the reward is unknown, warmup is no whole number from 0, or clip is not
            above 0.

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
            raise RewardError(f"Normalize: warmup must be a whole number >= 0, not {warmup!r}")
        if clip is not None and (not is_number(clip) or clip <= 0):
            raise RewardError(f"Normalize: clip must be a finite number > 0, or None, not {clip!r}")
        self.warmup, self.clip = warmup, clip
        self.frozen = False
        self._count, self._mean, self._squares = 0, 0.0, 0.0

    @property
    def count(self) -> int:
        """Texts judged so far."""
        return self._count

    @property
    def mean(self) -> float:
        """The mean of their rewards; 0 before the first."""
        return self._mean

    @property
    def std(self) -> float:
        """The standard deviation of their rewards, as of a whole population; 0 before the first."""
        return math.sqrt(self._squares / self._count) if self._count else 0.0

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> Values:
        """Return N rewards."""
        values = self._inner[0](prompts, completions, columns)
        if not self.frozen:
            self._take(np.array([value for value in values if value is not None], np.float64))
        if self._count < self.warmup:
            return [None if value is None else 0.0 for value in values]
        deviation = max(self.std, _LEAST_DEVIATION)
        low = None if self.clip is None else -self.clip
        return [
            None if value is None
            else clipped((value - self._mean) / deviation, low, self.clip) for value in values
        ]  # fmt: skip

    def freeze(self, frozen: bool = True) -> None:
        """Take no more values into the statistics; ``freeze(False)`` goes on."""
        self.frozen = frozen

    def state_dict(self) -> dict[str, Any]:
        """The statistics, as values that JSON can hold.

        For :class:`textgym.sb3.Checkpoints`: ``extra=lambda: {"reward": reward.state_dict()}``.
        """
        return {
            "count": self._count,
            "mean": self._mean,
            "squares": self._squares,
            "frozen": self.frozen,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `state_dict`.

        Raises:
            RewardError: If it is none; then nothing changes.
        """
        try:
            count, mean = int(state["count"]), float(state["mean"])
            squares, frozen = float(state["squares"]), bool(state["frozen"])
        except (KeyError, TypeError, ValueError) as error:
            raise RewardError(
                f"{self.name}: {state!r:.200} is no state of state_dict() ({error!r})"
            ) from error
        if count < 0 or not math.isfinite(mean) or not 0 <= squares < math.inf:
            raise RewardError(f"{self.name}: the state {state!r:.200} is damaged")
        self._count, self._mean, self._squares, self.frozen = count, mean, squares, frozen

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Go on from the statistics that were pickled."""
        self.load_state_dict(state)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the specification and the statistics."""
        return (*super().__reduce__(), self.state_dict())

    def _take(self, values: NDArray[np.float64]) -> None:
        """Merge the statistics of a batch into those so far."""
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
                f"has the inner reward {self._inner[0].name!r}, whose values are too large to be "
                f"squared (up to {np.abs(values).max():g}); Clip or Scale it first"
            )
        self._count, self._mean, self._squares = total, float(merged), float(squares)

    def _options(self) -> dict[str, Any]:
        return {"warmup": self.warmup, "clip": self.clip}

"""Statistics of normalised scores over tasks and seeds, with stratified bootstrap intervals.

After Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(2021), https://arxiv.org/abs/2108.13264. An agent's scores are a matrix [seeds, tasks] of float64;
NaN is a run that is missing. A statistic takes any number of such matrices [..., seeds, tasks],
since the replicates of a bootstrap are nothing else.

Where runs are missing, every task keeps the same weight: a run of a task with n runs has 1/n of it.
With as many runs in every task all of this is what the paper's own code computes.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from textgym.errors import SettingsError

Scores = NDArray[np.float64]
Statistic = Callable[[Scores], NDArray[np.float64]]

REPLICATES = 2000
"""Replicates of every bootstrap."""

_ROUNDING = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A statistic and its 95% interval, from the 2.5th to the 97.5th percentile of replicates.

    Attributes:
        value: The statistic of the scores as they are.
        low: Lower end; NaN where no seed was repeated, so that nothing is known of the spread.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return not math.isnan(self.low)

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval has zero outside, by more than rounding."""
        return self.known and (self.low > _ROUNDING or self.high < -_ROUNDING)


def generator(seed: int, *names: str) -> np.random.Generator:
    """The random numbers of something with a name: the same whatever else is computed."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def resample(scores: Scores, replicates: int, rng: np.random.Generator) -> Scores:
    """Draw the seeds of each task again, with replacement.

    Args:
        scores: Scores of an agent [seeds, tasks].
        replicates: Number of replicates.
        rng: Source of the draws.

    Returns:
        Replicates [replicates, seeds, tasks], each task with as many runs as it has.

    Raises:
        SettingsError: If a task has no run at all.
    """
    _check(scores)
    drawn = np.full((replicates, *scores.shape), np.nan)
    for task, column in enumerate(scores.T):
        runs = column[~np.isnan(column)]
        drawn[:, : len(runs), task] = runs[rng.integers(len(runs), size=(replicates, len(runs)))]
    return drawn


def estimate(scores: Scores, statistic: Statistic, replicates: Scores) -> Estimate:
    """A statistic of an agent's scores, with its interval.

    Args:
        scores: Scores of an agent [seeds, tasks].
        statistic: Such as :func:`iqm`.
        replicates: What :func:`resample` made of the scores.
    """
    value = float(statistic(scores))
    if not repeated(scores):
        return Estimate(value, math.nan, math.nan)
    return Estimate(value, *bounds(statistic(replicates)))


def bounds(statistics: NDArray[np.float64]) -> tuple[float, float]:
    """The percentile interval of the replicates of one number."""
    low, high = np.quantile(statistics, [0.025, 0.975])
    return float(low), float(high)


def repeated(scores: Scores) -> bool:
    """Whether any task was run with more than one seed."""
    return bool((np.sum(~np.isnan(scores), axis=0) > 1).any())


def task_means(scores: Scores) -> NDArray[np.float64]:
    """Mean over the seeds of each task [..., tasks]."""
    return np.asarray(np.nansum(scores, axis=-2) / np.sum(~np.isnan(scores), axis=-2))


def mean(scores: Scores) -> NDArray[np.float64]:
    """Mean over the tasks' means [...]."""
    return np.asarray(task_means(scores).mean(axis=-1))


def median(scores: Scores) -> NDArray[np.float64]:
    """Median of the tasks' means [...]."""
    return np.asarray(np.median(task_means(scores), axis=-1))


def optimality_gap(scores: Scores) -> NDArray[np.float64]:
    """How far below 1 the runs are in the mean [...]; what is above 1 makes up for nothing."""
    return np.asarray(1.0 - mean(np.minimum(scores, 1.0)))


def iqm(scores: Scores) -> NDArray[np.float64]:
    """Interquartile mean [...]: the mean of the middle half of all runs.

    Whole runs are dropped at either end, as long as they are a quarter of the weight or less: with
    n equal weights, n/4 rounded down, as in `scipy.stats.trim_mean(scores, 0.25)`.
    """
    present = ~np.isnan(scores)
    weights = present / present.sum(axis=-2, keepdims=True) / scores.shape[-1]
    shape = (*scores.shape[:-2], -1)
    flat, weights = scores.reshape(shape), weights.reshape(shape)
    # Of equal scores the light ones come first, so that the order of tasks makes no difference.
    order = np.lexsort((weights, flat), axis=-1)
    flat, weights = np.take_along_axis(flat, order, -1), np.take_along_axis(weights, order, -1)
    upto = np.cumsum(weights, axis=-1)
    quarter = 0.25 + _ROUNDING
    kept = (upto > quarter) & (upto[..., -1:] - upto + weights > quarter)
    weights = weights * kept
    return np.asarray(np.nansum(flat * weights, axis=-1) / weights.sum(axis=-1))


def profile(scores: Scores, taus: NDArray[np.float64]) -> NDArray[np.float64]:
    """Performance profile [..., taus]: the share of runs with a score above tau.

    Args:
        scores: Scores [..., seeds, tasks].
        taus: Thresholds [taus].
    """
    count = np.sum(~np.isnan(scores), axis=-2)
    shares = [np.mean(np.sum(scores > tau, axis=-2) / count, axis=-1) for tau in taus]
    return np.stack(shares, axis=-1)


def improvement(x: Scores, y: Scores) -> NDArray[np.float64]:
    """Probability of improvement [...]: that a run of X beats one of Y, in the mean of tasks.

    A tie counts half: in each task this is the Mann-Whitney U statistic as a share of all pairs.

    Args:
        x: Scores of X [..., seeds, tasks].
        y: Scores of Y [..., seeds, tasks], on the same tasks.
    """
    shares = []
    for task in range(x.shape[-1]):
        ours, theirs = x[..., :, None, task], y[..., None, :, task]
        won = np.sum(ours > theirs, axis=(-2, -1)) + np.sum(ours == theirs, axis=(-2, -1)) / 2
        pairs = np.sum(~np.isnan(ours), axis=(-2, -1)) * np.sum(~np.isnan(theirs), axis=(-2, -1))
        shares.append(won / pairs)
    return np.asarray(np.mean(shares, axis=0))


def difference(
    x: Scores, y: Scores, statistic: Callable[[Scores, Scores], NDArray[np.float64]], seed: int
) -> Estimate:
    """A statistic of two agents' scores, both drawn again independently of each other.

    Args:
        x: Scores of X [seeds, tasks].
        y: Scores of Y [seeds, tasks].
        statistic: Such as :func:`improvement`.
        seed: Of the draws.
    """
    _check(x)
    _check(y)
    value = float(statistic(x, y))
    if not (repeated(x) and repeated(y)):
        return Estimate(value, math.nan, math.nan)
    drawn = (
        resample(x, REPLICATES, generator(seed, "x")),
        resample(y, REPLICATES, generator(seed, "y")),
    )
    return Estimate(value, *bounds(statistic(*drawn)))


def mean_difference(x: Scores, y: Scores) -> NDArray[np.float64]:
    """How much the mean of X is above that of Y [...]."""
    return mean(x) - mean(y)


def _check(scores: Scores) -> None:
    if scores.ndim != 2 or not scores.size or np.isnan(scores).all(axis=0).any():
        raise SettingsError(
            f"scores of shape {scores.shape}: a statistic takes a matrix [seeds, tasks] with at "
            "least one run of each task; leave out the tasks that have none"
        )

"""Calibration and accuracy of reward differences as predictions of preferences.

Under the Bradley-Terry model the first text wins with probability sigmoid(difference). A reward
is *calibrated* if 80 % of the pairs with a predicted probability of 80 % are won. The probability
is that of the favourite, in [0.5, 1], because the order of the texts in a file, usually the chosen
one first, is arbitrary.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from textgym.errors import require
from textgym.storage.files import write_json


@dataclass(frozen=True)
class Bin:
    """Pairs with similar predicted probabilities.

    Attributes:
        low: Lower edge of the bin.
        high: Upper edge of the bin.
        pairs: Number of pairs in the bin.
        predicted: Mean predicted probability that the favourite wins.
        observed: Share of pairs that the favourite won.
        interval: 95 % interval of that share (Wilson 1927).
    """

    low: float
    high: float
    pairs: int
    predicted: float
    observed: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Calibration:
    """The calibration table.

    Attributes:
        bins: The non-empty bins, from low to high probabilities.
        pairs: Total number of pairs.
        ece: Expected calibration error (Naeini et al. 2015): the mean over pairs of
            ``|observed - predicted|`` of their bins.
        ece_by_chance: Expected `ece` of a perfectly calibrated reward, which is not 0 because the
            share in a bin of n pairs varies by about ``1 / sqrt(n)``.
    """

    bins: list[Bin]
    pairs: int
    ece: float
    ece_by_chance: float

    def write(self, file: Path) -> None:
        """Write the table as JSON."""
        write_json(file, asdict(self))


def calibration_of(differences: ArrayLike, preferences: ArrayLike, bins: int = 10) -> Calibration:
    """Make the calibration table.

    Args:
        differences: Reward of the first text minus that of the second, ``[n]``, n >= 1.
        preferences: Share of judges who preferred the first text, ``[n]``, in [0, 1].
        bins: Number of bins of equal width in [0.5, 1].
    """
    difference = np.asarray(differences, np.float64)
    predicted = _sigmoid(np.abs(difference))
    observed = _favoured(difference, preferences)
    where = np.minimum(((predicted - 0.5) * 2 * bins).astype(int), bins - 1)
    table, error, chance = [], 0.0, 0.0
    for number in range(bins):
        inside = where == number
        if not (count := int(inside.sum())):
            continue
        mean, share = float(predicted[inside].mean()), float(observed[inside].mean())
        low, high = (0.5 + 0.5 * edge / bins for edge in (number, number + 1))
        table.append(Bin(low, high, count, mean, share, wilson(share, count)))
        error += count * abs(share - mean)
        # The sum of Bernoulli(c_i) - c_i is about normal, and E|normal| = sqrt(2 / pi) sd.
        variance = float((predicted[inside] * (1 - predicted[inside])).sum())
        chance += math.sqrt(2 / math.pi * variance)
    size = len(difference)
    return Calibration(table, size, error / size, chance / size)


def scores_of(differences: ArrayLike, preferences: ArrayLike) -> dict[str, float]:
    """Compute scores of the differences as predictions of the preferences.

    Args:
        differences: As for :func:`calibration_of`.
        preferences: As for :func:`calibration_of`.

    Returns:
        ``accuracy``: share of the pairs whose preferred text has the higher reward, where equal
        rewards count half and pairs with a preference of 0.5 are left out. ``log_loss`` and
        ``brier``: the means of ``-log p`` and ``(p - y)^2`` of the Bradley-Terry probabilities p.
        ``ece`` and ``ece_by_chance``: as in :class:`Calibration`.
    """
    difference = np.asarray(differences, np.float64)
    preference = np.asarray(preferences, np.float64)
    decided = preference != 0.5
    right = 0.5 * (1 + np.sign(difference) * np.sign(preference - 0.5))[decided]
    # softplus(-x) = -log sigmoid(x), without overflow.
    loss = np.logaddexp(0, -difference) * preference
    loss += np.logaddexp(0, difference) * (1 - preference)
    table = calibration_of(difference, preference)
    return {
        "accuracy": float(right.mean()) if len(right) else math.nan,
        "log_loss": float(loss.mean()),
        "brier": float(np.mean((_sigmoid(difference) - preference) ** 2)),
        "ece": table.ece,
        "ece_by_chance": table.ece_by_chance,
    }


def wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """Return the score interval of a share of `count` trials (Wilson 1927)."""
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def plot_calibration(table: Calibration, file: Path, title: str = "") -> None:
    """Plot the table as .svg or .png: observed over predicted shares, and the number of pairs.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    figure: Any = require("matplotlib.figure", "agents").Figure(figsize=(4.2, 4.8))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    above.plot([0.5, 1], [0.5, 1], color="0.6", linewidth=1, linestyle="--", label="calibrated")
    predicted = [one.predicted for one in table.bins]
    observed = [one.observed for one in table.bins]
    reach = [
        [one.observed - one.interval[0] for one in table.bins],
        [one.interval[1] - one.observed for one in table.bins],
    ]
    label = f"ECE {table.ece:.3f} ({table.ece_by_chance:.3f} by chance)"
    above.errorbar(predicted, observed, np.maximum(reach, 0), fmt="o-", capsize=2, label=label)
    above.set_ylabel("won by the favourite")
    above.legend(frameon=False, loc="upper left")
    if title:
        figure.suptitle(title, fontsize="small", wrap=True)
    middles = [(one.low + one.high) / 2 for one in table.bins]
    width = table.bins[0].high - table.bins[0].low
    below.bar(middles, [one.pairs for one in table.bins], 0.9 * width, color="0.7")
    below.set_ylabel("pairs")
    below.set_xlabel("predicted: sigmoid of the difference of rewards")
    below.set_xlim(0.48, 1.02)
    figure.tight_layout()
    figure.savefig(file, dpi=120)


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(-np.logaddexp(0, -values))


def _favoured(difference: NDArray[np.float64], preferences: ArrayLike) -> NDArray[np.float64]:
    """Return the share of judges who prefer the favourite; 0.5 if the rewards are equal."""
    preference = np.asarray(preferences, np.float64)
    return np.where(difference > 0, preference, np.where(difference < 0, 1 - preference, 0.5))

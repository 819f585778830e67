"""How well differences of rewards foretell which of two texts is preferred.

Under the Bradley-Terry model the first text wins with probability sigmoid(difference). A reward
is *calibrated* if of all pairs to which it gives 80 %, 80 % are won. Of two texts it is the
favourite's probability that is looked at, which lies in [0.5, 1]: which text stands first in a
file, usually the chosen one, says nothing.
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
    """Pairs whose favourite was given about the same probability.

    Attributes:
        low: Lower edge of the bin.
        high: Upper edge.
        pairs: Pairs in it.
        predicted: Mean probability that the favourite wins.
        observed: Share of them that it won.
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
    """The calibration table; bins without a pair are left out.

    Attributes:
        bins: The table, from low probabilities to high ones.
        pairs: Pairs in all.
        ece: Expected calibration error (Naeini et al. 2015): the mean over pairs of
            ``|observed - predicted|`` of their bins.
        ece_by_chance: What `ece` is to be expected of a reward that is perfectly calibrated, as a
            bin of n pairs hits its probability only up to about ``1 / sqrt(n)``.
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
        differences: Reward of the first text minus that of the second one, ``[n]``, n >= 1.
        preferences: Share of judges who preferred the first text, ``[n]``, in [0, 1].
        bins: Bins of equal width that [0.5, 1] is divided into.
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
    """How well the differences foretell the preferences, in single numbers.

    Args:
        differences: As for :func:`calibration_of`, like `preferences`.
        preferences: As for :func:`calibration_of`.

    Returns:
        ``accuracy``: share of the pairs whose preferred text has the higher reward, half for a
        draw; pairs whose judges were divided evenly are left out. ``log_loss`` and ``brier``: the
        mean of ``-log p`` and of ``(p - y)^2`` of the Bradley-Terry probabilities p. ``ece``
        and ``ece_by_chance``: as in :class:`Calibration`.
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
    """The interval of a share of `count` trials (Wilson 1927): right for few trials too."""
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def plot_calibration(table: Calibration, file: Path, title: str = "") -> None:
    """Draw the table as .svg or .png: observed over predicted, and where the pairs lie.

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
    """The share of judges on the favourite's side; without a favourite half of them are."""
    preference = np.asarray(preferences, np.float64)
    return np.where(difference > 0, preference, np.where(difference < 0, 1 - preference, 0.5))

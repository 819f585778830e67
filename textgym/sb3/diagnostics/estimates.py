"""The formulas of the diagnostics, as functions of numbers: NumPy alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Returns of a group that differ by rounding alone are equal.
_TOLERANCE = 1e-6


def mutual_information(scores: Floats) -> float:
    """Mutual information of prompt and response, in nats, from scores of all pairs.

    Response y_i was written to prompt x_i, and ``scores[i, j]`` is log p(y_i | x_j). The estimate
    is the mean over i of ::

        log p(y_i | x_i) - log( 1/M sum_j p(y_i | x_j) ).

    It is at most log M. If p is the policy that wrote the responses, its expectation is exactly
    I(X; Y) for a prompt X that is uniform over these M prompts: 0 for a policy that ignores its
    prompt, log M for one whose responses identify it. If p is another model (the policy some
    updates later, or without the truncation of top-p), its expectation is a lower bound, that of
    Barber and Agakov (2003, "The IM algorithm") with q(x | y) in proportion to p(y | x). For the
    prompts of the whole task it is a lower bound too, InfoNCE with the critic log p(y | x)
    (van den Oord et al. 2018, https://arxiv.org/abs/1807.03748; Poole et al. 2019,
    https://arxiv.org/abs/1905.06922). An estimate from few pairs may be slightly below 0.

    Wang et al. (2026, "RAGEN-2", https://arxiv.org/abs/2604.06268) score all pairs of a batch in
    the same way, and find that mutual information shows the collapse to a template, which entropy
    does not: varied texts that do not depend on the prompt.

    Args:
        scores: ``[M, M]``, log-probabilities of whole responses in nats. Off the diagonal they may
            be ``-inf``.
    """
    highest = scores.max(1, keepdims=True)
    marginal = highest[:, 0] + np.log(np.exp(scores - highest).mean(1))
    return float((scores.diagonal() - marginal).mean())


def reward_shares(terms: Mapping[str, Floats], weights: Mapping[str, float]) -> dict[str, float]:
    """Share of the variance of the total reward that each term explains.

    The share of term k is ``cov(w_k r_k, R) / var(R)`` with the total R, the sum of all
    ``w_k r_k``. The shares sum to 1. A share is negative where a term works against the others, and
    above 1 for the term that it works against. It is the natural decomposition of Shorrocks (1982,
    "Inequality decomposition by factor components", https://doi.org/10.2307/1912537).

    Args:
        terms: ``[m]`` values of each term before weighting, for m texts; NaN where a term does not
            apply, which counts as 0 as in the reward.
        weights: The weights; terms without an entry have the weight 1.

    Returns:
        The share of each term whose weight is not 0; empty with fewer than two such terms, or where
        the total does not vary.
    """
    weighted = {
        name: weight * np.nan_to_num(values)
        for name, values in terms.items()
        if (weight := weights.get(name, 1.0))
    }
    if len(weighted) < 2:
        return {}
    total = np.sum(list(weighted.values()), axis=0)
    if not len(total) or _is_constant(total):
        return {}
    centred = total - total.mean()
    variance = centred @ centred
    return {name: float(values @ centred / variance) for name, values in weighted.items()}


def share_without_variance(groups: Iterable[Sequence[float]]) -> float | None:
    """Share of groups whose returns are all equal; None without groups.

    A group is several responses to one prompt. GRPO and RLOO learn nothing from a group without
    variance, since all its advantages are 0; DAPO leaves such groups out (Yu et al. 2025,
    https://arxiv.org/abs/2503.14476, section 3.2), and TRL logs them as ``frac_reward_zero_std``.

    Args:
        groups: The returns of each group.
    """
    equal = [_is_constant(np.asarray(group, np.float64)) for group in groups]
    return float(np.mean(equal)) if equal else None


def _is_constant(values: Floats) -> bool:
    scale = max(1.0, float(np.abs(values).max()))
    return float(np.ptp(values)) <= _TOLERANCE * scale

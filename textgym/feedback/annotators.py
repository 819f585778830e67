"""How often each annotator is right, estimated from disagreements alone.

The model of Dawid and Skene (1979) with one parameter per annotator: one of the two texts of a pair
is better, either with probability 1/2, and an annotator k prefers it with probability a_k,
independently of the others. The a_k maximise the posterior under a Beta(4, 2) prior (mode 0.75, as
strong as four judgements), which also excludes the mirrored solution in which everybody is wrong.
Expectation maximisation finds the maximum.

With pairs in the place of items it is the annotators' part of Crowd-BT (Chen et al. 2013), without
its scores of texts, which need every text in many pairs.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

PRIOR = (4.0, 2.0)
"""The Beta prior of an annotator's accuracy."""

_STEPS = 1000
_TOLERANCE = 1e-8


def accuracies(votes: Iterable[tuple[int, str, bool]]) -> dict[str, float]:
    """Estimate the accuracy of annotators.

    Args:
        votes: Item, annotator, and whether the first text was preferred.

    Returns:
        The accuracy of each annotator with a vote on an item that somebody else voted on; empty for
        fewer than three annotators, whose disagreements do not show who is right.
    """
    by_item: dict[int, dict[str, bool]] = {}
    for item, annotator, first in votes:
        by_item.setdefault(item, {})[annotator] = first
    shared = [found for found in by_item.values() if len(found) > 1]
    names = sorted({name for found in shared for name in found})
    if len(names) < 3:
        return {}
    # signs[item, annotator]: 1 and -1 for votes, 0 for none.
    signs = np.zeros((len(shared), len(names)))
    for row, found in enumerate(shared):
        for name, first in found.items():
            signs[row, names.index(name)] = 1 if first else -1
    counts = np.abs(signs).sum(0)
    estimate = np.full(len(names), 0.75)
    for _ in range(_STEPS):
        logits = signs @ np.log(estimate / (1 - estimate))
        first_is_better = np.exp(-np.logaddexp(0, -logits))
        # P(the vote is right) is P(first) or 1 - P(first).
        right = np.where(signs > 0, first_is_better[:, None], 1 - first_is_better[:, None])
        right = (right * np.abs(signs)).sum(0)
        new = (right + PRIOR[0] - 1) / (counts + sum(PRIOR) - 2)
        if np.abs(new - estimate).max() < _TOLERANCE:
            break
        estimate = new
    return dict(zip(names, estimate.tolist(), strict=True))

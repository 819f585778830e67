"""Ridge regression whose penalty is chosen by leave-one-out cross-validation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RIDGES = tuple(10.0**power for power in range(-3, 6))
"""Strengths of the penalty among which a fit chooses."""


def fit_ridge(x: Floats, y: Floats, weight: Floats) -> tuple[Floats, float, float, float]:
    """Weighted ridge regression with the penalty that has the least leave-one-out error.

    Args:
        x: Features ``[n, d]``.
        y: Targets ``[n]``.
        weight: Weights of the rows ``[n]``.

    Returns:
        The coefficients ``[d]``, the intercept, the penalty, and the error.
    """
    share = weight / weight.sum()
    center, mean = share @ x, float(share @ y)
    root = np.sqrt(weight)
    a, b = (x - center) * root[:, None], (y - mean) * root
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    best: tuple[float, float, Floats] | None = None
    for ridge in RIDGES:
        shrink = s**2 / (s**2 + ridge)
        rest = b - u @ (shrink * (u.T @ b))
        # Its own share of each fitted value: that of the intercept, and the leverage.
        own = share + (u**2) @ shrink
        error = float((share * (rest / root / np.maximum(1 - own, 1e-9)) ** 2).sum())
        if best is None or error < best[0]:
            best = error, ridge, vt.T @ (s / (s**2 + ridge) * (u.T @ b))
    assert best is not None
    error, ridge, coefficients = best
    return coefficients, mean - float(center @ coefficients), ridge, error

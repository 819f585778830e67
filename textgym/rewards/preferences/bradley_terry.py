"""Bradley-Terry models that are linear in given features, fitted to convergence.

The loss is convex, and has one minimum thanks to the prior. Newton's method finds it in a few
steps, for several heads at once, and no learning rate has to be tuned.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from textgym.errors import SettingsError

_MAX_STEPS = 100
_MAX_HALVINGS = 40
_TOLERANCE = 1e-9
"""Largest gradient at the minimum, relative to the number of preferences."""


class Fit(NamedTuple):
    """Fitted heads.

    Attributes:
        weights: ``[B, D]`` float64.
        loss: ``[B]``, the negative log-posterior at the minimum, up to a constant.
        evidence: ``[B]``, Laplace's approximation of the log-evidence of each head's prior, up to a
            constant that is the same for all priors.
        steps: Number of Newton steps.
    """

    weights: Tensor
    loss: Tensor
    evidence: Tensor
    steps: int


def fit_heads(
    differences: Tensor, preferences: Tensor, counts: Tensor, scales: Tensor, anchors: Tensor
) -> Fit:
    """Fit B heads to n preferences.

    A head with the weights w gives a text with the features x the reward ``w . x``. Its loss is the
    negative log-posterior ::

        sum_i c_i (-p_i log sigmoid(w . d_i) - (1 - p_i) log sigmoid(-w . d_i))
            + |w - a|^2 / (2 s^2)

    with the difference d_i of the features of two texts, the share p_i of judges who prefer the
    first one (Bradley and Terry 1952), and a normal prior of standard deviation s around the anchor
    a. With random counts c and random anchors, an ensemble of heads is a sample that approximates
    the posterior: the Bayesian bootstrap (Rubin 1981) with randomised priors (Osband et al. 2018,
    https://arxiv.org/abs/1806.03335; Pearce et al. 2020, https://arxiv.org/abs/1810.05546).

    Only the part of the weights in the span of the differences depends on them, so the problem has
    min(n, D) unknowns per head.

    Args:
        differences: ``[n, D]`` float64, n > 0.
        preferences: ``[n]`` in [0, 1].
        counts: ``[B, n]``, the weight of each preference in each head, at least 0.
        scales: ``[B]``, the standard deviation of each head's prior, above 0.
        anchors: ``[B, D]``, the mean of each head's prior.

    Raises:
        SettingsError: If a feature is NaN or infinite, or so large that the method fails.
    """
    if not bool(differences.isfinite().all()):
        raise SettingsError("a feature is NaN or infinite; check the weights of the language model")
    basis, reduced = _span(differences.double())
    preferences, counts = preferences.double(), counts.double()
    precision = scales.double() ** -2
    centers = anchors.double() @ basis
    weights = centers.clone()
    loss = _loss(reduced, preferences, counts, precision, centers, weights)
    tolerance = _TOLERANCE * (1 + counts.sum(1))
    steps = 0
    while True:
        gradient, factor = _derivatives(reduced, preferences, counts, precision, centers, weights)
        if bool((gradient.abs().amax(1) <= tolerance).all()):
            break
        if steps == _MAX_STEPS:
            raise SettingsError(
                f"the fit of {len(preferences)} preferences has not converged after {steps} steps "
                f"(the largest gradient is {float(gradient.abs().max()):.3g}); the features differ "
                "too much in size: standardize them"
            )
        direction = -torch.cholesky_solve(gradient[..., None], factor)[..., 0]
        slope = (gradient * direction).sum(1)
        # Halve the step of each head until its loss falls (Armijo's rule).
        size = torch.ones_like(loss)
        for _ in range(_MAX_HALVINGS):
            moved = weights + size[:, None] * direction
            new = _loss(reduced, preferences, counts, precision, centers, moved)
            # At the minimum, losses differ by rounding alone.
            bad = new > loss + 1e-4 * size * slope + 1e-12 * loss.abs()
            if not bool(bad.any()):
                break
            size = torch.where(bad, size / 2, size)
        weights, loss, steps = moved, new, steps + 1
    # The determinant of the prior's precision is that of the same unknowns.
    unknowns = weights.shape[1]
    determinant = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1)
    evidence = -loss + (unknowns * precision.log() - determinant) / 2
    full = anchors.double() + (weights - centers) @ basis.T
    return Fit(full, loss, evidence, steps)


def _span(differences: Tensor) -> tuple[Tensor, Tensor]:
    """An orthonormal basis ``[D, r]`` that contains all differences, and their coordinates."""
    count, size = differences.shape
    if count >= size:
        return torch.eye(size, dtype=differences.dtype, device=differences.device), differences
    basis, coordinates = torch.linalg.qr(differences.T)
    return basis, coordinates.T


def _loss(
    differences: Tensor,
    preferences: Tensor,
    counts: Tensor,
    precision: Tensor,
    centers: Tensor,
    weights: Tensor,
) -> Tensor:
    """The negative log-posterior of each head ``[B]``, up to a constant."""
    logits = weights @ differences.T
    # -p log sigmoid(z) - (1 - p) log sigmoid(-z)
    cost = torch.logaddexp(logits, torch.zeros_like(logits)) - preferences * logits
    prior = precision / 2 * (weights - centers).square().sum(1)
    return (counts * cost).sum(1) + prior


def _derivatives(
    differences: Tensor,
    preferences: Tensor,
    counts: Tensor,
    precision: Tensor,
    centers: Tensor,
    weights: Tensor,
) -> tuple[Tensor, Tensor]:
    """The gradient of each head ``[B, r]``, the Cholesky factor of the Hessian ``[B, r, r]``."""
    won = (weights @ differences.T).sigmoid()
    gradient = (counts * (won - preferences)) @ differences
    gradient = gradient + precision[:, None] * (weights - centers)
    identity = torch.eye(weights.shape[1], dtype=weights.dtype, device=weights.device)
    hessians = []
    # One by one: all products at once would take B times the memory.
    for certain, prior in zip(counts * won * (1 - won), precision, strict=True):
        rows = differences * certain.sqrt()[:, None]
        hessians.append(rows.T @ rows + prior * identity)
    return gradient, torch.linalg.cholesky(torch.stack(hessians))

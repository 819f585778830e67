"""Heads against another optimizer, a closed form, and numerical integration."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import logsigmoid

from textgym.errors import SettingsError
from textgym.rewards.preferences.bradley_terry import fit_heads


def problem(n: int, d: int, heads: int = 3) -> tuple[torch.Tensor, ...]:
    rng = np.random.default_rng([n, d])
    return tuple(
        torch.from_numpy(np.asarray(part))
        for part in (
            rng.standard_normal((n, d)),
            rng.choice([0.0, 0.5, 0.8, 1.0], n),
            rng.standard_exponential((heads, n)),
            np.array([0.3, 1.0, 20.0][:heads]),
            rng.standard_normal((heads, d)),
        )
    )


@pytest.mark.parametrize(("n", "d"), [(6, 40), (60, 4)])
def test_the_heads_are_those_of_another_optimizer(n: int, d: int) -> None:
    x, p, counts, scales, anchors = problem(n, d)
    weights = torch.zeros_like(anchors, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=2000, tolerance_grad=1e-12, tolerance_change=1e-16, history_size=50,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        z = weights @ x.T
        likelihood = counts * (p * logsigmoid(z) + (1 - p) * logsigmoid(-z))
        prior = ((weights - anchors) / scales[:, None]).square() / 2
        loss = prior.sum() - likelihood.sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    fit = fit_heads(x, p, counts, scales, anchors)
    torch.testing.assert_close(fit.weights, weights.detach(), rtol=0, atol=1e-5)
    assert fit.steps < 25


def test_a_wide_prior_gives_the_log_odds_of_the_wins() -> None:
    x, p = torch.ones(8, 1), torch.tensor([1.0] * 6 + [0.0] * 2)
    fit = fit_heads(x, p, torch.ones(1, 8), torch.tensor([1e4]), torch.zeros(1, 1))
    assert float(fit.weights) == pytest.approx(math.log(6 / 2), abs=1e-6)


def test_the_evidence_is_the_integral_over_the_weight() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(400)
    p = (rng.random(400) < 1 / (1 + np.exp(-1.5 * x))).astype(float)
    scales = np.array([0.2, 1.5, 30.0])
    grid = np.linspace(-4, 6, 20_001)
    likelihood = -np.logaddexp(0, np.where(p[:, None] == 1, -1, 1) * x[:, None] * grid).sum(0)
    exact = []
    for scale in scales:
        joint = likelihood - (grid / scale) ** 2 / 2 - math.log(scale * math.sqrt(2 * math.pi))
        exact.append(
            joint.max() + math.log(np.exp(joint - joint.max()).sum() * (grid[1] - grid[0]))
        )
    args = (x[:, None], p, np.ones((3, 400)), scales, np.zeros((3, 1)))
    fit = fit_heads(*map(torch.from_numpy, args))
    found = fit.evidence.numpy()
    np.testing.assert_allclose(found - found[0], np.array(exact) - exact[0], atol=0.02)
    assert found.argmax() == 1


def test_features_that_are_not_numbers_are_refused() -> None:
    x, p, *rest = problem(5, 3)
    x[2, 1] = math.nan
    with pytest.raises(SettingsError, match="NaN"):
        fit_heads(x, p, *rest)

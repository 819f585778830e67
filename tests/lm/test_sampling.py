from __future__ import annotations

import pytest
import torch

from textgym.lm import sample_tokens


@pytest.mark.parametrize("size", [1, 2, 127, 128, 129, 1000])
def test_log_probabilities_are_those_of_the_softmax(size):
    torch.manual_seed(size)
    logits = 4 * torch.randn(16, size)
    tokens, log_probs = sample_tokens(logits)
    expected = torch.log_softmax(logits.double(), -1)[torch.arange(16), tokens]
    torch.testing.assert_close(log_probs, expected.float(), atol=1e-5, rtol=1e-5)
    assert log_probs.dtype == torch.float32


@pytest.mark.parametrize("size", [5, 300])
def test_frequencies_are_the_probabilities(size):
    torch.manual_seed(0)
    draws = 200_000
    logits = 2 * torch.randn(size)
    tokens, _ = sample_tokens(logits.expand(draws, size))
    probs = torch.softmax(logits, 0)
    counts = torch.bincount(tokens, minlength=size)
    expected = draws * probs
    common = expected > 5
    statistic = ((counts - expected)[common] ** 2 / expected[common]).sum()
    degrees = int(common.sum()) - 1
    # Chi-square has mean k and variance 2 k: five deviations.
    assert abs(float(statistic) - degrees) < 5 * (2 * degrees) ** 0.5


def test_impossible_tokens_are_never_drawn(monkeypatch):
    logits = torch.full((4096, 400), -torch.inf)
    possible = torch.tensor([7, 128, 399])
    logits[:, possible] = torch.tensor([0.0, -3.0, 1.0])
    tokens, log_probs = sample_tokens(logits)
    assert set(tokens.tolist()) <= set(possible.tolist())
    assert torch.isfinite(log_probs).all()
    # The ends of the unit interval, where rounding would fall off the distribution.
    logits[:, 399] = -torch.inf
    for edge in (0.0, 1.0 - 2**-24, 1.0):
        monkeypatch.setattr(torch, "rand", lambda *a, value=edge, **k: torch.full(a, value))
        assert set(sample_tokens(logits)[0].tolist()) <= {7, 128}


def test_deterministic_takes_the_likeliest():
    torch.manual_seed(0)
    logits = torch.randn(8, 200)
    tokens, log_probs = sample_tokens(logits, deterministic=True)
    assert torch.equal(tokens, logits.argmax(-1))
    torch.testing.assert_close(log_probs, torch.log_softmax(logits, -1).amax(-1))


def test_seeds_fix_the_draws():
    logits = torch.zeros(64, 500)
    torch.manual_seed(3)
    first, _ = sample_tokens(logits)
    torch.manual_seed(3)
    again, _ = sample_tokens(logits)
    assert torch.equal(first, again)
    assert not torch.equal(first, sample_tokens(logits)[0])

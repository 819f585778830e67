from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.lm.checkpoints import WORDS
from textgym.errors import SettingsError
from textgym.lm import SequenceBatch
from textgym.lm.kl import KLPenalty


def test_log_ratios_are_a_brute_force(checkpoint, load):
    kl = KLPenalty(0.1, None, checkpoint("grouped"), "cpu")
    generator = torch.Generator().manual_seed(0)
    texts = torch.randint(0, len(WORDS), (3, 8), generator=generator)
    rows = torch.tensor([0, 0, 1, 2, 2])
    positions = torch.tensor([2, 5, 7, 0, 1])
    actions = torch.tensor([4, 5, 6, 7, 8])
    log_probs = torch.randn(5, generator=generator)
    model = load("grouped").model
    expected = []
    with torch.no_grad():
        for row, at, action, log_prob in zip(rows, positions, actions, log_probs, strict=True):
            logits = model(texts[row : row + 1, : at + 1]).logits[0, -1]
            expected.append(log_prob - torch.log_softmax(logits, 0)[action])
    ratios = kl.log_ratios(SequenceBatch(texts.int(), rows, positions), actions, log_probs)
    torch.testing.assert_close(ratios, torch.stack(expected), atol=1e-5, rtol=1e-5)
    assert not any(parameter.requires_grad for parameter in kl.model.parameters())


@pytest.mark.parametrize(
    ("mean", "factor"),
    [
        (0.1, 1.0),  # On target.
        (0.11, 1.01),  # 10 % above.
        (0.085, 0.985),
        (5.0, 1.02),  # The error is clipped to 20 %.
        (-1.0, 0.98),  # So is a negative estimate.
    ],
)
def test_the_coefficient_follows_the_controller(checkpoint, mean, factor):
    kl = KLPenalty(0.2, 0.1, checkpoint("gpt2"), "cpu")
    ratios = np.array([[mean - 0.5, mean + 0.5]], dtype=np.float32)
    assert kl.adapt(ratios) == pytest.approx(mean, abs=1e-6)
    assert kl.coef == pytest.approx(0.2 * factor, rel=1e-5)


def test_a_fixed_coefficient_stays(checkpoint):
    kl = KLPenalty(0.2, None, checkpoint("gpt2"), "cpu")
    kl.adapt(np.ones(3, dtype=np.float32))
    assert kl.coef == 0.2


@pytest.mark.parametrize(
    ("coef", "target"), [(-0.1, None), (math.nan, None), (math.inf, None), (0.1, 0.0), (0.0, 1.0)]
)
def test_impossible_settings(checkpoint, coef, target):
    with pytest.raises(SettingsError, match="kl_"):
        KLPenalty(coef, target, checkpoint("gpt2"), "cpu")

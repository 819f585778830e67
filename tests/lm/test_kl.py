from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.lm.checkpoints import WORDS
from textgym.errors import SettingsError
from textgym.lm import Sampler, Sampling, SequenceBatch
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


SETTINGS = [
    {},
    {"temperature": 0.5},
    {"top_k": 5},
    {"top_p": 0.7},
    {"repetition_penalty": 1.6, "banned_tokens": [3]},
    {"temperature": 1.5, "top_k": 12, "top_p": 0.9, "repetition_penalty": 1.3},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_mean_of_the_estimate_is_the_kl_divergence(checkpoint, load, settings):
    """Of the processed policy to the reference on what the policy kept: never below 0."""
    policy, reference = load("gpt2"), load("grouped")
    sampler = Sampler(Sampling.of(settings), policy.tokenizer)
    kl = KLPenalty(0.1, None, checkpoint("grouped"), "cpu")
    draws = 4000
    text = torch.tensor([[4, 9, 4, 2, 3]], dtype=torch.int32)
    with torch.no_grad():
        logits = policy.logits(policy.hidden(text.long())[:, -1])
        torch.manual_seed(0)
        rows = text.expand(draws, -1)
        actions, log_probs, kept = sampler.sample(logits.expand(draws, -1), rows)
        batch = SequenceBatch(text, torch.zeros(draws).long(), torch.full((draws,), 4), kept)
        ratios = kl.log_ratios(batch, actions, log_probs, sampler).double()
        assert kl.log_ratios(batch, actions, log_probs, sampler).dtype == torch.float32

        one = None if kept is None else kept.take(torch.tensor([0]))
        ours = torch.log_softmax(sampler.process(logits, text, one).double(), -1)[0]
        theirs = reference.logits(reference.hidden(text.long())[:, -1])
        theirs = torch.log_softmax(sampler.process(theirs, text, one).double(), -1)[0]
    possible = ours > -torch.inf
    expected = (ours.exp() * (ours - theirs))[possible].sum()
    assert expected > 0.01
    error = ratios.std() / draws**0.5
    assert abs(ratios.mean() - expected) < 4 * error
    assert ratios.mean() > -4 * error
    torch.testing.assert_close(ratios, (ours - theirs)[actions], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_policy_that_is_its_reference_has_no_kl(checkpoint, load, settings):
    lm = load("gpt2")
    sampler = Sampler(Sampling.of(settings), lm.tokenizer)
    kl = KLPenalty(0.1, None, checkpoint("gpt2"), "cpu")
    generator = torch.Generator().manual_seed(0)
    texts = torch.randint(0, len(WORDS), (40, 8), generator=generator)
    with torch.no_grad():
        logits = lm.logits(lm.hidden(texts)[:, -1])
    actions, log_probs, kept = sampler.sample(logits, texts)
    batch = SequenceBatch(texts.int(), torch.arange(40), torch.full((40,), 7), kept)
    ratios = kl.log_ratios(batch, actions, log_probs, sampler)
    torch.testing.assert_close(ratios, torch.zeros(40), atol=2e-5, rtol=0)


def test_sets_that_were_not_recorded_are_not_guessed(checkpoint, load):
    sampler = Sampler(Sampling(top_k=3), load("gpt2").tokenizer)
    kl = KLPenalty(0.1, None, checkpoint("gpt2"), "cpu")
    zeros = torch.zeros(2, dtype=torch.long)
    batch = SequenceBatch(torch.zeros(1, 1).int(), zeros, zeros)
    with pytest.raises(SettingsError, match="kept=None"):
        kl.log_ratios(batch, zeros, torch.zeros(2), sampler)

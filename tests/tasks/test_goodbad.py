"""The calculus in the docstring, against finite differences and enumeration."""

import math

import numpy as np
import pytest

from textgym.tasks import make_task


@pytest.fixture
def task():
    return make_task("TextGen/GoodBad-v0")


def expected_reward(task, logits):
    weights = np.exp(logits - np.max(logits))
    rewards = task.reward(["", ""], ["good", "bad"])
    return float(weights @ rewards / weights.sum())


@pytest.mark.parametrize("difference", [-3.0, -0.5, 0.0, 0.3, 2.0])
def test_gradient_of_the_expected_reward(task, difference):
    p = 1 / (1 + math.exp(-difference))
    logits, h = np.array([difference + 0.7, 0.7]), 1e-6
    numeric = [
        (expected_reward(task, logits + step) - expected_reward(task, logits - step)) / (2 * h)
        for step in h * np.eye(2)
    ]
    assert numeric == pytest.approx([2 * p * (1 - p), -2 * p * (1 - p)], abs=1e-8)


@pytest.mark.parametrize("difference", [-1.0, 0.0, 2.0])
@pytest.mark.parametrize("baseline", ["zero", "J", "-J"])
def test_reinforce_is_unbiased_with_the_stated_variance(task, difference, baseline):
    p = 1 / (1 + math.exp(-difference))
    mean_reward = 2 * p - 1
    b = {"zero": 0.0, "J": mean_reward, "-J": -mean_reward}[baseline]
    h = 1e-6
    estimates = []
    for sign, reward in zip((1, -1), task.reward(["", ""], ["good", "bad"]), strict=True):
        # d log pi(a) / dd by finite differences
        slope = -(
            math.log1p(math.exp(-sign * (difference + h)))
            - math.log1p(math.exp(-sign * (difference - h)))
        ) / (2 * h)
        estimates.append((reward - b) * slope)
    probabilities = np.array([p, 1 - p])
    mean = probabilities @ estimates
    assert mean == pytest.approx(2 * p * (1 - p), abs=1e-8)
    variance = probabilities @ (np.array(estimates) - mean) ** 2
    assert variance == pytest.approx(p * (1 - p) * (1 - 2 * p - b) ** 2, abs=1e-8)
    if baseline == "-J":
        assert variance == pytest.approx(0, abs=1e-8)


def test_anything_else_is_worth_nothing(task):
    row = task.item(0)
    for text in ("", "goodbad", "Good", "good bad", "good good", "\ud800"):
        assert task.score(text, row) == 0.0
        assert task.reward([""], [text]) == [0.0]
    assert [task.score(text, row) for text in ("good", " good", "bad")] == [1.0, 1.0, 0.0]

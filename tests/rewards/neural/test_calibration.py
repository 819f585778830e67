"""Calibration against numbers by hand, simulation, and a published table."""

from __future__ import annotations

import math

import numpy as np
import pytest

from textgym.rewards.preferences.calibration import calibration_of, scores_of, wilson


def test_scores_by_hand() -> None:
    differences, preferences = [math.log(3), -math.log(3), 0.0, 0.0], [1, 1, 1, 0.5]
    found = scores_of(differences, preferences)
    assert found["accuracy"] == pytest.approx((1 + 0 + 0.5) / 3)
    # The first text has the probabilities 3/4, 1/4, 1/2, 1/2.
    loss = -math.log(0.75) - math.log(0.25) + 2 * math.log(2)
    assert found["log_loss"] == pytest.approx(loss / 4)
    assert found["brier"] == pytest.approx((1 / 16 + 9 / 16 + 1 / 4 + 0) / 4)
    # Bins of the favourite: two pairs at 3/4, half of them won; two draws at 1/2, half and half.
    table = calibration_of(differences, preferences)
    assert [(one.pairs, one.predicted, one.observed) for one in table.bins] == [
        (2, 0.5, 0.5),
        (2, pytest.approx(0.75), 0.5),
    ]
    assert found["ece"] == pytest.approx(0.25 / 2)


def test_which_text_stands_first_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    differences, preferences = rng.normal(size=200), rng.random(200)
    flip = rng.choice([-1, 1], 200)
    swapped = np.where(flip > 0, preferences, 1 - preferences)
    for name, value in scores_of(differences, preferences).items():
        assert scores_of(differences * flip, swapped)[name] == pytest.approx(value), name


def test_chance_is_what_a_calibrated_reward_gets_on_average() -> None:
    rng = np.random.default_rng(0)
    differences = rng.normal(scale=2, size=800)
    wins = 1 / (1 + np.exp(-differences))
    errors = [calibration_of(differences, rng.random(800) < wins).ece for _ in range(300)]
    expected = calibration_of(differences, wins > 0.5).ece_by_chance
    assert np.mean(errors) == pytest.approx(expected, rel=0.05)
    # Rewards that are twice too large are found out.
    assert calibration_of(2 * differences, rng.random(800) < wins).ece > 2 * expected


def test_wilson_as_published() -> None:
    # Newcombe (1998), table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for count, size, low, high in [
        (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:  # fmt: skip
        assert wilson(count / size, size) == pytest.approx((low, high), abs=1e-4)

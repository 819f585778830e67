"""The n-grams of the adversarial benchmark: a proper distribution, and a divergence by hand."""

from __future__ import annotations

import itertools
import math

import pytest

from benchmarks.studies.ngrams import Trigrams, divergence

TEXTS = [[0, 1, 2], [0, 1, 1], [2, 0], [0, 1, 2, 2, 0], []]


@pytest.mark.parametrize("discount", [0.0, 0.5, 0.75])
def test_trigram_probabilities_add_up_to_one(discount: float) -> None:
    model = Trigrams(TEXTS, 3, discount)
    for context in itertools.product(range(4), repeat=2):
        assert math.fsum(model.probability((*context, token)) for token in range(4)) == (
            pytest.approx(1.0)
        )


def test_trigrams_by_hand() -> None:
    model = Trigrams([[0, 1], [0, 0]], 2, 0.5)
    # Trigrams, with e = 2: ee0 twice, e01, 01e, e00, 00e. Behind how many different tokens:
    # e0 once (e), 01 once (e), 1e once (0), 00 once (e), 0e once (0), so 0 twice (e, 0), 1 once
    # (0), e twice (1, 0).
    zero = (2 - 0.5) / 5 + 0.5 * 3 / 5 / 3
    assert model.probability((0,)) == pytest.approx(zero)
    after_e = (1 - 0.5) / 1 + 0.5 * 1 / 1 * zero
    assert model.probability((2, 0)) == pytest.approx(after_e)
    assert model.probability((2, 2, 0)) == pytest.approx((2 - 0.5) / 2 + 0.5 * 1 / 2 * after_e)
    # Of an unknown context what is known of its end.
    assert model.probability((1, 2, 0)) == model.probability((2, 0))


def test_likelihoods_are_higher_where_the_model_comes_from() -> None:
    model = Trigrams([[0, 1, 2]] * 9, 3)
    assert model.log_likelihood([0, 1, 2]) > model.log_likelihood([2, 1, 0])
    assert math.isfinite(model.log_likelihood([]))


def test_divergence() -> None:
    assert divergence([[0, 1], [1, 2]], [[1, 2], [0, 1]]) == 0
    assert divergence([[0, 1]], [[1, 0]]) == pytest.approx(1)
    # p = (1, 0) and q = (1/2, 1/2): half of log2(4/3), and half of (log2(2/3) + 1) / 2.
    expected = math.log2(4 / 3) / 2 + (math.log2(2 / 3) + 1) / 4
    assert divergence([[0, 1]], [[0, 1], [1, 2]]) == pytest.approx(expected)

"""Statistics of the report against closed forms, plain Python, and the paper's own code."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs

from benchmarks.report import statistics as st
from textgym.errors import SettingsError

MATRICES = hs.tuples(hs.integers(1, 6), hs.integers(1, 5), hs.integers(0, 10**6)).map(
    lambda made: np.random.default_rng(made[2]).normal(0.5, 0.4, made[:2]).round(1)
)
"""Scores with ties and outside of [0, 1]."""


def plain_iqm(scores: np.ndarray[Any, Any]) -> float:
    """In exact arithmetic, by dropping single runs from either end of a list."""
    runs = sorted(map(Fraction, scores.ravel().tolist()))
    cut = len(runs) // 4
    kept = runs[cut : len(runs) - cut]
    return float(sum(kept) / len(kept))


@given(MATRICES)
def test_statistics_are_what_plain_python_computes(scores: np.ndarray[Any, Any]) -> None:
    columns = [[float(x) for x in column] for column in scores.T]
    means = sorted(math.fsum(c) / len(c) for c in columns)
    middle = (means[(len(means) - 1) // 2] + means[len(means) // 2]) / 2
    gaps = [math.fsum(1 - min(x, 1.0) for x in c) / len(c) for c in columns]
    assert st.mean(scores) == pytest.approx(math.fsum(means) / len(means))
    assert st.median(scores) == pytest.approx(middle)
    assert st.optimality_gap(scores) == pytest.approx(math.fsum(gaps) / len(gaps))
    assert st.iqm(scores) == pytest.approx(plain_iqm(scores))
    taus = np.array([-0.5, 0.3, 0.5, 2.0])
    shares = [sum(x > tau for c in columns for x in c) / scores.size for tau in taus]
    np.testing.assert_allclose(st.profile(scores, taus), shares)


@given(MATRICES, hs.integers(1, 5), hs.integers(0, 10**6))
def test_probability_of_improvement_counts_pairs(
    x: np.ndarray[Any, Any], seeds: int, seed: int
) -> None:
    y = np.random.default_rng(seed).normal(0.5, 0.4, (seeds, x.shape[1])).round(1)
    won = [
        Fraction(sum(2 * (a > b) + (a == b) for a, b in pairs), 2 * len(pairs))
        for ours, theirs in zip(x.T, y.T, strict=True)
        for pairs in [list(itertools.product(ours.tolist(), theirs.tolist()))]
    ]
    assert st.improvement(x, y) == pytest.approx(float(sum(won) / len(won)))
    assert st.improvement(x, y) + st.improvement(y, x) == pytest.approx(1)
    assert st.improvement(x, x) == pytest.approx(0.5)


@given(MATRICES, hs.integers(1, 4))
def test_missing_runs_keep_the_weight_of_their_task(
    scores: np.ndarray[Any, Any], times: int
) -> None:
    """A task of n runs weighs as much as one in which each run is there k times."""
    ragged = np.full((len(scores) * times, scores.shape[1]), np.nan)
    ragged[: len(scores)] = scores
    ragged[:, 0] = np.tile(scores[:, 0], times)
    taus = np.array([0.0, 0.5])
    for statistic in (st.mean, st.median, st.optimality_gap, lambda s: st.profile(s, taus)):
        np.testing.assert_allclose(statistic(ragged), statistic(scores), atol=1e-12)
    np.testing.assert_allclose(st.improvement(ragged, scores), st.improvement(scores, scores))
    # A row of nothing changes nothing, and tasks have no order.
    padded = np.concatenate([scores, np.full((1, scores.shape[1]), np.nan)])
    assert st.iqm(padded) == pytest.approx(float(st.iqm(scores)))
    assert st.iqm(ragged[:, ::-1]) == pytest.approx(float(st.iqm(ragged)))


def test_iqm_of_tasks_with_different_numbers_of_runs() -> None:
    # Weights: 1/2 for the one run of the first task, 1/8 for each of the second. A quarter is the
    # two lowest; at the top, 0.9 is too heavy to be dropped.
    scores = np.array([[0.9, 0.1], [np.nan, 0.2], [np.nan, 0.3], [np.nan, 0.5]])
    assert st.iqm(scores) == pytest.approx((0.9 * 4 + 0.3 + 0.5) / 6)


def test_statistics_of_replicates_are_those_of_each_one() -> None:
    scores = np.random.default_rng(0).normal(size=(4, 3))
    scores[3, 1] = np.nan
    drawn = st.resample(scores, 20, np.random.default_rng(1))
    taus = np.array([0.0, 0.5])
    for statistic in (st.iqm, st.mean, st.median, st.optimality_gap):
        np.testing.assert_allclose(statistic(drawn), [statistic(each) for each in drawn])
    np.testing.assert_allclose(st.profile(drawn, taus), [st.profile(each, taus) for each in drawn])
    np.testing.assert_allclose(
        st.improvement(drawn, drawn[::-1]),
        [st.improvement(a, b) for a, b in zip(drawn, drawn[::-1], strict=True)],
    )


def test_replicates_draw_the_seeds_of_each_task_for_itself() -> None:
    scores = np.array([[0.0, 10.0, 20.0], [1.0, 11.0, np.nan], [2.0, 12.0, np.nan]])
    drawn = st.resample(scores, 3000, np.random.default_rng(0))
    assert drawn.shape == (3000, 3, 3)
    assert np.isnan(drawn[:, 1:, 2]).all()
    assert (drawn[:, 0, 2] == 20).all()
    for task in (0, 1):
        found, counts = np.unique(drawn[..., task], return_counts=True)
        assert found.tolist() == scores[:, task].tolist()
        np.testing.assert_allclose(counts / 9000, 1 / 3, atol=0.025)  # Five standard deviations.
    assert abs(np.corrcoef(drawn[:, 0, 0], drawn[:, 0, 1])[0, 1]) < 0.1


@pytest.mark.parametrize("statistic", [st.iqm, st.mean, st.optimality_gap])
def test_intervals_are_those_of_a_slow_bootstrap(
    statistic: Callable[[np.ndarray[Any, Any]], Any],
) -> None:
    scores = np.random.default_rng(3).normal(0.5, 0.2, (5, 6))
    rng = random.Random(0)

    def plain() -> float:
        again = [[rng.choice(column) for _ in column] for column in scores.T.tolist()]
        if statistic is st.iqm:
            return plain_iqm(np.array(again))
        flat = [x if statistic is st.mean else 1 - min(x, 1.0) for row in again for x in row]
        return sum(flat) / len(flat)

    slow = sorted(plain() for _ in range(1500))
    drawn = st.resample(scores, 4000, st.generator(0))
    found = st.estimate(scores, statistic, drawn)
    width = found.high - found.low
    assert found.low == pytest.approx(slow[37], abs=0.1 * width)
    assert found.high == pytest.approx(slow[1462], abs=0.1 * width)
    assert found.low < found.value < found.high


def test_the_interval_of_a_mean_of_many_runs_is_the_normal_one() -> None:
    scores = np.random.default_rng(0).normal(0, 1, (200, 4))
    found = st.estimate(scores, st.mean, st.resample(scores, 2000, st.generator(0)))
    half = 1.96 * math.sqrt(float(scores.var(axis=0).mean()) / scores.size)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.08)


@settings(deadline=None, max_examples=20)
@given(MATRICES)
def test_an_interval_of_one_seed_is_unknown(scores: np.ndarray[Any, Any]) -> None:
    found = st.estimate(scores[:1], st.mean, st.resample(scores[:1], 10, st.generator(0)))
    assert not found.known
    assert not found.excludes_zero
    assert not st.difference(scores[:1], scores, st.mean_difference, 0).known


def test_differences_leave_out_zero_only_where_they_do() -> None:
    low, high = np.array([[0.1], [0.2], [0.3]]), np.array([[0.6], [0.7], [0.8]])
    assert st.difference(high, low, st.mean_difference, 0).excludes_zero
    assert st.difference(low, high, st.mean_difference, 0).excludes_zero
    assert not st.difference(low, low, st.mean_difference, 0).excludes_zero
    # Means of equal numbers may differ in their last bit.
    same = st.difference(np.full((3, 1), 0.1), np.full((10, 1), 0.1), st.mean_difference, 0)
    assert not same.excludes_zero


def test_draws_depend_on_seed_and_name_alone() -> None:
    draws = {name: st.generator(*name).random() for name in [(0, "a"), (0, "b"), (1, "a")]}
    assert len(set(draws.values())) == 3
    assert st.generator(0, "a").random() == draws[0, "a"]


@pytest.mark.parametrize("scores", [np.zeros((0, 2)), np.array([[0.0, np.nan]]), np.zeros(3)])
def test_tasks_without_runs_are_refused(scores: np.ndarray[Any, Any]) -> None:
    with pytest.raises(SettingsError, match="at least one run of each task"):
        st.resample(scores, 3, st.generator(0))


def test_the_papers_own_code_agrees() -> None:
    metrics = pytest.importorskip("rliable.metrics", reason="rliable is not installed")
    rng = np.random.default_rng(0)
    x, y = rng.normal(0.6, 0.3, (5, 7)).round(1), rng.normal(0.4, 0.3, (5, 7)).round(1)
    theirs = {
        st.iqm: metrics.aggregate_iqm,
        st.mean: metrics.aggregate_mean,
        st.median: metrics.aggregate_median,
        st.optimality_gap: metrics.aggregate_optimality_gap,
    }
    for ours, their in theirs.items():
        for scores in (x, y, x[:3], y[:, :2]):
            assert ours(scores) == pytest.approx(their(scores), abs=1e-12)
    assert st.improvement(x, y) == pytest.approx(metrics.probability_of_improvement(x, y))

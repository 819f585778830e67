"""Agreement against published values, and annotators against the exact posterior."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from textgym.feedback import NewItem, Store
from textgym.feedback.agreement import alpha, quality
from textgym.feedback.annotators import PRIOR, accuracies

# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: four observers and
# twelve units, with missing values.
OBSERVERS = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3),
    (None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None),
)
UNITS = [[value for value in unit if value is not None] for unit in zip(*OBSERVERS, strict=True)]


@pytest.mark.parametrize(
    ("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_alpha_of_the_published_example(level, published: float) -> None:
    found = alpha(UNITS, [1, 2, 3, 4, 5], level)
    assert found.alpha == pytest.approx(published, abs=5e-4)
    assert found.items == 11


def test_alpha_of_two_observers_and_two_values() -> None:
    """Krippendorff 2011, section A."""
    first, second = (0, 1, 0, 0, 0, 0, 0, 0, 1, 0), (1, 1, 1, 0, 0, 1, 0, 0, 0, 0)
    found = alpha(zip(first, second, strict=True), (0, 1), "nominal")
    assert found.alpha == pytest.approx(0.095, abs=5e-4)


def test_alpha_is_undefined_without_differences() -> None:
    assert alpha([["tie", "tie"], ["first"]], ("first", "second", "tie"), "nominal").alpha is None
    assert alpha([["first"], []], ("first", "second", "tie"), "nominal").alpha is None


def test_accuracies_maximise_the_posterior() -> None:
    """The posterior by enumeration of the better text of each pair, on a grid of accuracies."""
    rng = np.random.default_rng(3)
    names, true = ("ann", "ben", "eve"), (0.9, 0.8, 0.6)
    votes = []
    for item in range(40):
        better = bool(rng.integers(2))
        for name, rate in zip(names, true, strict=True):
            if rng.random() < 0.8:
                votes.append((item, name, better == (rng.random() < rate)))
    found = accuracies(votes)

    grid = np.linspace(0.02, 0.98, 49)
    rates = np.stack(np.meshgrid(grid, grid, grid, indexing="ij"))
    log = ((PRIOR[0] - 1) * np.log(rates) + (PRIOR[1] - 1) * np.log(1 - rates)).sum(0)
    for item in range(40):
        mine = [(names.index(name), first) for number, name, first in votes if number == item]
        sides = [
            np.prod([rates[k] if first == better else 1 - rates[k] for k, first in mine], axis=0)
            for better in (True, False)
        ]
        if len(mine) > 1:
            log += np.log(0.5 * sides[0] + 0.5 * sides[1])
    best = np.unravel_index(log.argmax(), log.shape)
    for place, name in enumerate(names):
        assert found[name] == pytest.approx(grid[best[place]], abs=0.021)


def test_two_annotators_do_not_show_who_is_right() -> None:
    assert accuracies([(0, "ann", True), (0, "ben", False)]) == {}


def test_quality_of_a_store(tmp_path: Path) -> None:
    """Two opposite people, one who repeats differently, counted by hand."""
    store = Store(tmp_path / "store.sqlite")
    store.add_items([NewItem("pair", "", ("a", "b")) for _ in range(10)])
    rng = np.random.default_rng(0)
    for name, own in (("ann", "first"), ("ben", "second")):
        for _ in range(10):
            shown = store.next_item(name, "pair", rng, repeats=0)
            store.judge(shown.token, name, {"choice": own}, 2.0 if name == "ann" else 4.0)
    for _ in range(2):
        shown = store.next_item("ann", "pair", rng, repeats=1)
        store.judge(shown.token, "ann", {"choice": "second"}, 2.0)
    found = quality(store)
    assert (found.items, found.judged, found.judgements) == (10, 10, 22)
    # Two observers who always differ on 10 units: 1 - (20 - 1) * 20 / (2 * 10 * 10) = -0.9.
    assert found.agreement["choice"].alpha == pytest.approx(-0.9)
    assert found.agreement["choice"].items == 10
    ann, ben = found.of("ann"), found.of("ben")
    assert (ann.judgements, ann.seconds, ann.repeats.value, ann.repeats.count) == (12, 2.0, 0.0, 2)
    assert (ben.seconds, ben.repeats, ben.accuracy) == (4.0, None, None)
    lefts = [
        one.order[0] == (one.value["choice"] == "second")
        for one in store.judgements(annotator="ann")
    ]
    assert ann.left.value == pytest.approx(np.mean(lefts))
    assert found.of("nobody") is None


def test_marked_characters_agree(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.sqlite")
    store.add_items([NewItem("spans", "", ("abcd",)), NewItem("rating", "", ("abcd",))])
    spans = {"ann": [[0, 2, 1]], "ben": [[1, 3, 1], [3, 4, -1]]}
    for name, aspect in product(spans, ["true"]):
        shown = store.next_item(name, "spans", repeats=0)
        store.judge(shown.token, name, {"spans": spans[name]}, 1)
        shown = store.next_item(name, "rating", repeats=0)
        store.judge(shown.token, name, {"aspects": {aspect: 4}}, 1)
    found = quality(store).agreement
    # Units (1,0), (1,1), (0,1), (0,-1): three of four differ; n = 8 with counts 4, 3, 1, so the
    # expected disagreement is (4*3 + 4*1 + 3*1) * 2 / (8 * 7) = 38/56.
    assert found["spans"].alpha == pytest.approx(1 - (6 / 8) / (38 / 56))
    assert found["rating: true"].alpha is None

"""The quality of judgements: agreement, self-agreement, position bias, and time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

import numpy as np

from textgym.errors import require
from textgym.feedback.annotators import accuracies
from textgym.feedback.items import SCALE, Item, Judgement
from textgym.feedback.store import Store
from textgym.rewards.preferences.calibration import wilson

Level = Literal["nominal", "ordinal", "interval"]


@dataclass(frozen=True)
class Share:
    """A share with its 95 % interval (Wilson 1927).

    Attributes:
        value: The share, in [0, 1].
        count: Number of judgements that it is a share of.
    """

    value: float
    count: int

    @property
    def interval(self) -> tuple[float, float]:
        """The lower and the upper limit."""
        return wilson(self.value, self.count)


@dataclass(frozen=True)
class Agreement:
    """Krippendorff's alpha of one kind of judgement.

    Attributes:
        alpha: 1 for perfect agreement, 0 for the agreement of chance, below for less; None if it is
            not defined because no item has two judgements, or all judgements are equal.
        items: Number of items with at least two judgements (for ``spans``, of characters).
    """

    alpha: float | None
    items: int


@dataclass(frozen=True)
class AnnotatorQuality:
    """The judgements of one annotator.

    Attributes:
        name: The annotator.
        judgements: Their number, with skips and repeats.
        skips: Number of skips.
        seconds: Median time of a judgement, in seconds.
        ties: Share of ties among the judged pairs, or None if no pair was judged.
        left: Share of decided pairs whose left text was preferred, or None.
        repeats: Share of repeated items that were judged as before, or None. A rating counts by the
            share of its aspects with the same value.
        accuracy: Estimated share of pairs that are judged rightly (:mod:`.annotators`), or None.
    """

    name: str
    judgements: int
    skips: int
    seconds: float
    ties: Share | None
    left: Share | None
    repeats: Share | None
    accuracy: float | None


@dataclass(frozen=True)
class Quality:
    """The quality of the judgements in a store.

    Attributes:
        items: Number of items.
        judged: Number of items with a judgement.
        judgements: Number of judgements, with skips and repeats, without undone ones.
        agreement: By kind: ``choice``, ``spans``, and ``rating: NAME`` for each aspect.
        annotators: By name.
    """

    items: int
    judged: int
    judgements: int
    agreement: dict[str, Agreement] = field(default_factory=dict)
    annotators: list[AnnotatorQuality] = field(default_factory=list)

    def of(self, name: str) -> AnnotatorQuality | None:
        """The quality of one annotator, or None for a name without judgements."""
        return next((one for one in self.annotators if one.name == name), None)


def quality(store: Store) -> Quality:
    """Assess the judgements of a store.

    Raises:
        MissingDependencyError: If the package krippendorff is not installed.
        StorageError: If the store cannot be read.
    """
    items = {item.id: item for item in store.items()}
    every = store.judgements(skips=True)
    opinions = [one for one in every if not (one.skipped or one.repeat)]
    accuracy = accuracies(
        (one.item, one.annotator, one.preference == 1.0)
        for one in opinions
        if one.preference in (0.0, 1.0)
    )
    names = sorted({one.annotator for one in every})
    return Quality(
        items=len(items),
        judged=len({one.item for one in every}),
        judgements=len(every),
        agreement=_agreement(opinions, items),
        annotators=[
            _annotator(name, [one for one in every if one.annotator == name], accuracy.get(name))
            for name in names
        ],
    )


def alpha(units: Iterable[Sequence[Hashable]], domain: Sequence[Any], level: Level) -> Agreement:
    """Krippendorff's alpha (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability").

    Args:
        units: The values that were given to each item; items with fewer than two do not count.
        domain: All possible values, in their order.
        level: The level of measurement.

    Raises:
        MissingDependencyError: If the package krippendorff is not installed.
    """
    compared = [Counter(unit) for unit in units if len(unit) > 1]
    counts = np.array([[unit[value] for value in domain] for unit in compared], np.int64)
    if not compared or np.count_nonzero(counts.sum(0)) < 2:
        return Agreement(None, len(compared))
    found = require("krippendorff", "web").alpha(
        value_counts=counts,
        value_domain=np.arange(len(domain)) if level == "nominal" else domain,
        level_of_measurement=level,
    )
    return Agreement(float(found), len(compared))


def _agreement(opinions: Sequence[Judgement], items: dict[int, Item]) -> dict[str, Agreement]:
    by_item: dict[int, list[Judgement]] = {}
    for one in opinions:
        by_item.setdefault(one.item, []).append(one)
    found = {}
    groups = by_item.values()
    pairs = [[one.value["choice"] for one in group if one.kind == "pair"] for group in groups]
    if any(pairs):
        found["choice"] = alpha(pairs, ("first", "second", "tie"), "nominal")
    rated = [one.value["aspects"] for one in opinions if one.kind == "rating"]
    for aspect in sorted({name for aspects in rated for name in aspects}):
        ratings = [
            [
                one.value["aspects"][aspect]
                for one in group
                if one.kind == "rating" and aspect in one.value["aspects"]
            ]
            for group in groups
        ]
        found[f"rating: {aspect}"] = alpha(ratings, list(SCALE), "ordinal")
    marked = [
        [_marks(one, items) for one in group if one.kind == "spans"]
        for group in groups
    ]  # fmt: skip
    if any(marked):
        characters = [unit for group in marked for unit in zip(*group, strict=True)]
        found["spans"] = alpha(characters, (-1, 0, 1), "nominal")
    return found


def _marks(judgement: Judgement, items: dict[int, Item]) -> list[int]:
    """The mark of every character of a text: 1 good, -1 bad, 0 none."""
    marks = [0] * len(items[judgement.item].texts[0])
    for start, end, sign in judgement.value["spans"]:
        marks[start:end] = [sign] * (end - start)
    return marks


def _annotator(name: str, given: Sequence[Judgement], accuracy: float | None) -> AnnotatorQuality:
    pairs = [one for one in given if one.preference is not None]
    decided = [one for one in pairs if one.preference != 0.5]
    left = sum((0 if one.preference == 1.0 else 1) == one.order[0] for one in decided)
    before = {one.item: one for one in given if not (one.repeat or one.skipped)}
    same = [
        _same(before[one.item], one)
        for one in given
        if one.repeat and not one.skipped and one.item in before
    ]
    return AnnotatorQuality(
        name,
        judgements=len(given),
        skips=sum(one.skipped for one in given),
        seconds=median(one.seconds for one in given),
        ties=_share(len(pairs) - len(decided), len(pairs)),
        left=_share(left, len(decided)),
        repeats=_share(sum(same), len(same)),
        accuracy=accuracy,
    )


def _same(first: Judgement, second: Judgement) -> float:
    if first.kind != "rating":
        return float(first.value["choice"] == second.value["choice"])
    aspects, again = first.value["aspects"], second.value["aspects"]
    common = aspects.keys() & again.keys()
    return float(sum(aspects[name] == again[name] for name in common) / max(1, len(common)))


def _share(part: float, count: int) -> Share | None:
    return Share(part / count, count) if count else None

"""Which pairs of texts a person is asked about.

Candidates are groups of texts that answer the same prompt. Most pairs of them would teach little:
everybody agrees about some, and others are nearly equal. There are three ways to choose:

* ``"random"``: any pair of any group.
* ``"uncertainty"``: pairs about whose difference the heads of an ensemble disagree most (Christiano
  et al. 2017, https://arxiv.org/abs/1706.03741, section 2.2.4).
* ``"thompson"``: two heads, drawn at random, each name the best text of a group: pairs that might
  decide what is best (Wu and Liu 2016, https://arxiv.org/abs/1604.07101; for language models Liu et
  al. 2024, https://arxiv.org/abs/2411.01493). Pairs of bad texts are not asked about, however
  uncertain they are.

A share of the pairs is chosen at random in any case. How well a reward predicts those, before it is
fitted to them, is an unbiased estimate of its accuracy on the policy's texts; on pairs that were
chosen because they are difficult it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from textgym.errors import SettingsError

How = Literal["random", "uncertainty", "thompson"]
"""Ways to choose pairs."""

NEAR_DUPLICATE = 0.9
"""Texts with at least this normalized edit similarity are not compared."""

_DRAWS = 20
"""Heads that may name the second text of a pair."""


@dataclass(frozen=True)
class Choice:
    """A pair that was chosen.

    Attributes:
        group: Index of the group.
        first: Index of a text in the group.
        second: Index of another text in it; first and second are in random order.
        random: Whether it was chosen at random.
    """

    group: int
    first: int
    second: int
    random: bool


def choose_pairs(
    groups: Sequence[Sequence[str]],
    rewards: Sequence[NDArray[np.float64]],
    count: int,
    how: How,
    rng: np.random.Generator,
    random_share: float = 0.2,
    asked: Collection[tuple[int, int, int]] = (),
) -> list[Choice]:
    """Choose pairs to judge.

    Each way of choosing takes one pair of a group, and further ones only if there are not enough
    groups. No pair is chosen twice, and none of two nearly equal texts.

    Args:
        groups: Texts by prompt.
        rewards: For each group, the rewards of its texts by head, ``[K, G]``.
        count: Number of pairs.
        how: The way to choose.
        rng: Source of all random choices.
        random_share: Share of the pairs that is chosen at random, in [0, 1].
        asked: Pairs that were judged before, as group, first and second text, first < second; they
            are left out.

    Returns:
        At most `count` pairs in random order; fewer if there are no more candidates. Each pair is
        random with the probability `random_share`.

    Raises:
        SettingsError: If there is no such way to choose, or the share is not in [0, 1].
    """
    if how not in get_args(How):
        raise SettingsError(f"choose={how!r} must be one of {', '.join(get_args(How))}")
    if not 0 <= random_share <= 1:
        raise SettingsError(f"random_share={random_share} must be from 0 to 1")
    left = [
        [pair for pair in _distinct(texts) if (group, *pair) not in asked]
        for group, texts in enumerate(groups)
    ]
    number = count if how == "random" else int(rng.binomial(count, random_share))
    found = _spread(left, number, rng, lambda group: _random(left[group], rng))
    chosen = [Choice(*pair, True) for pair in found]
    if how != "random":
        choose = _uncertain if how == "uncertainty" else _thompson
        scores = [np.asarray(one, dtype=np.float64) for one in rewards]
        found = choose(left, scores, count - len(chosen), rng)
        chosen += [Choice(*pair, False) for pair in found]
    order = rng.permutation(len(chosen))
    flips = rng.random(len(chosen)) < 0.5
    return [_flipped(chosen[at]) if flips[at] else chosen[at] for at in order.tolist()]


_Pair = tuple[int, int]


def _distinct(texts: Sequence[str]) -> list[_Pair]:
    """The pairs of a group that are not nearly equal."""
    plain = [" ".join(text.split()) for text in texts]
    return [
        (one, other)
        for one, other in combinations(range(len(plain)), 2)
        if Levenshtein.normalized_similarity(plain[one], plain[other]) < NEAR_DUPLICATE
    ]


def _random(pairs: list[_Pair], rng: np.random.Generator) -> _Pair | None:
    return pairs[int(rng.integers(len(pairs)))] if pairs else None


def _spread(
    left: list[list[_Pair]],
    count: int,
    rng: np.random.Generator,
    choose: Callable[[int], _Pair | None],
    once: bool = False,
) -> list[tuple[int, int, int]]:
    """Choose a pair of each group, in random order, and again until there are enough.

    The pairs that are chosen are removed from `left`. With `once`, a group gives one pair at most.
    """
    found: list[tuple[int, int, int]] = []
    before = -1
    while before < len(found) < count and not (once and found):
        before = len(found)
        for group in rng.permutation(len(left)).tolist():
            pair = choose(group) if len(found) < count else None
            if pair is not None:
                left[group].remove(pair)
                found.append((group, *pair))
    return found


def _uncertain(
    left: list[list[_Pair]],
    rewards: Sequence[NDArray[np.float64]],
    count: int,
    rng: np.random.Generator,
) -> list[tuple[int, int, int]]:
    """The pairs of the largest variances: first the best pair of each group, then the second."""
    ranked: list[tuple[int, float, int, _Pair]] = []
    for group, pairs in enumerate(left):
        variance = {pair: _variance(rewards[group], pair) for pair in pairs}
        order = sorted(pairs, key=lambda pair: -variance[pair])
        ranked += [(place, -variance[pair], group, pair) for place, pair in enumerate(order)]
    found = []
    for _, _, group, pair in sorted(ranked)[:count]:
        left[group].remove(pair)
        found.append((group, *pair))
    return found


def _variance(rewards: NDArray[np.float64], pair: _Pair) -> float:
    """The variance over the heads of the difference of two rewards."""
    return float((rewards[:, pair[0]] - rewards[:, pair[1]]).var())


def _thompson(
    left: list[list[_Pair]],
    rewards: Sequence[NDArray[np.float64]],
    count: int,
    rng: np.random.Generator,
) -> list[tuple[int, int, int]]:
    """The texts that two random heads find best: first of groups where the heads disagree."""

    def differing(group: int) -> _Pair | None:
        pairs, scores = left[group], rewards[group]
        texts = sorted({text for pair in pairs for text in pair})
        if not texts:
            return None
        best = _best(scores, texts, rng)
        for _ in range(_DRAWS):
            rival = _best(scores, texts, rng)
            if (pair := (min(best, rival), max(best, rival))) in pairs:
                return pair
        return None

    def any_rival(group: int) -> _Pair | None:
        pairs, scores = left[group], rewards[group]
        if not pairs:
            return None
        best = _best(scores, sorted({text for pair in pairs for text in pair}), rng)
        rivals = [pair for pair in pairs if best in pair]
        return max(rivals, key=lambda pair: _variance(scores, pair))

    found = _spread(left, count, rng, differing, once=True)
    return found + _spread(left, count - len(found), rng, any_rival)


def _best(scores: NDArray[np.float64], texts: list[int], rng: np.random.Generator) -> int:
    """The text that a random head finds best."""
    head = scores[int(rng.integers(len(scores)))]
    return max(texts, key=lambda text: float(head[text]))


def _flipped(choice: Choice) -> Choice:
    return Choice(choice.group, choice.second, choice.first, choice.random)

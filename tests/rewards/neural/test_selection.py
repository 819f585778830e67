"""Which pairs are chosen: against brute force, and in their frequencies."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from textgym.errors import SettingsError
from textgym.rewards.preferences.selection import choose_pairs

WORDS = ["apples", "the blue sea", "mountains in winter", "no", "quick foxes", "under the bridge"]


def groups(count: int, size: int = 4, heads: int = 5) -> tuple[list[list[str]], list[np.ndarray]]:
    rng = np.random.default_rng([count, size])
    texts = [[WORDS[at] for at in rng.permutation(len(WORDS))[:size]] for _ in range(count)]
    return texts, [rng.standard_normal((heads, size)) for _ in range(count)]


def unordered(choices) -> list[tuple[int, int, int]]:
    return sorted(
        (one.group, min(one.first, one.second), max(one.first, one.second)) for one in choices
    )


def test_the_most_uncertain_pair_of_the_most_uncertain_groups() -> None:
    texts, rewards = groups(12)
    variances = {}
    for group, scores in enumerate(rewards):
        for a, b in combinations(range(4), 2):
            variances[group, a, b] = np.var(scores[:, a] - scores[:, b])
    best = [
        max((key for key in variances if key[0] == group), key=lambda key: variances[key])
        for group in range(12)
    ]
    expected = sorted(sorted(best, key=lambda key: -variances[key])[:5])
    rng = np.random.default_rng(0)
    chosen = choose_pairs(texts, rewards, 5, "uncertainty", rng, random_share=0.0)
    assert unordered(chosen) == expected
    assert not any(one.random for one in chosen)
    # With as many pairs as there are, all are chosen, each once.
    everything = choose_pairs(texts, rewards, 1000, "uncertainty", rng, random_share=0.0)
    assert unordered(everything) == sorted(variances)


@pytest.mark.parametrize("how", ["random", "uncertainty", "thompson"])
def test_every_pair_is_asked_about_once(how: str) -> None:
    texts, rewards = groups(3)
    asked: set[tuple[int, int, int]] = set()
    rng = np.random.default_rng(1)
    for _ in range(6):
        chosen = unordered(choose_pairs(texts, rewards, 3, how, rng, 0.3, asked))
        assert len(set(chosen) - asked) == 3
        asked |= set(chosen)
    assert choose_pairs(texts, rewards, 3, how, rng, 0.3, asked) == []


def test_near_duplicates_are_not_compared() -> None:
    text = "The room was very clean and the breakfast was really good."
    texts = [[text, text.replace("  ", " ") + " ", text[:-1] + "!", "Something else entirely."]]
    rng = np.random.default_rng(0)
    for how in ("random", "uncertainty", "thompson"):
        chosen = choose_pairs(texts, [np.eye(4)], 100, how, rng)
        assert {pair[1:] for pair in unordered(chosen)} == {(0, 3), (1, 3), (2, 3)}


def test_random_pairs_are_equally_frequent_in_both_orders() -> None:
    texts, rewards = groups(2)
    rng = np.random.default_rng(0)
    counts = Counter(
        (one.group, one.first, one.second)
        for _ in range(3000)
        for one in choose_pairs(texts, rewards, 1, "random", rng)
    )
    assert len(counts) == 2 * 4 * 3
    assert max(abs(count - 125) for count in counts.values()) < 5 * np.sqrt(125)


def test_the_share_of_random_pairs() -> None:
    texts, rewards = groups(8)
    rng = np.random.default_rng(0)
    chosen = [
        one.random
        for _ in range(500)
        for one in choose_pairs(texts, rewards, 4, "thompson", rng, random_share=0.25)
    ]
    assert len(chosen) == 2000
    assert np.mean(chosen) == pytest.approx(0.25, abs=5 * np.sqrt(0.25 * 0.75 / 2000))


def test_thompson_compares_texts_that_heads_find_best() -> None:
    texts, rewards = groups(1)
    # Two heads: text 2 is best in one, text 0 in the other; the other texts vary a lot.
    rewards = [np.array([[1.0, -9.0, 2.0, -1.0], [3.0, -1.0, 2.0, -9.0]])]
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert unordered(choose_pairs(texts, rewards, 1, "thompson", rng, 0.0)) == [(0, 0, 2)]
    # If the heads agree on the best text, its most uncertain rival.
    agreed = [np.array([[9.0, -5.0, 2.0, 1.0], [9.0, -1.0, 2.0, 1.5]])]
    assert unordered(choose_pairs(texts, agreed, 1, "thompson", rng, 0.0)) == [(0, 0, 1)]
    # A group in which they disagree comes first.
    both = choose_pairs(texts * 2, agreed + rewards, 1, "thompson", rng, 0.0)
    assert unordered(both) == [(1, 0, 2)]


def test_impossible_ways() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(SettingsError, match="choose='best'"):
        choose_pairs([], [], 1, "best", rng)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="random_share=2"):
        choose_pairs([], [], 1, "random", rng, random_share=2)

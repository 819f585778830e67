"""Diversity of a collection of texts: type-token ratio, n-grams, entropies and lengths.

The functions take the words of all texts, case-folded and without punctuation; in scripts without
spaces each letter is a word (:mod:`textgym.data.words`). These metrics are not rewards, because
they are defined for a collection and not for single texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from math import log2, nan

Words = Sequence[Sequence[str]]
"""The words of N texts."""

_ORDERS = (1, 2, 3)


def msttr(texts: Words, segment: int = 100) -> float:
    """Return the mean segmental type-token ratio (Johnson 1944).

    The texts are concatenated and cut into segments; an incomplete last segment is dropped. The
    ratio is the number of different words in a segment divided by its length.

    Args:
        texts: The words of N texts.
        segment: The length of a segment in words, at least 1.

    Returns:
        The mean ratio, in (0, 1]; nan if the texts are shorter than one segment.
    """
    words = [word for text in texts for word in text]
    whole = len(words) // segment
    if not whole:
        return nan
    kinds = (len(set(words[k * segment : (k + 1) * segment])) for k in range(whole))
    return sum(kinds) / (whole * segment)


def _counts(texts: Words, n: int) -> Counter[tuple[str, ...]]:
    counts: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        counts.update(zip(*(text[start:] for start in range(n)), strict=False))
    return counts


def distinct(texts: Words, n: int) -> float:
    """Return the number of different n-grams divided by that of all n-grams; 0 without any."""
    counts = _counts(texts, n)
    return len(counts) / counts.total() if counts else 0.0


def vocabulary(texts: Words, n: int) -> float:
    """Return the number of different n-grams."""
    return float(len(_counts(texts, n)))


def unique(texts: Words, n: int) -> float:
    """Return the number of n-grams that occur once."""
    return float(sum(count == 1 for count in _counts(texts, n).values()))


def entropy(texts: Words, n: int) -> float:
    """Return the Shannon entropy of the n-grams in bits; 0 without any."""
    counts = _counts(texts, n)
    total = counts.total()
    return abs(sum(count / total * log2(count / total) for count in counts.values()))


def conditional_entropy(texts: Words, n: int) -> float:
    """Return the entropy in bits of the last word of an n-gram, given the words before it.

    The preceding words are counted only where another word follows, so this is the entropy of a
    model that has memorized the texts.
    """
    counts = _counts(texts, n)
    before: Counter[tuple[str, ...]] = Counter()
    for gram, count in counts.items():
        before[gram[:-1]] += count
    total = counts.total()
    return abs(
        sum(count / total * log2(count / before[gram[:-1]]) for gram, count in counts.items())
    )


def total_length(texts: Words) -> float:
    """Return the number of words in all texts."""
    return float(sum(map(len, texts)))


def mean_length(texts: Words) -> float:
    """Return the mean number of words per text."""
    return total_length(texts) / len(texts)


DIVERSITY: dict[str, Callable[[Words], float]] = {
    "msttr": msttr,
    **{
        f"{function.__name__}_{n}": partial(function, n=n)
        for function in (distinct, vocabulary, unique, entropy, conditional_entropy)
        for n in _ORDERS
        if n > 1 or function is not conditional_entropy
    },
    "total_length": total_length,
    "mean_length": mean_length,
}
"""The metrics by name: ``msttr``, ``distinct_1`` to ``distinct_3``, ..., ``mean_length``."""

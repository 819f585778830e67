"""Scores of free text in public data: n-gram overlap with references, and an on-topic factor.

The tasks cannot parse free text, so they compare it with references. Overlap alone can be gamed: a
reference followed by as much nonsense keeps two thirds of ROUGE's F measure and more of chrF, a
shuffled reference keeps most of ROUGE-1, and a negated one nearly everything. The tasks therefore
multiply the metric by `on_topic`, which is 1 for a reference and for any part of one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import chain, pairwise
from typing import Any

from rapidfuzz.distance import LCSseq

from textgym.data.words import words_and_marks
from textgym.rewards import make_reward
from textgym.rewards.registry import RewardFunction

_POWER = 3
"""Exponent of the on-topic share of a text."""

_DENIED = 0.4
"""Factor for a negation that no reference has."""

_DENIAL = re.compile(
    r"\b(?:not|no|never|none|nobody|nothing|neither|nor|cannot|false|untrue|wrong|lies?"
    r"|anything but)\b|n['\u2019]t\b"
    "|[不没未非假]",
    re.IGNORECASE,
)


@cache
def _metric(name: str, **options: str) -> RewardFunction:
    return make_reward(name, **options)


def overlap(name: str, text: str, reference: str | Sequence[str], **options: str) -> float:
    """Return an overlap metric of one text.

    Args:
        name: A reward: ``"rouge"`` (Lin 2004; the mean F measure of ROUGE-1, ROUGE-2 and ROUGE-L),
            ``"chrf"`` (Popovic 2015) or ``"bleu"`` (Papineni et al. 2002).
        text: The text.
        reference: The reference, or several, the best of which counts.
        **options: Options of the reward, such as ``variant="rougeL"``.

    Returns:
        A number in [0, 1].

    Raises:
        MissingDependencyError: If the library of the metric (``textgym[metrics]``) is missing.
    """
    columns: dict[str, Any] = {"reference": [reference]}
    return min(1.0, float(_metric(name, **options)([""], [text], **columns)[0] or 0.0))


def on_topic(text: str, references: Sequence[str], source: str | None = None) -> float:
    """Return the share of a text's score that it keeps for being on topic.

    Args:
        text: The text.
        references: Correct texts. Order is compared with the nearest, length with the longest.
        source: A text whose words are on topic as well, such as the article of a summary.

    Returns:
        A number in [0, 1], the product of four factors:

        * order: among the words in common with the nearest reference, the share in the same order,
          squared. It is measured as a common subsequence or as pairs of neighbours, whichever is
          more;
        * length: if the text is longer than the longest reference, the ratio of their lengths,
          cubed, in words and punctuation marks or in characters, whichever is less. With a source,
          the only excess that counts is words in neither source nor references, repetitions, and
          punctuation beyond a reference's amount;
        * novelty: the share of words and marks that do not repeat a pair of neighbours more often
          than a reference does, cubed;
        * 0.4 if the text has a negation (English or Chinese) that the source does not have, and no
          reference has any.
    """
    tokens = _tokens(text)
    expected = [_tokens(reference) for reference in references]
    if not tokens or not any(expected):
        return 0.0
    repeats = _repeats(tokens, expected)
    excess = [len(tokens) - max(map(len, expected)), _size(tokens) - max(map(_size, expected))]
    if source is not None:
        known = set(_tokens(source)).union(*expected)
        unknown = [word for word in tokens if _is_word(word) and word not in known]
        marks = _marks(tokens) - max(map(_marks, expected))
        allowed = max(0, marks) + repeats
        excess[0] = min(excess[0], len(unknown) + allowed)
        excess[1] = min(excess[1], _size(unknown) + allowed)
    share = 1.0 - max(0.0, excess[0] / len(tokens), excess[1] / _size(tokens))
    value = max(_order(tokens, reference) for reference in _nearest(tokens, expected))
    value *= (share * (1.0 - repeats / len(tokens))) ** _POWER
    return value * _DENIED if _denies(text, references, source) else value


def _tokens(text: str) -> list[str]:
    """Words and single punctuation marks."""
    found = words_and_marks(text)
    return list(chain.from_iterable([token] if _is_word(token) else token for token in found))


def _is_word(token: str) -> bool:
    return token[0].isalnum() or token[-1].isalnum()


def _size(tokens: Sequence[str]) -> int:
    return sum(map(len, tokens))


def _marks(tokens: Sequence[str]) -> int:
    return sum(not _is_word(token) for token in tokens)


def _nearest(words: Sequence[str], references: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """The references with the most words in common with a text."""
    common = [(Counter(words) & Counter(reference)).total() for reference in references]
    pairs = zip(references, common, strict=True)
    return [reference for reference, count in pairs if count == max(common)]


def _order(words: Sequence[str], reference: Sequence[str]) -> float:
    common = sum((Counter(words) & Counter(reference)).values())
    if common < 2:  # a single word has no order
        return 1.0
    sequence = LCSseq.similarity(words, reference) / common
    neighbours = Counter(pairwise(words)) & Counter(pairwise(reference))
    return float(min(1.0, max(sequence, neighbours.total() / (common - 1))) ** 2)


def _repeats(words: Sequence[str], references: Sequence[Sequence[str]]) -> int:
    allowed = Counter[tuple[str, str]]()
    for reference in references:
        allowed |= Counter(pairwise(reference))
    counts = Counter(pairwise(words))
    return sum(max(0, count - max(1, allowed[pair])) for pair, count in counts.items())


def _denies(text: str, references: Sequence[str], source: str | None) -> bool:
    if any(_DENIAL.search(reference) for reference in references):
        return False
    known = set(map(str.lower, _DENIAL.findall(source or "")))
    return not known.issuperset(map(str.lower, _DENIAL.findall(text)))

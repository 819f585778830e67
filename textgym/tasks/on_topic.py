"""How far a free text is on topic: a factor for metrics of n-gram overlap in public data.

Nobody can read free texts back, so tasks judge them by their overlap with references. Overlap alone
pays for junk: a reference with as much nonsense behind it keeps two thirds of ROUGE's F measure and
more of chrF, one in a random order most of ROUGE-1, and one that is denied nearly everything. The
tasks multiply their metric by this factor, which is 1 for a reference and for a part of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import chain, pairwise

from rapidfuzz.distance import LCSseq

from textgym.data.words import words_and_marks

_POWER = 3
"""How steeply a text loses by its share of what is off topic."""

_DENIED = 0.4
"""What is left of a text that denies where no reference does."""

_DENIAL = re.compile(
    r"\b(?:not|no|never|none|nobody|nothing|neither|nor|cannot|false|untrue|wrong|lies?"
    r"|anything but)\b|n['\u2019]t\b"
    "|[不没未非假]",
    re.IGNORECASE,
)


def on_topic(text: str, references: Sequence[str], source: str | None = None) -> float:
    """Return what of a text's score is left, for being on topic.

    Args:
        text: The text.
        references: Texts that are right; the best, and the longest, count.
        source: What the text may take words from, next to the references: the article of a summary.

    Returns:
        A number in [0, 1], the product of four factors:

        * order: of the words in common with the nearest reference, the share that is in its order,
          squared: as a subsequence, or as pairs of neighbours where that is more;
        * length: the longest reference's share of the text's length, cubed, where the text is
          longer; in words and marks or in characters, whichever is less. Where there is a source,
          of what is beyond that length only this counts: words in neither, repetitions, and marks
          beyond a reference's number of them;
        * news: the share of words and marks that do not repeat, with the one before them, what was
          said before (more often than a reference does), cubed;
        * 0.4 where the text has a word of denial (English or Chinese), no reference has one, and
          the source does not have this one.
    """
    spoken = _tokens(text)
    meant = [_tokens(reference) for reference in references]
    if not spoken or not any(meant):
        return 0.0
    repeats = _repeats(spoken, meant)
    excess = [len(spoken) - max(map(len, meant)), _size(spoken) - max(map(_size, meant))]
    if source is not None:
        known = set(_tokens(source)).union(*meant)
        unknown = [word for word in spoken if _is_word(word) and word not in known]
        marks = _marks(spoken) - max(map(_marks, meant))
        allowed = max(0, marks) + repeats
        excess[0] = min(excess[0], len(unknown) + allowed)
        excess[1] = min(excess[1], _size(unknown) + allowed)
    share = 1.0 - max(0.0, excess[0] / len(spoken), excess[1] / _size(spoken))
    value = max(_order(spoken, reference) for reference in _nearest(spoken, meant))
    value *= (share * (1.0 - repeats / len(spoken))) ** _POWER
    return value * _DENIED if _denies(text, references, source) else value


def _tokens(text: str) -> list[str]:
    """Words, and punctuation mark by mark: a row of them is not one word."""
    found = words_and_marks(text)
    return list(chain.from_iterable([one] if _is_word(one) else one for one in found))


def _is_word(token: str) -> bool:
    return token[0].isalnum() or token[-1].isalnum()


def _size(tokens: Sequence[str]) -> int:
    return sum(map(len, tokens))


def _marks(tokens: Sequence[str]) -> int:
    return sum(not _is_word(token) for token in tokens)


def _nearest(words: Sequence[str], references: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """The references that share most words with a text: with one word there is no order."""
    common = [(Counter(words) & Counter(reference)).total() for reference in references]
    return [one for one, count in zip(references, common, strict=True) if count == max(common)]


def _order(words: Sequence[str], reference: Sequence[str]) -> float:
    common = sum((Counter(words) & Counter(reference)).values())
    if common < 2:
        return 1.0
    sequence = LCSseq.similarity(words, reference) / common
    neighbours = Counter(pairwise(words)) & Counter(pairwise(reference))
    return float(min(1.0, max(sequence, neighbours.total() / (common - 1))) ** 2)


def _repeats(words: Sequence[str], references: Sequence[Sequence[str]]) -> int:
    allowed = Counter[tuple[str, str]]()
    for reference in references:
        allowed |= Counter(pairwise(reference))
    said = Counter(pairwise(words))
    return sum(max(0, count - max(1, allowed[pair])) for pair, count in said.items())


def _denies(text: str, references: Sequence[str], source: str | None) -> bool:
    if any(_DENIAL.search(reference) for reference in references):
        return False
    known = set(map(str.lower, _DENIAL.findall(source or "")))
    return not known.issuperset(map(str.lower, _DENIAL.findall(text)))

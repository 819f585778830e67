"""Differences between texts that a comparison can ignore: case, punctuation, inflection, ..."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import lru_cache

from textgym.data.words import WITHOUT_PUNCTUATION
from textgym.errors import RewardError, require

IGNORABLE = ("unicode", "case", "punctuation", "articles", "whitespace")
# The letter of a decomposed "\u00e0" is not an article.
_ARTICLES = re.compile(r"\b(?:a|an|the)\b(?![\u0300-\u036f])", re.IGNORECASE)
_LONGEST_STEMMED = 40


def checked_ignore(ignore: Iterable[str], name: str) -> tuple[str, ...]:
    """Check the option ``ignore`` of a reward.

    Args:
        ignore: Some of :data:`IGNORABLE`.
        name: The reward's name, for the error.

    Returns:
        The option as a tuple.

    Raises:
        RewardError: If one of them is unknown.
    """
    chosen = (ignore,) if isinstance(ignore, str) else tuple(ignore)
    for one in chosen:
        if one not in IGNORABLE:
            raise RewardError(
                f"{name}: ignore must be a subset of {', '.join(map(repr, IGNORABLE))}, not {one!r}"
            )
    return chosen


def normalize(text: str, ignore: tuple[str, ...]) -> str:
    """Normalize a text for comparison, in any script.

    ``("case", "punctuation", "articles", "whitespace")`` is the normalization of the SQuAD
    evaluation (Rajpurkar et al. 2016), extended to all of Unicode's punctuation and symbols.

    Args:
        text: Any text.
        ignore: ``unicode`` (NFKC), ``case`` (case folding), ``punctuation`` (removed), ``articles``
            (a, an, the), ``whitespace`` (collapsed, and stripped at both ends).

    Returns:
        The normalized text.
    """
    if "unicode" in ignore:
        text = unicodedata.normalize("NFKC", text)
    if "case" in ignore:
        text = text.casefold()
    if "punctuation" in ignore:
        text = text.translate(WITHOUT_PUNCTUATION)
    if "articles" in ignore:
        text = _ARTICLES.sub(" ", text)
    if "whitespace" in ignore:
        text = " ".join(text.split())
    return text


@lru_cache(maxsize=1)
def stemmer() -> Callable[[str], str]:
    """Return NLTK's Porter stemmer for English, with a cache. It needs no NLTK data.

    Returns:
        A function from a word to its stem. Words of more than 40 letters are returned unchanged.

    Raises:
        MissingDependencyError: If nltk is not installed.
    """
    porter = require("nltk.stem.porter", "metrics").PorterStemmer()

    @lru_cache(maxsize=1 << 16)
    def stem(word: str) -> str:
        # Porter's algorithm is quadratic in the length, and a policy may write any "word".
        return str(porter.stem(word)) if len(word) <= _LONGEST_STEMMED else word

    return stem

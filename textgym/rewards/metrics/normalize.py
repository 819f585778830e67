"""What a comparison of texts may ignore.

Everything works for any script: punctuation is what Unicode calls punctuation or a symbol.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from textgym.data.words import WITHOUT_PUNCTUATION
from textgym.errors import RewardError

IGNORABLE = ("unicode", "case", "punctuation", "articles", "whitespace")
# The letter of a decomposed "\u00e0" is not an article.
_ARTICLES = re.compile(r"\b(?:a|an|the)\b(?![\u0300-\u036f])", re.IGNORECASE)


def checked_ignore(ignore: Iterable[str], name: str) -> tuple[str, ...]:
    """Check the differences that a reward is told to ignore.

    Args:
        ignore: Some of :data:`IGNORABLE`.
        name: The reward, for the error.

    Returns:
        The same as a tuple.

    Raises:
        RewardError: If one of them is unknown.
    """
    chosen = (ignore,) if isinstance(ignore, str) else tuple(ignore)
    for one in chosen:
        if one not in IGNORABLE:
            raise RewardError(
                f"{name}: ignore= takes some of {', '.join(map(repr, IGNORABLE))}, not {one!r}"
            )
    return chosen


def normalize(text: str, ignore: tuple[str, ...]) -> str:
    """Remove the differences that are to be ignored.

    With ``("case", "punctuation", "articles", "whitespace")`` this is the normalisation of the
    SQuAD evaluation (Rajpurkar et al. 2016), extended to all of Unicode's punctuation.

    Args:
        text: Any text.
        ignore: ``unicode`` (NFKC), ``case`` (case folding), ``punctuation`` (dropped), ``articles``
            (a, an, the), ``whitespace`` (runs become one space, none at the ends).

    Returns:
        The normalised text.
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

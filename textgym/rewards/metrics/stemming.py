"""The stem of a word."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from textgym.errors import require


@lru_cache(maxsize=1)
def stemmer() -> Callable[[str], str]:
    """Return Porter's stemmer for English as NLTK has it (it needs none of NLTK's data).

    Returns:
        A function from a word to its stem, which remembers the words that it has seen.

    Raises:
        MissingDependencyError: If nltk is not installed.
    """
    porter = require("nltk.stem.porter", "metrics").PorterStemmer()

    @lru_cache(maxsize=1 << 16)
    def stem(word: str) -> str:
        # It takes a time that grows with the square of the length; no English word is longer.
        return str(porter.stem(word)) if len(word) <= 40 else word

    return stem

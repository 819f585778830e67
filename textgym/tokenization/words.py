"""A closed vocabulary of words."""

from __future__ import annotations

from collections.abc import Sequence

from textgym.errors import TokenizerError, shown
from textgym.tokenization.base import EOS_NAMES, MAX_VOCABULARY, Tokenizer


class WordTokenizer(Tokenizer):
    """A closed vocabulary of words: each word is a token, and single spaces join them.

    Args:
        words: The vocabulary, in the order of the ids. A word that is a common end-of-sequence
            token (``"<eos>"``, ``"</s>"``, ...) is eos.
        add_eos: Append ``"<eos>"`` to a vocabulary without eos.

    Raises:
        TokenizerError: If the list is empty, or a word is repeated, empty or contains whitespace.
    """

    separator = " "

    def __init__(self, words: Sequence[str], add_eos: bool = True) -> None:
        self.words = list(words)
        if not self.words:
            raise TokenizerError("the list of words is empty; pass at least one word")
        if len(self.words) >= MAX_VOCABULARY:
            raise TokenizerError(
                f"the list of words has {len(self.words):,} words; the maximum is "
                f"{MAX_VOCABULARY - 1:,}"
            )
        for word in self.words:
            if not isinstance(word, str) or not word or word.split() != [word]:
                raise TokenizerError(
                    f"{shown(word)} cannot be a word of a closed vocabulary; words are non-empty "
                    "strings without whitespace"
                )
        eos = next((word for word in EOS_NAMES if word in self.words), None)
        if eos is None and add_eos:
            eos = "<eos>"
            self.words.append(eos)
        self._ids = {word: index for index, word in enumerate(self.words)}
        if len(self._ids) < len(self.words):
            twice = next(word for word in self.words if self.words.count(word) > 1)
            raise TokenizerError(f"the word {shown(twice)} is in the list twice; remove one")
        self.name = f"{len(self.words)} words"
        self.vocab_size = len(self.words)
        self.eos_id = None if eos is None else self._ids[eos]

    def encode(self, text: str) -> list[int]:
        """Token ids of whitespace-separated words.

        Raises:
            TokenizerError: If a word is not in the vocabulary.
        """
        try:
            return [self._ids[word] for word in text.split()]
        except KeyError as error:
            raise TokenizerError(
                f"the word {shown(error.args[0])} is not in the closed vocabulary of {self.name} "
                f"({', '.join(self.words[:8])}{', ...' if len(self.words) > 8 else ''}); "
                "add it to the list, or use an open tokenizer"
            ) from None

    def decode(self, ids: Sequence[int]) -> str:
        """The words, joined by single spaces."""
        words = self.words
        return " ".join([words[index] for index in ids])

    def encode_continuation(self, text: str) -> list[int]:
        """Token ids of whitespace-separated words."""
        return self.encode(text)

    def token(self, index: int) -> str:
        """The word of one id."""
        return self.words[index]

"""The tokenizers of the ``tokenizers`` library."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import tokenizers

from textgym.errors import TokenizerError
from textgym.tokenization.base import EOS_NAMES, Tokenizer, size_of
from textgym.tokenization.frame import prompt_frame
from textgym.tokenization.pieces import (
    appended_table,
    broken_bytes_as,
    byte_level_table,
    byte_tokens,
)

# Maximal number of cached words, which natural text does not reach.
_MAX_CACHED_WORDS = 200_000


class FastTokenizer(Tokenizer):
    """A ``tokenizers.Tokenizer``, with a fast path for byte-level BPE (GPT-2, Llama 3, Qwen, ...).

    Byte-level BPE splits text with GPT-2's regular expression (Radford et al. 2019, "Language
    Models are Unsupervised Multitask Learners") and merges each piece separately. The expression
    always splits before a single space that is not next to other whitespace, so the token ids of
    " word" are the same in every text, and are cached. Decoding joins bytes. All other tokenizers
    use the library.

    Args:
        backend: The tokenizer.
        name: Its origin.
        eos: The end-of-sequence token; None selects one of :data:`EOS_NAMES`.
        encoder_decoder: Whether the model is an encoder-decoder. If None (unknown), a tokenizer
            that ends every text with eos is treated as one.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        name: str,
        eos: str | None = None,
        encoder_decoder: bool | None = None,
    ) -> None:
        self.backend = backend
        self.name = name
        self.encoder_decoder = encoder_decoder
        vocabulary = backend.get_vocab(with_added_tokens=True)
        if not vocabulary:
            raise TokenizerError(f"the tokenizer {name!r} has an empty vocabulary; train it first")
        self.vocab_size = size_of(vocabulary, name)
        candidates = EOS_NAMES if eos is None else (eos,)
        self.eos_id = next((vocabulary[word] for word in candidates if word in vocabulary), None)
        if eos is not None and self.eos_id is None:
            raise TokenizerError(
                f"the tokenizer {name!r} names {eos!r} as its eos token, "
                "but its vocabulary lacks it; add the token or name another"
            )
        self._tokens = [""] * self.vocab_size
        for token, index in vocabulary.items():
            self._tokens[index] = token
        added = backend.get_added_tokens_decoder()
        self._added_ids = frozenset(added)
        self._added = frozenset(token.content for token in added.values())
        # The environment limits the length of prompts.
        backend.no_truncation()
        backend.no_padding()
        state = json.loads(serialized(backend, name))
        self._decoder: dict[str, Any] | None = state.get("decoder")
        self.byte_tokens = byte_tokens(self._decoder, self._tokens)
        if self._decoder is None:
            self.separator = " "
        elif self._decoder["type"] == "ByteLevel":
            self.token_bytes = byte_level_table(backend, self._tokens)
        self._handler: str | None = None
        # Cached token ids of words, at the start of a text and after a space.
        self._first: dict[str, list[int]] = {}
        self._spaced: dict[str, list[int]] | None = {} if self._splits_like_gpt2(state) else None

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens around it.

        Raises:
            TokenizerError: If the text contains a lone surrogate, or a character for which the
                vocabulary has no token.
        """
        spaced = self._spaced
        words = text.split(" ")
        if spaced is None or "" in words or self._contains_added(text):
            return self._encode(text)
        try:
            ids = list(self._first[words[0]])
            for word in words[1:]:
                ids += spaced[word]
        except KeyError:
            # A space before other whitespace may be part of a longer piece, so it is not cached.
            if any(word[0].isspace() for word in words[1:]):
                return self._encode(text)
            if len(spaced) + len(self._first) > _MAX_CACHED_WORDS:
                spaced.clear()
                self._first.clear()
            self._first[words[0]] = self._encode(words[0])
            ids = list(self._first[words[0]])
            for word in words[1:]:
                spaced[word] = spaced.get(word) or self._encode(f" {word}")
                ids += spaced[word]
        return ids

    @cached_property
    def appended_bytes(self) -> list[bytes] | None:
        """The bytes that each token adds to a non-empty text; None if they depend on the text."""
        if self.token_bytes is not None:
            return self.token_bytes
        return appended_table(self.backend, self._decoder, self._tokens)

    @property
    def _broken_bytes(self) -> str:
        if self._handler is None:
            self._handler = broken_bytes_as(self.backend, self._tokens)
        return self._handler

    @cached_property
    def prompt_frame(self) -> tuple[list[int], list[int]]:
        """The special tokens that the post-processor adds before and after a prompt."""
        return prompt_frame(
            self, lambda text: list(self.backend.encode(text).ids), self.encoder_decoder
        )

    def _encode(self, text: str) -> list[int]:
        try:
            return list(self.backend.encode(text, add_special_tokens=False).ids)
        except TypeError as error:
            raise TokenizerError(
                f"{text!r} cannot be tokenized: it contains half of a surrogate pair; "
                "read the text as UTF-8, or remove the character"
            ) from error
        except Exception as error:  # The library raises bare Exception.
            raise TokenizerError(
                f"the tokenizer {self.name!r} cannot encode {text[:40]!r} ({error}); "
                "use one with a token for unknown text"
            ) from error

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some token ids, special tokens included; invalid UTF-8 becomes U+FFFD."""
        table = self.token_bytes
        if table is None:
            return str(self.backend.decode(list(ids), skip_special_tokens=False))
        return b"".join(map(table.__getitem__, ids)).decode("utf-8", self._broken_bytes)

    def token(self, index: int) -> str:
        """The vocabulary entry of one id."""
        return self._tokens[index]

    def is_added(self, index: int) -> bool:
        """Whether an id is an added token, which is matched before the text is tokenized."""
        return index in self._added_ids

    def _contains_added(self, text: str) -> bool:
        """Whether a text contains an added token, which the library matches first."""
        for token in self._added:  # noqa: SIM110 (a generator would take longer than the search)
            if token in text:
                return True
        return False

    @staticmethod
    def _splits_like_gpt2(state: dict[str, Any]) -> bool:
        """Whether text is split by GPT-2's expression alone."""
        splitter = state.get("pre_tokenizer") or {}
        return (
            state.get("normalizer") is None
            and splitter.get("type") == "ByteLevel"
            and bool(splitter.get("use_regex", True))
            and not splitter.get("add_prefix_space", True)
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "backend": self.backend.to_str(), "_handler": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, backend=tokenizers.Tokenizer.from_str(state["backend"]))


def serialized(backend: tokenizers.Tokenizer, name: str) -> str:
    """A tokenizer as JSON.

    Raises:
        TokenizerError: If it has parts written in Python.
    """
    try:
        return str(backend.to_str())
    except Exception as error:  # The library raises bare Exception.
        raise TokenizerError(
            f"the tokenizer {name!r} has parts written in Python ({error}), so it cannot be sent "
            "to worker processes; use the library's own components"
        ) from error

"""Tokenizers of the ``tokenizers`` library."""

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

# Bounds the words remembered: natural text has far fewer, junk has no end.
_MAX_WORDS = 200_000


class FastTokenizer(Tokenizer):
    """A ``tokenizers.Tokenizer``, with short cuts for byte-level BPE (GPT-2, Llama 3, Qwen, ...).

    Byte-level BPE cuts text into pieces by GPT-2's expression (Radford et al. 2019, "Language
    Models are Unsupervised Multitask Learners") and merges each piece on its own. The expression
    always cuts before a single space, other than between white space, so the token ids of " word"
    are the same in every text, and are looked up once. Decoding is a join of bytes. Every other
    tokenizer goes through the library.

    Args:
        backend: The tokenizer.
        name: Where it comes from.
        eos: The end-of-sequence token; None looks for one of :data:`EOS_NAMES`.
        encoder_decoder: Whether its model is an encoder-decoder; None if that is not known. Then a
            tokenizer that closes every text with eos counts as one.
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
        # A file may ask for these; an environment says itself how long a prompt may be.
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
        # Token ids of words, at the start of a text and after a space.
        self._first: dict[str, list[int]] = {}
        self._spaced: dict[str, list[int]] | None = {} if self._cuts_like_gpt2(state) else None

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens around it.

        Raises:
            TokenizerError: If the text holds a lone surrogate, or something for which the
                vocabulary has no token.
        """
        spaced = self._spaced
        words = text.split(" ")
        if spaced is None or "" in words or self._holds_added(text):
            return self._encode(text)
        try:
            ids = list(self._first[words[0]])
            for word in words[1:]:
                ids += spaced[word]
        except KeyError:
            # A space before other white space may belong to a longer run: no such word is kept.
            if any(word[0].isspace() for word in words[1:]):
                return self._encode(text)
            if len(spaced) + len(self._first) > _MAX_WORDS:
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
        """What each token adds to a text that is not empty; None if it depends on the text."""
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
        """The special tokens that belong before and behind a prompt: the post-processor's."""
        return prompt_frame(
            self, lambda text: list(self.backend.encode(text).ids), self.encoder_decoder
        )

    def _encode(self, text: str) -> list[int]:
        try:
            return list(self.backend.encode(text, add_special_tokens=False).ids)
        except TypeError as error:
            raise TokenizerError(
                f"{text!r} cannot be tokenized: it holds half of a surrogate pair; "
                "read the text as UTF-8, or drop the character"
            ) from error
        except Exception as error:  # The library raises bare Exception.
            raise TokenizerError(
                f"the tokenizer {self.name!r} cannot spell {text[:40]!r} ({error}); "
                "use one that has a token for what it does not know"
            ) from error

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some token ids; special tokens are visible, broken UTF-8 becomes U+FFFD."""
        table = self.token_bytes
        if table is None:
            return str(self.backend.decode(list(ids), skip_special_tokens=False))
        return b"".join(map(table.__getitem__, ids)).decode("utf-8", self._broken_bytes)

    def token(self, index: int) -> str:
        """The vocabulary entry of one id, as the vocabulary spells it."""
        return self._tokens[index]

    def is_added(self, index: int) -> bool:
        """Whether an id is an added token, which is cut out of texts before all else."""
        return index in self._added_ids

    def _holds_added(self, text: str) -> bool:
        """Whether a text spells an added token, which the library cuts out before anything else."""
        for token in self._added:  # noqa: SIM110 (a generator would cost more than the search)
            if token in text:
                return True
        return False

    @staticmethod
    def _cuts_like_gpt2(state: dict[str, Any]) -> bool:
        """Whether text is cut into pieces by GPT-2's expression, and by nothing before it."""
        cutter = state.get("pre_tokenizer") or {}
        return (
            state.get("normalizer") is None
            and cutter.get("type") == "ByteLevel"
            and bool(cutter.get("use_regex", True))
            and not cutter.get("add_prefix_space", True)
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
            "to worker processes; build it from the library's own parts"
        ) from error

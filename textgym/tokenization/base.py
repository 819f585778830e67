"""The interface of all tokenizers: text to token ids and back, with or without preceding text."""

from __future__ import annotations

import codecs
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from textgym.errors import TokenizerError, shown

if TYPE_CHECKING:
    from textgym.tokenization.chat import ChatTemplate

TINY = "textgym/tiny"
"""Name of the built-in language model and of its tokenizer."""

ASSETS = Path(__file__).parents[1] / "assets"
TINY_DIR = ASSETS / "tiny"

MAX_VOCABULARY = 2**22
"""Maximal size of a vocabulary."""

EOS_NAMES = (
    "<|endoftext|>",
    "</s>",
    "<eos>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<|end|>",
    "<end_of_turn>",
    "[EOS]",
    "[SEP]",
)
"""Common names of the end-of-sequence token, for tokenizers that do not name theirs."""


Ids: TypeAlias = "Sequence[int] | NDArray[np.int32]"
"""Token ids, as a list or as a part of an observation."""


class Tokenizer(ABC):
    """Text to token ids and back.

    Attributes:
        name: Its origin, for error messages and reports.
        vocab_size: Size of the whole vocabulary, added tokens included; ids are ``0 .. V-1``.
        eos_id: Id of the end-of-sequence token, or None.
        other_ends: Further ids that end a text, from the checkpoint's ``generation_config.json`` or
            chat template.
        token_bytes: One ``bytes`` per id if ``decode(ids)`` equals the concatenation of these bytes
            as UTF-8; None if decoding depends on context.
        appended_bytes: One ``bytes`` per id that the token adds to a non-empty text; None if that
            depends on more than the token. Fast decoding and stop strings use it.
        chat_template: The chat template, or None.
        byte_tokens: Ids of SentencePiece's byte-fallback tokens, one byte each.
        separator: The text that decoding writes between any two tokens: a space if tokens are words
            of a closed vocabulary. A response does not start with it.
        encoder_decoder: Whether the model is an encoder-decoder; None if unknown.
    """

    name: str
    vocab_size: int
    eos_id: int | None
    other_ends: tuple[int, ...] = ()
    token_bytes: list[bytes] | None = None
    chat_template: ChatTemplate | None = None
    byte_tokens: frozenset[int] = frozenset()
    separator: str = ""
    encoder_decoder: bool | None = None

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens around it."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The text of some token ids, special tokens included."""

    @abstractmethod
    def token(self, index: int) -> str:
        """The vocabulary entry of one id."""

    @property
    def appended_bytes(self) -> list[bytes] | None:
        """The bytes that each token adds to a non-empty text; None if they depend on the text."""
        return self.token_bytes

    @property
    def _broken_bytes(self) -> str:
        """The codec error handler for bytes that are not UTF-8."""
        return "replace"

    @property
    def prompt_frame(self) -> tuple[list[int], list[int]]:
        """The special tokens added before and after a prompt, such as Llama's bos or T5's eos."""
        return [], []

    def is_added(self, index: int) -> bool:
        """Whether an id is an added token, which is matched before the text is tokenized."""
        return False

    @property
    def ends(self) -> tuple[int, ...]:
        """Every id that ends a text, `eos_id` first."""
        return (() if self.eos_id is None else (self.eos_id,)) + self.other_ends

    def prompt_ids(self, text: str) -> list[int]:
        """Token ids of a prompt as the checkpoint's own tokenizer writes them.

        Special tokens are added, but no second bos if the prompt contains one.
        """
        before, behind = self.prompt_frame
        ids = self.encode(text)
        if before and ids[: len(before)] == before:
            before = []
        return [*before, *ids, *behind] if before or behind else ids

    def is_empty(self, before: Ids) -> bool:
        """Whether a prompt has no text, only the special tokens of its frame."""
        head, tail = self.prompt_frame
        if len(before) > len(head) + len(tail):
            return False
        return all(int(index) in head or int(index) in tail for index in before)

    def continuation(self, ids: Sequence[int], before: Ids) -> str:
        """The text that token ids add to preceding ones: text(before + ids) minus text(before).

        Args:
            ids: Token ids of the continuation.
            before: All preceding token ids, the frame of the prompt included.
        """
        if self.separator:
            return self.decode(ids)
        empty = self.is_empty(before)
        if self.token_bytes is not None:
            return self._decode_after(ids, b"" if empty else _partial(self.token_bytes, before))
        table = None if empty else self.appended_bytes
        if table is not None and self._ends_with_character(before, table):
            try:
                return b"".join(map(table.__getitem__, ids)).decode()
            except UnicodeDecodeError:
                pass  # The bytes may complete a character of the prompt.
        if empty:
            return self.decode(ids)
        start = [int(index) for index in before]
        return _difference(self.decode(start), self.decode([*start, *ids]))

    def _ends_with_character(self, before: Ids, table: list[bytes]) -> bool:
        """Whether the byte tokens at the end of a prompt, if any, are complete characters.

        SentencePiece's decoders decode a run of byte tokens as a whole.
        """
        start = len(before)
        while start and int(before[start - 1]) in self.byte_tokens:
            start -= 1
        try:
            b"".join(table[int(index)] for index in before[start:]).decode()
        except UnicodeDecodeError:
            return False
        return True

    def _decode_after(self, ids: Sequence[int], partial: bytes) -> str:
        """The text of byte-level tokens after the first bytes of a character, if any."""
        assert self.token_bytes is not None
        written = b"".join(map(self.token_bytes.__getitem__, ids))
        errors = self._broken_bytes
        if not partial:
            return written.decode("utf-8", errors)
        whole = (partial + written).decode("utf-8", errors)
        return _difference(partial.decode("utf-8", errors), whole)

    def encode_continuation(self, text: str) -> list[int]:
        """Token ids that add a text to a preceding one, as closely as the vocabulary allows.

        SentencePiece-like tokenizers put a space before a text, which would be one too many here.
        """
        ids = self.encode(text)
        anchors = self._anchors if ids and not self.separator else []
        if not anchors or self.continuation(ids, anchors[0]) == text:
            return ids
        if self.continuation(ids[1:], anchors[0]) == text:  # The space is a separate token.
            return ids[1:]
        for anchor in anchors:
            # Some characters are merged with the next ones.
            whole = self.encode(self.decode(anchor) + text)
            rest = whole[len(anchor) :]
            if whole[: len(anchor)] == anchor and self.continuation(rest, anchor) == text:
                return rest
        return ids

    def content_hash(self) -> str:
        """Hash of the vocabulary and of eos; equal hashes mean the same token ids."""
        return self._content_hash

    def agreement(self) -> str:
        """A string that is equal for an environment and a language model that match.

        It consists of the content hash and of the tokens after prompts: if the kind of model is
        unknown, an environment may end prompts with eos, which a decoder would not continue.
        """
        _, behind = self.prompt_frame
        return f"{self.content_hash()}{'' if not behind else f' {behind}'}"

    @cached_property
    def _content_hash(self) -> str:
        digest = hashlib.sha256(f"{self.vocab_size}:{self.eos_id}".encode())
        for index in range(self.vocab_size):
            token = self.token(index).encode("utf-8", "surrogatepass")
            digest.update(b"%d:%b" % (len(token), token))
        return digest.hexdigest()[:16]

    @cached_property
    def _anchors(self) -> list[list[int]]:
        """Token ids of short texts, after which a continuation is encoded."""
        found = []
        for text in "a.0\nx,(;Z-":
            try:
                ids = self.encode(text)
            except TokenizerError:
                continue
            if ids and self.decode(ids) == text:
                found.append(ids)
        return found

    def __deepcopy__(self, memo: dict[int, Any]) -> Tokenizer:
        # Immutable after construction. Gymnasium deep-copies every keyword argument into env.spec.
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, vocab_size={self.vocab_size})"


def _difference(prompt: str, whole: str) -> str:
    """A text minus the text that it starts with."""
    if whole.startswith(prompt):
        return whole[len(prompt) :]
    # The prompt ended within a character, which decodes differently once it is complete.
    same = sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(prompt, whole, strict=False))
    )
    return whole[same:]


def _partial(table: list[bytes], before: Ids) -> bytes:
    """The bytes of an incomplete character at the end of a prompt; mostly empty."""
    end = table[int(before[-1])]
    if end and end[-1] < 0x80:
        return b""
    # A character has four bytes at most.
    last = b"".join(table[int(index)] for index in before[-4:])
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(last)
    return decoder.getstate()[0]


def size_of(vocabulary: dict[str, int], name: str) -> int:
    """The size V of a vocabulary with ids ``0 .. V-1``, unused ids included.

    Raises:
        TokenizerError: If it is larger than `MAX_VOCABULARY`.
    """
    token, largest = max(vocabulary.items(), key=lambda item: item[1])
    if largest >= MAX_VOCABULARY:
        raise TokenizerError(
            f"the tokenizer {shown(name)} gives the token {shown(token)} the id {largest:,}, so "
            f"that its {len(vocabulary):,} tokens need {largest + 1:,} actions; the maximum is "
            f"{MAX_VOCABULARY:,}, so number the tokens consecutively"
        )
    return largest + 1

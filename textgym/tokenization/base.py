"""The interface of every tokenizer: text to token ids and back, with or without text before it."""

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
"""The largest vocabulary that is accepted; those of language models have up to a million tokens."""

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
"""Names under which end-of-sequence is looked for where a tokenizer does not say which it is."""


Ids: TypeAlias = "Sequence[int] | NDArray[np.int32]"
"""Token ids, as a list or as a part of an observation."""


class Tokenizer(ABC):
    """Text to token ids and back.

    Attributes:
        name: Where it comes from, for error messages and reports.
        vocab_size: Size of the whole vocabulary, added tokens included; ids are ``0 .. V-1``.
        eos_id: Id of the end-of-sequence token, or None.
        other_ends: Further ids that end a text: those that the ``generation_config.json`` or the
            chat template of a checkpoint names next to its eos.
        token_bytes: One ``bytes`` per id if decoding is context-free, that is if ``decode(ids)``
            equals the concatenation of these bytes read as UTF-8; None otherwise.
        appended_bytes: One ``bytes`` per id: what the token adds to a text that is not empty. None
            if that depends on more than the token. Fast decoding of responses and stop strings
            that span tokens rest on it.
        chat_template: How messages become one prompt; None where the checkpoint has none.
        byte_tokens: Ids of SentencePiece's kind that are one byte each; empty for all others.
        separator: What decoding writes between any two tokens: a space where tokens are words of a
            closed vocabulary. It belongs to no token, so that a response does not begin with it.
        encoder_decoder: Whether its model is an encoder-decoder; None if that is not known.
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

    # ------------------------------------------------------------------ what a kind defines

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens around it."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The text of some token ids; special tokens are visible in it."""

    @abstractmethod
    def token(self, index: int) -> str:
        """The vocabulary entry of one id, as the vocabulary spells it."""

    @property
    def appended_bytes(self) -> list[bytes] | None:
        """What each token adds to a text that is not empty; None if it depends on the text."""
        return self.token_bytes

    @property
    def _broken_bytes(self) -> str:
        """The codec error handler that reads bytes which are not UTF-8."""
        return "replace"

    @property
    def prompt_frame(self) -> tuple[list[int], list[int]]:
        """The special tokens that belong before and behind a prompt: Llama's bos, T5's eos."""
        return [], []

    def is_added(self, index: int) -> bool:
        """Whether an id is an added token, which is cut out of texts before all else."""
        return False

    # ------------------------------------------------------------------ prompts and responses

    @property
    def ends(self) -> tuple[int, ...]:
        """Every id that ends a text, `eos_id` first."""
        return (() if self.eos_id is None else (self.eos_id,)) + self.other_ends

    def prompt_ids(self, text: str) -> list[int]:
        """Token ids of a prompt as the checkpoint's own tokenizer writes them, special ones too.

        A prompt that spells its bos itself does not get a second one.
        """
        before, behind = self.prompt_frame
        ids = self.encode(text)
        if before and ids[: len(before)] == before:
            before = []
        return [*before, *ids, *behind] if before or behind else ids

    def is_empty(self, before: Ids) -> bool:
        """Whether a prompt holds no text: nothing but the special tokens of its frame."""
        head, tail = self.prompt_frame
        if len(before) > len(head) + len(tail):
            return False
        return all(int(index) in head or int(index) in tail for index in before)

    def continuation(self, ids: Sequence[int], before: Ids) -> str:
        """The text that token ids add behind others: text(before + ids) less text(before).

        Args:
            ids: What was written.
            before: All ids that precede, the frame of the prompt included.
        """
        if self.separator:
            return self.decode(ids)
        empty = self.is_empty(before)
        if self.token_bytes is not None:
            return self._bytes_behind(ids, b"" if empty else _unfinished(self.token_bytes, before))
        table = None if empty else self.appended_bytes
        if table is not None and self._ends_whole(before, table):
            try:
                # Bytes that are not UTF-8 alone may complete what the prompt left unfinished.
                return b"".join(map(table.__getitem__, ids)).decode()
            except UnicodeDecodeError:
                pass
        if empty:
            return self.decode(ids)
        start = [int(index) for index in before]
        return _difference(self.decode(start), self.decode([*start, *ids]))

    def _ends_whole(self, before: Ids, table: list[bytes]) -> bool:
        """Whether the byte tokens at the end of a prompt, if any, are characters.

        SentencePiece's decoders read a run of byte tokens together: one that is not UTF-8 stays
        broken, whatever follows.
        """
        start = len(before)
        while start and int(before[start - 1]) in self.byte_tokens:
            start -= 1
        try:
            b"".join(table[int(index)] for index in before[start:]).decode()
        except UnicodeDecodeError:
            return False
        return True

    def _bytes_behind(self, ids: Sequence[int], unfinished: bytes) -> str:
        """The text of byte-level tokens behind the first bytes of a character, if any."""
        assert self.token_bytes is not None
        written = b"".join(map(self.token_bytes.__getitem__, ids))
        errors = self._broken_bytes
        if not unfinished:
            return written.decode("utf-8", errors)
        whole = (unfinished + written).decode("utf-8", errors)
        return _difference(unfinished.decode("utf-8", errors), whole)

    def encode_continuation(self, text: str) -> list[int]:
        """Token ids that add a text behind others, as nearly as the vocabulary can spell it.

        Tokenizers of SentencePiece's kind put a space before a text of its own; behind other text
        it would be one space too many.
        """
        ids = self.encode(text)
        anchors = self._anchors if ids and not self.separator else []
        if not anchors or self.continuation(ids, anchors[0]) == text:
            return ids
        if self.continuation(ids[1:], anchors[0]) == text:  # The mark was a token of its own.
            return ids[1:]
        for anchor in anchors:
            # Some characters are merged with what follows.
            whole = self.encode(self.decode(anchor) + text)
            rest = whole[len(anchor) :]
            if whole[: len(anchor)] == anchor and self.continuation(rest, anchor) == text:
                return rest
        return ids

    def content_hash(self) -> str:
        """Hash of the vocabulary (id by id) and of eos: equal hashes speak the same token ids."""
        return self._content_hash

    def agreement(self) -> str:
        """What an environment and a language model have to agree on, as one string.

        The content hash, and the tokens behind prompts: with a tokenizer whose kind of model is not
        known an environment may close prompts with eos, which a decoder would not continue.
        """
        _, behind = self.prompt_frame
        return f"{self.content_hash()}{'' if not behind else f' {behind}'}"

    # ------------------------------------------------------------------ small things

    @cached_property
    def _content_hash(self) -> str:
        digest = hashlib.sha256(f"{self.vocab_size}:{self.eos_id}".encode())
        for index in range(self.vocab_size):
            token = self.token(index).encode("utf-8", "surrogatepass")
            digest.update(b"%d:%b" % (len(token), token))
        return digest.hexdigest()[:16]

    @cached_property
    def _anchors(self) -> list[list[int]]:
        """Short texts to encode a continuation behind; empty where none is needed."""
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
    """A text less the text that it begins with."""
    if whole.startswith(prompt):
        return whole[len(prompt) :]
    # The prompt ended within a character, which reads differently once it is complete.
    same = sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(prompt, whole, strict=False))
    )
    return whole[same:]


def _unfinished(table: list[bytes], before: Ids) -> bytes:
    """The first bytes of a character that the prompt does not complete; mostly none."""
    end = table[int(before[-1])]
    if end and end[-1] < 0x80:
        return b""
    # A character has four bytes at most.
    last = b"".join(table[int(index)] for index in before[-4:])
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(last)
    return decoder.getstate()[0]


def size_of(vocabulary: dict[str, int], name: str) -> int:
    """Ids ``0 .. V-1`` cover a vocabulary, holes (padding of the vocabulary) included: V.

    Raises:
        TokenizerError: If that is an action space that nobody can mean.
    """
    token, largest = max(vocabulary.items(), key=lambda item: item[1])
    if largest >= MAX_VOCABULARY:
        raise TokenizerError(
            f"the tokenizer {shown(name)} gives the token {shown(token)} the id {largest:,}, so "
            f"that its {len(vocabulary):,} tokens need {largest + 1:,} actions, and "
            f"{MAX_VOCABULARY:,} are the most; number the tokens without a hole"
        )
    return largest + 1

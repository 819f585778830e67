"""The interface of a cache with one slot per row, and the choice of the one for an architecture.

The rows have different lengths, and one can start a new text while the others continue. A
Transformer caches keys and values of every position
(:class:`textgym.lm.decoding.attention.AttentionSlots`), a recurrent model one state
(:class:`textgym.lm.decoding.recurrent.StateSlots`), an encoder-decoder the encoded prompt as well
(:class:`textgym.lm.decoding.encoder_decoder.EncoderDecoderSlots`). The tokens in each slot are
known to the caller (:mod:`textgym.lm.decoding.memo`) alone.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from textgym.lm.architectures import is_recurrent
from textgym.lm.decoding.attention import AttentionSlots
from textgym.lm.decoding.encoder_decoder import EncoderDecoderSlots
from textgym.lm.decoding.recurrent import StateSlots
from textgym.lm.model import LanguageModel

Ints: TypeAlias = NDArray[np.integer]
Bools: TypeAlias = NDArray[np.bool_]


class Slots(Protocol):
    """A cache of B slots. Tensors are on the model's device; arrays are numpy's."""

    def can_extend(self, known: Ints, lengths: Ints) -> Bools:
        """Whether each slot can be rewound to a prefix of its text and extended from there.

        Args:
            known: ``[B]``, the length of the prefix in tokens.
            lengths: ``[B]``, the length of the text in the slot.
        """

    def invalidate(self) -> None:
        """Drop values derived from the weights, which change. All slots are filled again."""

    def decode(self, tokens: Tensor, positions: Tensor, is_new: Tensor, live: int) -> Tensor:
        """Feed one token to every slot.

        Args:
            tokens: ``[B]``.
            positions: ``[B]``, the position of each token in its text.
            is_new: ``[B]`` bool, False where the token is already in the slot, which then must
                not change.
            live: ``max(positions) + 1``.

        Returns:
            Hidden states ``[B, d]``; undefined in empty slots.
        """

    def fill(
        self, rows: Tensor, tokens: Tensor, lengths: Ints, images: Tensor | None = None
    ) -> Tensor:
        """Prefill: replace the texts of some slots.

        Args:
            rows: ``[n]``, the slots.
            tokens: ``[n, W]``, padded on the right with -1.
            lengths: ``[n]``, the largest is W.
            images: ``[n, 3, H, W]`` uint8, the picture before each text, if the model reads
                pictures.

        Returns:
            Hidden states ``[n, d]`` after the texts.
        """

    def extend(self, rows: Tensor, tokens: Tensor, starts: Ints, lengths: Ints) -> Tensor:
        """Append several tokens to some slots.

        Args:
            rows: ``[n]``, the slots.
            tokens: ``[n, W]``, the whole texts, padded on the right with -1.
            starts: ``[n]``, the number of tokens that are already in the slot.
            lengths: ``[n]``, the largest is W.

        Returns:
            Hidden states ``[n, d]`` after the texts.
        """


def make_slots(lm: LanguageModel, rows: int, width: int) -> Slots:
    """The cache for a model's architecture.

    Args:
        lm: The language model.
        rows: Number of slots B.
        width: Longest text in tokens.

    Raises:
        ModelError: If no cache supports it.
    """
    if lm.seq2seq is not None:
        return EncoderDecoderSlots(lm, lm.seq2seq, rows, width)
    if is_recurrent(lm.model):
        return StateSlots(lm, rows)
    return AttentionSlots(lm, rows, width)

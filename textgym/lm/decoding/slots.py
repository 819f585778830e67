"""Slots: what a model remembers of each row of a batch, whatever its architecture remembers.

Rows stand at different lengths; one begins anew while the others go on. A Transformer remembers
keys and values of every position (:class:`textgym.lm.decoding.attention.AttentionSlots`), a
recurrent model one state (:class:`textgym.lm.decoding.recurrent.StateSlots`), an encoder-decoder
what the encoder made of the prompt besides
(:class:`textgym.lm.decoding.encoder_decoder.EncoderDecoderSlots`). All of them feed tokens to slots
and say what the hidden state is afterwards; which tokens a slot has been fed is not theirs to
remember (:mod:`textgym.lm.decoding.memo` does).
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from textgym.lm.decoding.attention import AttentionSlots
from textgym.lm.decoding.encoder_decoder import EncoderDecoderSlots
from textgym.lm.decoding.recurrent import StateSlots
from textgym.lm.model import LanguageModel, is_recurrent

Ints: TypeAlias = NDArray[np.integer]
Bools: TypeAlias = NDArray[np.bool_]


class Slots(Protocol):
    """The memory of B rows. Tensors are on the model's device, arrays are numpy's."""

    def continues(self, known: Ints, held: Ints) -> Bools:
        """Whether each slot can go on from the first tokens of what it holds.

        Args:
            known: ``[B]``, the number of first tokens that are still right.
            held: ``[B]``, the number of tokens that the slot was fed.
        """

    def forget(self) -> None:
        """Drop what was derived from the weights, because they change. Texts are filled anew."""

    def decode(self, tokens: Tensor, positions: Tensor, moving: Tensor, live: int) -> Tensor:
        """Feed one token to every slot.

        Args:
            tokens: ``[B]``.
            positions: ``[B]``, where each token stands in its text.
            moving: ``[B]`` bool, False where the slot holds this very token already: nothing
                changes for it.
            live: ``max(positions) + 1``.

        Returns:
            Hidden states ``[B, d]``; of no meaning where the slot has no text.
        """

    def fill(
        self, rows: Tensor, tokens: Tensor, lengths: Ints, images: Tensor | None = None
    ) -> Tensor:
        """Feed whole texts to some slots, whatever these held before.

        Args:
            rows: ``[n]``, the slots.
            tokens: ``[n, W]``, padded on the right with -1.
            lengths: ``[n]``, the largest is W.
            images: ``[n, 3, H, W]`` uint8, the picture before each text, for a model that reads
                pictures.

        Returns:
            Hidden states ``[n, d]`` after the texts.
        """

    def extend(self, rows: Tensor, tokens: Tensor, starts: Ints, lengths: Ints) -> Tensor:
        """Append several tokens to some slots.

        Args:
            rows: ``[n]``, the slots.
            tokens: ``[n, W]``, the whole texts, padded on the right with -1.
            starts: ``[n]``, how many tokens of the text the slot holds.
            lengths: ``[n]``, the largest is W.

        Returns:
            Hidden states ``[n, d]`` after the texts.
        """


def make_slots(lm: LanguageModel, rows: int, width: int) -> Slots:
    """The slots that fit a model's architecture.

    Args:
        lm: The language model.
        rows: Number of slots B.
        width: Longest text in tokens.

    Raises:
        ModelError: If there are none for it.
    """
    if lm.seq2seq is not None:
        return EncoderDecoderSlots(lm, lm.seq2seq, rows, width)
    if is_recurrent(lm):
        return StateSlots(lm, rows)
    return AttentionSlots(lm, rows, width)

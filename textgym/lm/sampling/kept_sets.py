"""The support of top-k and top-p, recorded for each sampled token.

After a change of weights, top-k and top-p keep other tokens: the sampled one may be outside, and
``pi_new / pi_old`` would compare distributions with different supports. So the rollout records the
sets, and the update scores on them.

A set is stored as ids, 4 bytes each, or as one bit per token of the vocabulary, whichever is less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class KeptSets:
    """n sets of tokens; see :meth:`of_candidates` and :meth:`of_mask`.

    Attributes:
        vocab_size: Size V of the vocabulary.
        counts: ``[n]`` int64, the size of each set stored as ids; -1 for sets stored as bits.
        ids: int32, the concatenated ids.
        bits: ``[m, ceil(V / 8)]`` uint8; token v is bit ``v % 8`` of byte
            ``v // 8``.
    """

    vocab_size: int
    counts: Tensor
    ids: Tensor
    bits: Tensor

    @staticmethod
    def of_candidates(candidates: Tensor, keep: Tensor, vocab_size: int) -> KeptSets:
        """The candidates that are kept, as sets.

        Args:
            candidates: ``[n, K]`` token ids; the kept ones of a row are distinct.
            keep: ``[n, K]`` bool.
            vocab_size: Size V of the vocabulary.
        """
        counts = keep.sum(-1)
        large = 4 * counts >= _bytes(vocab_size)
        small = keep & ~large[:, None]
        mask = torch.zeros(int(large.sum()), vocab_size, dtype=torch.bool, device=keep.device)
        mask.scatter_(1, candidates[large], keep[large])
        return KeptSets(
            vocab_size, counts.masked_fill(large, -1), candidates[small].int(), _pack(mask)
        )

    @staticmethod
    def of_mask(mask: Tensor) -> KeptSets:
        """Sets from a mask ``[n, V]``."""
        candidates = torch.arange(mask.shape[1], device=mask.device).expand(mask.shape)
        return KeptSets.of_candidates(candidates, mask, mask.shape[1])

    @staticmethod
    def join(parts: Sequence[KeptSets]) -> KeptSets:
        """Concatenate sets."""
        return KeptSets(
            parts[0].vocab_size,
            torch.cat([part.counts for part in parts]),
            torch.cat([part.ids for part in parts]),
            torch.cat([part.bits for part in parts]),
        )

    def state(self) -> dict[str, Any]:
        """The arguments that make the same sets again, as a checkpoint holds them."""
        return {
            "vocab_size": self.vocab_size,
            "counts": self.counts,
            "ids": self.ids,
            "bits": self.bits,
        }

    def __len__(self) -> int:
        return len(self.counts)

    def to(self, device: torch.device | str) -> KeptSets:
        """The same on another device."""
        parts = (self.counts, self.ids, self.bits)
        return KeptSets(self.vocab_size, *(part.to(device) for part in parts))

    def take(self, which: Tensor) -> KeptSets:
        """The sets at the indices ``which`` ``[m]``."""
        sizes = self.counts.clamp(min=0)
        starts = sizes.cumsum(0) - sizes
        counts = self.counts[which]
        taken = counts.clamp(min=0)
        # The index of each taken id: the start of its set plus its place within the set.
        shift = starts[which] - (taken.cumsum(0) - taken)
        total = int(taken.sum())
        places = torch.arange(total, device=which.device)
        places = places + shift.repeat_interleave(taken, output_size=total)
        in_bits = (self.counts < 0).cumsum(0) - 1
        rows = in_bits[which[counts < 0]]
        return KeptSets(self.vocab_size, counts, self.ids[places], self.bits[rows])

    def mask(self) -> Tensor:
        """The sets as a bool mask ``[n, V]``; large, so use it on a few sets at a time."""
        sizes = self.counts.clamp(min=0)
        mask = torch.zeros(len(self), self.vocab_size, dtype=torch.bool, device=self.ids.device)
        rows = torch.arange(len(self), device=self.ids.device)
        mask[rows.repeat_interleave(sizes, output_size=len(self.ids)), self.ids.long()] = True
        if len(self.bits):
            mask[self.counts < 0] = _unpack(self.bits, self.vocab_size)
        return mask


def _bytes(vocab_size: int) -> int:
    return -(-vocab_size // 8)


def _pack(mask: Tensor) -> Tensor:
    """Pack a mask ``[m, V]``, lowest bit first: uint8 ``[m, ceil(V / 8)]``."""
    rows, size = mask.shape
    padded = torch.nn.functional.pad(mask, (0, 8 * _bytes(size) - size))
    shifts = torch.arange(8, dtype=torch.uint8, device=mask.device)
    bits = padded.view(rows, _bytes(size), 8).byte() << shifts
    return bits.sum(-1, dtype=torch.uint8)


def _unpack(bits: Tensor, vocab_size: int) -> Tensor:
    """The mask ``[m, V]`` of packed bits."""
    shifts = torch.arange(8, dtype=torch.uint8, device=bits.device)
    mask = (bits[..., None] >> shifts) & 1
    return mask.flatten(1)[:, :vocab_size].bool()

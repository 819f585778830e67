"""Decoding with a cache that is a memo: a pure function of the observations and the weights.

:class:`MemoDecoder` maps a batch of texts to the hidden state after each. It compares them with the
cached texts by content, and runs only the missing tokens: one for rows that grew by one, a prefill
for rows with a new text. The order of calls affects the speed, never the result.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from textgym.errors import ActionError, ModelError
from textgym.lm.decoding.slots import make_slots
from textgym.lm.model import LanguageModel
from textgym.lm.scoring import last_hidden, start_token
from textgym.lm.weights import WeightWatch

Ints: TypeAlias = NDArray[np.int64]

# Batch sizes cached at once: a training rollout, an evaluation, and single predictions.
_MEMOS = 3
# If fewer rows than this share have one new token, they are extended, and the others not run.
_MIN_SHARE = 0.25


class _Memo:
    """The cache of one batch size.

    Attributes:
        slots: The model's cache.
        tokens: ``[B, L]`` int32, the text in each slot, padded with -1.
        images: ``[B, 3, H, W]`` uint8, the picture before each text; None for text alone.
        lengths: ``[B]``, the lengths of the texts.
        hidden: ``[B, d]``, the hidden state after each text.
    """

    def __init__(self, lm: LanguageModel, rows: int, width: int) -> None:
        # Never inference tensors: later calls under no_grad must be able to write to them.
        with torch.inference_mode(False):
            self.slots = make_slots(lm, rows, width)
            self.tokens = torch.full((rows, width), -1, dtype=torch.int32, device=lm.device)
        self.images: Tensor | None = None
        self.lengths = np.zeros(rows, dtype=np.int64)
        self.hidden: Tensor | None = None

    def hidden_like(self, like: Tensor) -> Tensor:
        """The tensor of hidden states, allocated at the first call in the dtype of ``like``."""
        if self.hidden is None:
            with torch.inference_mode(False):
                size = (len(self.tokens), like.shape[1])
                self.hidden = torch.zeros(size, dtype=like.dtype, device=like.device)
        return self.hidden

    def clear(self) -> None:
        """Empty all slots; the memory stays allocated."""
        self.tokens.fill_(-1)
        self.lengths[:] = 0
        self.slots.invalidate()


class _Plan(NamedTuple):
    """The missing tokens of each row: arrays ``[B]`` on the host, and tensors on the device.

    Attributes:
        lengths: Lengths of the texts.
        starts: Position of the first missing token.
        missing: Number of missing tokens.
        stale: Whether the slot has to be filled from the start.
        positions: ``starts`` on the device.
        is_new: Whether exactly one token is missing, on the device.
    """

    lengths: Ints
    starts: Ints
    missing: Ints
    stale: NDArray[np.bool_]
    positions: Tensor
    is_new: Tensor


class MemoDecoder:
    """Computes the hidden state after each text of a batch from a cache.

    Args:
        lm: The language model.
        width: Longest text in tokens.
        image_shape: ``(3, H, W)`` of the picture before each text, if `lm` reads pictures.

    Raises:
        ModelError: If the slot cache does not support the architecture.
    """

    def __init__(
        self, lm: LanguageModel, width: int, image_shape: tuple[int, ...] | None = None
    ) -> None:
        self.lm = lm
        self.width = width
        self.image_shape = image_shape
        self._memos: OrderedDict[int, _Memo] = OrderedDict()
        read = [lm.body] if lm.pictures is None else [lm.body, lm.pictures]
        self._watch = WeightWatch(nn.ModuleList(read))
        self._probed = self._placement()
        self._probe()

    def invalidate(self) -> None:
        """Empty the cache, for example after a change of weights; the memory stays allocated.

        Only needed after writes that :class:`textgym.lm.weights.WeightWatch` cannot detect.
        """
        for memo in self._memos.values():
            memo.clear()

    @torch.no_grad()
    def __call__(self, observations: Tensor, images: Tensor | None = None) -> Tensor:
        """Hidden states after the given texts.

        Args:
            observations: ``[B, L]`` integer token ids, padded on the right with -1. An empty text
                is replaced by the start token.
            images: ``[B, 3, H, W]`` uint8, the picture before each text, if there are any.

        Returns:
            ``[B, d]``, a new tensor.

        Raises:
            ActionError: If a token id is out of range, or -1 is inside a text.
            ModelError: If a text is empty and the tokenizer has neither bos nor eos.
        """
        if self._placement() != self._probed:
            # Another device or dtype needs new memory, and may use other kernels.
            self._probed = self._placement()
            self._memos.clear()
            self._probe()
        tokens = observations.detach().to(self.lm.device)
        if self._watch.changed():
            if self._watch.moved:
                self._memos.clear()
            self.invalidate()
        memo = self._memo(*tokens.shape)
        if images is not None:
            images = images.detach().to(self.lm.device)
            self._compare_images(memo, images)
        plan = self._plan(memo, tokens)
        if not plan.lengths.all():
            tokens = tokens.clone()
            tokens[:, 0] = tokens[:, 0].masked_fill(tokens[:, 0] < 0, start_token(self.lm))
            plan = self._plan(memo, tokens)
        if plan.missing.any():
            try:
                self._run(memo, tokens, plan, images)
            except BaseException:
                memo.clear()
                raise
            memo.tokens.copy_(tokens)
            memo.lengths[:] = plan.lengths
        assert memo.hidden is not None
        return memo.hidden.clone()

    def _placement(self) -> tuple[torch.device, torch.dtype, torch.dtype]:
        return self.lm.device, self.lm.dtype, self.lm.compute_dtype

    def _memo(self, rows: int, width: int) -> _Memo:
        memo = self._memos.get(rows)
        if memo is None or memo.tokens.shape[1] != width:
            memo = self._memos[rows] = _Memo(self.lm, rows, width)
        self._memos.move_to_end(rows)
        if len(self._memos) > _MEMOS:
            self._memos.popitem(last=False)
        return memo

    def _compare_images(self, memo: _Memo, images: Tensor) -> None:
        """Empty the slots whose pictures have changed."""
        if memo.images is None:
            with torch.inference_mode(False):
                memo.images = torch.zeros_like(images)
        other = (images != memo.images).flatten(1).any(1)
        memo.tokens[other] = -1
        memo.images.copy_(images)

    def _plan(self, memo: _Memo, tokens: Tensor) -> _Plan:
        """Compare texts with the cached ones on the device, with one transfer to the host."""
        width = tokens.shape[1]
        lengths = (tokens >= 0).sum(1)
        differs = tokens != memo.tokens
        # Length of the common prefix; the whole width where nothing differs.
        known = torch.where(differs.any(1), differs.int().argmax(1), width)
        last = tokens.gather(1, (lengths - 1).clamp(min=0)[:, None])[:, 0]
        broken = ((last < 0) & (lengths > 0)) | (tokens.amax(1) >= self.lm.vocab_size)
        starts = torch.minimum(known, lengths - 1)
        is_new = (lengths - starts == 1) & (known < width)
        facts = torch.stack([lengths, known, starts, broken.long()]).cpu().numpy()
        if facts[3].any():
            raise ActionError(
                f"observations: token ids must be below {self.lm.vocab_size}, with padding (-1) "
                "only on the right"
            )
        counts, prefix, first, _ = facts
        new = prefix < width
        stale = new & ~memo.slots.can_extend(np.minimum(prefix, counts), memo.lengths)
        missing = np.where(new, counts - first, 0)
        if stale.any():
            first[stale], missing[stale] = 0, counts[stale]
            starts = torch.from_numpy(first).to(tokens.device)
            is_new &= torch.from_numpy(~stale).to(tokens.device)
        return _Plan(counts, first, missing, stale, starts, is_new)

    def _run(self, memo: _Memo, tokens: Tensor, plan: _Plan, images: Tensor | None) -> None:
        """Run the missing tokens."""
        lengths, starts, missing = plan.lengths, plan.starts, plan.missing
        # With a short common prefix, a prefill is faster than gathering the slot's keys.
        prefill = plan.stale | ((missing > 1) & (2 * starts < lengths))
        decode = (missing == 1) & ~plan.stale
        if images is not None:
            # The picture is part of the prefill.
            prefill |= (missing > 0) & (starts == 0)
            decode &= starts > 0
        if decode.sum() < _MIN_SHARE * len(tokens):
            prefill |= decode & (starts == 0)
            decode[:] = False
        else:
            # All slots, so that nothing is gathered and shapes are static. A row without missing
            # tokens repeats its last one; a row with several is run again below.
            fed = tokens.gather(1, plan.positions[:, None])[:, 0].long()
            live = int(starts.max()) + 1
            hidden = memo.slots.decode(fed, plan.positions, plan.is_new, live)
            memo.hidden_like(hidden).copy_(hidden)
        extend = (missing > 0) & ~decode & ~prefill
        for chosen in (prefill, extend):
            if chosen.any():
                rows = np.flatnonzero(chosen)
                slots = torch.from_numpy(rows).to(tokens.device)
                texts = tokens[slots, : int(lengths[rows].max())].long()
                if chosen is prefill:
                    shown = None if images is None else images[slots]
                    hidden = memo.slots.fill(slots, texts, lengths[rows], shown)
                else:
                    hidden = memo.slots.extend(slots, texts, starts[rows], lengths[rows])
                memo.hidden_like(hidden)[slots] = hidden

    def _probe(self) -> None:
        """Check that prefill, decode and extend give the results of the plain model."""
        lm, width = self.lm, min(self.width, 6)
        kind = type(lm.model).__name__
        texts = torch.full((4, width), -1)
        final = (torch.arange(4 * width).view(4, width) * 7) % lm.vocab_size
        prompts = [1] * len(final)
        if lm.seq2seq is not None:
            # Prompts of an encoder-decoder end with eos; one is longer than the others.
            prompts[-1] = min(2, width)
            for row, length in enumerate(prompts):
                final[row, length - 1] = lm.seq2seq.eos_id
        images = None
        if self.image_shape is not None:
            size = (4, *self.image_shape)
            images = (torch.arange(int(np.prod(size))).view(size) * 37 % 256).to(torch.uint8)
            images = images.to(lm.device)
        error: Exception | None = None
        try:
            worst = 0.0
            for lengths in ((1, 1, 1, 1), (2, 1, 2, 2), (3, 4, 1, 3), (4, 5, 2, 6), (5, 6, 6, 1)):
                for row, length in enumerate(lengths):
                    texts[row] = -1
                    shown = max(length, prompts[row])
                    texts[row, :shown] = final[row, :shown]
                with torch.no_grad():
                    whole = last_hidden(lm, texts.to(lm.device), images)
                    off = (self(texts, images) - whole).abs().max() / whole.abs().max()
                    worst = max(worst, float(off))
        except ModelError:
            raise
        except Exception as caught:
            error, worst = caught, float("inf")
        self._memos.clear()
        if not worst < (1e-3 if lm.compute_dtype == torch.float32 else 0.1):
            raise ModelError(
                f"{lm.name!r} is a {kind}, which gives other results with the slot cache than "
                f"without ({error or f'off by {worst:.1e}'}); turn the cache off: "
                "policy_kwargs=dict(lm=..., cache=False)"
            ) from error

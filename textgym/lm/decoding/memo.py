"""Decoding with a cache that is a memo: a pure function of the observations and the weights.

:class:`MemoDecoder` maps a batch of texts to the hidden state after each. It keeps what it has
computed, compares new texts with the old ones by content, and runs only what is missing: one token
for rows that grew by one, a prefill for rows that began anew. Whoever calls it, in whatever order,
gets what a forward pass over the whole texts gives; a caller can only make it slower.

What this module does not do: sample, differentiate, or know what a model remembers of a text
(:mod:`textgym.lm.decoding.slots` does).
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

# Batch sizes remembered at once: a training rollout, an evaluation, and single predictions.
_MEMOS = 3
# Below this share of rows to decode, they are fed as extensions instead of running every slot.
_MIN_SHARE = 0.25


class _Memo:
    """What is known about the rows of one batch size.

    Attributes:
        slots: What the model remembers of each row.
        tokens: ``[B, L]`` int32, the text that each slot was fed; -1 where none.
        images: ``[B, 3, H, W]`` uint8, the picture before it; None where there are none.
        held: ``[B]``, the lengths of these texts.
        hidden: ``[B, d]``, the hidden state after each of these texts.
    """

    def __init__(self, lm: LanguageModel, rows: int, width: int) -> None:
        # Never inference tensors: later calls under no_grad must be able to write to them.
        with torch.inference_mode(False):
            self.slots = make_slots(lm, rows, width)
            self.tokens = torch.full((rows, width), -1, dtype=torch.int32, device=lm.device)
        self.images: Tensor | None = None
        self.held = np.zeros(rows, dtype=np.int64)
        self.hidden: Tensor | None = None

    def room(self, like: Tensor) -> Tensor:
        """The memory for hidden states, made at the first call in the dtype of ``like``."""
        if self.hidden is None:
            with torch.inference_mode(False):
                size = (len(self.tokens), like.shape[1])
                self.hidden = torch.zeros(size, dtype=like.dtype, device=like.device)
        return self.hidden

    def forget(self) -> None:
        """Hold nothing; the memory stays allocated."""
        self.tokens.fill_(-1)
        self.held[:] = 0
        self.slots.forget()


class _Plan(NamedTuple):
    """What is missing of each row: arrays ``[B]`` on the host, and tensors on the device.

    Attributes:
        lengths: Lengths of the texts.
        starts: Tokens before this position need not be fed.
        missing: Number of tokens to feed.
        lost: Whether what the slot holds is of no use.
        positions: ``starts`` on the device.
        moving: Whether just one token is missing, on the device.
    """

    lengths: Ints
    starts: Ints
    missing: Ints
    lost: NDArray[np.bool_]
    positions: Tensor
    moving: Tensor


class MemoDecoder:
    """Hidden state after each text of a batch, computing only what is not known yet.

    Args:
        lm: The language model.
        width: Longest text in tokens.
        image_shape: ``(3, H, W)`` of the picture before each text, if `lm` reads pictures.

    Raises:
        ModelError: If the architecture cannot be decoded from slots (see
            :func:`textgym.lm.decoding.slots.make_slots`).
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
        self._probed = self._kind()
        self._probe()

    def invalidate(self) -> None:
        """Forget everything, because the weights change; the memory stays allocated."""
        for memo in self._memos.values():
            memo.forget()

    @torch.no_grad()
    def __call__(self, observations: Tensor, images: Tensor | None = None) -> Tensor:
        """Hidden states after the given texts.

        Args:
            observations: ``[B, L]`` integer token ids, padded on the right with -1. An empty text
                is read as the start token alone.
            images: ``[B, 3, H, W]`` uint8, the picture before each text, if there are any.

        Returns:
            ``[B, d]``, a new tensor.

        Raises:
            ActionError: If a token id is out of range, or -1 stands inside a text.
            ModelError: If a text is empty and there is no start token.
        """
        if self._kind() != self._probed:
            # On another device or in another dtype everything is computed in another way.
            self._probed = self._kind()
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
            self._look(memo, images)
        plan = self._plan(memo, tokens)
        if not plan.lengths.all():
            tokens = tokens.clone()
            tokens[:, 0] = tokens[:, 0].masked_fill(tokens[:, 0] < 0, start_token(self.lm))
            plan = self._plan(memo, tokens)
        if plan.missing.any():
            try:
                self._run(memo, tokens, plan, images)
            except BaseException:
                memo.forget()
                raise
            memo.tokens.copy_(tokens)
            memo.held[:] = plan.lengths
        assert memo.hidden is not None
        return memo.hidden.clone()

    def _kind(self) -> tuple[torch.device, torch.dtype, torch.dtype]:
        return self.lm.device, self.lm.dtype, self.lm.compute_dtype

    def _memo(self, rows: int, width: int) -> _Memo:
        memo = self._memos.get(rows)
        if memo is None or memo.tokens.shape[1] != width:
            memo = self._memos[rows] = _Memo(self.lm, rows, width)
        self._memos.move_to_end(rows)
        if len(self._memos) > _MEMOS:
            self._memos.popitem(last=False)
        return memo

    def _look(self, memo: _Memo, images: Tensor) -> None:
        """Forget the texts that stood behind other pictures."""
        if memo.images is None:
            with torch.inference_mode(False):
                memo.images = torch.zeros_like(images)
        other = (images != memo.images).flatten(1).any(1)
        memo.tokens[other] = -1
        memo.images.copy_(images)

    def _plan(self, memo: _Memo, tokens: Tensor) -> _Plan:
        """Compare texts with what the slots hold, on the device; one transfer to the host."""
        width = tokens.shape[1]
        lengths = (tokens >= 0).sum(1)
        differs = tokens != memo.tokens
        # Length of the common prefix; the whole width where nothing differs.
        known = torch.where(differs.any(1), differs.int().argmax(1), width)
        last = tokens.gather(1, (lengths - 1).clamp(min=0)[:, None])[:, 0]
        broken = ((last < 0) & (lengths > 0)) | (tokens.amax(1) >= self.lm.vocab_size)
        starts = torch.minimum(known, lengths - 1)
        moving = (lengths - starts == 1) & (known < width)
        facts = torch.stack([lengths, known, starts, broken.long()]).cpu().numpy()
        if facts[3].any():
            raise ActionError(
                "an observation is no text: token ids must be below "
                f"{self.lm.vocab_size}, from the left, and -1 only after the last one"
            )
        counts, prefix, first, _ = facts
        new = prefix < width
        lost = new & ~memo.slots.continues(np.minimum(prefix, counts), memo.held)
        missing = np.where(new, counts - first, 0)
        if lost.any():
            first[lost], missing[lost] = 0, counts[lost]
            starts = torch.from_numpy(first).to(tokens.device)
            moving &= torch.from_numpy(~lost).to(tokens.device)
        return _Plan(counts, first, missing, lost, starts, moving)

    def _run(self, memo: _Memo, tokens: Tensor, plan: _Plan, images: Tensor | None) -> None:
        """Bring the slots from the known to the new texts."""
        lengths, starts, missing = plan.lengths, plan.starts, plan.missing
        # A short common prefix is not worth gathering what the slot holds.
        fresh = plan.lost | ((missing > 1) & (2 * starts < lengths))
        decode = (missing == 1) & ~plan.lost
        if images is not None:
            # A picture is fed with the first token.
            fresh |= (missing > 0) & (starts == 0)
            decode &= starts > 0
        if decode.sum() < _MIN_SHARE * len(tokens):
            fresh |= decode & (starts == 0)
            decode[:] = False
        else:
            # Every slot, so that nothing is gathered and shapes stay the same. A row with nothing
            # missing repeats its last token; one with more missing is fed again below.
            fed = tokens.gather(1, plan.positions[:, None])[:, 0].long()
            live = int(starts.max()) + 1
            hidden = memo.slots.decode(fed, plan.positions, plan.moving, live)
            memo.room(hidden).copy_(hidden)
        extend = (missing > 0) & ~decode & ~fresh
        for chosen in (fresh, extend):
            if chosen.any():
                rows = np.flatnonzero(chosen)
                slots = torch.from_numpy(rows).to(tokens.device)
                texts = tokens[slots, : int(lengths[rows].max())].long()
                if chosen is fresh:
                    shown = None if images is None else images[slots]
                    hidden = memo.slots.fill(slots, texts, lengths[rows], shown)
                else:
                    hidden = memo.slots.extend(slots, texts, starts[rows], lengths[rows])
                memo.room(hidden)[slots] = hidden

    def _probe(self) -> None:
        """Decode a few tokens in every way there is, and compare with the plain model."""
        lm, width = self.lm, min(self.width, 6)
        kind = type(lm.model).__name__
        texts = torch.full((4, width), -1)
        final = (torch.arange(4 * width).view(4, width) * 7) % lm.vocab_size
        prompts = [1] * len(final)
        if lm.seq2seq is not None:
            # Prompts of an encoder-decoder end with eos: one is longer than the others.
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
            raise  # It names the reason.
        except Exception as caught:
            error, worst = caught, float("inf")
        self._memos.clear()
        if not worst < (1e-3 if lm.compute_dtype == torch.float32 else 0.1):
            raise ModelError(
                f"{lm.name!r} is a {kind}, whose results from the slot cache are not those without "
                f"({error or f'off by {worst:.1e}'}); use it without the cache: "
                "policy_kwargs=dict(lm=..., cache=False)"
            ) from error

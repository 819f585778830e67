"""Decoding with a cache that is a memo: a pure function of the observations and the weights.

:class:`MemoDecoder` maps a batch of texts to the hidden state after each. It keeps what it has
computed, compares new texts with the old ones by content, and runs only what is missing: one token
for rows that grew by one, a prefill for rows that began anew. Whoever calls it, in whatever order,
gets what a forward pass over the whole texts gives; a caller can only make it slower.

What this module does not do: sample, or differentiate.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textgym.errors import ActionError, ModelError
from textgym.lm.cache import SlotCache, check_cacheable
from textgym.lm.model import LanguageModel
from textgym.lm.scoring import last_hidden, start_token
from textgym.lm.weights import WeightWatch

Ints: TypeAlias = NDArray[np.int64]

# Batch sizes remembered at once: a training rollout, an evaluation, and single predictions.
_MEMOS = 3
# Below this share of rows to decode, they are gathered instead of running every slot.
_MIN_SHARE = 0.25


class _Memo:
    """What is known about the rows of one batch size.

    Attributes:
        tokens: ``[B, L]``, the text whose keys and values each slot holds; -1 where none.
        hidden: ``[B, d]``, the hidden state after each of these texts.
    """

    def __init__(self, lm: LanguageModel, rows: int, width: int) -> None:
        self.cache = SlotCache(lm.model.config, rows, width)
        self.tokens = np.full((rows, width), -1, dtype=np.int32)
        self.hidden: Tensor | None = None

    def room(self, like: Tensor) -> Tensor:
        """The memory for hidden states, made at the first call in the dtype of ``like``."""
        if self.hidden is None:
            # Never inference tensors: later calls under no_grad must be able to write to them.
            with torch.inference_mode(False):
                size = (len(self.tokens), like.shape[1])
                self.hidden = torch.zeros(size, dtype=like.dtype, device=like.device)
        return self.hidden


class MemoDecoder:
    """Hidden state after each text of a batch, computing only what is not known yet.

    Args:
        lm: The language model.
        width: Longest text in tokens.

    Raises:
        ModelError: If the architecture cannot be decoded from slots (see
            :func:`textgym.lm.cache.check_cacheable`).
    """

    def __init__(self, lm: LanguageModel, width: int) -> None:
        check_cacheable(lm.model.config, lm.name, width)
        if not lm.takes_positions:
            raise ModelError(
                f"{lm.name!r} ({lm.model.config.model_type}) takes no position_ids, so its rows "
                "cannot stand at different lengths; use it without the cache: "
                "policy_kwargs=dict(lm=..., cache=False)"
            )
        self.lm = lm
        self.width = width
        self._memos: OrderedDict[int, _Memo] = OrderedDict()
        self._watch = WeightWatch(lm.body)
        self._probe()

    def invalidate(self) -> None:
        """Forget everything, because the weights change; the memory stays allocated."""
        for memo in self._memos.values():
            memo.tokens.fill(-1)

    @torch.no_grad()
    def __call__(self, observations: Tensor) -> Tensor:
        """Hidden states after the given texts.

        Args:
            observations: ``[B, L]`` integer token ids, padded on the right with -1. An empty text
                is read as the start token alone.

        Returns:
            ``[B, d]``, a new tensor.

        Raises:
            ActionError: If a token id is out of range, or -1 stands inside a text.
        """
        tokens = observations.detach().cpu().numpy()
        if self._watch.changed():
            self.invalidate()
        memo = self._memo(tokens.shape[0], tokens.shape[1])
        written = tokens >= 0
        lengths = written.sum(1)
        if not lengths.all():
            tokens = tokens.copy()
            empty = lengths == 0
            tokens[empty, 0] = start_token(self.lm)
            lengths[empty] = 1
        differs = tokens != memo.tokens
        known = differs.argmax(1)  # Length of the common prefix, where anything differs.
        start = np.minimum(known, lengths - 1)
        missing = lengths - start
        same = ~differs[np.arange(len(tokens)), known]
        missing[same] = 0
        start[same] = lengths[same] - 1
        if missing.any():
            self._check(tokens, lengths, start)
            try:
                self._run(memo, tokens, lengths, start, missing)
            except BaseException:
                memo.tokens.fill(-1)
                raise
            np.copyto(memo.tokens, tokens, casting="same_kind")
        assert memo.hidden is not None
        return memo.hidden.clone()

    def _memo(self, rows: int, width: int) -> _Memo:
        memo = self._memos.get(rows)
        if memo is None or memo.tokens.shape[1] != width or self._moved(memo):
            memo = self._memos[rows] = _Memo(self.lm, rows, width)
        self._memos.move_to_end(rows)
        if len(self._memos) > _MEMOS:
            self._memos.popitem(last=False)
        return memo

    def _moved(self, memo: _Memo) -> bool:
        """Whether the model has gone to another device or dtype since."""
        hidden, model = memo.hidden, self.lm.model
        return hidden is not None and (hidden.device != model.device or hidden.dtype != model.dtype)

    def _check(self, tokens: Ints, lengths: Ints, start: Ints) -> None:
        rows = np.arange(len(tokens))
        if (tokens[rows, lengths - 1] < 0).any() or int(tokens.max()) >= self.lm.vocab_size:
            raise ActionError(
                "an observation is no text: token ids must be below "
                f"{self.lm.vocab_size}, from the left, and -1 only after the last one"
            )

    def _run(self, memo: _Memo, tokens: Ints, lengths: Ints, start: Ints, missing: Ints) -> None:
        """Bring the slots from the known to the new texts."""
        # A short common prefix is not worth gathering the slot's keys for.
        fresh = (missing > 1) & (2 * start < lengths)
        decode = missing == 1
        if decode.sum() < _MIN_SHARE * len(tokens):
            fresh |= decode & (start == 0)
            decode[:] = False
        else:
            self._decode(memo, tokens, start)
        extend = (missing > 0) & ~decode & ~fresh
        if fresh.any():
            self._fill(memo, tokens, lengths, np.flatnonzero(fresh))
        if extend.any():
            self._extend(memo, tokens, lengths, start, np.flatnonzero(extend))

    def _decode(self, memo: _Memo, tokens: Ints, start: Ints) -> None:
        """Feed one token to every slot.

        Every slot, so that nothing is gathered and shapes stay the same: a row with nothing missing
        repeats its last token, one with more missing takes its first missing one.
        """
        device = self.lm.device
        fed = torch.from_numpy(tokens[np.arange(len(tokens)), start].astype(np.int64)).to(device)
        positions = torch.from_numpy(start.astype(np.int64)).to(device)
        live = int(start.max()) + 1
        bias = None
        if int(start.min()) + 1 < live:  # At equal lengths there is nothing to hide.
            hide = torch.arange(live, device=device) > positions[:, None]
            bias = self._bias(hide)[:, None, None]
        memo.cache.decode(positions, live)
        hidden = self._body(memo, fed[:, None], positions[:, None], bias)[:, 0]
        memo.room(hidden).copy_(hidden)

    def _fill(self, memo: _Memo, tokens: Ints, lengths: Ints, rows: Ints) -> None:
        """Read whole texts into slots."""
        device = self.lm.device
        width = int(lengths[rows].max())
        fed = np.maximum(tokens[rows, :width], 0).astype(np.int64)
        slots = torch.from_numpy(rows).to(device)
        memo.cache.fill(slots)
        positions = torch.arange(width, device=device)[None]
        hidden = self._body(memo, torch.from_numpy(fed).to(device), positions, None)
        ends = torch.from_numpy(lengths[rows] - 1).to(device)
        self._keep(memo, slots, hidden, ends)

    def _extend(self, memo: _Memo, tokens: Ints, lengths: Ints, start: Ints, rows: Ints) -> None:
        """Append several tokens to slots."""
        device = self.lm.device
        missing = lengths[rows] - start[rows]
        places = start[rows, None] + np.arange(int(missing.max()))
        valid = places < lengths[rows, None]
        places = np.minimum(places, tokens.shape[1] - 1)
        fed = np.where(valid, tokens[rows[:, None], places], 0).astype(np.int64)
        slots = torch.from_numpy(rows).to(device)
        positions = torch.from_numpy(places.astype(np.int64)).to(device)
        live = int(lengths[rows].max())
        hide = torch.arange(live, device=device) > positions[..., None]
        memo.cache.extend(slots, positions, torch.from_numpy(valid).to(device), live)
        bias = self._bias(hide)[:, None]
        hidden = self._body(memo, torch.from_numpy(fed).to(device), positions, bias)
        self._keep(memo, slots, hidden, torch.from_numpy(missing - 1).to(device))

    def _keep(self, memo: _Memo, slots: Tensor, hidden: Tensor, ends: Tensor) -> None:
        last = hidden[torch.arange(len(slots), device=slots.device), ends]
        memo.room(last)[slots] = last

    def _body(self, memo: _Memo, tokens: Tensor, positions: Tensor, bias: Tensor | None) -> Tensor:
        output: Any = self.lm.body(
            input_ids=tokens,
            position_ids=positions,
            # Four dimensions: transformers takes it as it is, and builds none of its own.
            attention_mask=bias,
            past_key_values=memo.cache,
            use_cache=True,
        )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def _bias(self, hide: Tensor) -> Tensor:
        """What is added to attention scores: 0 where visible, -inf where hidden."""
        bias = torch.zeros(hide.shape, dtype=self.lm.model.dtype, device=hide.device)
        return bias.masked_fill_(hide, -torch.inf)

    def _probe(self) -> None:
        """Decode a few tokens in every way there is, and compare with the plain model."""
        lm, width = self.lm, min(self.width, 6)
        kind = type(lm.model).__name__
        texts = torch.full((4, width), -1)
        final = (torch.arange(4 * width).view(4, width) * 7) % lm.vocab_size
        error: Exception | None = None
        try:
            worst = 0.0
            for lengths in ((1, 1, 1, 1), (2, 1, 2, 2), (3, 4, 1, 3), (4, 5, 2, 6), (5, 6, 6, 1)):
                for row, length in enumerate(lengths):
                    texts[row] = -1
                    texts[row, :length] = final[row, :length]
                with torch.no_grad():
                    whole = last_hidden(lm, texts.to(lm.device))
                    worst = max(worst, float((self(texts) - whole).abs().max() / whole.abs().max()))
        except Exception as caught:
            error, worst = caught, float("inf")
        self._memos.clear()
        if not worst < (1e-3 if lm.model.dtype == torch.float32 else 0.1):
            raise ModelError(
                f"{lm.name!r} is a {kind}, whose results from the slot cache are not those without "
                f"({error or f'off by {worst:.1e}'}); use it without the cache: "
                "policy_kwargs=dict(lm=..., cache=False)"
            ) from error

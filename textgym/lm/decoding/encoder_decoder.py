"""The cache of an encoder-decoder: the encoder runs once per prompt.

The keys and values of cross-attention are cached in static memory, like those of the response
(:class:`textgym.lm.decoding.cache.SlotCache`).
"""

from __future__ import annotations

import copy
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import Cache, EncoderDecoderCache
from transformers.cache_utils import CacheLayerMixin

from textgym.lm.decoding.cache import SlotCache
from textgym.lm.decoding.row_positions import RowPositions
from textgym.lm.model import LanguageModel
from textgym.lm.seq2seq import Seq2Seq

Ints: TypeAlias = NDArray[np.integer]
Bools: TypeAlias = NDArray[np.bool_]


class EncoderDecoderSlots:
    """Slots of prompts and responses (see :class:`textgym.lm.decoding.slots.Slots`).

    Args:
        lm: An encoder-decoder.
        reader: Splits texts into prompt and response.
        rows: Number of slots B.
        width: Longest text in tokens.

    Raises:
        ModelError: If the positions of its decoder cannot differ between rows.
    """

    def __init__(self, lm: LanguageModel, reader: Seq2Seq, rows: int, width: int) -> None:
        self.lm, self._reader = lm, reader
        blocks = getattr(reader.decoder, "block", None) or getattr(reader.decoder, "layers", None)
        if not isinstance(blocks, nn.ModuleList):
            raise lm.slot_cache_error("has no stack of decoder layers")
        self._positions = RowPositions(lm, reader.decoder)
        self._width = width + reader.first
        config = copy.deepcopy(reader.decoder.config)
        # The encoder may have another number of layers.
        config.num_hidden_layers = len(blocks)
        self._own = SlotCache(config, rows, self._width, lm.compute_dtype)
        self._cross = [_CrossLayer(rows) for _ in blocks]
        self._cache = EncoderDecoderCache(self._own, Cache(layers=[*self._cross]))
        # The end of the prompt in each slot, on the host and on the device.
        self._host_ends = np.zeros(rows, dtype=np.int64)
        self._ends = torch.zeros(rows, dtype=torch.long, device=lm.device)

    def can_extend(self, known: Ints, lengths: Ints) -> Bools:
        """Only within the response: a new prompt has to be encoded."""
        return known > self._host_ends

    def invalidate(self) -> None:
        """Nothing is derived from the weights alone."""

    def decode(self, tokens: Tensor, positions: Tensor, is_new: Tensor, live: int) -> Tensor:
        """Feed one token to every slot; a repeated token writes the same keys and values."""
        # A slot may be at the first position of a text that is filled afterwards.
        fed, places = self._read(tokens, positions, self._ends)
        live = live - int(self._host_ends.min()) + self._reader.first
        live = max(min(live, self._width), len(self._reader.prefix))
        limit = self._reader.limit
        if limit is not None and live > limit:
            # The shortest prompt and the longest text may be in different rows.
            if int(places.max()) >= limit:
                raise self._reader.too_long("response")
            live = limit
        self._own.decode(places, live)
        for layer in self._cross:
            layer.show(None)
        return self._run(fed[:, None], places[:, None], live, self._ends)[:, 0]

    def fill(
        self, rows: Tensor, tokens: Tensor, lengths: Ints, images: Tensor | None = None
    ) -> Tensor:
        """Prefill the slots ``rows``: encode the prompts, then run the responses."""
        ends = self._reader.ends(tokens)
        with self.lm.autocast():
            encoded, _ = self._reader.encode(tokens, ends)
        read = self._reader.responses(tokens, ends)
        self._own.fill(rows)
        for layer in self._cross:
            layer.rows = rows
        places = torch.arange(read.shape[1], device=read.device)[None]
        hidden = self._run(read.clamp(min=0), places, read.shape[1], ends, encoded)
        self._ends[rows] = ends
        slots, host_ends = rows.cpu().numpy(), ends.cpu().numpy()
        self._host_ends[slots] = host_ends
        return _last(hidden, lengths - 1 - host_ends + self._reader.first)

    def extend(self, rows: Tensor, tokens: Tensor, starts: Ints, lengths: Ints) -> Tensor:
        """Append several tokens to the slots ``rows``."""
        device, count = tokens.device, lengths - starts
        positions = torch.from_numpy(starts[:, None] + np.arange(count.max())).to(device)
        valid = positions < torch.from_numpy(lengths).to(device)[:, None]
        positions = positions.clamp(max=tokens.shape[1] - 1)
        ends = self._ends[rows]
        fed = tokens.gather(1, positions).clamp(min=0)
        fed, places = self._read(fed, positions, ends[:, None])
        responses = lengths - self._host_ends[rows.cpu().numpy()]
        live = int(responses.max()) + self._reader.first
        limit = self._reader.limit
        if limit is not None:
            if live > limit:
                raise self._reader.too_long("response")
            places = places.clamp(max=limit - 1)
        self._own.extend(rows, places, valid, live)
        for layer in self._cross:
            layer.show(rows)
        return _last(self._run(fed, places, live, ends), count - 1)

    def _read(self, tokens: Tensor, positions: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
        """The decoder's tokens and positions for tokens of the texts.

        The last token of the decoder's prefix replaces the end of the prompt.
        """
        places = (positions - ends).clamp(min=0)
        return tokens.masked_fill(places == 0, self._reader.prefix[-1]), places + self._reader.first

    def _run(
        self,
        tokens: Tensor,
        places: Tensor,
        live: int,
        ends: Tensor,
        encoded: Tensor | None = None,
    ) -> Tensor:
        """Run the decoder, with new or with cached prompts.

        Args:
            tokens: ``[n, q]``.
            places: ``[n, q]`` or ``[1, q]``, their positions in the decoder's text.
            live: The decoder's self-attention reads positions below this.
            ends: ``[n]``, the ends of the prompts.
            encoded: ``[n, S, d]``, the encoded prompts; None if they are cached.
        """
        cached = encoded is None
        self._cache.is_updated = dict.fromkeys(range(len(self._cross)), cached)
        if encoded is None:
            # Not read, but cross-attention is skipped without it.
            size = (len(tokens), 0, self.lm.hidden_size)
            encoded = torch.empty(size, dtype=self.lm.compute_dtype, device=tokens.device)
            keys = self._cross[0].keys
            assert keys is not None
            width = keys.shape[2]
        else:
            width = encoded.shape[1]
        own = torch.arange(live, device=tokens.device) > places[..., None]
        cross = torch.arange(width, device=tokens.device) > ends[:, None, None]
        with self.lm.autocast(), self._positions.given(places, live):
            output: Any = self._reader.decoder(
                input_ids=tokens,
                # With four dimensions, transformers uses them instead of building masks.
                attention_mask=self._bias(own),
                encoder_hidden_states=encoded,
                encoder_attention_mask=self._bias(cross),
                past_key_values=self._cache,
                use_cache=True,
            )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def _bias(self, hide: Tensor) -> Tensor:
        """The attention bias ``[n, 1, q, k]``: -inf where masked, else 0."""
        bias = torch.zeros(hide.shape, dtype=self.lm.compute_dtype, device=hide.device)
        return bias.masked_fill_(hide, -torch.inf)[:, None]


class _CrossLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """Keys and values of a layer's cross-attention, ``[slots, heads, S, head_dim]``.

    Attributes:
        rows: The slots of the next update.
    """

    def __init__(self, slots: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._slots = slots
        self._memory: list[Tensor] = []
        self.rows = torch.empty(0, dtype=torch.long)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Grow the memory to prompts of this length."""
        # Never inference tensors: later calls under no_grad must be able to write to them.
        with torch.inference_mode(False):
            memories = []
            for at, states in enumerate((key_states, value_states)):
                size = (self._slots, *states.shape[1:])
                # Zeros, because a masked NaN is still NaN.
                memory = torch.zeros(size, dtype=states.dtype, device=states.device)
                if self._memory:
                    memory[:, :, : self._memory[at].shape[2]] = self._memory[at]
                memories.append(memory)
            self._memory = memories
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Store and return the keys and values of prompts, ``[n, heads, S, head_dim]``."""
        width = key_states.shape[2]
        if not self._memory or width > self._memory[0].shape[2]:
            self.lazy_initialization(key_states, value_states)
        for memory, states in zip(self._memory, (key_states, value_states), strict=True):
            memory[self.rows, :, :width] = states
        return key_states, value_states

    def show(self, rows: Tensor | None) -> None:
        """Select the slots for the next pass; None selects all."""
        shown = self._memory if rows is None else [memory[rows] for memory in self._memory]
        self.keys, self.values = shown

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return -1


def _last(hidden: Tensor, ends: Ints) -> Tensor:
    rows = torch.arange(len(hidden), device=hidden.device)
    return hidden[rows, torch.from_numpy(ends).to(hidden.device)]

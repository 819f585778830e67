"""Decoding an encoder-decoder from slots: the encoder runs once a prompt, not once a token.

What the decoder's cross-attention makes of a prompt lies in static memory, beside the keys and
values of the response (:class:`textgym.lm.decoding.cache.SlotCache`).
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
        reader: How it reads texts.
        rows: Number of slots B.
        width: Longest text in tokens.

    Raises:
        ModelError: If the positions of its decoder cannot be given row by row.
    """

    def __init__(self, lm: LanguageModel, reader: Seq2Seq, rows: int, width: int) -> None:
        self.lm, self._reader = lm, reader
        blocks = getattr(reader.decoder, "block", None) or getattr(reader.decoder, "layers", None)
        if not isinstance(blocks, nn.ModuleList):
            raise lm.no_slots("has no stack of decoder layers")
        self._positions = RowPositions(lm, reader.decoder)
        self._width = width + reader.first
        config = copy.deepcopy(reader.decoder.config)
        # The encoder's may be another number.
        config.num_hidden_layers = len(blocks)
        self._own = SlotCache(config, rows, self._width, lm.compute_dtype)
        self._cross = [_CrossLayer(rows) for _ in blocks]
        self._cache = EncoderDecoderCache(self._own, Cache(layers=[*self._cross]))
        # Where the prompt of each slot ends, on the host and on the device.
        self._host_ends = np.zeros(rows, dtype=np.int64)
        self._ends = torch.zeros(rows, dtype=torch.long, device=lm.device)

    def continues(self, known: Ints, held: Ints) -> Bools:
        """Behind the end of the prompt: a new prompt is encoded anew."""
        return known > self._host_ends

    def forget(self) -> None:
        """Nothing here is derived from the weights alone."""

    def decode(self, tokens: Tensor, positions: Tensor, moving: Tensor, live: int) -> Tensor:
        """Feed one token to every slot; feeding it again writes the same keys and values."""
        # A slot may stand at the first position of a text that it does not hold yet.
        fed, places = self._read(tokens, positions, self._ends)
        live = live - int(self._host_ends.min()) + self._reader.first
        live = max(min(live, self._width), len(self._reader.prefix))
        limit = self._reader.limit
        if limit is not None and live > limit:
            # The longest prompt and the longest response may be in different rows.
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
        """Feed whole texts to the slots ``rows``: the encoder reads the prompts."""
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
        """Tokens of the texts as the decoder reads them, and where in its own text they stand.

        The last token of the prefix stands in for the end of the prompt.
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
        """Run the decoder, with what the encoder has just made of prompts or with what is kept.

        Args:
            tokens: ``[n, q]``.
            places: ``[n, q]`` or ``[1, q]``, where in the decoder's text they stand.
            live: The decoder's own attention sees places below this.
            ends: ``[n]``, where the prompts end.
            encoded: ``[n, S, d]``.
        """
        kept = encoded is None
        self._cache.is_updated = dict.fromkeys(range(len(self._cross)), kept)
        if encoded is None:
            # Not read any more, but without it there would be no cross-attention.
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
                # Four dimensions: transformers takes them as they are, and builds none of its own.
                attention_mask=self._bias(own),
                encoder_hidden_states=encoded,
                encoder_attention_mask=self._bias(cross),
                past_key_values=self._cache,
                use_cache=True,
            )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def _bias(self, hide: Tensor) -> Tensor:
        """What is added to attention scores ``[n, 1, q, k]``: -inf where hidden, else 0."""
        bias = torch.zeros(hide.shape, dtype=self.lm.compute_dtype, device=hide.device)
        return bias.masked_fill_(hide, -torch.inf)[:, None]


class _CrossLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """What a layer's cross-attention made of each slot's prompt, ``[slots, heads, S, head_dim]``.

    Attributes:
        rows: The slots that the next update is for.
    """

    def __init__(self, slots: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._slots = slots
        self._memory: list[Tensor] = []
        self.rows = torch.empty(0, dtype=torch.long)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make room for prompts of this length: no longer one has come yet."""
        # Never inference tensors: later calls under no_grad must be able to write to them.
        with torch.inference_mode(False):
            rooms = []
            for at, states in enumerate((key_states, value_states)):
                size = (self._slots, *states.shape[1:])
                # Zeros, not garbage: a masked NaN is still NaN.
                room = torch.zeros(size, dtype=states.dtype, device=states.device)
                if self._memory:
                    room[:, :, : self._memory[at].shape[2]] = self._memory[at]
                rooms.append(room)
            self._memory = rooms
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Store what was made of some prompts ``[n, heads, S, head_dim]``, and return it."""
        width = key_states.shape[2]
        if not self._memory or width > self._memory[0].shape[2]:
            self.lazy_initialization(key_states, value_states)
        for memory, states in zip(self._memory, (key_states, value_states), strict=True):
            memory[self.rows, :, :width] = states
        return key_states, value_states

    def show(self, rows: Tensor | None) -> None:
        """Let the next pass see some slots, or all."""
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

"""A KV cache with one slot per row, whose rows have different lengths.

The caches of transformers have one length for all rows, so that one row cannot start over while the
others continue. Here the rows and positions of each forward pass are set before it
(:meth:`SlotCache.decode`, :meth:`SlotCache.fill`, :meth:`SlotCache.extend`), in memory that is
allocated once. This is the continuous batching of Orca (Yu et al. 2022) with one slot per row.

Masks are built by :mod:`textgym.lm.decoding.attention`, which runs the model.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import Cache, PreTrainedConfig
from transformers.cache_utils import CacheLayerMixin


class _SlotLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """Keys and values of one layer, ``[slots, heads, length, head_dim]``.

    Attention of one token is bound by reading them, so the positions of a head are contiguous.
    """

    is_compileable = False
    keys: Tensor
    values: Tensor

    def __init__(self, cache: SlotCache) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.cache = cache

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        slots, length = self.cache.slots, self.cache.length
        # Never inference tensors: later calls under no_grad must be able to write to them.
        with torch.inference_mode(False):
            for name, states in (("keys", key_states), ("values", value_states)):
                shape = (slots, states.shape[1], length, states.shape[3])
                # Zeros, because a masked NaN is still NaN.
                memory = torch.zeros(shape, dtype=self.cache.dtype, device=states.device)
                setattr(self, name, memory)
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Store new states ``[n, heads, q, head_dim]``; return those to attend to."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        store = self.cache.store
        return store(self.keys, key_states), store(self.values, value_states)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return self.cache.length


class SlotCache(Cache):
    """A transformers ``Cache`` with preallocated keys and values per slot.

    Before each forward pass, call :meth:`decode`, :meth:`fill` or :meth:`extend`.

    Args:
        config: The model's configuration.
        slots: Number of rows B.
        length: Longest sequence in tokens.
        dtype: Dtype of keys and values.
    """

    def __init__(
        self, config: PreTrainedConfig, slots: int, length: int, dtype: torch.dtype
    ) -> None:
        self.slots = slots
        self.length = length
        self.dtype = dtype
        super().__init__(layers=[_SlotLayer(self) for _ in range(config.num_hidden_layers)])
        self._mode = "fill"
        self._rows = self._positions = self._valid = torch.empty(0, dtype=torch.long)
        self._live = 0
        # Indices that a decode step writes to, by the number of heads of a layer.
        self._places: dict[int, Tensor] = {}

    def decode(self, positions: Tensor, live: int) -> None:
        """The next pass feeds one token to every slot.

        Args:
            positions: ``[slots]``, the position of each token.
            live: Attention reads positions below this; ``max(positions) + 1``.
        """
        self._mode, self._live = "decode", live
        self._rows = torch.arange(self.slots, device=positions.device)
        self._positions = positions
        self._places.clear()

    def fill(self, rows: Tensor) -> None:
        """The next pass is a prefill of the slots ``rows`` ``[n]``, with padding on the right.

        Attention stays within the pass, so causal attention without a mask is enough.
        """
        self._mode, self._rows = "fill", rows

    def extend(self, rows: Tensor, positions: Tensor, valid: Tensor, live: int) -> None:
        """The next pass appends several tokens to the slots ``rows`` ``[n]``.

        Args:
            rows: The slots, ``[n]``.
            positions: ``[n, q]``, the position of each token.
            valid: ``[n, q]``, False at padding, which is not stored.
            live: Attention reads positions below this.
        """
        self._mode, self._rows, self._live = "extend", rows, live
        self._positions, self._valid = positions, valid

    def store(self, memory: Tensor, states: Tensor) -> Tensor:
        """Write states ``[n, heads, q, head_dim]`` to a layer's memory; return those to read."""
        rows, positions = self._rows, self._positions
        # In mixed precision, rotary embeddings return float32.
        states = states.to(memory.dtype)
        if self._mode == "decode":
            heads, size = memory.shape[1], memory.shape[3]
            places = self._places.get(heads)
            if places is None:
                starts = rows[:, None] * heads + torch.arange(heads, device=rows.device)
                places = (starts * self.length + positions[:, None]).view(-1)
                self._places[heads] = places
            memory.view(-1, size).index_copy_(0, places, states.reshape(-1, size))
            return memory[:, :, : self._live]
        if self._mode == "fill":
            # Padding is stored too, and overwritten before it is read.
            memory[rows, :, : states.shape[2]] = states
            return states
        valid = self._valid
        repeated = rows[:, None].expand_as(positions)[valid]
        memory[repeated, :, positions[valid]] = states.transpose(1, 2)[valid]
        return memory[rows, :, : self._live]

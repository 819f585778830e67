"""The cache of a recurrent model: states of fixed size per row.

The states of state-space models (Mamba, Mamba 2, Falcon-Mamba) and of the LSTM of
:mod:`textgym.lm.lstm` are the last inputs of a convolution and the hidden states of the recurrence.
They cannot be rewound, and padding would change them, so a text that does not continue the cached
one is read from the start, in a batch of texts of the same length.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import Cache, DynamicCache

from textgym.lm.model import LanguageModel

Ints: TypeAlias = NDArray[np.integer]
Bools: TypeAlias = NDArray[np.bool_]


class StateSlots:
    """Slots of recurrent states (see :class:`textgym.lm.decoding.slots.Slots`).

    Args:
        lm: A model whose layers are all recurrent.
        rows: Number of slots B.

    Raises:
        ModelError: If the model does not keep its states in a transformers ``Cache``.
    """

    def __init__(self, lm: LanguageModel, rows: int) -> None:
        self.lm = lm
        self._rows = rows
        parameters = inspect.signature(lm.body.forward).parameters
        names = [name for name in ("cache_params", "past_key_values") if name in parameters]
        if not names:
            raise lm.slot_cache_error("does not keep its states in a transformers Cache")
        self._argument = names[0]
        # The states of all slots, and the hidden state after each text.
        self._memory: Cache | None = None
        self._hidden: Tensor | None = None

    def can_extend(self, known: Ints, lengths: Ints) -> Bools:
        """Only from the end of the text: states cannot be rewound."""
        result: Bools = (known == lengths) & (lengths > 0)
        return result

    def invalidate(self) -> None:
        """Nothing is derived from the weights alone."""

    def decode(self, tokens: Tensor, positions: Tensor, is_new: Tensor, live: int) -> Tensor:
        """Feed the new tokens; a repeated token would change the state."""
        memory, hidden = self._memory, self._hidden
        assert memory is not None
        assert hidden is not None
        rows = is_new.nonzero()[:, 0]
        if len(rows) == self._rows:
            hidden.copy_(self._body(tokens[:, None], memory))
        elif len(rows):
            # At least as fast as running all slots and restoring the states of the others.
            self._feed(rows, tokens[rows])
        return hidden

    def fill(
        self, rows: Tensor, tokens: Tensor, lengths: Ints, images: Tensor | None = None
    ) -> Tensor:
        """Prefill the slots ``rows``, texts of one length at a time."""
        for length in np.unique(lengths).tolist():
            chosen = torch.from_numpy(np.flatnonzero(lengths == length)).to(rows.device)
            cache = DynamicCache(config=self.lm.model.config)
            hidden = self._body(tokens[chosen, :length], cache)
            self._store(rows[chosen], cache, hidden)
        assert self._hidden is not None
        return self._hidden[rows]

    def extend(self, rows: Tensor, tokens: Tensor, starts: Ints, lengths: Ints) -> Tensor:
        """Append several tokens to the slots ``rows``, one at a time.

        Not every recurrence can process several tokens from a state (Mamba's scan starts at zero).
        """
        assert self._hidden is not None
        for step in range(int((lengths - starts).max())):
            going = np.flatnonzero(lengths - starts > step)
            chosen = torch.from_numpy(going).to(rows.device)
            places = torch.from_numpy(starts[going] + step).to(rows.device)
            self._feed(rows[chosen], tokens[chosen, places])
        return self._hidden[rows]

    def _feed(self, rows: Tensor, tokens: Tensor) -> None:
        """Feed one token to each of some slots."""
        assert self._memory is not None
        cache = _mapped(self._memory, partial(torch.index_select, dim=0, index=rows))
        self._store(rows, cache, self._body(tokens[:, None], cache))

    def _body(self, tokens: Tensor, cache: Cache) -> Tensor:
        """Run tokens ``[n, q]`` from the states in a cache; the last hidden states ``[n, d]``."""
        with self.lm.autocast():
            states = {self._argument: cache}
            output: Any = self.lm.body(input_ids=tokens, use_cache=True, **states)
        return cast(Tensor, output.last_hidden_state[:, -1])

    def _store(self, rows: Tensor, cache: Cache, hidden: Tensor) -> None:
        """Copy the states of a cache to the slots ``rows``."""
        if self._memory is None or self._hidden is None:
            # Never inference tensors: later calls under no_grad must be able to write to them.
            with torch.inference_mode(False):
                self._memory = _mapped(cache, self._allocate)
                self._hidden = self._allocate(hidden)
        self._hidden[rows] = hidden
        for slots, states in zip(_states(self._memory), _states(cache), strict=True):
            slots[rows] = states

    def _allocate(self, like: Tensor) -> Tensor:
        size = (self._rows, *like.shape[1:])
        return torch.zeros(size, dtype=like.dtype, device=like.device)


def _states(cache: Cache) -> list[Tensor]:
    """All states in a cache, ``[n, ...]`` each."""
    layers: list[Any] = cache.layers
    kinds = (kind for layer in layers for kind in (layer.conv_states, layer.recurrent_states))
    return [state for kind in kinds for state in kind.values() if state is not None]


def _mapped(cache: Cache, change: Callable[[Tensor], Tensor]) -> Cache:
    """A copy of a cache with a function applied to its states."""

    def mapped(states: dict[int, Tensor | None]) -> dict[int, Tensor | None]:
        return {at: None if state is None else change(state) for at, state in states.items()}

    layers: list[Any] = [copy.copy(layer) for layer in cache.layers]
    for layer in layers:
        layer.conv_states = mapped(layer.conv_states)
        layer.recurrent_states = mapped(layer.recurrent_states)
    twin = copy.copy(cache)
    twin.layers = layers
    return twin

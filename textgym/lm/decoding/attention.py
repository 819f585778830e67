"""The cache of a Transformer decoder: keys and values of every position, in static memory.

Layers may have full or sliding-window attention. On a GPU a decode step is about a thousand
kernels, each shorter than its launch, so it is captured as a CUDA graph and replayed
(:class:`textgym.lm.decoding.graphs.StepGraphs`).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from textgym.lm.decoding.cache import SlotCache
from textgym.lm.decoding.direct import direct_pass
from textgym.lm.decoding.graphs import StepGraphs
from textgym.lm.model import LanguageModel

Ints: TypeAlias = NDArray[np.integer]
Bools: TypeAlias = NDArray[np.bool_]

FULL, SLIDING = "full_attention", "sliding_attention"
# On a GPU the live length is rounded up to a multiple of this, with one CUDA graph for each.
_LIVE_STEP = 64


class AttentionSlots:
    """Slots of keys and values (see :class:`textgym.lm.decoding.slots.Slots`).

    Args:
        lm: A decoder with full or sliding-window attention.
        rows: Number of slots B.
        width: Longest text in tokens.

    Raises:
        ModelError: If the architecture needs more than keys and values per slot.
    """

    def __init__(self, lm: LanguageModel, rows: int, width: int) -> None:
        self.lm = lm
        self._kinds = attention_kinds(lm, width)
        self._window = int(getattr(lm.model.config, "sliding_window", None) or width)
        # A picture's embeddings come first in a slot.
        self._prefix = lm.prefix
        self._cache = SlotCache(lm.model.config, rows, width + lm.prefix, lm.compute_dtype)
        self._direct = direct_pass(lm.body)
        self._width = width
        rope = getattr(lm.model.config, "rope_parameters", None) or {}
        # These need the largest position on the host in every step.
        on_host = rope.get("rope_type") in ("dynamic", "longrope")
        on_gpu = lm.device.type == "cuda" and not on_host
        self._graphs = StepGraphs(self._step) if on_gpu else None

    def can_extend(self, known: Ints, lengths: Ints) -> Bools:
        """Always: attention is limited to the positions before a token."""
        return np.ones(len(known), dtype=bool)

    def invalidate(self) -> None:
        """Drop the transposed weights."""
        if self._direct is not None:
            self._direct.invalidate()

    def decode(self, tokens: Tensor, positions: Tensor, is_new: Tensor, live: int) -> Tensor:
        """Feed one token to every slot; a repeated token writes the same keys and values."""
        if self._graphs is None:
            # At equal lengths no mask is needed. On a GPU the test would cost more than the mask.
            even = self._kinds == [FULL] and bool((positions == live - 1).all())
            return self._step(tokens, positions, live, even)
        live = min(-(-live // _LIVE_STEP) * _LIVE_STEP, self._width)
        return self._graphs(tokens, positions, live)

    def fill(
        self, rows: Tensor, tokens: Tensor, lengths: Ints, images: Tensor | None = None
    ) -> Tensor:
        """Prefill the slots ``rows`` with texts, and the pictures before them."""
        self._cache.fill(rows)
        if images is not None:
            return self._fill_with_images(tokens, lengths, images)
        live = tokens.shape[1]
        positions = torch.arange(live, device=tokens.device)[None]
        # Up to the window's length, causal attention is the same.
        windowed = SLIDING in self._kinds and live > self._window
        bias = self._bias(positions, live) if windowed else None
        return self._last(self._body(tokens.clamp(min=0), positions, bias), lengths - 1)

    def _fill_with_images(self, tokens: Tensor, lengths: Ints, images: Tensor) -> Tensor:
        """Prefill with pictures and texts, by transformers' own forward pass."""
        live = self._prefix + tokens.shape[1]
        places = torch.arange(live, device=tokens.device)[None]
        with self.lm.autocast():
            output: Any = self.lm.body(
                **self.lm.embed(tokens, images),
                attention_mask=self._bias(places, live),
                past_key_values=self._cache,
                use_cache=True,
            )
        return self._last(output.last_hidden_state, self._prefix + lengths - 1)

    def extend(self, rows: Tensor, tokens: Tensor, starts: Ints, lengths: Ints) -> Tensor:
        """Append several tokens to the slots ``rows``."""
        device, count = tokens.device, lengths - starts
        places = torch.from_numpy(starts[:, None] + np.arange(count.max())).to(device)
        valid = places < torch.from_numpy(lengths).to(device)[:, None]
        places = places.clamp(max=tokens.shape[1] - 1)
        fed = tokens.gather(1, places).clamp(min=0)
        live = self._prefix + tokens.shape[1]
        slots = self._prefix + places
        self._cache.extend(rows, slots, valid, live)
        return self._last(self._body(fed, places, self._bias(slots, live)), count - 1)

    def _step(self, tokens: Tensor, positions: Tensor, live: int, even: bool = False) -> Tensor:
        """One token per slot, on the device alone; shapes depend only on ``live``."""
        live += self._prefix
        slots = positions + self._prefix
        self._cache.decode(slots, live)
        bias = None if even else self._bias(slots[:, None], live)
        return self._body(tokens[:, None], positions[:, None], bias)[:, 0]

    def _body(self, tokens: Tensor, positions: Tensor, bias: Any) -> Tensor:
        with self.lm.autocast():
            if self._direct is not None and self._direct.applies():
                run = self._direct.step if tokens.shape[1] == 1 else self._direct
                return run(tokens, positions, bias, self._cache)
            output: Any = self.lm.body(
                input_ids=tokens,
                position_ids=positions,
                # With four dimensions, transformers uses it instead of building a mask.
                attention_mask=bias,
                past_key_values=self._cache,
                use_cache=True,
            )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def _last(self, hidden: Tensor, ends: Ints) -> Tensor:
        rows = torch.arange(len(hidden), device=hidden.device)
        return hidden[rows, torch.from_numpy(ends).to(hidden.device)]

    def _bias(self, positions: Tensor, live: int) -> Tensor | dict[str, Tensor]:
        """The attention bias ``[n, 1, q, live]``: -inf where masked, else 0.

        A dictionary with one for each kind of layer, if there are several.
        """
        distance = positions[..., None] - torch.arange(live, device=positions.device)
        biases = {}
        for kind in self._kinds:
            hide = distance < 0
            if kind == SLIDING:
                hide |= distance >= self._window
            bias = torch.zeros(hide.shape, dtype=self.lm.compute_dtype, device=hide.device)
            biases[kind] = bias.masked_fill_(hide, -torch.inf)[:, None]
        return biases if len(biases) > 1 else biases[self._kinds[0]]


def attention_kinds(lm: LanguageModel, width: int) -> list[str]:
    """The kinds of attention in a decoder's layers.

    Args:
        lm: The language model.
        width: Longest sequence in tokens.

    Raises:
        ModelError: If the architecture needs more than keys and values per slot.
    """
    config = lm.model.config
    layers = {type(layer) for layer in DynamicCache(config=config).layers}
    others = layers - {DynamicLayer, DynamicSlidingWindowLayer}
    declared = set(getattr(config, "layer_types", None) or [])
    kinds = declared or {SLIDING if DynamicSlidingWindowLayer in layers else FULL}
    if others or kinds - {FULL, SLIDING}:
        what = sorted(kinds - {FULL, SLIDING}) or sorted(kind.__name__ for kind in others)
        raise lm.slot_cache_error(f"has layers of type {', '.join(what)}")
    if not getattr(config, "num_attention_heads", None) or not hasattr(config, "num_hidden_layers"):
        raise lm.slot_cache_error("is not a stack of attention layers")
    if getattr(config, "add_cross_attention", False):
        raise lm.slot_cache_error("has cross-attention")
    rope = getattr(config, "rope_parameters", None) or {}
    limit = getattr(config, "max_position_embeddings", width)
    original = rope.get("original_max_position_embeddings") or limit
    if rope.get("rope_type") in ("dynamic", "longrope") and width > original:
        raise lm.slot_cache_error(f"changes its position encoding beyond {original} tokens")
    if not lm.takes_positions:
        raise lm.slot_cache_error(
            "takes no position_ids, so its rows cannot have different lengths"
        )
    return sorted(kinds)

"""Positions row by row, for decoders that know one position for all rows of a batch.

Slots stand at different positions. Decoders take these as ``position_ids``, but those of
encoder-decoders count them themselves, alike in all rows. So the part of a decoder that makes
something of positions is replaced, for the length of a pass and in this one model, by something
that knows each row's own.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from textgym.lm.model import LanguageModel


class RowPositions:
    """Gives each row of a decoder's batch positions of its own.

    Args:
        lm: The language model.
        decoder: Its decoder: with relative position biases (T5) or embedded positions (BART).

    Raises:
        ModelError: If the decoder numbers its positions in another way.
    """

    def __init__(self, lm: LanguageModel, decoder: nn.Module) -> None:
        self._biased: list[Any] = [
            module
            for module in decoder.modules()
            if getattr(module, "has_relative_attention_bias", False)
            and hasattr(module, "compute_bias")
        ]
        embedding = getattr(decoder, "embed_positions", None)
        self._embedding: Any = embedding
        embeds = isinstance(embedding, nn.Module) and (
            "position_ids" in inspect.signature(embedding.forward).parameters
        )
        if embeds == bool(self._biased):
            raise lm.no_slots("numbers the positions of its decoder in a way of its own")

    @contextmanager
    def given(self, places: Tensor, live: int) -> Iterator[None]:
        """For the length of one pass, tokens stand at ``places`` ``[n, q]``, keys at 0 to live."""
        replaced: list[tuple[Any, str, Any]]
        if self._biased:
            replaced = [
                (module, "compute_bias", _RowBias(module.compute_bias, places, live))
                for module in self._biased
            ]
        else:
            embed = _RowEmbedding(self._embedding.forward, places)
            replaced = [(self._embedding, "forward", embed)]
        # In the instances alone, and gone afterwards: nobody else ever sees them.
        before = [module.__dict__.get(name) for module, name, _ in replaced]
        for module, name, function in replaced:
            setattr(module, name, function)
        try:
            yield
        finally:
            for (module, name, _), old in zip(replaced, before, strict=True):
                delattr(module, name)
                if old is not None:
                    setattr(module, name, old)


class _RowBias:
    """T5's bias of attention scores, ``[n, heads, q, live]``: it depends on the distance alone."""

    def __init__(self, original: Any, places: Tensor, live: int) -> None:
        self._original, self._places, self._live = original, places, live

    def __call__(self, *args: object, device: Any = None, **kwargs: object) -> Tensor:
        live = self._live
        # A single query at the end meets every distance; the largest one comes first.
        by_distance = self._original(1, live, device=device, past_seen_tokens=live - 1)[0, :, 0]
        keys = torch.arange(live, device=by_distance.device)
        at = (live - 1 - self._places[..., None] + keys).clamp(max=live - 1)
        bias: Tensor = by_distance[:, at].transpose(0, 1)
        return bias


class _RowEmbedding:
    """BART's embedding of positions, ``[n, q, d]``."""

    def __init__(self, original: Any, places: Tensor) -> None:
        self._original, self._places = original, places

    def __call__(self, inputs: Any, *args: object, **kwargs: object) -> Tensor:
        embedded: Tensor = self._original(inputs, position_ids=self._places.reshape(-1))
        return embedded.view(*self._places.shape, -1)

"""Positions per row, for decoders whose rows share their positions.

Slots are at different positions. Most decoders take ``position_ids``, but those of encoder-decoders
count positions themselves, the same for all rows. So the module that uses positions is patched for
the duration of a forward pass, in this model alone.
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
    """Gives the rows of a decoder's batch different positions.

    Args:
        lm: The language model.
        decoder: Its decoder, with relative position biases (T5) or embedded positions (BART).

    Raises:
        ModelError: If the decoder encodes positions in another way.
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
            raise lm.slot_cache_error("has no position biases or embeddings in its decoder")

    @contextmanager
    def given(self, places: Tensor, live: int) -> Iterator[None]:
        """Set the tokens' positions to ``places`` ``[n, q]`` for one pass; keys are 0 to live."""
        replaced: list[tuple[Any, str, Any]]
        if self._biased:
            replaced = [
                (module, "compute_bias", _RowBias(module.compute_bias, places, live))
                for module in self._biased
            ]
        else:
            embed = _RowEmbedding(self._embedding.forward, places)
            replaced = [(self._embedding, "forward", embed)]
        # Set on the instances, and removed afterwards.
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
    """T5's attention bias ``[n, heads, q, live]``, a function of the distance."""

    def __init__(self, original: Any, places: Tensor, live: int) -> None:
        self._original, self._places, self._live = original, places, live

    def __call__(self, *args: object, device: Any = None, **kwargs: object) -> Tensor:
        live = self._live
        # The biases of one query at the end cover all distances, the largest first.
        by_distance = self._original(1, live, device=device, past_seen_tokens=live - 1)[0, :, 0]
        keys = torch.arange(live, device=by_distance.device)
        at = (live - 1 - self._places[..., None] + keys).clamp(max=live - 1)
        bias: Tensor = by_distance[:, at].transpose(0, 1)
        return bias


class _RowEmbedding:
    """BART's position embeddings, ``[n, q, d]``."""

    def __init__(self, original: Any, places: Tensor) -> None:
        self._original, self._places = original, places

    def __call__(self, inputs: Any, *args: object, **kwargs: object) -> Tensor:
        embedded: Tensor = self._original(inputs, position_ids=self._places.reshape(-1))
        return embedded.view(*self._places.shape, -1)

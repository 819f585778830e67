"""Have the weights of a module changed? The question that every cache of activations must ask.

Version counters miss writes through ``.data``, numpy views and fused optimizers, so the answer
comes from the content: a random projection of every tensor, which costs one pass over the weights
(some 5 % of a decode step at 64 rows) and sees any change that could matter to the result.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class WeightWatch:
    """Detects changes of a module's parameters and buffers, in place or by replacement.

    Args:
        module: What to watch.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._registry: list[tuple[Mapping[str, object], str, object]] = []
        self._tensors: list[Tensor] = []
        self._pointers: list[int] = []
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._print: Tensor | None = None

    @torch.no_grad()
    def changed(self) -> bool:
        """Whether anything changed since the last call; True on the first."""
        same = all(owner.get(key) is value for owner, key, value in self._registry)
        same = same and [tensor.data_ptr() for tensor in self._tensors] == self._pointers
        if not same or self._print is None:
            self._look_up()
        now = torch.cat([torch.mv(t.reshape(-1, len(w)).float(), w) for t, w in self._pairs])
        before, self._print = self._print, now
        return not same or before is None or not torch.equal(before, now)

    def _look_up(self) -> None:
        """List the tensors, and where they are registered: modules can be swapped."""
        self._registry = [
            (registry, key, value)
            for module in self.module.modules()
            for registry in (module._parameters, module._buffers, module._modules)
            for key, value in registry.items()
        ]
        tensors = [*self.module.parameters(), *self.module.buffers()]
        self._tensors = [tensor for tensor in tensors if tensor.numel()]
        self._pointers = [tensor.data_ptr() for tensor in self._tensors]
        generator = torch.Generator().manual_seed(0)
        weights: dict[tuple[int, torch.device], Tensor] = {}
        self._pairs = []
        with torch.inference_mode(False):
            for tensor in self._tensors:
                # One number a row of a matrix, so that swapped rows show too.
                columns = tensor.numel() // (tensor.shape[0] if tensor.dim() > 1 else 1)
                key = (columns, tensor.device)
                if key not in weights:
                    # Away from 0: no column may be ignored.
                    weights[key] = (torch.rand(columns, generator=generator) + 0.5).to(key[1])
                self._pairs.append((tensor, weights[key]))
        self._print = None

"""Have the weights of a module changed? The question that every cache of activations must ask.

Version counters miss writes through ``.data`` and numpy views, and reading all weights at every
step would cost as much as the step itself does for few rows. So three answers are combined:

* for certain, at once: in-place operations, ``load_state_dict``, replaced tensors or modules, hooks
  that come or go, and every step of a torch optimizer (fused ones do not count versions);
* at once unless it is confined to a few elements: a write behind torch's back, because some
  elements of every tensor are compared by value;
* within :data:`WeightWatch.ROUNDS` calls: any such write at all, because each call also compares a
  projection of the next part of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

# Elements of each tensor that every call compares.
_SAMPLES = 32
# Elements of a part.
_PART = 2**16


class _OptimizerSteps:
    """Counts the steps of all torch optimizers in this process."""

    def __init__(self) -> None:
        self.count = 0
        register_optimizer_step_post_hook(self._step)

    def _step(self, *_: Any) -> None:
        self.count += 1


_STEPS = _OptimizerSteps()


class WeightWatch:
    """Detects changes of a module's parameters and buffers, in place or by replacement.

    Args:
        module: What to watch.

    Attributes:
        ROUNDS: Calls after which every element was compared.
        moved: Whether the last change put tensors elsewhere in memory.
    """

    ROUNDS = 64

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.moved = True
        self._registry: list[tuple[Mapping[str, object], str, object]] = []
        self._tensors: list[Tensor] = []
        self._hooks: list[Mapping[int, object]] = []
        self._hooked: list[int] = []
        self._counts: tuple[int, list[tuple[int, int]]] | None = None
        self._views: list[list[Tensor]] = []
        self._samples: list[Tensor] = []
        self._parts: list[Tensor] = []
        self._prints: list[Tensor] = []
        self._next = 0

    @torch.no_grad()
    def changed(self) -> bool:
        """Whether anything changed since the last call; True on the first."""
        known = all(owner.get(key) is value for owner, key, value in self._registry)
        known = known and self._counts is not None
        hooked = [key for hooks in self._hooks for key in hooks]
        same = known and hooked == self._hooked
        if same and self._count() == self._counts and self._compare():
            return False
        self._hooked = hooked
        self.moved = not (known and self._same_places())
        if self.moved:
            self._look_up()
        self._counts = self._count()
        self._samples = [torch.cat(views) for views in self._views]
        self._prints = [self._project(part) for part in self._parts]
        self._next = 0
        return True

    def _count(self) -> tuple[int, list[tuple[int, int]]]:
        """What torch itself knows of changes: optimizer steps, places and versions of tensors."""
        versions = [
            (tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version)
            for tensor in self._tensors
        ]
        # An optimizer changes nothing that needs no gradient: a frozen model beside other training.
        trains = any(tensor.requires_grad for tensor in self._tensors)
        return _STEPS.count if trains else 0, versions

    def _same_places(self) -> bool:
        """Whether the tensors are where the views of them point to."""
        assert self._counts is not None
        return [place for place, _ in self._counts[1]] == [t.data_ptr() for t in self._tensors]

    def _compare(self) -> bool:
        """Whether the samples and the next parts are what they were."""
        same = all(
            torch.equal(torch.cat(views), before)
            for views, before in zip(self._views, self._samples, strict=True)
        )
        count = -(-len(self._parts) // self.ROUNDS)
        for at in range(self._next, min(self._next + count, len(self._parts))):
            same = same and torch.equal(self._project(self._parts[at]), self._prints[at])
        self._next = self._next + count if self._next + count < len(self._parts) else 0
        return same

    def _project(self, part: Tensor) -> Tensor:
        """One number that depends on every element of a part."""
        weights = self._weights[part.device]
        return torch.dot(part.float(), weights[: len(part)])

    def _look_up(self) -> None:
        """List the tensors, and where they are registered: modules can be swapped."""
        self._registry = [
            (registry, key, value)
            for module in self.module.modules()
            for registry in (module._parameters, module._buffers, module._modules)
            for key, value in registry.items()
        ]
        modules = list(self.module.modules())
        # What they do to a module's results is none of the weights' doing, but as good as that.
        self._hooks = [m._forward_hooks for m in modules] + [m._forward_pre_hooks for m in modules]
        self._hooked = [key for hooks in self._hooks for key in hooks]
        tensors = [*self.module.parameters(), *self.module.buffers()]
        self._tensors = [tensor for tensor in tensors if tensor.numel()]
        generator = torch.Generator().manual_seed(0)
        # Away from 0: no element may be ignored.
        weights = torch.rand(_PART, generator=generator) + 0.5
        self._weights = {device: weights.to(device) for device in {t.device for t in self._tensors}}
        kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        self._parts = []
        for tensor in self._tensors:
            flat = tensor.detach().view(-1) if tensor.is_contiguous() else _as_flat(tensor.detach())
            # Odd, so that the samples of a matrix are not all of one column.
            stride = len(flat) // _SAMPLES | 1
            kinds.setdefault((tensor.dtype, tensor.device), []).append(flat[stride // 2 :: stride])
            self._parts += [flat[at : at + _PART] for at in range(0, len(flat), _PART)]
        self._views = list(kinds.values())


def _as_flat(tensor: Tensor) -> Tensor:
    """A one-dimensional view of a dense tensor in the order of its memory.

    Raises:
        RuntimeError: If elements share memory or have gaps between them.
    """
    order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
    return tensor.permute(order).view(-1)

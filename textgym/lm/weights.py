"""Have the weights of a module changed, and are two models' weights the same?"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

# Elements of each tensor that WeightWatch compares by value.
_COMPARED = 32
# Elements of each parameter that weights_hash reads.
_HASHED = 4096

_optimizer_steps = 0


def _count_step(*_: Any) -> None:
    global _optimizer_steps
    _optimizer_steps += 1


# Fused optimizers do not increment version counters.
register_optimizer_step_post_hook(_count_step)


class WeightWatch:
    """Detects changes of a module's parameters, buffers, submodules and forward hooks.

    Version counters cover in-place operations and ``load_state_dict``, a hook covers the steps of
    all torch optimizers, and identities cover replaced tensors and modules. Writes through
    ``.data`` or a numpy view bypass all of these. They are detected if they change one of the 32 or
    more elements of each tensor that are compared by value, as a write to a whole tensor does.
    After a hidden write to a few elements of a large tensor, call
    :meth:`textgym.lm.MemoDecoder.invalidate`.

    Args:
        module: The module to watch.

    Attributes:
        moved: Whether the last change put tensors elsewhere in memory.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.moved = True
        # Where each parameter, buffer and submodule is registered: faster than walking the modules.
        self._entries: list[tuple[Mapping[str, object], str, object]] = []
        self._hooks: list[Mapping[int, object]] = []
        self._tensors: list[Tensor] = []
        self._views: list[list[Tensor]] = []
        self._last: tuple[list[int], list[int], list[int]] | None = None
        self._values: list[Tensor] = []

    @torch.no_grad()
    def changed(self) -> bool:
        """Whether anything changed since the last call; True on the first."""
        in_place = self._last is not None and all(
            owner.get(key) is value for owner, key, value in self._entries
        )
        now = self._state() if in_place else None
        if now is not None and now == self._last and self._same_values():
            return False
        self.moved = now is None or self._last is None or now[0] != self._last[0]
        if self.moved:
            self._register()
        self._last = self._state()
        self._values = [torch.cat(views) for views in self._views]
        return True

    def _state(self) -> tuple[list[int], list[int], list[int]]:
        """Addresses of the tensors, their versions with the optimizer steps, and the hooks."""
        addresses = [tensor.data_ptr() for tensor in self._tensors]
        versions = [0 if tensor.is_inference() else tensor._version for tensor in self._tensors]
        # The steps of an optimizer of other weights do not change a frozen module.
        if any(tensor.requires_grad for tensor in self._tensors):
            versions.append(_optimizer_steps)
        return addresses, versions, [key for hooks in self._hooks for key in hooks]

    def _same_values(self) -> bool:
        return all(
            torch.equal(torch.cat(views), before)
            for views, before in zip(self._views, self._values, strict=True)
        )

    def _register(self) -> None:
        """List the tensors, their places in the modules, and views of the compared elements."""
        modules = list(self.module.modules())
        self._entries = [
            (registry, key, value)
            for module in modules
            for registry in (module._parameters, module._buffers, module._modules)
            for key, value in registry.items()
        ]
        self._hooks = [m._forward_hooks for m in modules] + [m._forward_pre_hooks for m in modules]
        tensors = [*self.module.parameters(), *self.module.buffers()]
        self._tensors = [tensor for tensor in tensors if tensor.numel()]
        # torch.cat needs one dtype and device.
        kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for tensor in self._tensors:
            # A one-dimensional view in the order of memory, whatever the layout.
            order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
            flat = tensor.detach().permute(order).view(-1)
            # An odd stride, so that the elements of a matrix are not all of one column.
            stride = len(flat) // _COMPARED | 1
            kinds.setdefault((tensor.dtype, tensor.device), []).append(flat[stride // 2 :: stride])
        self._views = list(kinds.values())


def weights_hash(model: nn.Module) -> str:
    """A hash of a model's weights, independent of where they were loaded from.

    It covers the name, the shape and some values of each parameter. Values are rounded to bfloat16,
    so that the hash is the same on devices that compute in bfloat16 and in float32.
    """
    return f"weights {tensors_hash(dict(model.named_parameters()))}"


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """The hash of `weights_hash` for tensors by name, 12 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, weight in tensors.items():
        values = weight.detach().reshape(-1)
        values = values[:: max(1, len(values) // _HASHED)]
        values = values.to("cpu", torch.bfloat16)
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(values.contiguous().view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:12]

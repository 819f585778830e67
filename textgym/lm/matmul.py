"""Products with wide float32 matrices on processors where MKL is slow at them.

For linear layers, torch calls MKL, which packs the matrix into another layout at each call. That is
most of the time where the matrix is wide and the rows are few, as in a language model's head. On
processors other than Intel's, oneDNN, which torch has as well, is faster at such shapes: 57 to 99
instead of 88 to 187 ms for 768 x 50,257 and 16 to 64 rows on an AMD EPYC. The choice depends on the
processor and the shape alone, so that results on one machine stay the same from run to run.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

# Elements of a matrix from which it does not stay in the processor's cache (16 MB).
_LARGE = 2**22


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``functional.linear``, by oneDNN where that is faster; differentiable twice.

    Args:
        x: ``[..., in]``.
        weight: ``[out, in]``.
        bias: ``[out]``, or None.

    Returns:
        ``[..., out]``.
    """
    if weight.numel() < _LARGE or not _is_wide(weight, x):
        return functional.linear(x, weight, bias)
    out = cast(Tensor, _Linear.apply(x.flatten(0, -2), weight))  # type: ignore[no-untyped-call]
    out = out.view(*x.shape[:-1], len(weight))
    return out if bias is None else out + bias


def _is_wide(weight: Tensor, x: Tensor) -> bool:
    out, inner = weight.shape
    return (
        out >= 2 * inner
        and weight.dtype == x.dtype == torch.float32
        and weight.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and _prefers_onednn()
    )


class _Linear(torch.autograd.Function):
    """A product whose forward pass oneDNN computes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _onednn(x, weight, None)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        (grad,) = grads
        of_x = grad @ weight if ctx.needs_input_grad[0] else None
        of_weight = grad.t() @ x if ctx.needs_input_grad[1] else None
        return of_x, of_weight


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return cast(Tensor, torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], ""))


@cache
def _prefers_onednn() -> bool:
    """Whether torch has both libraries, and the processor is not Intel's."""
    backends: Any = torch.backends
    if not (backends.mkl.is_available() and backends.mkldnn.is_available()):
        return False
    operators = torch.ops.mkldnn
    return hasattr(operators, "_linear_pointwise") and "intel" not in _vendor()


def _vendor() -> str:
    """The processor's vendor in lower case; empty if it is not known."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor().lower()
    return next((line.lower() for line in lines if line.startswith("vendor_id")), "")

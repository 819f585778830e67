"""A name for a model's weights, by which a checkpoint knows them again."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

# Values of each parameter that tell it from another one.
_SAMPLES = 4096


def weights_hash(model: nn.Module) -> str:
    """A name for a model's weights, wherever they came from and whatever holds them.

    It is made of some values of each parameter, rounded to bfloat16: the same on a device that has
    it and on one that computes in float32.
    """
    digest = hashlib.sha256()
    for name, weight in model.named_parameters():
        values = weight.detach().reshape(-1)
        values = values[:: max(1, len(values) // _SAMPLES)]
        values = values.to("cpu", torch.bfloat16)
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(values.contiguous().view(torch.int16).numpy().tobytes())
    return f"weights {digest.hexdigest()[:12]}"

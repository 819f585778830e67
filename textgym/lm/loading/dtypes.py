"""Floating-point dtypes by name, and their support on a device."""

from __future__ import annotations

import torch

from textgym.errors import SettingsError


def as_dtype(name: str) -> torch.dtype:
    """The torch dtype of a name.

    Raises:
        SettingsError: If it is not the name of a floating-point dtype.
    """
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise SettingsError(f"dtype={name!r} must be 'auto', 'float32', 'bfloat16' or 'float16'")
    return dtype


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device is a GPU with native bfloat16."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)

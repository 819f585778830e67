"""Floating-point dtypes by name, and their support on a device."""

from __future__ import annotations

from typing import Any

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


def is_fast_in_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies matrices faster in bfloat16 than in float32.

    A GPU with native bfloat16 does, and a processor with instructions for it (AVX512-BF16 or
    AMX-BF16). By these, not by a measurement, so that a machine always chooses the same.
    """
    if device.type == "cpu":
        known: Any = torch.cpu
        found = known.get_capabilities() if hasattr(known, "get_capabilities") else {}
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    return has_bfloat16(device)

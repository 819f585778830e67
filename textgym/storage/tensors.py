"""Named tensors in a safetensors file, written atomically and verified by a digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from textgym.errors import StorageError
from textgym.storage.digest import (
    KEY,
    MAX_HEADER,
    damaged,
    encode_header,
    set_digest,
    verify,
)
from textgym.storage.files import replacing

# The format's names of torch's dtypes.
_DTYPES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.float32: "F32",
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float64: "F64",
    torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors atomically, with a SHA-256 of the file (:mod:`textgym.storage.digest`).

    Tensors are written one by one, without a copy of all of them in memory.

    Args:
        path: The file, in an existing folder.
        tensors: Tensors of any shape and device.
        metadata: Further strings to store.

    Raises:
        StorageError: If the file cannot be written; the old one is then intact.
        ValueError: If the format does not support a dtype or the size of the metadata.
    """
    entries = {}
    offset = 0
    # Wide dtypes first, so that each tensor starts at a multiple of its element size.
    order = sorted(tensors, key=lambda name: -tensors[name].element_size())
    for name in order:
        tensor = tensors[name]
        if tensor.dtype not in _DTYPES:
            raise ValueError(f"the tensor {name!r} has the dtype {tensor.dtype}")
        end = offset + tensor.numel() * tensor.element_size()
        entries[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    first = encode_header(entries, dict(metadata or {}))
    if len(first) > MAX_HEADER:
        raise ValueError(f"the header would have {len(first):,} bytes, more than {MAX_HEADER:,}")
    with replacing(Path(path)) as file:
        digest = hashlib.sha256(first)
        file.write(first)
        for name in order:
            plain = tensors[name].detach().cpu().contiguous().reshape(-1)
            if plain.numel():
                data = plain.view(torch.uint8).numpy().data
                digest.update(data)
                file.write(data)
        set_digest(file, first, digest.hexdigest())


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file, from :func:`write_tensors` or other software.

    Returns:
        The tensors, in CPU memory, and the metadata.

    Raises:
        StorageError: If the file cannot be read, or is damaged.
    """
    verify(path)
    try:
        with safe_open(str(path), framework="pt") as opened:
            metadata = dict(opened.metadata() or {})
            # Copies, since the file's memory map may be invalidated.
            tensors = {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError, MemoryError) as error:
        if isinstance(error, StorageError):
            raise
        raise damaged(path, f"{type(error).__name__}: {error}") from error
    metadata.pop(KEY, None)
    return tensors, metadata

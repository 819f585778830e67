"""One file for nested values with tensors in them: safetensors, the rest as JSON in its header.

Reading runs no code (nothing is pickled), and a file is either whole or not there: it is written
under another name, forced to the disk, and renamed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from textgym.envs.plain import from_plain, tagged, to_plain
from textgym.errors import DataError, SettingsError

_KEY = "values"


def write_values(path: Path, values: dict[str, Any]) -> None:
    """Write a file in one stroke: a kill or a power cut leaves the old one, or the new one.

    Args:
        path: The file; its folder exists.
        values: What `to_plain` takes, with numpy arrays and tensors of any size and device.

    Raises:
        DataError: If there is anything else in it, or too much beside the arrays (100 MB).
    """
    tensors: dict[str, Tensor] = {}
    # With the tensors themselves: the memory of one that is gone may be another's.
    known: dict[tuple[Any, ...], tuple[str, Tensor]] = {}

    def keep(value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            return tagged("numpy", tensor=name_of(torch.from_numpy(np.ascontiguousarray(value))),
                          shape=list(value.shape))  # fmt: skip
        if isinstance(value, Tensor):
            return tagged("tensor", tensor=name_of(value))
        return None

    def name_of(tensor: Tensor) -> str:
        # Tied weights are one tensor under two names: stored once.
        storage = tensor.untyped_storage()
        place = (storage.data_ptr(), tensor.storage_offset(), tensor.shape, tensor.stride())
        identity = (*place, tensor.dtype, tensor.device)
        if tensor.numel() and identity in known:
            return known[identity][0]
        name = str(len(tensors))
        known[identity] = name, tensor
        copy = tensor.detach().cpu().contiguous()
        # The format refuses a tensor that is a part of a larger one.
        part = copy.untyped_storage().nbytes() != copy.numel() * copy.element_size()
        tensors[name] = copy.clone() if part else copy
        return name

    header = {_KEY: json.dumps(to_plain(values, path.name, keep))}
    partial = partial_name(path)
    try:
        save_file(tensors, str(partial), metadata=header)
    except SafetensorError as error:
        partial.unlink(missing_ok=True)
        raise DataError(
            f"{path} cannot be written ({error}): beside its arrays it holds "
            f"{len(header[_KEY]):,} characters; keep long lists of numbers as arrays"
        ) from error
    _to_disk(partial)
    os.replace(partial, path)
    _to_disk(path.parent)


def read_values(path: Path) -> dict[str, Any]:
    """Read a file of `write_values`; tensors are on the CPU.

    Raises:
        SettingsError: If there is no such file, or it is another kind of file or damaged.
    """
    try:
        with safe_open(str(path), framework="pt") as opened:
            header = json.loads((opened.metadata() or {})[_KEY])
            # Copied: what is mapped from the file lies anywhere in memory, and vanishes with it.
            tensors = {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118

        def find(value: dict[str, Any]) -> Any:
            tensor = tensors[value["tensor"]]
            if value["$type"] == "tensor":
                return tensor
            return tensor.numpy().reshape(value["shape"])

        values: dict[str, Any] = from_plain(header, find)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise SettingsError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}: {error}); if there is "
            "an older one beside it, delete this one"
        ) from error
    return values


def partial_name(path: Path) -> Path:
    """The name of a file while it is written."""
    return path.with_suffix(".partial")


def _to_disk(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk."""
    if path.is_dir() and os.name != "posix":  # Elsewhere folders cannot be opened.
        return
    opened = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)

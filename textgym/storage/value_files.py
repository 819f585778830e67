"""One file for nested values with tensors in them: safetensors, the rest as JSON in its header.

Reading runs no code (nothing is pickled), a file is either whole or not there, and damage is
detected (:mod:`textgym.storage.tensors`). Files that were written before there was a digest in them
are still read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from textgym.errors import DataError, SettingsError, StorageError
from textgym.storage.json_values import from_plain, tagged, to_plain
from textgym.storage.tensors import read_tensors, write_tensors

_KEY = "values"


def write_values(path: Path, values: dict[str, Any]) -> None:
    """Write a file in one stroke: a kill or a power cut leaves the old one, or the new one.

    Args:
        path: The file; its folder exists.
        values: What `to_plain` takes, with numpy arrays and tensors of any size and device.

    Raises:
        DataError: If there is anything else in it, or too much beside the arrays (100 MB).
        StorageError: If the file cannot be written.
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
        tensors[name] = tensor
        return name

    header = {_KEY: json.dumps(to_plain(values, path.name, keep))}
    try:
        write_tensors(path, tensors, header)
    except ValueError as error:
        raise DataError(
            f"{path} cannot be written ({error}): beside its arrays it holds "
            f"{len(header[_KEY]):,} characters; keep long lists of numbers as arrays"
        ) from error


def read_values(path: Path) -> dict[str, Any]:
    """Read a file of `write_values`; tensors are on the CPU.

    Raises:
        SettingsError: If there is no such file, or it is another kind of file or damaged.
    """
    try:
        tensors, metadata = read_tensors(path)
        header = json.loads(metadata[_KEY])

        def find(value: dict[str, Any]) -> Any:
            tensor = tensors[value["tensor"]]
            if value["$type"] == "tensor":
                return tensor
            if value["$type"] != "numpy":
                raise ValueError(f"a value has the unknown type {value['$type']!r}")
            return tensor.numpy().reshape(value["shape"])

        values = from_plain(header, find)
    except StorageError as error:
        raise SettingsError(f"{error} (it cannot be read as a checkpoint)") from error
    except Exception as error:  # The header is anybody's JSON: whatever it leads to, it is damaged.
        raise SettingsError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}: {error}); if there is "
            "an older one in its folder, delete this one"
        ) from error
    if not isinstance(values, dict):
        raise SettingsError(
            f"{path} cannot be read as a checkpoint: it holds a {type(values).__name__}"
        )
    return values

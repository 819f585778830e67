"""Nested values with tensors in one safetensors file, with all other values as JSON in its header.

Reading runs no code (nothing is pickled), writes are atomic, and damage is detected
(:mod:`textgym.storage.tensors`). Older files without a digest are read as well.
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
    """Write a file atomically.

    Args:
        path: The file, in an existing folder.
        values: Values that `to_plain` accepts, numpy arrays, and tensors of any device.

    Raises:
        DataError: If there is a value of another type, or more than 100 MB other than arrays.
        StorageError: If the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    # References to the tensors, so that their memory is not reused.
    known: dict[tuple[Any, ...], tuple[str, Tensor]] = {}

    def convert(value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            return tagged("numpy", tensor=name_of(torch.from_numpy(np.ascontiguousarray(value))),
                          shape=list(value.shape))  # fmt: skip
        if isinstance(value, Tensor):
            return tagged("tensor", tensor=name_of(value))
        return None

    def name_of(tensor: Tensor) -> str:
        # Tied weights, one tensor with two names, are stored once.
        storage = tensor.untyped_storage()
        memory = (storage.data_ptr(), tensor.storage_offset(), tensor.shape, tensor.stride())
        identity = (*memory, tensor.dtype, tensor.device)
        if tensor.numel() and identity in known:
            return known[identity][0]
        name = str(len(tensors))
        known[identity] = name, tensor
        tensors[name] = tensor
        return name

    header = {_KEY: json.dumps(to_plain(values, path.name, convert))}
    try:
        write_tensors(path, tensors, header)
    except ValueError as error:
        raise DataError(
            f"{path} cannot be written ({error}): apart from arrays it holds "
            f"{len(header[_KEY]):,} characters; store long lists of numbers as arrays"
        ) from error


def read_values(path: Path) -> dict[str, Any]:
    """Read a file of `write_values`; tensors are on the CPU.

    Raises:
        SettingsError: If the file does not exist, is damaged, or of another kind.
    """
    try:
        tensors, metadata = read_tensors(path)
        header = json.loads(metadata[_KEY])

        def restore(value: dict[str, Any]) -> Any:
            tensor = tensors[value["tensor"]]
            if value["$type"] == "tensor":
                return tensor
            if value["$type"] != "numpy":
                raise ValueError(f"a value has the unknown type {value['$type']!r}")
            return tensor.numpy().reshape(value["shape"])

        values = from_plain(header, restore)
    except StorageError as error:
        raise SettingsError(f"{error} (it cannot be read as a checkpoint)") from error
    except Exception as error:  # A header of any other content is damaged.
        raise SettingsError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}: {error}); if there is "
            "an older one in its folder, delete this one"
        ) from error
    if not isinstance(values, dict):
        raise SettingsError(
            f"{path} cannot be read as a checkpoint: it holds a {type(values).__name__}"
        )
    return values

"""Gymnasium's vector form of ``info``: one array per key, with a boolean mask ``_key``.

``gymnasium.vector.VectorEnv._add_info`` does this one environment and one key at a time. Here all
rows that have an info in one step are added at once, with the same arrays as a result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def add_infos(
    infos: dict[str, Any],
    num_envs: int,
    rows: NDArray[np.intp],
    row_infos: Sequence[dict[str, Any]],
) -> None:
    """Add the ``info`` of some rows to the vector environment's ``info``, in place.

    Args:
        infos: The vector environment's ``info`` so far.
        num_envs: Number of environments, the length of every array.
        rows: Indices of the environments that have an ``info``, shape ``[R]``, increasing.
        row_infos: The ``info`` of each of them, R dictionaries.
    """
    if not row_infos:
        return
    columns: dict[str, tuple[NDArray[np.intp], Sequence[Any]]] = {}
    if len(set(map(tuple, row_infos))) == 1:  # All have the same keys in the same order.
        values = zip(*map(dict.values, row_infos), strict=True)
        columns = {key: (rows, column) for key, column in zip(row_infos[0], values, strict=True)}
    else:
        for key in dict.fromkeys(key for info in row_infos for key in info):
            having = [index for index, info in enumerate(row_infos) if key in info]
            columns[key] = (rows[having], [row_infos[index][key] for index in having])
    for key, (indices, column) in columns.items():
        infos[key] = _fill(infos.get(key), num_envs, key, indices, column)
        mask = infos.get(f"_{key}")
        if mask is None:
            mask = infos[f"_{key}"] = np.zeros(num_envs, dtype=np.bool_)
        mask[indices] = True


def _fill(
    array: Any, num_envs: int, key: str, rows: NDArray[np.intp], values: Sequence[Any]
) -> dict[str, Any] | NDArray[Any]:
    """The array (or nested ``info``) of one key, after writing the values at the rows."""
    first = values[0]
    kind = type(first)
    alike = len(set(map(type, values))) == 1
    if alike and kind is dict and key != "final_obs":
        nested: dict[str, Any] = {} if array is None else array
        add_infos(nested, num_envs, rows, values)
        return nested
    if kind is np.ndarray and alike:
        alike = all((value.shape, value.dtype) == (first.shape, first.dtype) for value in values)
    if kind is int and alike:
        alike = all(-(2**63) <= value < 2**63 for value in values)
    # Values of mixed types or shapes, and integers beyond 64 bits, need an array of objects.
    filled = _empty(num_envs, key, first) if alike else np.empty(num_envs, dtype=object)
    if array is not None:
        if (array.dtype, array.shape) == (filled.dtype, filled.shape):
            filled = array
        else:
            filled = np.empty(num_envs, dtype=object)
            for row, value in enumerate(array):
                filled[row] = value
    if filled.dtype == object and not (alike and kind is str):
        for row, value in zip(rows.tolist(), values, strict=True):
            filled[row] = value  # One by one, because numpy would spread lists over the array.
    else:
        filled[rows] = values
    return filled


def _empty(num_envs: int, key: str, first: Any) -> NDArray[Any]:
    if key != "final_obs":  # Gymnasium keeps observations as objects.
        if type(first) in (int, float, bool) or isinstance(first, np.number):
            return np.zeros(num_envs, dtype=type(first))
        if isinstance(first, np.ndarray):
            return np.zeros((num_envs, *first.shape), dtype=first.dtype)
    return np.empty(num_envs, dtype=object)  # All None.

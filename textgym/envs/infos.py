"""Gymnasium's vector form of ``info``: one array per key, with a boolean mask ``_key``.

``gymnasium.vector.VectorEnv._add_info`` does this one environment and one key at a time. Here all
rows that report in one step are added at once; the outcome is the same, array for array.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def add_infos(
    infos: dict[str, Any], num_envs: int, rows: NDArray[np.intp], reports: Sequence[dict[str, Any]]
) -> None:
    """Add what some rows report to the vector environment's ``info``, in place.

    Args:
        infos: The vector environment's ``info`` so far.
        num_envs: Number of environments, the length of every array.
        rows: Indices of the environments that report, shape ``[R]``, increasing.
        reports: The ``info`` of each of them, R dictionaries.
    """
    if not reports:
        return
    keys = reports[0].keys()
    alike = all(report.keys() == keys for report in reports)
    if not alike:
        keys = dict.fromkeys(key for report in reports for key in report).keys()
    for key in keys:
        if alike:
            at, values = rows, [report[key] for report in reports]
        else:
            having = [number for number, report in enumerate(reports) if key in report]
            at, values = rows[having], [reports[number][key] for number in having]
        infos[key] = _fill(infos.get(key), num_envs, key, at, values)
        mask = infos.get(f"_{key}")
        if mask is None:
            mask = infos[f"_{key}"] = np.zeros(num_envs, dtype=np.bool_)
        mask[at] = True


def _fill(
    array: Any, num_envs: int, key: str, rows: NDArray[np.intp], values: list[Any]
) -> dict[str, Any] | NDArray[Any]:
    """The array (or nested ``info``) of one key, with the values written at the rows."""
    first = values[0]
    if isinstance(first, dict) and all(isinstance(value, dict) for value in values):
        nested: dict[str, Any] = {} if array is None else array
        add_infos(nested, num_envs, rows, values)
        return nested
    kind = type(first)
    alike = all(type(value) is kind for value in values)
    if kind is np.ndarray and alike:
        alike = all((value.shape, value.dtype) == (first.shape, first.dtype) for value in values)
    # A column of mixed types or shapes, as data files have them, can only be told apart as objects.
    filled = _empty(num_envs, key, first) if alike else np.full(num_envs, None, dtype=object)
    if array is not None:
        if (array.dtype, array.shape) == (filled.dtype, filled.shape):
            filled = array
        else:
            filled = np.full(num_envs, None, dtype=object)
            for row, value in enumerate(array):
                filled[row] = value
    if filled.dtype == object and not (alike and kind is str):
        for row, value in zip(rows, values, strict=True):
            filled[row] = value  # One by one: numpy would spread lists over the array.
    else:
        filled[rows] = values
    return filled


def _empty(num_envs: int, key: str, first: Any) -> NDArray[Any]:
    if key != "final_obs":  # Observations stay apart, as objects: Gymnasium's rule.
        if type(first) in (int, float, bool) or isinstance(first, np.number):
            return np.zeros(num_envs, dtype=type(first))
        if isinstance(first, np.ndarray):
            return np.zeros((num_envs, *first.shape), dtype=first.dtype)
    return np.full(num_envs, None, dtype=object)

"""Checks of single values: finite numbers, integers, missing values, and excerpts for errors."""

from __future__ import annotations

from math import isfinite
from numbers import Integral, Real
from typing import Any, TypeGuard

import numpy as np

LONGEST_GRAM = 100
"""The longest n-gram that a reward counts; longer ones only cost time."""


def excerpt(value: Any, limit: int = 80) -> str:
    """Return the ``repr`` of a value, cut at ``limit`` characters."""
    try:
        text = repr(value)
    except ValueError:  # Python does not print integers of more than 4,300 digits
        text = f"a number of {value.bit_length()} bits"
    return text if len(text) <= limit else f"{text[:limit]}..."


def finite_number(value: Any) -> float | None:
    """Return a number, including NumPy's, as a float; None if it is not a finite number.

    A bool does not count as a number.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return None
    return number if isfinite(number) else None


def whole_number(value: Any) -> int | None:
    """Return an integer, including NumPy's, as an int; None for anything else.

    Neither a bool nor 2.0 counts as an integer.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Integral):
        return None
    return int(value)


def plain_number(value: Any) -> Any:
    """Convert NumPy scalars and zero-dimensional arrays to Python's; return others unchanged."""
    return value.item() if isinstance(value, np.generic | np.ndarray) and value.ndim == 0 else value


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether this is a finite number (see :func:`finite_number`)."""
    return finite_number(value) is not None


def is_whole(value: Any, least: int, most: int | None = None) -> TypeGuard[int]:
    """Return whether this is an integer within bounds (see :func:`whole_number`)."""
    number = whole_number(value)
    return number is not None and number >= least and (most is None or number <= most)


def is_missing(value: Any) -> bool:
    """Return whether a column's value is missing: None, NaN, or pandas' NA and NaT."""
    if value is None:
        return True
    if isinstance(value, float | np.floating):
        return bool(value != value)
    return type(value).__name__ in ("NAType", "NaTType")

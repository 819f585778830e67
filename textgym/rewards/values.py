"""What a value is: a finite number, a whole one, a missing one; and how an error shows it."""

from __future__ import annotations

from math import isfinite
from numbers import Integral, Real
from typing import Any, TypeGuard

import numpy as np

LONGEST_GRAM = 100
"""The longest n-gram that a reward counts. Longer ones say nothing, and take time without end."""


def excerpt(value: Any, limit: int = 80) -> str:
    """Return how a value is written, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python does not write integers of more than 4,300 digits
        text = f"a number of {value.bit_length()} bits"
    return text if len(text) <= limit else f"{text[:limit]}..."


def finite_number(value: Any) -> float | None:
    """Return a number as a float, NumPy's numbers too; None if it is not a finite number.

    A bool is not a number here, nor is a string.
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
    """Return a whole number as an int, NumPy's integers too; None if it is not one.

    A bool is not a number here, nor is 2.0.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Integral):
        return None
    return int(value)


def plain_number(value: Any) -> Any:
    """Return NumPy's numbers, bools and arrays without dimensions as Python's, others as given."""
    return value.item() if isinstance(value, np.generic | np.ndarray) and value.ndim == 0 else value


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether this is a finite number, NumPy's too, and not a bool."""
    return finite_number(value) is not None


def is_whole(value: Any, least: int, most: int | None = None) -> TypeGuard[int]:
    """Return whether this is a whole number within bounds, NumPy's too, and not a bool."""
    number = whole_number(value)
    return number is not None and number >= least and (most is None or number <= most)


def is_missing(value: Any) -> bool:
    """Return whether a column's value is missing: None, NaN, or what pandas has for these."""
    if value is None:
        return True
    if isinstance(value, float | np.floating):
        return bool(value != value)
    return type(value).__name__ in ("NAType", "NaTType")

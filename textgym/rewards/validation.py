"""Checks of what a reward function returns or raises; errors name the row and the fix.

The messages are predicates: :class:`RewardSum` puts the names of the environment and of the reward
in front of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np

from textgym.errors import RewardError
from textgym.rewards.signature import Call
from textgym.rewards.values import excerpt

Rows = Sequence[int] | np.ndarray | None

# Exceptions that are usually caused by a single text, which is then searched for. Others (a dropped
# connection, an out-of-memory GPU) would only be raised again, slowly.
_FROM_ONE_TEXT = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)


def checked_values(result: Any, completions: list[Any], rows: Rows) -> list[float | None]:
    """Convert the return value of a reward function to N floats or Nones.

    Args:
        result: A sequence, or a one-dimensional array or tensor, of N finite numbers or Nones.
        completions: The N texts, for errors.
        rows: Their row numbers, for errors; None for their positions.

    Returns:
        N finite floats; None where the reward does not apply.

    Raises:
        RewardError: If the result is anything else.
    """
    count = len(completions)
    if type(result) is list:
        pass
    elif hasattr(result, "ndim") and hasattr(result, "tolist"):  # NumPy's arrays, torch's tensors
        if result.ndim != 1:
            raise RewardError(
                f"returned shape {tuple(result.shape)}; return one number per text, shape "
                f"({count},)"
            )
        result = result.tolist()
    elif not isinstance(result, Sequence) or isinstance(result, str | bytes):
        raise RewardError(
            f"returned {type(result).__name__} {excerpt(result)}; "
            f"return a list of {count} numbers, one per text"
        )
    if len(result) != count:
        raise RewardError(
            f"returned {len(result)} values for {count} texts; "
            "return one per text, None where the reward does not apply"
        )
    try:
        if all(map(isfinite, result)):
            return list(map(float, result))
    except (TypeError, OverflowError):  # there is a None, or not a number
        pass
    return [_checked_value(value, i, completions, rows) for i, value in enumerate(result)]


def _checked_value(value: Any, index: int, completions: list[Any], rows: Rows) -> float | None:
    if value is None:
        return None
    try:
        if isfinite(value):
            return float(value)
    except (TypeError, OverflowError):
        pass
    raise RewardError(
        f"returned {type(value).__name__} {excerpt(value)} for row {row_number(index, rows)} "
        f"(completion {excerpt(completions[index])}); "
        "return a finite number, or None where the reward does not apply"
    )


def explain(
    error: Exception,
    call: Call,
    prompts: list[str],
    completions: list[str],
    columns: Mapping[str, list[Any]],
    rows: Rows,
) -> str:
    """Return the message for an exception of a reward function, with the row that caused it.

    A function is called on the whole batch, so its exception does not identify the row. If the
    exception looks like one that a text caused, the function is called again on parts of the batch.

    Args:
        error: The exception.
        call: The function.
        prompts: The N prompts that it was called with.
        completions: The N completions.
        columns: The other columns, N values each.
        rows: The row numbers of the N texts; None for their positions.

    Returns:
        A predicate, such as ``"raised ValueError: ... on row 3 ..."``.
    """
    count = len(completions)
    index = 0 if count == 1 else None
    if count > 1 and isinstance(error, _FROM_ONE_TEXT) and not isinstance(error, OSError):
        index = _find_failing_text(call, prompts, completions, columns)
    if index is not None:
        place = f"row {row_number(index, rows)} (completion {excerpt(completions[index])})"
    else:
        some = ", ".join(str(row_number(i, rows)) for i in range(min(count, 8)))
        place = f"a batch of {count} texts (rows {some}{', ...' if count > 8 else ''})"
    return (
        f"raised {type(error).__name__}: {error} on {place}; a policy can write any text: "
        "return a low reward, or None, for one that cannot be judged"
    )


def _find_failing_text(
    call: Call, prompts: list[str], completions: list[str], columns: Mapping[str, list[Any]]
) -> int | None:
    """Find one text on which a function raises, in about ``log2(N)`` calls."""
    low, high = 0, len(completions)
    while True:
        # The last candidate is called too: possibly no text fails on its own.
        middle = (low + high) // 2 if high - low > 1 else high
        part = {column: values[low:middle] for column, values in columns.items()}
        try:
            call(prompts[low:middle], completions[low:middle], part)
        except Exception:
            if middle - low == 1:
                return low
            high = middle
        else:
            if high - low == 1:
                return None
            low = middle


def row_number(index: int, rows: Rows) -> int:
    """Return the row number of a text in the batch, for an error."""
    return index if rows is None else int(rows[index])

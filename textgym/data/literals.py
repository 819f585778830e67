"""Lists and dictionaries from columns of CSV and Parquet files."""

from __future__ import annotations

import ast
import json
from typing import Any

# Longer strings are not parsed.
_MAX_CHARACTERS = 100_000


def from_array(value: Any) -> Any:
    """A NumPy array or scalar, as Parquet files hold lists and numbers, as a Python object."""
    return value.tolist() if hasattr(value, "tolist") else value


def from_literal(value: Any) -> Any:
    """Parse a list or dictionary, written as JSON or as a Python literal; else return the value.

    In CSV files lists and dictionaries are strings such as ``["Rome"]`` and ``{'text': ['Rome']}``.
    No code is run.
    """
    if (
        not isinstance(value, str)
        or len(value) > _MAX_CHARACTERS
        or value.strip()[:1] not in ("[", "{")
    ):
        return value
    found: Any = None
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        try:
            found = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return value
    return found if isinstance(found, (list, dict)) else value

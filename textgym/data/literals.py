"""Lists and dictionaries from columns of CSV and Parquet files."""

from __future__ import annotations

import ast
import json
from typing import Any

_LONGEST = 100_000
"""Characters; a longer text is one."""


def from_array(value: Any) -> Any:
    """A NumPy array or scalar, as Parquet files hold lists and numbers, as a Python object."""
    return value.tolist() if hasattr(value, "tolist") else value


def from_literal(value: Any) -> Any:
    """The list or dictionary that a string spells, as JSON or as Python's literal; else the value.

    Files of comma-separated values know strings alone: ``["Rome"]`` and ``{'text': ['Rome']}`` are
    what becomes of lists and dictionaries there. No code is run.
    """
    if not isinstance(value, str) or len(value) > _LONGEST or value.strip()[:1] not in ("[", "{"):
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

"""Values as JSON can hold them, and back again with their types.

JSON knows no tuples, no numpy numbers and no keys other than strings. Rows of prompts have them (a
parquet file's lists, what a function draws from a numpy Generator), and reward functions and
``info`` would show the difference. So they are written as an object with a tag, which is turned
back when it is read. Nothing is ever pickled: reading runs no code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from textgym.errors import DataError

_JSON = (str, int, float, bool, type(None))
_TAG = "$type"
_KINDS = "biufU"  # Booleans, numbers and strings: numpy's kinds that JSON has values for.

Keep = Callable[[Any], Any]
"""Takes an array or an object that JSON does not know; what to write instead, or None."""


def to_plain(value: Any, where: str, keep: Keep | None = None) -> Any:
    """Turn a value into JSON's own kinds of values.

    Args:
        value: Strings, numbers, booleans and None; lists, tuples and dictionaries of them; numpy
            numbers, strings and arrays.
        where: What to name in the error.
        keep: Asked first about everything that is not Python's own; for large arrays, which are
            better kept elsewhere.

    Returns:
        A value of its own: nothing in it is shared with `value`, but strings and numbers.

    Raises:
        DataError: If there is anything else in it.
    """
    kind = type(value)
    if kind in _JSON:
        return value
    if kind is list:
        return [to_plain(each, where, keep) for each in value]
    if kind is tuple:
        return {_TAG: "tuple", "items": [to_plain(each, where, keep) for each in value]}
    if kind is dict:
        if all(type(key) is str for key in value) and _TAG not in value:
            return {key: to_plain(each, where, keep) for key, each in value.items()}
        return {_TAG: "dict", "items": [to_plain(list(p), where, keep) for p in value.items()]}
    if keep is not None and (kept := keep(value)) is not None:
        return kept
    # JSON's floats are 64 bits; a long double would lose some.
    if isinstance(value, np.generic) and _holds(value.dtype):
        return {_TAG: "scalar", "dtype": value.dtype.str, "value": value.item()}
    if kind is np.ndarray and _holds(value.dtype):
        items = value.ravel().tolist()
        return {
            _TAG: "array", "dtype": value.dtype.str, "shape": list(value.shape), "items": items
        }  # fmt: skip
    raise DataError(
        f"{where} holds a {kind.__module__}.{kind.__qualname__}, which cannot be written to a "
        "file; use strings, numbers, lists and dictionaries there (for any other object a name, "
        "and look it up in the reward function)"
    )


def from_plain(value: Any, find: Callable[[Any], Any] | None = None) -> Any:
    """Undo `to_plain`.

    Args:
        value: What `to_plain` returned, or what JSON makes of it.
        find: Turns what `keep` returned, an object with a tag of its own, back.
    """
    if type(value) is list:
        return [from_plain(each, find) for each in value]
    if type(value) is not dict:
        return value
    tag = value.get(_TAG)
    if tag is None:
        return {key: from_plain(each, find) for key, each in value.items()}
    if tag == "tuple":
        return tuple(from_plain(each, find) for each in value["items"])
    if tag == "dict":
        return dict(from_plain(pair, find) for pair in value["items"])
    if tag == "scalar":
        return np.dtype(value["dtype"]).type(value["value"])
    if tag == "array":
        return np.array(value["items"], dtype=value["dtype"]).reshape(value["shape"])
    if find is None:
        raise DataError(f"a value has the unknown type {tag!r}")
    return find(value)


def tagged(tag: str, **content: Any) -> dict[str, Any]:
    """What a `keep` returns: an object that `from_plain` hands to `find`."""
    return {_TAG: tag, **content}


def _holds(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in _KINDS and (dtype.kind == "U" or dtype.itemsize <= 8)

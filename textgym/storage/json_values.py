"""Conversion of values to JSON and back, with their types.

JSON has no tuples, no numpy numbers and arrays, and no keys other than strings. They are written as
objects with a type tag. Nothing is pickled, so reading runs no code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from textgym.errors import DataError

_JSON = (str, int, float, bool, type(None))
_TAG = "$type"
_KINDS = "biufU"  # numpy's kinds of booleans, numbers and strings.

Extension = Callable[[Any], Any]
"""Maps an array or another object to a `tagged` value, or to None."""


def to_plain(value: Any, where: str, extension: Extension | None = None) -> Any:
    """Convert a value to JSON-serializable values.

    Args:
        value: Strings, numbers, booleans and None; lists, tuples and dictionaries of them; numpy
            numbers, strings and arrays.
        where: Describes the value in the error.
        extension: Converts other objects, and arrays that are stored elsewhere.

    Returns:
        A deep copy.

    Raises:
        DataError: If the value contains another type.
    """
    kind = type(value)
    if kind in _JSON:
        return value
    if kind is list:
        return [to_plain(item, where, extension) for item in value]
    if kind is tuple:
        return {_TAG: "tuple", "items": [to_plain(item, where, extension) for item in value]}
    if kind is dict:
        if all(type(key) is str for key in value) and _TAG not in value:
            return {key: to_plain(item, where, extension) for key, item in value.items()}
        pairs = [to_plain(list(pair), where, extension) for pair in value.items()]
        return {_TAG: "dict", "items": pairs}
    if extension is not None and (converted := extension(value)) is not None:
        return converted
    if isinstance(value, np.generic) and _is_exact(value.dtype):
        return {_TAG: "scalar", "dtype": value.dtype.str, "value": value.item()}
    if kind is np.ndarray and _is_exact(value.dtype):
        items = value.ravel().tolist()
        return {
            _TAG: "array", "dtype": value.dtype.str, "shape": list(value.shape), "items": items
        }  # fmt: skip
    raise DataError(
        f"{where} holds a {kind.__module__}.{kind.__qualname__}, which cannot be written to a "
        "file; use strings, numbers, lists and dictionaries (instead of another object, store its "
        "name, and look it up in the reward function)"
    )


def from_plain(value: Any, restore: Callable[[Any], Any] | None = None) -> Any:
    """Reverse `to_plain`.

    Args:
        value: A value from `to_plain`, possibly written and read as JSON.
        restore: Converts the `tagged` values of an extension.
    """
    if type(value) is list:
        return [from_plain(item, restore) for item in value]
    if type(value) is not dict:
        return value
    tag = value.get(_TAG)
    if tag is None:
        return {key: from_plain(item, restore) for key, item in value.items()}
    if tag == "tuple":
        return tuple(from_plain(item, restore) for item in value["items"])
    if tag == "dict":
        return dict(from_plain(pair, restore) for pair in value["items"])
    if tag == "scalar":
        return np.dtype(value["dtype"]).type(value["value"])
    if tag == "array":
        return np.array(value["items"], dtype=value["dtype"]).reshape(value["shape"])
    if restore is None:
        raise DataError(f"a value has the unknown type {tag!r}")
    return restore(value)


def tagged(tag: str, **content: Any) -> dict[str, Any]:
    """A value of an extension, which `from_plain` passes to `restore`."""
    return {_TAG: tag, **content}


def _is_exact(dtype: np.dtype[Any]) -> bool:
    """Whether JSON represents values exactly; its floats have 64 bits, fewer than long doubles."""
    return dtype.kind in _KINDS and (dtype.kind == "U" or dtype.itemsize <= 8)

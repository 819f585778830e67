"""The encoding of plain Python values that the processes of the sandbox exchange.

All that the judge gets from the program passes through `decode`, which only makes ``None``, bool,
int, float, complex, str, bytes, list, tuple, dict, set, frozenset, deque, range and list iterators.
No code, class or method of the program reaches the judge, such as an object that is equal to
everything.

A value is a tag, and for most tags a decimal length, a colon, and that many bytes (a leaf) or
values (a container): ``[1, "é"]`` is ``l2:i1:1S2:é``. The module uses few parts of the standard
library, because an interpreter is started for every program.
"""

from __future__ import annotations

import os
from itertools import islice

# `typing` and `collections` take longer to import than the rest of the sandbox.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable
    from typing import Any
else:
    from _collections import deque

Opaque = tuple[str, str]
"""A tag and a text of a value that is not plain."""

_MAX_DEPTH = 150
"""Maximal depth of nested containers."""

_MAX_ITEMS = 20_000
"""Maximal number of items of an iterator, which may be endless."""

_MAX_DIGITS = 12
"""Maximal number of digits of a length."""

_CONTAINERS: dict[type, bytes] = {
    list: b"l",
    tuple: b"t",
    set: b"s",
    frozenset: b"f",
    deque: b"q",
    dict: b"d",
}
_BUILDERS: dict[bytes, Callable[[list[Any]], Any]] = {
    b"l": list,
    b"t": tuple,
    b"s": set,
    b"f": frozenset,
    b"q": deque,
    b"g": iter,
}
_DICTIONARIES = frozenset({"Counter", "OrderedDict", "defaultdict"})


class WireError(ValueError):
    """A value is not plain, or bytes are not the encoding of one."""


def _refuse(value: object) -> Opaque:
    raise WireError(f"a {type(value).__name__} is not a plain value")


def _unknown(tag: str, text: str) -> Any:
    raise WireError(f"unknown tag {tag!r}")


def encode(value: object, opaque: Callable[[Any], Opaque] = _refuse) -> bytes:
    """Encode a plain value.

    The dictionaries of `collections` become dicts, and iterators become lists of their items.

    Args:
        value: The value.
        opaque: Returns a tag (one letter, other than the plain ones) and a text for a value that is
            not plain; the default raises.

    Raises:
        WireError: If a part is not plain, or is nested too deeply.
    """
    parts: list[bytes] = []
    _put(value, parts, opaque, 0)
    return b"".join(parts)


def _leaf(tag: bytes, text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return tag + b"%d:" % len(data) + data


def _put(value: Any, parts: list[bytes], opaque: Callable[[Any], Opaque], depth: int) -> None:
    kind = type(value)
    if depth > _MAX_DEPTH:
        raise WireError(f"a value is nested more than {_MAX_DEPTH} levels deep")
    if value is None:
        parts.append(b"N")
    elif kind is bool:
        parts.append(b"T" if value else b"F")
    elif kind is str:
        parts.append(_leaf(b"S", value))
    elif kind is int:
        parts.append(_leaf(b"i", f"{value:x}"))
    elif kind is float:
        parts.append(_leaf(b"x", value.hex()))
    elif kind is bytes:
        parts.append(b"b%d:" % len(value) + value)
    elif kind is complex:
        parts.append(_leaf(b"c", f"{value.real.hex()} {value.imag.hex()}"))
    elif kind is range:
        parts.append(_leaf(b"r", f"{value.start:x} {value.stop:x} {value.step:x}"))
    elif kind is dict or (
        isinstance(value, dict)
        and kind.__module__ == "collections"
        and kind.__name__ in _DICTIONARIES
    ):
        parts.append(b"d%d:" % len(value))
        for key, item in dict.items(value):
            _put(key, parts, opaque, depth + 1)
            _put(item, parts, opaque, depth + 1)
    elif kind in _CONTAINERS:
        parts.append(_CONTAINERS[kind] + b"%d:" % len(value))
        for item in value:
            _put(item, parts, opaque, depth + 1)
    elif hasattr(kind, "__next__") and hasattr(kind, "__iter__"):
        items = list(islice(value, _MAX_ITEMS))
        parts.append(b"g%d:" % len(items))
        for item in items:
            _put(item, parts, opaque, depth + 1)
    else:
        tag, text = opaque(value)
        parts.append(_leaf(tag.encode(), text))


def decode(data: bytes, opaque: Callable[[str, str], Any] = _unknown) -> Any:
    """Decode a value of `encode`, possibly from a hostile process.

    Args:
        data: The bytes.
        opaque: Makes a value from a tag that is not plain and its text; the default raises.

    Raises:
        WireError: If the bytes are invalid.
    """
    try:
        value, end = _take(data, 0, opaque, 0)
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        raise WireError(f"not an encoded value: {error}") from None
    if end != len(data):
        raise WireError("bytes are left after the value")
    return value


def _take(data: bytes, at: int, opaque: Callable[[str, str], Any], depth: int) -> tuple[Any, int]:
    if depth > _MAX_DEPTH + 1:
        raise WireError(f"a value is nested more than {_MAX_DEPTH} levels deep")
    tag = data[at : at + 1]
    if tag in (b"N", b"T", b"F"):
        return {b"N": None, b"T": True, b"F": False}[tag], at + 1
    colon = data.index(b":", at, at + 2 + _MAX_DIGITS)
    digits = data[at + 1 : colon]
    if not digits.isdigit():
        raise WireError("a length is not a number")
    size, at = int(digits), colon + 1
    if size > len(data) - at:
        raise WireError("a length exceeds the data")
    if tag == b"d":
        pairs = {}
        for _ in range(size):
            key, at = _take(data, at, opaque, depth + 1)
            pairs[key], at = _take(data, at, opaque, depth + 1)
        return pairs, at
    if tag in _BUILDERS:
        items = []
        for _ in range(size):
            item, at = _take(data, at, opaque, depth + 1)
            items.append(item)
        return _BUILDERS[tag](items), at
    payload = data[at : at + size]
    at += size
    if tag == b"b":
        return payload, at
    text = payload.decode("utf-8", "surrogatepass")
    if tag == b"S":
        return text, at
    if tag == b"i":
        return int(text, 16), at
    if tag == b"x":
        return float.fromhex(text), at
    if tag == b"c":
        real, imaginary = text.split(" ")
        return complex(float.fromhex(real), float.fromhex(imaginary)), at
    if tag == b"r":
        start, stop, step = text.split(" ")
        return range(int(start, 16), int(stop, 16), int(step, 16)), at
    return opaque(tag.decode("ascii"), text), at


def read_exactly(file: int, size: int) -> bytes | None:
    """Read `size` bytes of a pipe; None if it ends earlier."""
    parts = []
    while size:
        part = os.read(file, min(size, 1 << 16))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def read_frame(file: int, max_bytes: int) -> bytes | None:
    """Read one frame of a pipe; None at its end.

    Raises:
        WireError: If the frame is longer than `max_bytes`.
    """
    head = read_exactly(file, 4)
    if head is None:
        return None
    size = int.from_bytes(head, "big")
    if size > max_bytes:
        raise WireError(f"{size} bytes are more than the {max_bytes} allowed")
    return read_exactly(file, size)


def frame(data: bytes) -> bytes:
    """A message with its length in front, for `read_frame`."""
    return len(data).to_bytes(4, "big") + data


def write_frame(file: int, data: bytes) -> None:
    """Write a whole frame to a pipe."""
    rest = memoryview(frame(data))
    while rest:
        rest = rest[os.write(file, rest) :]

"""The SHA-256 of a safetensors file, inside the file, which detects any damage.

The file's metadata has an entry ``"textgym_digest": "sha256:HEX"``: the digest of the whole file,
header included, with 64 zeros in place of HEX. Files without the entry, from other software or
older versions of textgym, are not verified.

Format: https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, BinaryIO

from textgym.errors import StorageError
from textgym.storage.files import replacing

KEY = "textgym_digest"
MAX_HEADER = 100_000_000
"""Maximal length of a header in bytes, as the format defines it."""

_EMPTY = "0" * 64
_START = "sha256:"
# In the raw header, where quotes within strings are escaped. A flipped bit can damage the key
# or the value, but not both, so that a damaged entry is not mistaken for a missing one.
_ENTRY = re.compile(rb'(?<!\\)"textgym_digest":"sha256:([0-9a-f]{64})"')
_TRACE = re.compile(rb'(?<!\\)"(?:textgym_digest"|sha256:)')
_CHUNK = 1 << 22


def read_header(path: str | Path) -> dict[str, Any]:
    """The header of a safetensors file: each tensor's dtype, shape and offsets, and the metadata.

    Raises:
        StorageError: If the file cannot be read or is not a safetensors file.
    """
    try:
        with Path(path).open("rb") as file:
            _, header = _raw_header(path, file)
    except OSError as error:
        raise _unreadable(path, error) from error
    return header


def verify(path: str | Path) -> bool:
    """Verify a file against its digest.

    Returns:
        Whether it has a digest.

    Raises:
        StorageError: If the file cannot be read, is not a safetensors file, or is damaged.
    """
    try:
        with Path(path).open("rb") as file:
            raw, _ = _raw_header(path, file)
            entry = _ENTRY.search(raw)
            if entry is None:
                if _TRACE.search(raw):
                    raise damaged(path, "its digest is not readable")
                return False
            begin, end = entry.span(1)
            blank = raw[:begin] + _EMPTY.encode() + raw[end:]
            digest = hashlib.sha256(len(raw).to_bytes(8, "little") + blank)
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise _unreadable(path, error) from error
    if digest.hexdigest().encode() != entry[1]:
        raise damaged(path, "its content does not match the SHA-256 in it")
    return True


def encode_header(tensors: dict[str, Any], metadata: dict[str, str]) -> bytes:
    """The first bytes of a file, with an empty digest that :func:`set_digest` fills in.

    Args:
        tensors: ``dtype``, ``shape`` and ``data_offsets`` of each tensor.
        metadata: Further strings.
    """
    header = {"__metadata__": {KEY: _START + _EMPTY, **metadata}, **tensors}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # Tensors start at a multiple of 8.
    return len(text).to_bytes(8, "little") + text


def set_digest(file: BinaryIO, first: bytes, digest: str) -> None:
    """Fill in the digest of a file that is open for writing.

    Args:
        file: The file.
        first: Its first bytes, from :func:`encode_header`.
        digest: SHA-256 of the file, as hexadecimal digits.
    """
    entry = _ENTRY.search(first)
    assert entry is not None
    file.seek(entry.start(1))
    file.write(digest.encode())


def copy_with_digest(source: Path, target: Path) -> None:
    """Copy a safetensors file, adding a digest.

    Raises:
        StorageError: If a file cannot be read or written.
    """
    with source.open("rb") as old:
        _, header = _raw_header(source, old)
        metadata = header.pop("__metadata__", {})
        metadata.pop(KEY, None)
        first = encode_header(header, metadata)
        with replacing(target) as new:
            digest = hashlib.sha256(first)
            new.write(first)
            while chunk := old.read(_CHUNK):
                digest.update(chunk)
                new.write(chunk)
            set_digest(new, first, digest.hexdigest())


def damaged(path: str | Path, reason: str) -> StorageError:
    """The error for a damaged file."""
    return StorageError(
        f"{path} is damaged: {reason}; restore it from a copy, or, if it is a checkpoint and there "
        "is an older one in its folder, delete this one"
    )


def _raw_header(path: str | Path, file: BinaryIO) -> tuple[bytes, dict[str, Any]]:
    """The header of an open file, as bytes and parsed; leaves the file at the first tensor."""
    size = file.seek(0, 2)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, MAX_HEADER):
        raise damaged(path, f"it has {size} bytes and is truncated, or not a safetensors file")
    raw = file.read(length)
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"its header is not readable ({error})") from error
    if not isinstance(header, dict) or not all(isinstance(item, dict) for item in header.values()):
        raise damaged(path, "its header is not a JSON object of tensors")
    metadata = header.get("__metadata__", {})
    if not all(isinstance(value, str) for value in metadata.values()):
        raise damaged(path, "its metadata are not strings")
    return raw, header


def _unreadable(path: str | Path, error: OSError) -> StorageError:
    if isinstance(error, StorageError):
        return error
    return StorageError(f"{path} could not be read: {error.strerror or error}")

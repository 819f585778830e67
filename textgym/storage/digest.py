"""A SHA-256 inside a safetensors file, over all of its bytes: any flipped bit is found.

The file's own metadata has an entry ``"textgym_digest": "sha256:HEX"``. The digest is that of the
whole file, header included, with 64 zeros in the place of HEX. Files without the entry (those of
other software, and of older versions of textgym) are taken as they are.

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
"""The longest header that the format allows, in bytes."""

_EMPTY = "0" * 64
_START = "sha256:"
# In the raw header, where quotes within strings are escaped. A single flipped bit can destroy the
# key or the value, but never both, so that a damaged entry is not mistaken for a missing one.
_ENTRY = re.compile(rb'(?<!\\)"textgym_digest":"sha256:([0-9a-f]{64})"')
_TRACE = re.compile(rb'(?<!\\)"(?:textgym_digest"|sha256:)')
_CHUNK = 1 << 22


def read_header(path: str | Path) -> dict[str, Any]:
    """The header of a safetensors file: each tensor's dtype, shape and place, and the metadata.

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
    """Check a file against the digest in it.

    Returns:
        Whether it has one.

    Raises:
        StorageError: If the file cannot be read, is not a safetensors file, or is not what was
            written.
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
    """The first bytes of a file, with an entry for a digest that :func:`set_digest` fills in.

    Args:
        tensors: ``dtype``, ``shape`` and ``data_offsets`` of each tensor.
        metadata: Strings of your own.
    """
    header = {"__metadata__": {KEY: _START + _EMPTY, **metadata}, **tensors}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # Tensors begin at a multiple of 8.
    return len(text).to_bytes(8, "little") + text


def set_digest(file: BinaryIO, first: bytes, digest: str) -> None:
    """Fill in the digest of a file that is open for writing.

    Args:
        file: The file.
        first: Its first bytes, from :func:`encode_header`.
        digest: SHA-256 of all bytes of the file, as hexadecimal digits.
    """
    entry = _ENTRY.search(first)
    assert entry is not None
    file.seek(entry.start(1))
    file.write(digest.encode())


def copy_with_digest(source: Path, target: Path) -> None:
    """Copy a safetensors file and put a digest into the copy.

    Raises:
        StorageError: If one cannot be read, or the other not written.
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
    """The error for a file that is not what was written."""
    return StorageError(
        f"{path} is damaged: {reason}; restore it from a copy, or, if it is a checkpoint and there "
        "is an older one in its folder, delete this one"
    )


def _raw_header(path: str | Path, file: BinaryIO) -> tuple[bytes, dict[str, Any]]:
    """The header of an open file, as bytes and parsed; the file is left at the first tensor."""
    size = file.seek(0, 2)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, MAX_HEADER):
        raise damaged(path, f"it has {size} bytes and is cut off, or not a safetensors file")
    raw = file.read(length)
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"its header is not readable ({error})") from error
    if not isinstance(header, dict) or not all(isinstance(one, dict) for one in header.values()):
        raise damaged(path, "its header is not a JSON object of tensors")
    metadata = header.get("__metadata__", {})
    if not all(isinstance(value, str) for value in metadata.values()):
        raise damaged(path, "its metadata are not strings")
    return raw, header


def _unreadable(path: str | Path, error: OSError) -> StorageError:
    if isinstance(error, StorageError):
        return error
    return StorageError(f"{path} could not be read: {error.strerror or error}")

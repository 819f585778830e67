"""Atomic writes: after a crash or on a full disk there is either the old or the new file.

A file is written under another name in the same folder, forced to the disk (``fsync``), and renamed
over the old one; ``rename`` is atomic on POSIX and on Windows. Every failure is a
:class:`textgym.errors.StorageError` that names the file and the system's error.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from textgym.errors import StorageError

_PARTIAL = ".partial"


def partial_name(path: Path) -> Path:
    """The name of a file while it is being written: ``run.json.partial``."""
    return path.with_name(path.name + _PARTIAL)


def write_error(path: str | Path, error: OSError, doing: str = "written") -> StorageError:
    """The error for an ``OSError`` of the system.

    Args:
        path: The file or folder.
        error: The system's error.
        doing: The operation that failed, as a past participle.
    """
    cause = error.strerror or str(error) or type(error).__name__
    advice = (
        "; free some space or choose another folder, and start again (the old file is intact)"
        if doing == "written"
        else ""
    )
    result = StorageError(f"{path} could not be {doing}: {cause}{advice}")
    result.errno, result.strerror, result.filename = error.errno, cause, str(path)
    return result


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a file that replaces the old one when the block ends without an error.

    Args:
        path: The file, in an existing folder.

    Yields:
        The open file, readable and writable.

    Raises:
        StorageError: If it cannot be written. After this and any other exception, the old file is
            intact and the new one is removed.
    """
    partial = partial_name(path)
    try:
        with partial.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, StorageError):
            raise
        raise write_error(path, error) from error
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file atomically.

    Raises:
        StorageError: If it cannot be written; the old file is then intact.
    """
    with replacing(Path(path)) as file:
        file.write(data)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file atomically; see :func:`write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any, indent: int | None = 1) -> None:
    """Write a value as a JSON file with a final newline, atomically; see :func:`write_bytes`."""
    write_text(path, json.dumps(value, indent=indent) + "\n")


def append(path: str | Path, data: bytes, sync: bool = False) -> None:
    """Append to a file: all of the data, or nothing.

    Args:
        path: The file; made if it does not exist.
        data: Complete lines.
        sync: Whether to force the lines to the disk.

    Raises:
        StorageError: If the lines cannot be written; the file is then truncated to its old size.
    """
    try:
        # Without a buffer, so that closing the file writes nothing.
        with open(path, "ab", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            try:
                written = 0
                while written < len(data):  # A nearly full disk may take a part only.
                    written += file.write(data[written:])
                if sync:
                    os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):
                    file.truncate(size)
                raise
    except OSError as error:
        raise write_error(path, error) from error


@contextmanager
def replacing_folder(
    folder: str | Path, move: Callable[[Path, Path], None] | None = None
) -> Iterator[Path]:
    """Write several files of a folder, which replace the old ones when the block ends.

    Each file is replaced atomically. If the block raises, none is replaced.

    Args:
        folder: The folder; made with its parents if it does not exist.
        move: Moves a finished file to its place; None renames it.

    Yields:
        An empty folder to write into.

    Raises:
        StorageError: If a file cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", suffix=_PARTIAL, dir=folder))
    except OSError as error:
        raise write_error(folder, error) from error
    try:
        yield scratch
        for source in sorted(scratch.rglob("*")):
            target = folder / source.relative_to(scratch)
            if source.is_dir():
                target.mkdir(exist_ok=True)
                continue
            sync_file(source)
            (move or os.replace)(source, target)
        sync_folder(folder)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise write_error(folder, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def sync_file(path: Path) -> None:
    """Force a file to the disk."""
    opened = os.open(path, os.O_RDWR)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def sync_folder(path: Path) -> None:
    """Force a folder's entries to the disk, so that a rename survives a power failure."""
    if os.name != "posix":  # Other systems cannot open folders.
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)

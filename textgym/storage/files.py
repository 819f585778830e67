"""Writing files so that a crash or a full disk leaves the old file, or the new one, and no half.

A file is written under another name in the same folder, forced to the disk (``fsync``), and renamed
over the old one; ``rename`` is atomic on POSIX and on Windows. Every failure is reported as a
:class:`textgym.errors.StorageError` that names the file and the cause the system gave.
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
    """The error to raise for an ``OSError`` of the system.

    Args:
        path: The file or folder that was being used.
        error: What the system reported.
        doing: What could not be done, as a past participle.
    """
    cause = error.strerror or str(error) or type(error).__name__
    found = StorageError(
        f"{path} could not be {doing}: {cause}; free some space or choose another folder, and "
        "start again: what was there before is intact"
        if doing == "written"
        else f"{path} could not be {doing}: {cause}"
    )
    found.errno, found.strerror, found.filename = error.errno, cause, str(path)
    return found


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a file that takes the place of another one when the block ends without an error.

    Args:
        path: The file; its folder exists.

    Yields:
        The open file, readable and writable.

    Raises:
        StorageError: If it cannot be written. Then, and after any other exception, the old file is
            as it was and nothing else is left behind.
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
    """Write a value as a JSON file with a final line break, atomically; see :func:`write_bytes`."""
    write_text(path, json.dumps(value, indent=indent) + "\n")


def append(path: str | Path, data: bytes, sync: bool = False) -> None:
    """Append to a file: all of the data, or nothing.

    Args:
        path: The file; made if there is none.
        data: Whole lines.
        sync: Whether to force them to the disk.

    Raises:
        StorageError: If they cannot be written. The file is then cut back to what it was, so that
            no half line is left behind.
    """
    try:
        # Without a buffer: what is written is in the file, and closing writes nothing.
        with open(path, "ab", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            try:
                written = 0
                while written < len(data):  # A disk that is nearly full takes a part of it.
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
    """Write several files of a folder, which take the places of old ones when the block ends.

    Each file is replaced atomically. If the block fails, for a full disk or whatever else, none is.

    Args:
        folder: The folder; made with its parents if there is none.
        move: Puts a finished file in its place, e.g. with a digest; default: renames it.

    Yields:
        An empty folder next to it to write into.

    Raises:
        StorageError: If something cannot be written.
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
    """Force the names in a folder to the disk, so that a rename survives a power cut."""
    if os.name != "posix":  # Elsewhere folders cannot be opened.
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)

"""The file of results, cells.jsonl: one line per cell, written atomically.

A cell is an experiment, an agent and a seed. Its line is written at once when it is finished and
forced to the disk, so a runner may be killed at any moment: it leaves whole lines and possibly half
a line, which is cut off when a runner next opens or writes the file.

Several runners may share a folder. A writer locks byte 0 of the file cells.lock, and a runner of a
cell locks that cell's byte; the operating system releases both when a process ends, however it
ends. These are POSIX record locks: a process has one `Store` of a folder, as closing
another one would release them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from textgym.errors import DataError
from textgym.storage.files import append, replacing, write_error

CELLS = "cells.jsonl"

Record = dict[str, Any]
"""A line of the file: a cell and its result."""


class Key(NamedTuple):
    """The key of a cell."""

    suite: str
    experiment: str
    agent: str
    seed: int

    def __str__(self) -> str:
        return f"{self.experiment}, {self.agent}, seed {self.seed}"


def key_of(record: Mapping[str, Any]) -> Key:
    """The key of a record's cell."""
    return Key(record["suite"], record["experiment"], record["agent"], record["seed"])


def read(folder: Path) -> list[Record]:
    """The whole lines of a folder's cells.jsonl, which is not changed; runners may be active.

    Raises:
        DataError: If the file does not exist or has another format.
    """
    file = folder / CELLS
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(
            f"{file}: {error.strerror}; give the --out folder of python -m benchmarks run"
        ) from error
    return list(_parse(file, data[: data.rfind(b"\n") + 1]).values())


class Store:
    """A folder's cells, for a runner.

    Args:
        folder: The folder; made if need be.

    Raises:
        DataError: If a line of cells.jsonl is not a cell.
        StorageError: Here and in every method, if the folder or a file in it cannot be written;
            earlier lines are intact.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / CELLS
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / "cells.lock", os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise write_error(folder, error) from error
        with self._writing():
            pass

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    def records(self) -> dict[Key, Record]:
        """All current cells, those of other runners included."""
        with self._writing() as records:
            return records

    def put(self, record: Record) -> None:
        """Add a cell; it replaces one of the same key."""
        with self._writing() as records:
            if key_of(record) in records:
                self._rewrite({**records, key_of(record): record})
                return
            append(self.file, _line(record), sync=True)

    def drop(self, keys: Iterable[Key]) -> None:
        """Forget cells."""
        gone = set(keys)
        with self._writing() as records:
            self._rewrite({key: record for key, record in records.items() if key not in gone})

    def claim(self, key: Key) -> bool:
        """Lock a cell for this process; False if another process works on it."""
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(key))
        except OSError:
            return False
        return True

    def release(self, key: Key) -> None:
        """Let others work on the cell."""
        fcntl.lockf(self._lock, fcntl.LOCK_UN, 1, _place(key))

    @contextmanager
    def _writing(self) -> Iterator[dict[Key, Record]]:
        """Lock the file; cut off half a last line, and read the others."""
        fcntl.lockf(self._lock, fcntl.LOCK_EX, 1, 0)
        try:
            try:
                with self.file.open("a+b") as file:
                    file.seek(0)
                    data = file.read()
                    whole = data.rfind(b"\n") + 1
                    if whole < len(data):
                        file.truncate(whole)
                        os.fsync(file.fileno())
            except OSError as error:
                raise write_error(self.file, error) from error
            yield _parse(self.file, data[:whole])
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN, 1, 0)

    def _rewrite(self, records: Mapping[Key, Record]) -> None:
        """Replace the file atomically."""
        with replacing(self.file) as file:
            file.writelines(map(_line, records.values()))


def _line(record: Record) -> bytes:
    return json.dumps(record, allow_nan=False).encode() + b"\n"


def _place(key: Key) -> int:
    """The byte of the lock file for a cell; byte 0 is for writing."""
    digest = hashlib.sha256(json.dumps(key).encode()).digest()
    return 1 + int.from_bytes(digest[:6], "big")


def _parse(file: Path, data: bytes) -> dict[Key, Record]:
    """Whole lines to records; of two with one key the later one counts."""
    found: dict[Key, Record] = {}
    for line in data.splitlines():
        try:
            record = json.loads(line)
            found[key_of(record)] = record
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{file}: the line {line[:60]!r} is not a cell ({type(error).__name__}: {error}); "
                "remove it, or give another folder"
            ) from error
    return found

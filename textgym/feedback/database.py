"""The SQLite file behind a store: opening, transactions, and the tables.

Tables only grow: triggers refuse updates and deletions. The journal is written ahead (WAL) and
synchronised at every commit, so that a committed row survives a crash of the process and of the
machine. Several processes may use the file at once, on one machine: WAL needs shared memory, which
network file systems do not have.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from textgym.errors import StorageError

VERSION = 1
"""Version of the tables, the file's ``user_version``."""

_APPLICATION = 0x74676662
"""The file's ``application_id``: "tgfb"."""

_PATIENCE = 30.0
"""Seconds to wait for other processes."""

_TABLES = ("items", "forms", "judgements", "undone", "retired", "annotators")
_SCHEMA = """
CREATE TABLE items (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    prompt TEXT NOT NULL,          -- a JSON string, like all texts
    texts TEXT NOT NULL,           -- a JSON list
    columns TEXT NOT NULL,         -- a JSON object
    policy_version TEXT NOT NULL,
    priority REAL NOT NULL,
    created REAL NOT NULL
);
CREATE TABLE forms (               -- an item that was shown to a person
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    token TEXT NOT NULL UNIQUE,
    item INTEGER NOT NULL REFERENCES items,
    annotator TEXT NOT NULL,
    texts_order TEXT NOT NULL,     -- a JSON list: the texts from left to right
    repeat INTEGER NOT NULL,
    created REAL NOT NULL
);
CREATE TABLE judgements (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    token TEXT NOT NULL UNIQUE REFERENCES forms (token),
    item INTEGER NOT NULL REFERENCES items,
    annotator TEXT NOT NULL,
    value TEXT NOT NULL,           -- a JSON object
    texts_order TEXT NOT NULL,
    repeat INTEGER NOT NULL,
    seconds REAL NOT NULL,
    created REAL NOT NULL
);
CREATE TABLE undone (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    judgement INTEGER NOT NULL UNIQUE REFERENCES judgements,
    created REAL NOT NULL
);
CREATE TABLE retired (             -- items of these versions are not shown any more
    policy_version TEXT PRIMARY KEY,
    created REAL NOT NULL
);
CREATE TABLE annotators (          -- names that are taken
    name TEXT PRIMARY KEY,
    created REAL NOT NULL
);
CREATE INDEX items_by_priority ON items (kind, priority DESC, id);
CREATE INDEX forms_by_annotator ON forms (annotator, id);
CREATE INDEX forms_by_item ON forms (item);
CREATE INDEX judgements_by_annotator ON judgements (annotator, id);
CREATE INDEX judgements_by_item ON judgements (item);
"""


class Database:
    """The file of a store.

    One connection is shared by the threads of a process; a process that was forked opens another.

    Args:
        path: The file.
        create: Whether to make the file, and its folder, if it does not exist.

    Raises:
        StorageError: If the file cannot be opened, is not a store, or is of a newer version.
    """

    def __init__(self, path: str | Path, create: bool = True) -> None:
        self.path = Path(path).expanduser()
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._process = 0
        if not self.path.exists():
            if not create:
                raise StorageError(
                    f"the store {self.path} does not exist; give the file of an old one"
                )
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StorageError(f"{self.path} could not be made: {error.strerror}") from error
        with self._errors():
            self._open()

    def read(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query.

        Raises:
            StorageError: If the file cannot be read.
        """
        with self._lock, self._errors():
            return self._open().execute(query, values).fetchall()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Run a transaction, which is committed and synchronised when the block ends.

        Nobody else writes during the block. If it raises, nothing is changed.

        Raises:
            StorageError: If the file cannot be written.
        """
        with self._lock, self._errors():
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # The transaction may have ended by itself.
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the connection; the next access opens it again."""
        with self._lock:
            if self._connection is not None and self._process == os.getpid():
                self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and self._process == os.getpid():
            return self._connection
        # Transactions are explicit (isolation_level=None), and the lock above serves the threads.
        connection = sqlite3.connect(
            self.path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._connection, self._process = connection, os.getpid()
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")  # A snapshot, since another process may be making the tables.
        version, kind, tables = _identity(connection)
        connection.execute("COMMIT")
        if version == VERSION and kind == _APPLICATION:
            _configure(connection)
            return
        if version or kind or tables:
            self._check(version, kind)
        _configure(connection)
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _identity(connection)[0] == 0:  # Another process may have made the tables.
                for statement in _SCHEMA.split(";\n"):
                    connection.execute(statement)
                for name in _TABLES:
                    for change in ("UPDATE", "DELETE"):
                        connection.execute(
                            f"CREATE TRIGGER {name}_no_{change.lower()} BEFORE {change} ON {name} "
                            "BEGIN SELECT RAISE(ABORT, 'a store is append-only'); END"
                        )
                connection.execute(f"PRAGMA application_id = {_APPLICATION}")
                connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    def _check(self, version: int, kind: int) -> None:
        if kind != _APPLICATION:
            raise StorageError(
                f"{self.path} is an SQLite file of another program, not a store of judgements; "
                "give another file"
            )
        raise StorageError(
            f"{self.path} was written by a newer version of textgym (tables {version}; this one "
            f"knows {VERSION}); update textgym, or give another file"
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            message = str(error)
            advice = "check the disk and the rights of the file and its folder"
            if "not a database" in message or "malformed" in message:
                advice = "it is damaged or not a store; restore it from a copy"
            elif "locked" in message:
                advice = "another program keeps it locked; end that program, and try again"
            raise StorageError(f"{self.path} could not be used: {message}; {advice}") from error


def _identity(connection: sqlite3.Connection) -> tuple[int, int, int]:
    """Return the version, the application, and the number of tables."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return version, application, tables


def _configure(connection: sqlite3.Connection) -> None:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            # SQLite does not wait for other processes when the mode of the journal changes.
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.02)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")

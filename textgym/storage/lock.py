"""A lock that allows one run per folder, and that ends with its process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from textgym.errors import SettingsError, StorageError
from textgym.storage.files import write_error

LOCK = "textgym.lock"
"""The lock file, which may remain in the folder without being locked."""


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Lock a folder against other runs while the block runs.

    The operating system releases the lock when the process ends, so a crash leaves no stale lock.

    Args:
        folder: An existing folder.

    Raises:
        SettingsError: If another run, in this process or another one, is using the folder.
        StorageError: If the folder cannot be locked.
    """
    lock = FileLock(Path(folder) / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise SettingsError(
            f"{folder} is in use by another run, which may still be training; wait for it to end, "
            "or stop it"
        ) from None
    except StorageError:
        raise
    except OSError as error:
        raise write_error(folder, error, "locked") from error
    try:
        yield
    finally:
        lock.release()

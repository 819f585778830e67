"""One run per folder, by a lock that ends with the process that holds it, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from textgym.errors import SettingsError, StorageError
from textgym.storage.files import write_error

LOCK = "textgym.lock"
"""The file in the folder whose lock is taken; it may stay there and means nothing by itself."""


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Keep other runs out of a folder while the block runs.

    The operating system drops the lock when the process ends, so a crash leaves nothing to clear.

    Args:
        folder: The folder; it exists.

    Raises:
        SettingsError: If another run, in this process or another one, is using the folder.
        StorageError: If no lock can be taken there.
    """
    lock = FileLock(Path(folder) / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise SettingsError(
            f"{folder} is in use by another run, which may still be training; wait for it to end, "
            "or stop it first"
        ) from None
    except StorageError:
        raise
    except OSError as error:
        raise write_error(folder, error, "locked") from error
    try:
        yield
    finally:
        lock.release()

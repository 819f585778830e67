"""The file that episodes are appended to, one JSON object per line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from textgym.errors import DataError, SettingsError
from textgym.storage.files import append, write_error

# The first bytes of each line.
_START = b'{"episode": '

_CHUNK = 1 << 16


class EpisodeFile:
    """A file of episodes.

    The file is open only while it is read or written. An incomplete last line, which a killed run
    may have left, is removed when this object is made.

    Args:
        path: The file; made with its folder if it does not exist.

    Attributes:
        path: The file.
        next: The number of the next episode when this object was made.

    Raises:
        SettingsError: If the file cannot be written, or holds anything but episodes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._cut: tuple[int, int] | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a+b") as file:
                self.next = self._repair(file)
        except OSError as error:
            raise SettingsError(f"RecordEpisodes cannot write to {path}: {error}") from error

    def append(self, episodes: Sequence[Mapping[str, Any]]) -> None:
        """Write some episodes, whose first key is ``episode``: all of them, or none.

        Raises:
            StorageError: If they cannot be written; the file is then unchanged.
        """
        if not episodes:
            return
        lines = [json.dumps(each, ensure_ascii=False, allow_nan=False) for each in episodes]
        # JSON can escape a lone surrogate, which UTF-8 cannot encode.
        data = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
        if self._cut is not None:
            try:
                self._truncate(*self._cut)
            except OSError as error:
                raise write_error(self.path, error) from error
            self._cut = None
        append(self.path, data)

    def get_state(self) -> dict[str, Any]:
        """The file's name and size."""
        try:
            size = self.path.stat().st_size if self.path.exists() else 0
        except OSError as error:
            raise write_error(self.path, error, "read") from error
        return {"name": self.path.name, "size": size if self._cut is None else self._cut[0]}

    def set_state(self, state: Mapping[str, Any], episode: int) -> None:
        """Restore a state of `get_state`: the next write replaces all lines after it.

        Args:
            state: The state; ignored if it is of another file.
            episode: The number of the next episode.
        """
        same = state["name"] == self.path.name
        self._cut = (int(state["size"]), episode) if same else None

    def _truncate(self, size: int, episode: int) -> None:
        if self.path.exists():
            with self.path.open("r+b") as file:
                if file.seek(0, 2) > size and -1 <= _number_before(file, size) < episode:
                    file.truncate(size)

    def _repair(self, file: BinaryIO) -> int:
        """Remove an incomplete last line; returns the number of the next episode."""
        size = file.seek(0, 2)
        end = _line_start(file, size)
        rest = file.read(size - end)
        number = _number_before(file, end)
        if number < -1 or not (rest.startswith(_START) or _START.startswith(rest)):
            raise SettingsError(
                f"RecordEpisodes: {self.path} does not hold episodes of RecordEpisodes; "
                "nothing was written, choose another file"
            )
        file.truncate(end)
        return number + 1


def _number_before(file: BinaryIO, end: int) -> int:
    """The number of the episode whose line ends at a position; -1 at 0, -2 if it is not one."""
    if not end:
        return -1
    start = _line_start(file, end - 1)
    line = file.read(end - start)
    try:
        number = json.loads(line)["episode"]
    except (ValueError, TypeError, KeyError):
        return -2
    valid = line.startswith(_START) and line.endswith(b"\n") and type(number) is int
    return number if valid else -2


def _line_start(file: BinaryIO, end: int) -> int:
    """Seek to the start of the line that ends at `end`, and return it."""
    while end > 0:
        start = max(0, end - _CHUNK)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return file.seek(start + found + 1)
        end = start
    return file.seek(0)


def plain(value: Any, column: str) -> Any:
    """A value as JSON-serializable values.

    Raises:
        DataError: If JSON cannot represent it.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [plain(item, column) for item in value]
    if isinstance(value, dict):
        if all(isinstance(key, str | int | float) for key in value):
            return {str(key): plain(item, column) for key, item in value.items()}
        value = next(key for key in value if not isinstance(key, str | int | float))
    kind = type(value)
    raise DataError(
        f"RecordEpisodes: the column {column!r} holds a {kind.__module__}.{kind.__qualname__}, "
        f"which JSON cannot represent; leave it out: RecordEpisodes(..., without=[{column!r}])"
    )

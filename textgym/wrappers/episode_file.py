"""The file that episodes are appended to, a line of JSON each."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from textgym.errors import DataError, SettingsError
from textgym.storage.files import append, write_error

_START = b'{"episode": '
"""How each line begins."""

_CHUNK = 1 << 16


class EpisodeFile:
    """A file of episodes.

    It is open only while it is written or read. Its end is repaired when this object is made: a run
    that was killed may have left half a line.

    Args:
        path: The file; made with its folder if there is none.

    Attributes:
        path: The file.
        next: The number of the episode after the last one in it, as of then.

    Raises:
        SettingsError: If it cannot be written, or holds something else than episodes.
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
        """Write some episodes, which begin with their number: all of them, or none.

        Raises:
            StorageError: If they cannot be written; the file is then what it was before.
        """
        if not episodes:
            return
        lines = [json.dumps(each, ensure_ascii=False, allow_nan=False) for each in episodes]
        # A string may hold half a character, which UTF-8 has not, but JSON's escapes have.
        data = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
        if self._cut is not None:
            try:
                self._cut_off(*self._cut)
            except OSError as error:
                raise write_error(self.path, error) from error
            self._cut = None
        append(self.path, data)

    def get_state(self) -> dict[str, Any]:
        """Which file this is, and how long."""
        try:
            size = self.path.stat().st_size if self.path.exists() else 0
        except OSError as error:
            raise write_error(self.path, error, "read") from error
        return {"name": self.path.name, "size": size if self._cut is None else self._cut[0]}

    def set_state(self, state: Mapping[str, Any], episode: int) -> None:
        """Replace the lines that were written after a state of `get_state`, when one is written.

        Args:
            state: The state. That of another file is ignored.
            episode: The number of the episode that comes next.
        """
        same = state["name"] == self.path.name
        self._cut = (int(state["size"]), episode) if same else None

    def _cut_off(self, size: int, episode: int) -> None:
        if self.path.exists():
            with self.path.open("r+b") as file:
                if file.seek(0, 2) > size and -1 <= _number_before(file, size) < episode:
                    file.truncate(size)

    def _repair(self, file: BinaryIO) -> int:
        """Cut off half a line at the end; returns the number of the next episode."""
        size = file.seek(0, 2)
        end = _line_start(file, size)
        half = file.read(size - end)
        number = _number_before(file, end)
        if number < -1 or not (half.startswith(_START) or _START.startswith(half)):
            raise SettingsError(
                f"{self.path} holds something else than the episodes of RecordEpisodes, which does "
                "not append to it; choose another file"
            )
        file.truncate(end)
        return number + 1


def _number_before(file: BinaryIO, end: int) -> int:
    """The number of the episode whose line ends at a position; -1 at 0, and -2 if there is none."""
    if not end:
        return -1
    start = _line_start(file, end - 1)
    line = file.read(end - start)
    try:
        number = json.loads(line)["episode"]
    except (ValueError, TypeError, KeyError):
        return -2
    is_one = line.startswith(_START) and line.endswith(b"\n") and type(number) is int
    return number if is_one else -2


def _line_start(file: BinaryIO, end: int) -> int:
    """Where the line begins that goes up to `end`; the file is left there."""
    at = end
    while at > 0:
        begin = max(0, at - _CHUNK)
        file.seek(begin)
        found = file.read(at - begin).rfind(b"\n")
        if found >= 0:
            return file.seek(begin + found + 1)
        at = begin
    return file.seek(0)


def plain(value: Any, column: str) -> Any:
    """A value as JSON can hold it.

    Raises:
        DataError: If it cannot.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [plain(one, column) for one in value]
    if isinstance(value, dict):
        if all(isinstance(key, str | int | float) for key in value):
            return {str(key): plain(one, column) for key, one in value.items()}
        value = next(key for key in value if not isinstance(key, str | int | float))
    kind = type(value)
    raise DataError(
        f"RecordEpisodes: the column {column!r} holds a {kind.__module__}.{kind.__qualname__}, "
        f"which JSON cannot hold; leave it out: RecordEpisodes(..., without=[{column!r}])"
    )

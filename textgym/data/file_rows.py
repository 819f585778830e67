"""The rows of a file, with the lines they come from; a row that cannot be read keeps its error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textgym.errors import DataError


class FileRows(Sequence[Any]):
    """Rows of a file.

    A row that cannot be read does not spoil the others: its error is raised when it is looked at.

    Args:
        values: The rows; a `DataError` in place of one that cannot be read.
        lines: The line that each begins on, from 1.
    """

    def __init__(self, values: Sequence[Any], lines: Sequence[int]) -> None:
        self._values = values
        self._lines = lines

    def __len__(self) -> int:
        """Number of rows, those that cannot be read included."""
        return len(self._values)

    def __getitem__(self, index: Any) -> Any:
        """The row at a position.

        Raises:
            DataError: If it cannot be read.
        """
        value = self._values[index]
        if isinstance(value, DataError):
            raise DataError(str(value))
        return value

    def place(self, index: int, name: str) -> str:
        """How errors name a row: by its position, its file and its line."""
        return f"row {index} of {name} (line {self._lines[index]})"

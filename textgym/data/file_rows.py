"""The rows of a file, with their lines and errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textgym.errors import DataError


class FileRows(Sequence[Any]):
    """Rows of a file. An invalid row raises its error when it is accessed.

    Args:
        values: The rows, or the `DataError` of an invalid one.
        lines: The first line of each row, counted from 1.
    """

    def __init__(self, values: Sequence[Any], lines: Sequence[int]) -> None:
        self._values = values
        self._lines = lines

    def __len__(self) -> int:
        """Number of rows, invalid ones included."""
        return len(self._values)

    def __getitem__(self, index: Any) -> Any:
        """The row at a position.

        Raises:
            DataError: If it is invalid.
        """
        value = self._values[index]
        if isinstance(value, DataError):
            raise DataError(str(value))
        return value

    def place(self, index: int, name: str) -> str:
        """A row for error messages: index, file and line."""
        return f"row {index} of {name} (line {self._lines[index]})"

"""Strict comma-separated values (RFC 4180, https://www.rfc-editor.org/rfc/rfc4180) in UTF-8.

Python's ``csv`` module splits the records. Even in strict mode it does not locate errors, and
accepts quotes inside of unquoted fields. This module finds the line and character of an error.
"""

from __future__ import annotations

import csv
import io
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from textgym.data.file_rows import FileRows
from textgym.errors import DataError

_QUOTED = re.compile(r'"[^"]*(?:""[^"]*)*"')
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}
_LIMIT = threading.Lock()


class _Record(NamedTuple):
    """A record: its first line, counted from 1, and its fields or its error."""

    line: int
    fields: list[str] | DataError


def read_csv(path: Path, text: str) -> FileRows:
    """Read the rows of CSV text; the first record names the columns.

    Columns are separated by commas, by semicolons or tabs if the first line has no commas, and by
    tabs in a .tsv file. Spaces around column names are removed; values are not changed. Blank lines
    are skipped.

    Args:
        path: The path of the text, for errors.
        text: The text, with the line ends of the file.

    Returns:
        The rows, dictionaries of strings. An invalid row (not CSV, or with too many or too few
        fields) raises its error when it is accessed.

    Raises:
        DataError: If the first line is not CSV, or column names are empty or repeated.
    """
    lines = list(io.StringIO(text, newline=""))
    separator = _separator(path, lines)
    with _LIMIT:
        # A field may have any length. The limit is global.
        before = csv.field_size_limit(min(2**31 - 1, max(2**17, len(text))))
        try:
            records = list(_records(path, lines, separator))
        finally:
            csv.field_size_limit(before)
    if not records:
        return FileRows([], [])
    names = _names(path, records[0])
    values = [_row(path, record, names, separator) for record in records[1:]]
    return FileRows(values, [record.line for record in records[1:]])


def _row(path: Path, record: _Record, names: list[str], separator: str) -> Any:
    fields = record.fields
    if isinstance(fields, DataError) or len(fields) == len(names):
        return fields if isinstance(fields, DataError) else dict(zip(names, fields, strict=True))
    where, counts = f"{path}, line {record.line}", f"({len(fields)} for {len(names)})"
    mark = _SEPARATORS[separator]
    if len(fields) > len(names):
        return DataError(
            f"{where} has more fields than the header has columns {counts}; put quotes around a "
            f"field that holds a {mark}"
        )
    return DataError(
        f"{where} has fewer fields than the header has columns {counts}; the columns are "
        f"{', '.join(map(repr, names))}: write a {mark} for each empty one"
    )


def _separator(path: Path, lines: Sequence[str]) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    header = re.sub(_QUOTED, "", next((line for line in lines if line.strip()), ""))
    if "," in header:
        return ","
    return next((mark for mark in (";", "\t") if mark in header), ",")


def _names(path: Path, header: _Record) -> list[str]:
    where = f"{path}, line {header.line}"
    if isinstance(header.fields, DataError):
        raise header.fields
    names = [name.strip() for name in header.fields]
    for number, name in enumerate(names, 1):
        if not name:
            raise DataError(
                f"{where}: column {number} of {len(names)} has no name; name it, or remove the "
                "column (if it is the index of a pandas data frame, use to_csv(..., index=False))"
            )
        if names.index(name) < number - 1:
            raise DataError(
                f"{where}: columns {names.index(name) + 1} and {number} are both named {name!r}; "
                "rename one of them"
            )
    return names


def _records(path: Path, lines: Sequence[str], separator: str) -> Iterator[_Record]:
    """The records; after an invalid one, reading continues with the line after its first."""
    start = 0
    while start < len(lines):
        reader = csv.reader(
            (lines[i] for i in range(start, len(lines))), delimiter=separator, strict=True
        )
        first = start
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                rest = "".join(lines[first : start + reader.line_num])
                fault: _Fault | str | None = _find_fault(rest, separator) or str(error)
                yield _Record(first + 1, _error(path, first, rest, fault))
                start = first + 1
                break
            end = start + reader.line_num
            record = lines[first] if end == first + 1 else "".join(lines[first:end])
            if '"' in record and (fault := _find_fault(record, separator)) is not None:
                yield _Record(first + 1, _error(path, first, record, fault))
                start = first + 1
                break
            if any(field.strip() for field in fields) or len(fields) > 1 or '"' in record:
                yield _Record(first + 1, fields)
            first = end


class _Fault(NamedTuple):
    """An error in a record.

    Attributes:
        position: Offset of the wrong quote in the record.
        field: Index of the field.
        reason: The error and its fix.
        opened: Offset of the quote that opens the field, if the wrong quote closes it.
    """

    position: int
    field: int
    reason: str
    opened: int | None = None


def _find_fault(text: str, separator: str) -> _Fault | None:
    """The first misplaced quote of a record, if any."""
    start, field = 0, 0
    while True:
        if text.startswith('"', start):
            quoted = _QUOTED.match(text, start)
            end = len(text) if quoted is None else quoted.end()
            if quoted is None or text.startswith('"', end):
                reason = "this quote is never closed; double a quote that is part of the text"
                return _Fault(start, field, reason)
            if end < len(text) and text[end] not in (separator, "\r", "\n"):
                if text[end - 2] == "\\":
                    reason = 'a backslash does not escape a quote in CSV; write \\" as ""'
                else:
                    reason = "text follows the quote that closes the field; double a quote that is"
                    reason += " part of the text"
                return _Fault(end - 1, field, reason, start)
        else:
            ends = [text.find(mark, start) for mark in (separator, "\r", "\n")]
            end = min((position for position in ends if position >= 0), default=len(text))
            stray = text.find('"', start, end)
            if stray >= 0:
                reason = (
                    "a quote in an unquoted field; put the whole field in quotes, and double the "
                    "quotes in it"
                    if text[start:stray].strip()
                    else "there is a space before the quote that opens the field; remove it"
                )
                return _Fault(stray, field, reason)
        if end >= len(text) or text[end] != separator:
            return None
        start, field = end + 1, field + 1


def _error(path: Path, first: int, text: str, fault: _Fault | str | None) -> DataError:
    """The error of a fault, with its line, character and column."""
    if not isinstance(fault, _Fault):
        return DataError(f"{path}, line {first + 1} is not CSV: {fault}")
    line, character = _line_and_character(text, fault.position)
    reason = fault.reason
    if fault.opened is not None and _line_and_character(text, fault.opened)[0] < line:
        # Most likely the quote should have been closed on its line.
        reason = (
            f"the quote that opens here is closed at line {first + line}, character {character}, "
            "where text follows; close it earlier, or double a quote that is part of the text"
        )
        line, character = _line_and_character(text, fault.opened)
    return DataError(
        f"{path}, line {first + line}, character {character}, column {fault.field + 1} is not CSV: "
        f"{reason}"
    )


def _line_and_character(text: str, offset: int) -> tuple[int, int]:
    """The line and the character of an offset, both counted from 1."""
    before = list(io.StringIO(text[:offset], newline=""))
    if not before or before[-1].endswith(("\r", "\n")):
        return len(before) + 1, 1
    return len(before), len(before[-1]) + 1

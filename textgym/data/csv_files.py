"""Comma-separated values, strictly: RFC 4180 (https://www.rfc-editor.org/rfc/rfc4180), UTF-8.

Python's ``csv`` module divides the records; in its strict mode it refuses most of what is not CSV,
but it does not say where, and lets quotes inside of unquoted fields pass. What is wrong with a
record, and at which line and character, is found out here.
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
    """A record: its first line (from 1), and its fields or what is wrong with it."""

    line: int
    fields: list[str] | DataError


def read_csv(path: Path, text: str) -> FileRows:
    """Read the rows of CSV text; the first record names the columns.

    Columns are separated by commas; by semicolons or tabs where the first line has these alone, and
    by tabs in a .tsv file. Spaces around the names of columns do not count. Values stay as they
    are, empty ones are empty strings. Blank lines do not count.

    Args:
        path: Where the text comes from, for errors.
        text: The text, with its line ends as they are in the file.

    Returns:
        The rows, dictionaries of strings. One that is not CSV, or has more or fewer fields than
        there are columns, raises its error when it is looked at.

    Raises:
        DataError: If the first line is not CSV, or a column has no name or the name of another.
    """
    lines = list(io.StringIO(text, newline=""))
    separator = _separator(path, lines)
    with _LIMIT:
        # A field may have any length. The limit is the module's own, for all threads.
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
        f"{', '.join(map(repr, names))}: write a {mark} for each that is empty"
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
                f"{where}: column {number} of {len(names)} has no name; name it, or take the "
                "column out (pandas writes its index so: to_csv(..., index=False) leaves it out)"
            )
        if names.index(name) < number - 1:
            raise DataError(
                f"{where}: columns {names.index(name) + 1} and {number} are both named {name!r}; "
                "rename one of them"
            )
    return names


def _records(path: Path, lines: Sequence[str], separator: str) -> Iterator[_Record]:
    """The records; after one that is not CSV reading goes on with the line after its first."""
    start = 0
    while start < len(lines):
        reader = csv.reader(
            (lines[at] for at in range(start, len(lines))), delimiter=separator, strict=True
        )
        first = start
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                rest = "".join(lines[first : start + reader.line_num])
                fault: _Fault | str | None = _fault(rest, separator) or str(error)
                yield _Record(first + 1, _error(path, first, rest, fault))
                start = first + 1
                break
            end = start + reader.line_num
            record = lines[first] if end == first + 1 else "".join(lines[first:end])
            if '"' in record and (fault := _fault(record, separator)) is not None:
                yield _Record(first + 1, _error(path, first, record, fault))
                start = first + 1
                break
            if any(field.strip() for field in fields) or len(fields) > 1 or '"' in record:
                yield _Record(first + 1, fields)
            first = end


class _Fault(NamedTuple):
    """What is wrong with a record: at which character, in which field, and what to do."""

    at: int
    field: int
    reason: str
    opened: int | None = None


def _fault(text: str, separator: str) -> _Fault | None:
    """The first quote of a record that is not where CSV has quotes, if there is one."""
    at, field = 0, 0
    while True:
        if text.startswith('"', at):
            quoted = _QUOTED.match(text, at)
            end = len(text) if quoted is None else quoted.end()
            if quoted is None or text.startswith('"', end):
                return _Fault(at, field, "this quote is never closed; double a quote that is text")
            if end < len(text) and text[end] not in (separator, "\r", "\n"):
                if text[end - 2] == "\\":
                    reason = 'a backslash does not protect a quote in CSV; write \\" as ""'
                else:
                    reason = "there is text behind the quote that closes the field; double a quote"
                    reason += " that is text"
                return _Fault(end - 1, field, reason, at)
        else:
            ends = [text.find(mark, at) for mark in (separator, "\r", "\n")]
            end = min((one for one in ends if one >= 0), default=len(text))
            stray = text.find('"', at, end)
            if stray >= 0:
                spaced = not text[at:stray].strip()
                reason = (
                    "there is a space before the quote that opens the field; take it out"
                    if spaced
                    else "a quote in a field without quotes; put the whole field in quotes, and "
                    "double the quotes in it"
                )
                return _Fault(stray, field, reason)
        if end >= len(text) or text[end] != separator:
            return None
        at, field = end + 1, field + 1


def _error(path: Path, first: int, text: str, fault: _Fault | str | None) -> DataError:
    """Name the line, the character and the column of a fault."""
    if not isinstance(fault, _Fault):
        return DataError(f"{path}, line {first + 1} is not CSV: {fault}")
    line, character = _position(text, fault.at)
    reason = fault.reason
    if fault.opened is not None and _position(text, fault.opened)[0] < line:
        # More likely than not it was to be closed on its own line.
        reason = (
            f"the quote that opens here is closed at line {first + line}, character {character}, "
            "where text follows; close it earlier, or double a quote that is text"
        )
        line, character = _position(text, fault.opened)
    return DataError(
        f"{path}, line {first + line}, character {character}, column {fault.field + 1} is not CSV: "
        f"{reason}"
    )


def _position(text: str, at: int) -> tuple[int, int]:
    """The line and the character of an offset, both from 1."""
    before = list(io.StringIO(text[:at], newline=""))
    if not before or before[-1].endswith(("\r", "\n")):
        return len(before) + 1, 1
    return len(before), len(before[-1]) + 1

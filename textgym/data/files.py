"""Rows from files (.txt, .jsonl, .csv, .parquet) and from data sets of the Hugging Face hub."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from textgym.data.csv_files import read_csv
from textgym.data.file_rows import FileRows
from textgym.errors import DataError, SplitError, require, shown
from textgym.hub import find_on_hub

_TYPES = (".txt", ".jsonl", ".csv", ".tsv", ".parquet")
_BOM = b"\xef\xbb\xbf"


def read_file(path: Path) -> Sequence[Any]:
    """Read the rows of a .txt (one prompt per line), .jsonl, .csv, .tsv or .parquet file.

    Returns:
        The rows. An invalid row raises a `DataError` with its line when it is accessed.

    Raises:
        DataError: If the file does not exist, or cannot be read.
        MissingDependencyError: If it is a Parquet file and pyarrow is not installed.
    """
    try:
        exists = path.is_file()
    except OSError:  # Longer than a file name can be.
        exists = False
    if not exists:
        raise DataError(
            f"there is no file {str(path)[:200]}; a string is a path, 'hf:NAME', "
            "'reasoning_gym:DATASET' or the id of a task (for one prompt use a list: ['...'])"
        )
    suffix = path.suffix.lower()
    if suffix not in _TYPES:
        raise DataError(f"{path} has an unknown type; use .txt, .jsonl, .csv or .parquet")
    if suffix == ".parquet":
        try:
            return list(require("pyarrow.parquet", "data").read_table(path).to_pylist())
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is not a Parquet file: {error}") from error
    try:
        data = path.read_bytes().removeprefix(_BOM)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if suffix in (".csv", ".tsv"):
        return read_csv(path, _decoded(data, str(path), suffix))
    return _read_lines(path, data, _parse_json if suffix == ".jsonl" else lambda line, _: line)


def _read_lines(path: Path, data: bytes, parse: Callable[[str, str], Any]) -> FileRows:
    """One row per line that is not blank."""
    values: list[Any] = []
    numbers = []
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        value: Any
        try:
            text = _decoded(line, where, path.suffix.lower())
            if not text.strip():
                continue
            value = parse(text, where)
        except DataError as error:
            value = error
        values.append(value)
        numbers.append(number)
    return FileRows(values, numbers)


def _decoded(data: bytes, where: str, suffix: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        place = where if ", line " in where else f"{where}, line {line}"
        encoding = " (it is UTF-16)" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise DataError(
            f"{place} cannot be read as UTF-8 {suffix} text{encoding}: {error.reason} "
            f"{data[error.start : error.start + 1]!r}; save the file as UTF-8"
        ) from error


def _parse_json(line: str, where: str) -> Any:
    """A JSON value; NaN, which Python and pandas write for missing values, becomes None."""
    try:
        return json.loads(line, object_pairs_hook=_unique, parse_constant=_constant)
    except RecursionError:
        raise DataError(f"{where} is nested too deeply to be read; flatten it") from None
    except ValueError as error:
        raise DataError(f"{where} is not JSON: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; repeated keys raise, because all but one of their values would be lost."""
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"an object has the key {repeated!r} twice")
    return result


def _constant(name: str) -> float | None:
    return None if name == "NaN" else float(name)


def read_hub(
    spec: str, split: str, eval_share: float | None = None
) -> tuple[Sequence[Any], str, bool]:
    """Open ``"hf:NAME[:CONFIG][:SPLIT]"`` with the ``datasets`` package.

    Args:
        spec: The data set.
        split: ``"train"``, or ``"eval"`` for the validation or test split.
        eval_share: The share to hold out of a training split without another split.

    Returns:
        The rows, their name, and whether the share has to be held out of them.

    Raises:
        DataError: If the data set cannot be loaded, or lacks the split.
        MissingDependencyError: If ``datasets`` is not installed.
    """
    name, *rest = re.split(r":(?![^\[]*\])", spec.removeprefix("hf:"))  # Not within "train[:100]".
    if not name or len(rest) > 2:
        raise DataError(f"{shown(spec)} is not of the form 'hf:NAME[:CONFIG][:SPLIT]'")
    library = require("datasets", "data")
    # A single part after the name is a split if it has the name of one, else a configuration.
    looks_like_split = rest and rest[-1].partition("[")[0] in ("train", "validation", "test", "dev")
    chosen = rest.pop() if len(rest) == 2 or looks_like_split else None
    config = rest[0] if rest else None
    divided = chosen is not None and chosen.startswith("train") and eval_share is not None
    if chosen is not None and chosen.startswith("train") and split == "eval" and not divided:
        raise SplitError(
            f"{spec!r} names the training split, but the environment has split='eval'; name "
            "another split, omit it, or hold out a share with eval_share="
        )
    try:
        if not Path(name).exists():
            find_on_hub(name, "dataset")
        if chosen is None:
            available = library.get_dataset_split_names(name, config)
            others = [part for part in ("validation", "test", "dev", "eval") if part in available]
            divided = not others and "train" in available and eval_share is not None
            wanted = ["train"] if split == "train" or divided else others
            chosen = next((part for part in wanted if part in available), None)
            if chosen is None:
                raise SplitError(
                    f"{spec!r} has no {split!r} split, only {available}; name one of them"
                )
        rows = library.load_dataset(name, config, split=chosen)
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"the data set {shown(spec)} could not be loaded ({type(error).__name__}: {error}); "
            "check the name, configuration and split, and that the hub or the local folder can be "
            "reached"
        ) from error
    return rows, f"{spec} ({chosen})", divided

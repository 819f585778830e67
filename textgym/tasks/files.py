"""Rows out of files (.txt, .jsonl, .csv, .parquet) and out of data sets of the Hugging Face hub."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from textgym.errors import DataError, require
from textgym.tasks.base import Row


def read_file(path: Path) -> Sequence[Any]:
    """Read the rows of a .txt (one prompt a line), .jsonl, .csv or .parquet file.

    Raises:
        DataError: If there is no such file, or it cannot be read.
        MissingDependencyError: If it is a Parquet file and pyarrow is not installed.
    """
    try:
        exists = path.is_file()
    except OSError:  # A text that is too long for the name of a file.
        exists = False
    if not exists:
        raise DataError(
            f"there is no file {str(path)[:200]}; prompts given as a string are a path, "
            "'hf:NAME', 'reasoning_gym:DATASET' or the id of a task (for one prompt give a list: "
            "['...'])"
        )
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        try:
            return list(require("pyarrow.parquet", "data").read_table(path).to_pylist())
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is not a Parquet file that can be read: {error}") from error
    if suffix not in (".txt", ".jsonl", ".csv"):
        raise DataError(f"{path} has an unknown type; use .txt, .jsonl, .csv or .parquet")
    try:
        with path.open(encoding="utf-8-sig", newline="" if suffix == ".csv" else None) as file:
            if suffix == ".csv":
                return _read_csv(path, csv.DictReader(file))
            lines = [(number, line.rstrip("\n")) for number, line in enumerate(file, 1)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as UTF-8 {suffix} text: {error}") from error
    filled = [(number, line) for number, line in lines if line.strip()]
    if suffix == ".txt":
        return [line for _, line in filled]
    return [_parse_json(line, f"{path}, line {number}") for number, line in filled]


def _read_csv(path: Path, reader: csv.DictReader[str]) -> list[Row]:
    rows = []
    for row in reader:
        if reader.restkey in row:
            raise DataError(
                f"{path}, line {reader.line_num} has more fields than the header has columns; "
                "put quotes around a field that holds a comma"
            )
        rows.append(dict(row))
    return rows


def _parse_json(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise DataError(f"{where} is not JSON: {error}") from error


def read_hub(spec: str, split: str) -> tuple[Sequence[Any], str]:
    """Open ``"hf:NAME[:CONFIG][:SPLIT]"`` with the ``datasets`` package.

    Returns:
        The rows, and what to call them.

    Raises:
        DataError: If the data set cannot be loaded, or lacks the split.
        MissingDependencyError: If ``datasets`` is not installed.
    """
    name, *rest = re.split(r":(?![^\[]*\])", spec.removeprefix("hf:"))  # "train[:100]" stays whole.
    if not name or len(rest) > 2:
        raise DataError(f"{spec!r} is not of the form 'hf:NAME[:CONFIG][:SPLIT]'")
    library = require("datasets", "data")
    # With one part after the name it is a split if it reads like one, else a configuration.
    looks_like_split = rest and rest[-1].partition("[")[0] in ("train", "validation", "test", "dev")
    chosen = rest.pop() if len(rest) == 2 or looks_like_split else None
    config = rest[0] if rest else None
    if chosen is not None and chosen.startswith("train") and split == "eval":
        raise DataError(
            f"{spec!r} names the training split, but the environment is to have the split 'eval'; "
            "name another one, or leave it to the environment"
        )
    try:
        if chosen is None:
            offered = library.get_dataset_split_names(name, config)
            wanted = ("train",) if split == "train" else ("validation", "test", "dev", "eval")
            chosen = next((part for part in wanted if part in offered), None)
            if chosen is None:
                raise DataError(
                    f"{spec!r} has no {split!r} split, only {offered}; name one of them"
                )
        rows = library.load_dataset(name, config, split=chosen)
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"the data set {spec!r} could not be loaded ({type(error).__name__}: {error}); check "
            "the name, configuration and split, and that the hub or the local folder can be reached"
        ) from error
    return rows, f"{spec} ({chosen})"

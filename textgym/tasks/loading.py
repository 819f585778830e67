"""Every kind of ``prompts=`` that a user may write, turned into a source of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from textgym.errors import DataError
from textgym.tasks.base import Row, Task
from textgym.tasks.files import read_file, read_hub
from textgym.tasks.reasoning_gym import ReasoningGymSource
from textgym.tasks.sources import CallableSource, ListSource, Source, TaskSource

PromptSpec: TypeAlias = "Sequence[str] | Sequence[Row] | str | Path | Callable[..., Row] | Task"


def make_source(spec: PromptSpec, split: str = "train") -> Source:
    """Turn any ``prompts=`` into a source of rows.

    Args:
        spec: A list of prompts or rows; the path of a .txt (a prompt a line), .jsonl, .csv or
            .parquet file; ``"hf:NAME[:CONFIG][:SPLIT]"`` for a data set of the Hugging Face hub (or
            a local folder); ``"reasoning_gym:DATASET"``; a function of a numpy Generator; a Task.
        split: ``"train"`` or ``"eval"``. Lists and files have an eval split if their rows have a
            column ``split``; a task that is handed over as an object keeps its own.

    Raises:
        DataError: If the data cannot be read, has no prompts, or lacks the split.
        MissingDependencyError: If reading needs a package that is not installed.
    """
    if isinstance(spec, Task):
        return TaskSource(spec)
    if callable(spec):
        return CallableSource(spec, f"the prompt function {getattr(spec, '__name__', spec)!r}")
    if isinstance(spec, str) and spec.startswith("hf:"):
        return ListSource(*read_hub(spec, split))
    if isinstance(spec, str) and spec.startswith("reasoning_gym:"):
        return ReasoningGymSource(spec.partition(":")[2], split)
    if isinstance(spec, (str, Path)):
        return _of_split(read_file(Path(spec).expanduser()), f"the file {spec}", split)
    if isinstance(spec, Sequence):
        return _of_split(spec, "the list of prompts", split)
    raise DataError(
        f"prompts cannot be a {type(spec).__name__}; give a list of strings or of dictionaries, a "
        "path, 'hf:NAME', 'reasoning_gym:DATASET', a function of a numpy Generator, or a Task"
    )


def _of_split(rows: Sequence[Any], name: str, split: str) -> ListSource:
    """The rows of one split of a list, told apart by their own column ``split``."""
    marked = len(rows) > 0 and isinstance(rows[0], Mapping) and "split" in rows[0]
    if marked:
        rows = [row for row in rows if isinstance(row, Mapping) and row.get("split") == split]
        name = f"the {split} split of {name}"
    elif split != "train":
        raise DataError(
            f"{name} has no {split!r} split; give its rows a column 'split' with 'train' and "
            "'eval', or pass the evaluation prompts as a list or file of their own"
        )
    return ListSource(rows, name)

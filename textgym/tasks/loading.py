"""Every kind of ``prompts=`` that a user may write, turned into a source of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

from textgym.errors import DataError, SettingsError, TaskError
from textgym.tasks.base import Row, Task
from textgym.tasks.files import read_file, read_hub
from textgym.tasks.reasoning_gym import ReasoningGymSource
from textgym.tasks.registry import make_task, registered_tasks
from textgym.tasks.sources import CallableSource, Convert, ListSource, Source, Table, TaskSource

PromptSpec: TypeAlias = (
    "Sequence[str] | Sequence[Row] | Table | str | Path | Callable[..., Row] | Task | type[Task]"
)


def make_source(
    spec: PromptSpec,
    split: str = "train",
    level: int | None = None,
    convert: Convert | None = None,
) -> Source:
    """Turn any ``prompts=`` into a source of rows.

    Args:
        spec: A list of prompts or rows, or anything else with a length and integer indices
            (``datasets.Dataset``); a pandas data frame; the path of a .txt (a prompt a line),
            .jsonl, .csv or .parquet file; ``"hf:NAME[:CONFIG][:SPLIT]"`` for a data set of the
            Hugging Face hub (or a local folder); ``"reasoning_gym:DATASET"``; a function of a numpy
            Generator; a Task, its class or its registered id.
        split: ``"train"`` or ``"eval"``. Lists and files have an eval split if their rows have a
            column ``split``; a task that is handed over as an object keeps its own.
        level: The difficulty of a task that is named by its class or id.
        convert: Brings the raw rows of lists, files and functions into a task's form.

    Raises:
        DataError: If the data cannot be read, has no prompts, or lacks the split.
        TaskError: If a task cannot be made, or has no such level.
        SettingsError: If there is a level, but no class or id of a task.
        MissingDependencyError: If reading needs a package that is not installed.
    """
    if isinstance(spec, type) and issubclass(spec, Task):
        return TaskSource(_instance(spec, level, split))
    if isinstance(spec, str) and spec in registered_tasks():
        return TaskSource(make_task(spec, level, split))
    if level is not None:
        raise SettingsError(
            f"level={level} chooses a built-in task's difficulty, but prompts were given; leave "
            "one of the two out"
        )
    if isinstance(spec, Task):
        return TaskSource(spec)
    if callable(spec):
        name = f"the prompt function {getattr(spec, '__name__', spec)!r}"
        return CallableSource(spec, name, convert)
    if isinstance(spec, str) and spec.startswith("hf:"):
        return ListSource(*read_hub(spec, split), convert)
    if isinstance(spec, str) and spec.startswith("reasoning_gym:"):
        return ReasoningGymSource(spec.partition(":")[2], split)
    if isinstance(spec, (str, Path)):
        return _of_split(read_file(Path(spec).expanduser()), f"the file {spec}", split, convert)
    rows = _table(spec)
    if rows is None:
        raise DataError(
            f"prompts cannot be a {type(spec).__name__}; give a list of strings or of "
            "dictionaries, a data frame, a path, 'hf:NAME', 'reasoning_gym:DATASET', a function "
            "of a numpy Generator, or a Task"
        )
    name = "the list of prompts" if isinstance(spec, (list, tuple)) else type(spec).__name__
    return _of_split(rows, name, split, convert)


def _instance(task: type[Task], level: int | None, split: str) -> Task:
    try:
        return task(level=level, split=split)
    except TypeError as error:  # Abstract methods, or a constructor of its own.
        raise TaskError(
            f"the task class {task.__name__} cannot be made with level={level} and "
            f"split={split!r} ({error}); pass an object of it"
        ) from error


def _table(spec: Any) -> Table | None:
    """The rows of something that holds them one after the other, or None."""
    if hasattr(spec, "columns") and callable(getattr(spec, "to_dict", None)):  # A data frame.
        return cast(Table, spec.to_dict("records"))
    if callable(getattr(spec, "tolist", None)):  # NumPy's arrays, and one column of a data frame.
        spec = spec.tolist()
    indexed = hasattr(spec, "__len__") and hasattr(spec, "__getitem__")
    return spec if indexed and not isinstance(spec, (Mapping, str)) else None


def _of_split(rows: Table, name: str, split: str, convert: Convert | None) -> ListSource:
    """The rows of one split of a list, told apart by their own column ``split``."""
    marked = len(rows) > 0 and isinstance(rows[0], Mapping) and "split" in rows[0]
    if marked:
        every = (rows[index] for index in range(len(rows)))
        rows = [row for row in every if isinstance(row, Mapping) and row.get("split") == split]
        name = f"the {split} split of {name}"
    elif split != "train":
        raise DataError(
            f"{name} has no {split!r} split; give its rows a column 'split' with 'train' and "
            "'eval', or pass the evaluation prompts as a list or file of their own"
        )
    return ListSource(rows, name, convert)

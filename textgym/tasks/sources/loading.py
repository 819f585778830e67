"""Converts every accepted kind of ``prompts=`` to a source of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

from textgym.data.files import read_file, read_hub
from textgym.data.rows import Row
from textgym.errors import DataError, SettingsError, SplitError, TaskError, shown
from textgym.tasks.base import Task
from textgym.tasks.registry import make_task, registered_tasks
from textgym.tasks.sources.base import CallableSource, Convert, Source, Table, TaskSource
from textgym.tasks.sources.lists import ListSource, OnBadRow, list_of_split
from textgym.tasks.sources.mixing import MixedSource, Mixture, is_weighted, mix
from textgym.tasks.sources.reasoning_gym import (
    ReasoningGymObject,
    ReasoningGymSource,
    is_reasoning_gym,
)

PromptSpec: TypeAlias = (
    "Sequence[str] | Sequence[Row] | Table | str | Path | Callable[..., Row] | Task | type[Task] "
    "| Mixture | Mapping[str, float]"
)


def make_source(
    spec: PromptSpec,
    split: str = "train",
    level: int | None = None,
    convert: Convert | None = None,
    *,
    on_bad_row: OnBadRow = "error",
    eval_share: float | None = None,
) -> Source:
    """Convert any ``prompts=`` to a source of rows.

    Args:
        spec: One of:

            * a list of prompts or rows, or any other object with a length and integer indices
              (``datasets.Dataset``);
            * a data frame;
            * the path of a .txt (one prompt per line), .jsonl, .csv, .tsv or .parquet file;
            * ``"hf:NAME[:CONFIG][:SPLIT]"``: a data set of the Hugging Face hub, or a local folder;
            * ``"reasoning_gym:DATASET[?OPTION=VALUE&...]"``, or a data set of that package;
            * a function of a numpy Generator;
            * a Task, its class, or its registered id;
            * several of these: a dictionary from strings to weights, or the result of
              `textgym.mix`.
        split: ``"train"`` or ``"eval"``. See :mod:`textgym.tasks.sources.lists` for the splits of
            lists and files. A Task object keeps its own split.
        level: The difficulty of a task given by its class or id.
        convert: Converts the raw rows of lists, files and functions into a task's format.
        on_bad_row: For unusable rows of lists, files and data sets: ``"error"``, or ``"skip"`` to
            leave them out.
        eval_share: Hold out this share of the prompts for ``split="eval"``, by hash, if lists,
            files, data sets and functions do not define such a split.

    Raises:
        DataError: If the data cannot be read, has no prompts, or lacks the split.
        TaskError: If a task cannot be constructed, or lacks the level.
        SettingsError: If there is a level, but no class or id of a task.
        MissingDependencyError: If a required package is not installed.
    """
    if isinstance(spec, type) and issubclass(spec, Task):
        return TaskSource(_instance(spec, level, split))
    if isinstance(spec, str) and spec in registered_tasks():
        return TaskSource(make_task(spec, level, split))
    if level is not None:
        raise SettingsError(
            f"level={shown(level)} chooses a built-in task's difficulty, but prompts were given; "
            "leave one of the two out"
        )
    if is_weighted(spec):
        spec = mix(cast(Mapping[str, float], spec))
    if isinstance(spec, Mixture):
        parts = [
            make_source(part, split, None, convert, on_bad_row=on_bad_row, eval_share=eval_share)
            for part in spec.sources
        ]
        return MixedSource(parts, spec.weights)
    if isinstance(spec, Task):
        return TaskSource(spec)
    if is_reasoning_gym(spec):
        return _object_source(spec, split, eval_share)
    if callable(spec):
        name = f"the prompt function {shown(getattr(spec, '__name__', spec))}"
        held_out = None if eval_share is None else (eval_share, split == "eval")
        return CallableSource(spec, name, convert, held_out)
    if isinstance(spec, str) and spec.startswith("reasoning_gym:"):
        return ReasoningGymSource(spec.partition(":")[2], split)
    if isinstance(spec, str) and spec.startswith("hf:"):
        rows, name, divided = read_hub(spec, split, eval_share)
        held_out = (eval_share or 0.0, split == "eval") if divided else None
        return ListSource(rows, name, convert, on_bad_row=on_bad_row, held_out=held_out)
    if isinstance(spec, (str, Path)):
        table: Table | None = read_file(Path(spec).expanduser())
        name = f"the file {spec}"
    else:
        table = _table(spec)
        name = "the list of prompts" if isinstance(spec, (list, tuple)) else type(spec).__name__
    if table is None:
        raise DataError(
            f"prompts cannot be a {type(spec).__name__}; give a list of strings or of "
            "dictionaries, a data frame, a path, 'hf:NAME', 'reasoning_gym:DATASET', a function "
            "of a numpy Generator, a Task, or a dictionary of sources to weights"
        )
    return list_of_split(table, name, split, convert, on_bad_row, eval_share)


def _object_source(dataset: Any, split: str, eval_share: float | None) -> ReasoningGymObject:
    if split == "eval" and eval_share is None:
        raise SplitError(
            f"{type(dataset).__name__} has no 'eval' split; pass its name, as "
            "'reasoning_gym:DATASET?OPTION=VALUE', hold out a share of its prompts with "
            "eval_share=0.1 (in both environments), or pass a data set with another seed"
        )
    return ReasoningGymObject(
        dataset, None if eval_share is None else (eval_share, split == "eval")
    )


def _instance(task: type[Task], level: int | None, split: str) -> Task:
    try:
        return task(level=level, split=split)
    except TypeError as error:  # abstract methods, or another constructor
        raise TaskError(
            f"the task class {task.__name__} cannot be made with level={level} and "
            f"split={split!r} ({error}); pass an object instead"
        ) from error


def _table(spec: Any) -> Table | None:
    """The rows of a list, array, table or data frame; None for other objects.

    Raises:
        DataError: If a data frame has duplicate column names.
    """
    if hasattr(spec, "columns") and callable(getattr(spec, "to_dict", None)):  # a pandas data frame
        names = list(spec.columns)
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"the data frame has two columns {twice!r}; rename one of them")
        return cast(Table, spec.to_dict("records"))
    for method in ("to_dicts", "to_pylist"):  # polars data frames, pyarrow tables
        if callable(getattr(spec, method, None)):
            return cast(Table, getattr(spec, method)())
    if callable(getattr(spec, "tolist", None)):  # NumPy arrays, and columns of data frames
        spec = spec.tolist()
    indexed = hasattr(spec, "__len__") and hasattr(spec, "__getitem__")
    return spec if indexed and not isinstance(spec, (Mapping, str)) else None

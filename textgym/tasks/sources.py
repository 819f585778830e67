"""Where prompts come from: every kind of ``prompts=`` becomes a :class:`Source` of rows.

A row is a dictionary with a ``"prompt"`` (str) and any other columns (``"reference"``, ...), which
reward functions receive. A source is either a finite list that is drawn from with replacement, or
an endless generator. Either way a draw depends on nothing but the generator that it is given.

What this module does not do: tokenize, or cut prompts to size (the environment does).
"""

from __future__ import annotations

import copy
import csv
import json
import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from textgym.errors import DataError, near_matches, require
from textgym.rewards.combine import RewardSpec
from textgym.tasks.base import Row, Task

PromptSpec: TypeAlias = "Sequence[str] | Sequence[Row] | str | Path | Callable[..., Row] | Task"

PROMPT_COLUMNS = (
    "prompt",
    "text",
    "question",
    "query",
    "instruction",
    "article",
    "document",
    "dialogue",
    "source",
    "input",
)
"""The prompt is the first of these columns that a data set has."""

REFERENCE_COLUMNS = (
    "reference",
    "references",
    "answer",
    "summary",
    "highlights",
    "target",
    "completion",
    "response",
    "output",
)
"""The reference is the first of these columns that a data set has (it need not have any)."""

RESERVED_COLUMNS = {
    "response",
    "finish_reason",
    "reward_terms",
    "cost",
    "cost_terms",
    "prompt_tokens",
    "completion_ids",
    "episode",
    "final_obs",
    "final_info",
}
"""Keys of the environments' ``info`` (or of Gymnasium's wrappers) that a column cannot have."""


_PLAIN = (str, int, float, bool, type(None))


class Source(ABC):
    """Rows to start episodes from.

    Attributes:
        name: Where the rows come from, for error messages.
        seed_key: Part of every seed, so that no two tasks share their random numbers. It does not
            depend on paths: the same seed draws the same rows on every machine.
        size: Number of rows, or None for an endless source.
    """

    name: str
    seed_key: str
    size: int | None

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Row:
        """A random row."""

    @abstractmethod
    def item(self, index: int) -> Row:
        """The row of one index: always the same one.

        Raises:
            DataError: If a finite source has no such row.
        """

    def adopt(self, row: Row) -> Row:
        """Complete a row that did not come from this source, so that its reward can judge it."""
        return row

    def default_reward(self) -> RewardSpec:
        """What to score with when the user names no reward.

        Similarity to the reference where there is one, else the share of distinct bigrams.
        """
        return "edit_similarity" if "reference" in self.item(0) else "distinct"


class ListSource(Source):
    """A finite list of rows, drawn from uniformly and with replacement.

    Args:
        rows: The prompts, or rows with a prompt column. Anything with a length and integer
            indices will do; rows are looked at when they are drawn.
        name: Where they come from.

    Raises:
        DataError: If there are no rows.
    """

    seed_key = "list"

    def __init__(self, rows: Sequence[Any], name: str) -> None:
        self.name = name
        self.size = len(rows)
        self._rows = rows
        if self.size == 0:
            raise DataError(f"{name} holds no prompts; give at least one")
        self.item(0)  # The commonest mistake, a missing column, shows before the first episode.

    def draw(self, rng: np.random.Generator) -> Row:
        """A uniformly random row."""
        return self.item(int(rng.random() * len(self._rows)))

    def item(self, index: int) -> Row:
        """The row at a position.

        Raises:
            DataError: If there is no such row, or it is no row.
        """
        if not 0 <= index < len(self._rows):
            raise DataError(f"{self.name} has rows 0 to {len(self._rows) - 1}, but not {index}")
        row = as_row(self._rows[index], f"row {index} of {self.name}")
        # Lists in a row go to whoever reads info: they get their own, not the data set's.
        return {
            name: value if isinstance(value, _PLAIN) else copy.deepcopy(value)
            for name, value in row.items()
        }


class CallableSource(Source):
    """An endless source: ``function(rng)`` makes a row (or a prompt) from a generator."""

    seed_key = "function"
    size = None

    def __init__(self, function: Callable[[np.random.Generator], Any], name: str) -> None:
        self.name = name
        self._function = function

    def draw(self, rng: np.random.Generator) -> Row:
        """The next row that the function makes.

        Raises:
            DataError: If the function raises or returns no row.
        """
        try:
            made = self._function(rng)
        except Exception as error:
            raise DataError(
                f"{self.name} raised {type(error).__name__}: {error}; a prompt function takes a "
                "numpy Generator and returns a dictionary with a 'prompt'"
            ) from error
        return as_row(made, f"what {self.name} returned")

    def item(self, index: int) -> Row:
        """The row that the function makes from the index-th seed."""
        seeds = np.random.SeedSequence([zlib.crc32(self.seed_key.encode()), _natural(self, index)])
        return self.draw(np.random.default_rng(seeds))


class TaskSource(Source):
    """The endless rows of a built-in or registered task."""

    size = None

    def __init__(self, task: Task) -> None:
        self.task = task
        self.name = f"{task.id} (level {task.level}, {task.split})"
        self.seed_key = f"{task.id}:{task.level}"

    def draw(self, rng: np.random.Generator) -> Row:
        """A random row of the task's split."""
        return self.task.sample(rng)

    def item(self, index: int) -> Row:
        """The index-th row of the task's split."""
        return self.task.item(_natural(self, index))

    def adopt(self, row: Row) -> Row:
        """Let the task read its columns out of the prompt."""
        return self.task.adopt(row)

    def default_reward(self) -> RewardSpec:
        """The task's own reward."""
        return TaskReward(self.task)


class ReasoningGymSource(Source):
    """A procedural data set of the ``reasoning-gym`` package.

    That package makes item i from ``Random(seed + i)``, so data sets with neighbouring seeds share
    nearly all of their items. Here all draws are indices into one data set with seed 0, and the
    two splits take disjoint halves of the indices.

    Raises:
        DataError: If the package has no such data set, or cannot make it with its default options.
    """

    size = None

    # Some data sets prepare all of their items at once, and one cannot make more than 20,000.
    _SIZES = (2**21, 2**14)

    def __init__(self, dataset: str, split: str) -> None:
        library = require("reasoning_gym", "reasoning-gym")
        known = sorted(library.factory.DATASETS)
        if dataset not in known:
            raise DataError(
                f"reasoning-gym has no data set {dataset!r}{near_matches(dataset, known)}"
            )
        self.name = self.seed_key = f"reasoning_gym:{dataset}"
        self._dataset = dataset
        self._split = split
        self._open()

    def _open(self) -> None:
        library = require("reasoning_gym", "reasoning-gym")
        for size in self._SIZES:
            try:
                self._items = library.create_dataset(self._dataset, seed=0, size=size)
                break
            except (AssertionError, ValueError) as error:
                problem = error
        else:
            raise DataError(f"{self.name} cannot be made: {problem}; use another data set")
        self._half = size // 2
        self._offset = self._half if self._split == "eval" else 0

    def draw(self, rng: np.random.Generator) -> Row:
        """A random item of the split."""
        return self.item(int(rng.random() * self._half))

    def item(self, index: int) -> Row:
        """The index-th item of the split, with columns ``reference``, ``metadata``."""
        entry = self._items[self._offset + _natural(self, index) % self._half]
        metadata = entry["metadata"]
        return {"prompt": entry["question"], "reference": entry["answer"], "metadata": metadata}

    def default_reward(self) -> RewardSpec:
        """The data set's own scorer."""
        return self.score

    def score(
        self, prompts: list[str], completions: list[str], **columns: list[Any]
    ) -> list[float]:
        """The data set's own score of each completion, in [0, 1].

        Some of the package's scorers raise on a text that they cannot read; that text gets 0.
        """
        rows = zip(prompts, columns["reference"], columns["metadata"], strict=True)
        entries = [{"question": q, "answer": a, "metadata": m} for q, a, m in rows]
        return [
            self._score_one(completion.strip(), entry)
            for completion, entry in zip(completions, entries, strict=True)
        ]

    def _score_one(self, answer: str, entry: dict[str, Any]) -> float:
        try:
            return float(self._items.score_answer(answer, entry=entry))
        except Exception:
            if answer == entry["answer"]:
                raise
            # A scorer that fails on the reference too is broken, and must not pass for a low score.
            self._score_one(entry["answer"], entry)
            return 0.0

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_items"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()


class TaskReward:
    """A task's reward as a reward function with a name of its own."""

    def __init__(self, task: Task) -> None:
        self.name = "score"
        self.task = task

    def __call__(
        self, prompts: list[str], completions: list[str], **columns: list[Any]
    ) -> Sequence[float | None]:
        """The task's reward of each completion."""
        return self.task.reward(prompts, completions, **columns)


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
        return _from_hub(spec, split)
    if isinstance(spec, str) and spec.startswith("reasoning_gym:"):
        return ReasoningGymSource(spec.partition(":")[2], split)
    if isinstance(spec, (str, Path)):
        return _of_split(_read_file(Path(spec).expanduser()), f"the file {spec}", split)
    if isinstance(spec, Sequence):
        return _of_split(spec, "the list of prompts", split)
    raise DataError(
        f"prompts cannot be a {type(spec).__name__}; give a list of strings or of dictionaries, a "
        "path, 'hf:NAME', 'reasoning_gym:DATASET', a function of a numpy Generator, or a Task"
    )


def as_row(value: Any, where: str) -> Row:
    """Bring one prompt or row into the form ``{"prompt": str, ...}``.

    Raises:
        DataError: If it is neither a string nor a dictionary with a prompt, or a column has a name
            that environments use themselves.
    """
    if isinstance(value, str):
        return {"prompt": value}
    if not isinstance(value, Mapping):
        raise DataError(
            f"{where} is a {type(value).__name__}; a row is a string, or a dictionary with a "
            "'prompt'"
        )
    prompt = next((name for name in PROMPT_COLUMNS if name in value), None)
    if prompt is None:
        raise DataError(
            f"{where} has no prompt: its columns are {sorted(map(str, value))}; name one of them "
            f"'prompt' (or {', '.join(PROMPT_COLUMNS[1:])})"
        )
    if not isinstance(value[prompt], str):
        raise DataError(
            f"{where} has a {type(value[prompt]).__name__} as its {prompt!r}; a prompt is a string"
        )
    row = dict(value)
    row["prompt"] = row.pop(prompt)
    reference = next((name for name in REFERENCE_COLUMNS if name in row), None)
    if reference is not None:
        row["reference"] = row.pop(reference)
    reserved = RESERVED_COLUMNS.intersection(row)
    if reserved:
        raise DataError(
            f"{where} has a column {min(reserved)!r}, a name that environments use themselves; "
            "rename the column"
        )
    return row


def _natural(source: Source, index: int) -> int:
    if index < 0:
        raise DataError(f"{source.name} has no row {index}; indices start at 0")
    return int(index)


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


def _read_file(path: Path) -> Sequence[Any]:
    try:
        exists = path.is_file()
    except OSError:  # A text that is too long for the name of a file.
        exists = False
    if not exists:
        raise DataError(
            f"there is no file {str(path)[:200]}; prompts given as a string are a path, "
            "'hf:NAME' or 'reasoning_gym:DATASET' (for one prompt give a list: ['...'])"
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


def _from_hub(spec: str, split: str) -> ListSource:
    """Read ``"hf:NAME[:CONFIG][:SPLIT]"`` with the ``datasets`` package."""
    name, *rest = re.split(r":(?![^\[]*\])", spec.removeprefix("hf:"))  # "train[:100]" stays whole.
    if not name or len(rest) > 2:
        raise DataError(f"{spec!r} is not of the form 'hf:NAME[:CONFIG][:SPLIT]'")
    library = require("datasets", "data")
    # With one part after the name it is a split if it reads like one, else a configuration.
    looks_like_split = rest and rest[-1].partition("[")[0] in ("train", "validation", "test", "dev")
    chosen = rest.pop() if len(rest) == 2 or looks_like_split else None
    config = rest[0] if rest else None
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
    return ListSource(rows, f"{spec} ({chosen})")

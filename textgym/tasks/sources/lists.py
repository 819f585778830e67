"""Finite lists of rows, checked at construction, and their splits.

Three rules assign rows to splits, in this order:

* Rows with a column ``split`` belong to that split: ``"train"``, or ``"eval"`` (or
  ``"validation"``, ``"valid"``, ``"val"``, ``"dev"``, ``"test"``: the first of these that any row
  has). Rows without a value belong to ``"train"``.
* With ``eval_share=s``, a prompt belongs to ``"eval"`` if its hash is among the lowest share s of
  all hashes, independently of the other prompts. If one side would be empty, the prompt with the
  lowest (or highest) hash goes there.
* Otherwise all rows belong to ``"train"``, and there is no ``"eval"`` split.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from textgym.data.rows import Row, is_missing, prompt_hash
from textgym.errors import DataError, SplitError
from textgym.rewards.combine import RewardSpec
from textgym.tasks.sources.base import Convert, FiniteSource, Table, read_row

OnBadRow: TypeAlias = Literal["error", "skip"]

MAX_CHECKED = 100_000
"""Number of rows that are checked in a table that is not in memory (a data set of the hub)."""

EVAL_NAMES = ("eval", "validation", "valid", "val", "dev", "test")
"""Names of evaluation splits, in order of precedence."""

_TRAIN_NAMES = ("train", "training")

_PLAIN = (str, int, float, bool, type(None))
_MAX_DRAWS = 1000


class ListSource(FiniteSource):
    """A finite list of rows, sampled uniformly with replacement.

    All rows of lists and files are checked at construction. Of other tables, at most `MAX_CHECKED`
    evenly spaced rows are checked.

    Args:
        rows: Prompts, or rows with a prompt column: any object with a length and integer indices.
        name: Their name in errors.
        convert: Converts a raw row into a task's format, before its prompt is read.
        indices: The rows that belong to the source; None for all.
        on_bad_row: ``"error"``, or ``"skip"`` to leave out unusable rows.
        check_only: Positions in `indices` of the rows to check; None for the default above.
        held_out: A share of the prompts, selected by hash, and whether the source is that share
            (True) or the rest (False). None does not split.

    Attributes:
        drawn: ``[size]`` bool, the rows that have been drawn.
        digests: ``[size]`` int64, a hash of each row's content, or None if not yet computed.

    Raises:
        DataError: If `rows` is empty, if a row is unusable and `on_bad_row` is not ``"skip"``, or
            if the prompts cannot be split.
    """

    seed_key = "list"

    def __init__(
        self,
        rows: Table,
        name: str,
        convert: Convert | None = None,
        *,
        indices: Sequence[int] | None = None,
        on_bad_row: OnBadRow = "error",
        check_only: Sequence[int] | None = None,
        held_out: tuple[float, bool] | None = None,
    ) -> None:
        self.name = name
        self.skipped: list[str] = []
        self._convert = convert
        self._rows = rows
        self._skip = on_bad_row == "skip"
        self._referenced = False
        self._indices = np.arange(len(rows)) if indices is None else np.asarray(indices, np.intp)
        if not len(self._indices):
            raise DataError(f"{name} holds no prompts; give at least one")
        if check_only is None:
            in_memory = isinstance(rows, (list, tuple)) or hasattr(rows, "place")
            check_all = in_memory or held_out is not None or len(self._indices) <= MAX_CHECKED
            count = len(self._indices) if check_all else MAX_CHECKED
            check_only = np.linspace(0, len(self._indices) - 1, count).astype(np.intp).tolist()
        self._checked = np.asarray(check_only, dtype=np.intp)
        self._split(*self._check(held_out is not None), held_out)
        self.drawn = np.zeros(self.size, dtype=np.bool_)
        self.digests: NDArray[np.int64] | None = None

    @property
    def size(self) -> int:  # type: ignore[override]
        """Number of rows."""
        return len(self._indices)

    def draw(self, rng: np.random.Generator) -> Row:
        """Draw a uniformly random row.

        Raises:
            DataError: If the row was not checked at construction and is unusable.
        """
        for _ in range(_MAX_DRAWS if self._skip else 1):
            index = int(rng.random() * len(self._indices))
            try:
                row = self.item(index)
            except DataError as error:
                if not self._skip:
                    raise
                problem = error
                continue
            self.drawn[index] = True
            return row
        raise DataError(f"{_MAX_DRAWS} rows in a row of {self.name} cannot be used: {problem}")

    def item(self, index: int) -> Row:
        """Return the row at a position.

        Raises:
            DataError: If there is no such row, or it is unusable.
        """
        if not 0 <= index < len(self._indices):
            raise DataError(f"{self.name} has rows 0 to {len(self._indices) - 1}, but not {index}")
        row = read_row(self._rows[int(self._indices[index])], self.place(index), self._convert)
        # Copies of lists, because `info` exposes them to callers.
        return {
            name: value if isinstance(value, _PLAIN) else copy.deepcopy(value)
            for name, value in row.items()
        }

    def default_reward(self) -> RewardSpec:
        """Similarity to the reference if any row has one, else the share of distinct bigrams."""
        return "edit_similarity" if self._referenced else "distinct"

    def place(self, index: int) -> str:
        """The name of a row in error messages: its position in the data, and its line."""
        return _place(self._rows, int(self._indices[index]), self.name)

    def checked(self) -> Sequence[int]:
        """The indices of the rows that were checked at construction."""
        found: list[int] = self._checked.tolist()
        return found

    def leave_out(self, reasons: Mapping[int, str]) -> None:
        """Remove rows, given as reasons by index.

        Raises:
            DataError: If no row is left.
        """
        self.skipped += reasons.values()
        usable = np.ones(len(self._indices), dtype=np.bool_)
        usable[list(reasons)] = False
        if not usable.any():
            raise DataError(f"no row of {self.name} can be used: {next(iter(reasons.values()))}")
        self._select(usable)

    def _select(self, mask: NDArray[np.bool_]) -> None:
        renumbered = mask.cumsum() - 1
        self._checked = renumbered[self._checked[mask[self._checked]]]
        self._indices = self._indices[mask]
        self.drawn = np.zeros(len(self._indices), dtype=np.bool_)
        self.digests = None

    def _check(self, hashed: bool) -> tuple[dict[int, str], NDArray[np.uint32]]:
        """Check the rows: the errors by index, and a hash of each prompt if `hashed`."""
        bad: dict[int, str] = {}
        hashes = np.zeros(len(self._indices), dtype=np.uint32)
        for index, raw in zip(self._checked.tolist(), self._raw(), strict=True):
            try:
                if isinstance(raw, DataError):
                    raise raw
                row = read_row(raw, self.place(index), self._convert)
            except DataError as error:
                bad[index] = str(error)
                continue
            self._referenced = self._referenced or "reference" in row
            if hashed:
                hashes[index] = prompt_hash(row["prompt"])
        if bad and not self._skip:
            first = next(iter(bad.values()))
            raise DataError(
                f"{first} ({len(bad)} of the {len(self._checked)} rows checked cannot be used; "
                "on_bad_row='skip' leaves them out)"
            )
        return bad, hashes

    def _raw(self) -> Iterable[Any]:
        """The raw rows to check, with an error in place of one that cannot be read."""
        rows = _without_decoding(self._rows)
        if hasattr(rows, "features") and len(self._checked) == len(rows):
            yield from rows  # reads batches: several times faster than single rows
            return
        for index in self._indices[self._checked].tolist():
            try:
                yield rows[index]
            except DataError as error:
                yield error

    def _split(
        self,
        bad: Mapping[int, str],
        hashes: NDArray[np.uint32],
        held_out: tuple[float, bool] | None,
    ) -> None:
        """Remove unusable rows and those on the other side of the split."""
        if bad:
            usable = np.delete(hashes, list(bad))
            self.leave_out(bad)
            hashes = usable
        if held_out is None:
            return
        share, inside = held_out
        within = hashes < share * 2**32
        distinct = np.unique(hashes)
        if len(distinct) < 2:
            raise DataError(
                f"{self.name} has only one distinct prompt, so none can be held out for "
                "evaluation; pass separate evaluation prompts or more prompts, or disable the "
                "split (eval_share=None, or --eval-share 0 for an agent)"
            )
        # If one side is empty, move the prompt next to the border.
        if not within.any():
            within = hashes == distinct[0]
        elif within.all():
            within = hashes != distinct[-1]
        self._select(within == inside)


def _place(rows: Table, index: int, name: str) -> str:
    place = getattr(rows, "place", None)
    return f"row {index} of {name}" if place is None else str(place(index, name))


def _without_decoding(rows: Any) -> Any:
    """Disable the decoding of images and audio in a data set of the ``datasets`` package."""
    features = getattr(rows, "features", None)
    if not isinstance(features, Mapping) or not hasattr(rows, "cast_column"):
        return rows
    for name, feature in features.items():
        if getattr(feature, "decode", False) is True:
            rows = rows.cast_column(name, type(feature)(decode=False))
    return rows


def list_of_split(
    rows: Table,
    name: str,
    split: str,
    convert: Convert | None,
    on_bad_row: OnBadRow,
    eval_share: float | None,
) -> ListSource:
    """Return one split of a list.

    Args:
        rows: The rows.
        name: Their name in errors.
        split: ``"train"`` or ``"eval"``.
        convert: Converts a raw row into a task's format.
        on_bad_row: See `ListSource`.
        eval_share: The share of prompts to hold out if no row is labeled for evaluation.

    Raises:
        DataError: If there is no such split, or a row has an unknown split.
    """
    labels = _labels(rows, name)
    eval_label = next((label for label in EVAL_NAMES if label in labels), None)
    training = [index for index, label in enumerate(labels) if label in ("", "train")]
    held_out = None
    if eval_label is None and eval_share is not None:
        held_out = (eval_share, split == "eval")
    elif split == "eval" and eval_label is None and "train" not in labels:
        raise SplitError(
            f"{name} has no 'eval' split; give its rows a column 'split' with 'train' and 'eval', "
            "hold out a share of the prompts with eval_share=0.1 (in both environments), or pass "
            "the evaluation prompts as a separate list or file"
        )
    chosen = training
    if split == "eval" and held_out is None:
        chosen = [index for index, label in enumerate(labels) if label and label == eval_label]
        if not chosen:
            raise SplitError(
                f"the eval split of {name} holds no prompts; label rows with 'eval' in the column "
                "'split', or hold out a share with eval_share=0.1 (in both environments)"
            )
    all_rows = len(chosen) == len(labels)
    return ListSource(
        rows,
        name if all_rows else f"the {split} split of {name}",
        convert,
        indices=None if all_rows else chosen,
        on_bad_row=on_bad_row,
        held_out=held_out,
    )


def _labels(rows: Any, name: str) -> list[str]:
    """The split of each row: ``"train"``, one of `EVAL_NAMES`, or ``""`` for none."""
    columns = getattr(rows, "column_names", None)
    if isinstance(columns, list):  # a data set of the hub, whose columns can be read separately
        values = list(rows["split"]) if "split" in columns else [None] * len(rows)
    else:
        values = [_split_of(rows, index) for index in range(len(rows))]
    return [
        "" if is_missing(value) else _known(value, f"row {index} of {name}")
        for index, value in enumerate(values)
    ]


def _split_of(rows: Table, index: int) -> Any:
    try:
        row = rows[index]
    except DataError:  # reported with the other unusable rows
        return None
    return row.get("split") if isinstance(row, Mapping) else None


def _known(value: Any, where: str) -> str:
    # Names on the hub include "train_sft" and "test-clean".
    word = re.split(r"[^a-z]", value.strip().lower())[0] if isinstance(value, str) else None
    if word == "":
        return ""
    if word in _TRAIN_NAMES:
        return "train"
    if word in EVAL_NAMES:
        return word
    raise DataError(
        f"{where} has the split {value!r}; use 'train' or 'eval' (or 'validation', 'test'), or "
        "rename the column if it has another meaning"
    )

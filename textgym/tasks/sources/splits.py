"""Which rows of a list are for training, and which for evaluation.

Three rules, in this order:

* rows with a column ``split`` belong where it says: ``"train"``, or ``"eval"`` (or
  ``"validation"``, ``"valid"``, ``"val"``, ``"dev"``, ``"test"``: the first of these that any row
  has). A row without a value belongs to ``"train"``;
* with ``eval_share=s``, a prompt belongs to ``"eval"`` if its hash is among the lowest share s of
  all hashes, whatever the other prompts are. If that leaves one side empty, the prompt with the
  lowest (or highest) hash goes there;
* otherwise all rows are for training, and there is no ``"eval"`` split.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from textgym.data.rows import is_missing
from textgym.errors import DataError, SplitError
from textgym.tasks.sources.base import Convert, Table
from textgym.tasks.sources.lists import ListSource, OnBadRow

EVAL_NAMES = ("eval", "validation", "valid", "val", "dev", "test")
"""What an evaluation split is called, in the order in which it is looked for."""

_TRAIN_NAMES = ("train", "training")


def list_of_split(
    rows: Table,
    name: str,
    split: str,
    convert: Convert | None,
    on_bad_row: OnBadRow,
    eval_share: float | None,
) -> ListSource:
    """The rows of one split of a list.

    Args:
        rows: The rows.
        name: Where they come from.
        split: ``"train"`` or ``"eval"``.
        convert: Brings a raw row into a task's form.
        on_bad_row: As for `ListSource`.
        eval_share: The share of prompts to hold out where no row is marked for evaluation.

    Raises:
        DataError: If there is no such split, or a row names another one.
    """
    labels = _labels(rows, name)
    marked = next((one for one in EVAL_NAMES if one in labels), None)
    training = [index for index, label in enumerate(labels) if label in ("", "train")]
    held_out = None
    if marked is None and eval_share is not None:
        held_out = (eval_share, split == "eval")
    elif split == "eval" and marked is None and "train" not in labels:
        raise SplitError(
            f"{name} has no 'eval' split; give its rows a column 'split' with 'train' and 'eval', "
            "hold a share of the prompts out with eval_share=0.1 (in both environments), or pass "
            "the evaluation prompts as a list or file of their own"
        )
    chosen = training
    if split == "eval" and held_out is None:
        chosen = [index for index, label in enumerate(labels) if label and label == marked]
        if not chosen:
            raise SplitError(
                f"the eval split of {name} holds no prompts; mark rows with 'eval' in the column "
                "'split', or hold a share out with eval_share=0.1 (in both environments)"
            )
    whole = len(chosen) == len(labels)
    return ListSource(
        rows,
        name if whole else f"the {split} split of {name}",
        convert,
        indices=None if whole else chosen,
        on_bad_row=on_bad_row,
        held_out=held_out,
    )


def _labels(rows: Any, name: str) -> list[str]:
    """The split that each row names: ``"train"``, one of `EVAL_NAMES`, or ``""`` for none."""
    columns = getattr(rows, "column_names", None)
    if isinstance(columns, list):  # A data set of the hub, whose columns can be read alone.
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
    except DataError:  # It is reported with the other rows that cannot be read.
        return None
    return row.get("split") if isinstance(row, Mapping) else None


def _known(value: Any, where: str) -> str:
    # The hub has names such as "train_sft" and "test-clean".
    word = re.split(r"[^a-z]", value.strip().lower())[0] if isinstance(value, str) else None
    if word == "":
        return ""
    if word in _TRAIN_NAMES:
        return "train"
    if word in EVAL_NAMES:
        return word
    raise DataError(
        f"{where} has the split {value!r}; use 'train' or 'eval' (or 'validation', 'test'), and "
        "give a column that means something else another name"
    )

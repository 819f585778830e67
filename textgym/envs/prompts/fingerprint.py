"""Comparison of the prompts of a resumed environment with those of its saved state.

The rows of a list are compared by content. A file may be corrected between two runs: rows may be
added, and rows that no episode has started from may change. Rows that were drawn must be the same.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textgym.data.rows import Row
from textgym.errors import DataWarning, TextGymError
from textgym.storage.json_values import to_plain
from textgym.tasks.sources.base import Source
from textgym.tasks.sources.lists import MAX_CHECKED, ListSource


def plain_row(row: Row, where: str) -> dict[str, Any]:
    """A row as JSON-serializable values.

    Raises:
        DataError: If JSON cannot represent a column.
    """
    return {
        column: to_plain(value, f"{where}: the column {column!r}") for column, value in row.items()
    }


def rows_state(source: Source) -> dict[str, Any]:
    """The sizes of a source's lists, a hash of each row, and which rows were drawn.

    Empty if the source has no lists, or one that is too long.
    """
    lists = _lists(source)
    if not lists:
        return {}
    return {
        "list_sizes": [one.size for one in lists],
        "row_hashes": np.concatenate([_digests(one) for one in lists]),
        "row_drawn": np.concatenate([one.drawn for one in lists]),
    }


def accept_rows(
    source: Source, state: Mapping[str, Any], name: str
) -> list[NDArray[np.bool_]] | None:
    """The rows of a source that had been drawn when a state was saved.

    Warns with a `DataWarning` if other rows have changed.

    Args:
        source: The source.
        state: The state of an environment, with the entries of `rows_state`.
        name: The environment's name.

    Returns:
        A mask of the drawn rows for each list; None if a drawn row has changed.
    """
    lists = _lists(source)
    sizes = state["list_sizes"]
    if not lists or len(sizes) != len(lists):
        return None
    if not sum(sizes) == len(state["row_hashes"]) == len(state["row_drawn"]):
        raise ValueError("wrong number of rows of prompts")
    ends = np.cumsum(sizes)[:-1]
    hashes = np.split(np.asarray(state["row_hashes"], dtype=np.int64), ends)
    drawn = np.split(np.asarray(state["row_drawn"], dtype=np.bool_), ends)
    found: list[NDArray[np.bool_]] = []
    changed = 0
    for rows, old, old_drawn in zip(lists, hashes, drawn, strict=True):
        new = _digests(rows)
        new_drawn = _match_rows(new, old, old_drawn)
        if new_drawn is None:
            return None
        found.append(new_drawn)
        changed += len(new) - int(np.isin(new, old).sum())
    if changed:
        warnings.warn(
            f"{name}: {changed} rows of prompts were changed or added since the state was saved; "
            "no episode had started from them, so training continues with the new rows",
            DataWarning,
            stacklevel=2,
        )
    return found


def mark_drawn(source: Source, drawn: Sequence[NDArray[np.bool_]]) -> None:
    """Mark the rows as drawn that `accept_rows` returned."""
    for rows, mask in zip(_lists(source) or (), drawn, strict=False):
        rows.drawn[:] = mask


def _match_rows(
    new: NDArray[np.int64], old: NDArray[np.int64], drawn: NDArray[np.bool_]
) -> NDArray[np.bool_] | None:
    """The mask `drawn` of the old rows for the new rows; None if a drawn row has changed."""
    if len(new) == len(old):
        return None if (drawn & (new != old)).any() else drawn
    # Rows were added, so that the old ones have to be a subsequence of the new ones.
    found = np.zeros(len(new), dtype=np.bool_)
    matched = 0
    for index, digest in enumerate(new.tolist()):
        if matched < len(old) and digest == int(old[matched]):
            found[index] = drawn[matched]
            matched += 1
    return found if matched == len(old) else None


def _lists(source: Source) -> list[ListSource] | None:
    """The lists of a source; None if it has none, or one is too long to compare."""
    lists = [one for one in source.lists() if isinstance(one, ListSource)]
    if not lists or any(one.size > MAX_CHECKED for one in lists):
        return None
    return lists


def _digests(rows: ListSource) -> NDArray[np.int64]:
    """A 63-bit hash of each row, computed once; 0 if JSON cannot represent the row."""
    if rows.digests is None:
        rows.digests = np.array(
            [_digest(rows, index) for index in range(rows.size)], dtype=np.int64
        )
    return rows.digests


def _digest(rows: ListSource, index: int) -> int:
    try:
        plain = plain_row(rows.item(index), rows.place(index))
    except TextGymError:
        return 0
    text = json.dumps(plain, sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1

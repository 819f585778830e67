"""Whether the prompts of a resumed environment are those that it has drawn from so far.

The rows of a list are compared one by one, by content. A file may have been mended between two
runs: a row that no episode started from may be another one, and rows may have been added (those
that were left out as they could not be used, say). What was drawn has to be what it was.
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
    """A row as JSON can hold it.

    Raises:
        DataError: If a column cannot be written.
    """
    return {
        column: to_plain(value, f"{where}: the column {column!r}") for column, value in row.items()
    }


def rows_state(source: Source) -> dict[str, Any]:
    """The sizes of a source's lists, a hash of each row, and which were drawn.

    Nothing where it has no lists, or one that is too long.
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
    """Whether a source can take the place of the one that a state was taken with.

    If it differs, but not in what was drawn, a `DataWarning` says so.

    Args:
        source: The source.
        state: The state of an environment, with the entries of `rows_state`.
        name: The environment's name.

    Returns:
        For each of its lists the rows that had been drawn; None if it cannot.
    """
    lists = _lists(source)
    sizes = state["list_sizes"]
    if not lists or len(sizes) != len(lists):
        return None
    if not sum(sizes) == len(state["row_hashes"]) == len(state["row_drawn"]):
        raise ValueError("the number of rows of prompts")
    ends = np.cumsum(sizes)[:-1]
    hashes = np.split(np.asarray(state["row_hashes"], dtype=np.int64), ends)
    drawn = np.split(np.asarray(state["row_drawn"], dtype=np.bool_), ends)
    found: list[NDArray[np.bool_]] = []
    changed = 0
    for rows, then, which in zip(lists, hashes, drawn, strict=True):
        now = _digests(rows)
        matched = _matched(now, then, which)
        if matched is None:
            return None
        found.append(matched)
        changed += len(now) - int(np.isin(now, then).sum())
    if changed:
        warnings.warn(
            f"{name}: {changed} rows of prompts were changed or added since the state was taken; "
            "no episode had started from them, so the training continues with them as they are",
            DataWarning,
            stacklevel=2,
        )
    return found


def mark_drawn(source: Source, drawn: Sequence[NDArray[np.bool_]]) -> None:
    """Let rows count as drawn, as `accept_rows` returned them."""
    for rows, mask in zip(_lists(source) or (), drawn, strict=False):
        rows.drawn[:] = mask


def _matched(
    now: NDArray[np.int64], then: NDArray[np.int64], drawn: NDArray[np.bool_]
) -> NDArray[np.bool_] | None:
    """Which rows were drawn, if those that were are what they were; else None."""
    if len(now) == len(then):
        return None if (drawn & (now != then)).any() else drawn
    # Rows were added: the others are all there, in their order.
    found = np.zeros(len(now), dtype=np.bool_)
    at = 0
    for index, digest in enumerate(now.tolist()):
        if at < len(then) and digest == int(then[at]):
            found[index] = drawn[at]
            at += 1
    return found if at == len(then) else None


def _lists(source: Source) -> list[ListSource] | None:
    """The lists of a source; None if there are none, or one is too long to be compared."""
    lists = [one for one in source.lists() if isinstance(one, ListSource)]
    if not lists or any(one.size > MAX_CHECKED for one in lists):
        return None
    return lists


def _digests(rows: ListSource) -> NDArray[np.int64]:
    """A hash of each row, 63 bits; 0 for one that JSON cannot hold. Computed once."""
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

"""Finite lists of rows: looked at whole before an environment is made, then drawn from."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from textgym.data.rows import Row, prompt_hash
from textgym.errors import DataError
from textgym.rewards.combine import RewardSpec
from textgym.tasks.sources.base import Convert, FiniteSource, Table, read_row

OnBadRow: TypeAlias = Literal["error", "skip"]

MAX_CHECKED = 100_000
"""Of tables that are not in memory (a data set of the hub), this many rows are looked at."""

_PLAIN = (str, int, float, bool, type(None))
_MAX_DRAWS = 1000


class ListSource(FiniteSource):
    """A finite list of rows, drawn from uniformly and with replacement.

    All rows are read when the source is made: of lists and files each one, of other tables with
    more than `MAX_CHECKED` rows so many, evenly spread.

    Args:
        rows: The prompts, or rows with a prompt column. Anything with a length and integer
            indices will do.
        name: Where they come from.
        convert: Brings a raw row into a task's form, before its prompt is looked for.
        indices: The rows that belong to the source; None: all.
        on_bad_row: ``"error"``, or ``"skip"`` to leave out rows that cannot be used.
        look_at: Look at these rows alone, by their position in `indices`.
        held_out: A share of the prompts, by hash, and which side of the division the source is:
            True for the share, False for the rest. None does not divide.

    Attributes:
        drawn: ``[size]`` bool, the rows that were drawn so far.
        digests: ``[size]`` a hash of each row's content, once somebody has computed them.

    Raises:
        DataError: If a row cannot be used and `on_bad_row` is not ``"skip"``, or there is none, or
            the prompts cannot be divided.
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
        look_at: Sequence[int] | None = None,
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
        if look_at is None:
            in_memory = isinstance(rows, (list, tuple)) or hasattr(rows, "place")
            whole = in_memory or held_out is not None or len(self._indices) <= MAX_CHECKED
            count = len(self._indices) if whole else MAX_CHECKED
            look_at = np.linspace(0, len(self._indices) - 1, count).astype(np.intp).tolist()
        self._checked = np.asarray(look_at, dtype=np.intp)
        self._divide(*self._look(held_out is not None), held_out)
        self.drawn = np.zeros(self.size, dtype=np.bool_)
        self.digests: NDArray[np.int64] | None = None

    @property
    def size(self) -> int:  # type: ignore[override]
        """Number of rows."""
        return len(self._indices)

    def draw(self, rng: np.random.Generator) -> Row:
        """A uniformly random row.

        Raises:
            DataError: If it is a row that has not been looked at before, and cannot be used.
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
        """The row at a position.

        Raises:
            DataError: If there is no such row, or it is no row.
        """
        if not 0 <= index < len(self._indices):
            raise DataError(f"{self.name} has rows 0 to {len(self._indices) - 1}, but not {index}")
        row = read_row(self._rows[int(self._indices[index])], self.place(index), self._convert)
        # Lists in a row go to whoever reads info: they get their own, not the data set's.
        return {
            name: value if isinstance(value, _PLAIN) else copy.deepcopy(value)
            for name, value in row.items()
        }

    def default_reward(self) -> RewardSpec:
        """Similarity to the reference if any row has one, else the share of distinct bigrams."""
        return "edit_similarity" if self._referenced else "distinct"

    def place(self, index: int) -> str:
        """How errors name the row of an index: by its position in the data, and its line."""
        return _place(self._rows, int(self._indices[index]), self.name)

    def checked(self) -> Sequence[int]:
        """The indices of the rows that were looked at when the source was made."""
        found: list[int] = self._checked.tolist()
        return found

    def leave_out(self, reasons: Mapping[int, str]) -> None:
        """Leave out some rows, by index, each for a reason.

        Raises:
            DataError: If no row is left.
        """
        self.skipped += reasons.values()
        stays = np.ones(len(self._indices), dtype=np.bool_)
        stays[list(reasons)] = False
        if not stays.any():
            raise DataError(f"no row of {self.name} can be used: {next(iter(reasons.values()))}")
        self._keep(stays)

    def _keep(self, stays: NDArray[np.bool_]) -> None:
        renumbered = stays.cumsum() - 1
        self._checked = renumbered[self._checked[stays[self._checked]]]
        self._indices = self._indices[stays]
        self.drawn = np.zeros(len(self._indices), dtype=np.bool_)
        self.digests = None

    def _look(self, hashed: bool) -> tuple[dict[int, str], NDArray[np.uint32]]:
        """Look at the rows: what is wrong with which, and a hash of each prompt if asked for."""
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
                f"{first} ({len(bad)} of the {len(self._checked)} rows that were looked at cannot "
                "be used; on_bad_row='skip' leaves them out)"
            )
        return bad, hashes

    def _raw(self) -> Iterable[Any]:
        """The rows to look at, as they are; an error in place of one that cannot be read."""
        rows = _without_decoding(self._rows)
        if hasattr(rows, "features") and len(self._checked) == len(rows):
            yield from rows  # In batches: several times faster than one by one.
            return
        for index in self._indices[self._checked].tolist():
            try:
                yield rows[index]
            except DataError as error:
                yield error

    def _divide(
        self,
        bad: Mapping[int, str],
        hashes: NDArray[np.uint32],
        held_out: tuple[float, bool] | None,
    ) -> None:
        """Keep the rows of one side of the division, without those that cannot be used."""
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
                "evaluation; give evaluation prompts of their own, more prompts, or no share "
                "(eval_share=None, or --eval-share 0 for an agent)"
            )
        # Few prompts may all have fallen on one side: then the one at the border changes it.
        if not within.any():
            within = hashes == distinct[0]
        elif within.all():
            within = hashes != distinct[-1]
        self._keep(within == inside)


def _place(rows: Table, index: int, name: str) -> str:
    place = getattr(rows, "place", None)
    return f"row {index} of {name}" if place is None else str(place(index, name))


def _without_decoding(rows: Any) -> Any:
    """A data set of the ``datasets`` package whose pictures and sounds stay files."""
    features = getattr(rows, "features", None)
    if not isinstance(features, Mapping) or not hasattr(rows, "cast_column"):
        return rows
    for name, feature in features.items():
        if getattr(feature, "decode", False) is True:
            rows = rows.cast_column(name, type(feature)(decode=False))
    return rows

"""The store of judgements."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from textgym.errors import FeedbackError, shown
from textgym.feedback.database import Database
from textgym.feedback.items import (
    AnsweredError,
    Item,
    Judgement,
    Kind,
    NewItem,
    check_annotator,
    check_value,
    to_json,
)
from textgym.feedback.queries import (
    ABANDONED,
    CURRENT,
    ITEM,
    JUDGEMENT,
    LIVE,
    NEXT,
    OPEN,
    REPEAT_AFTER,
    REPEATABLE,
    add_form,
    add_item,
    item_by_id,
    item_of,
    judgement_of,
    row_of,
)
from textgym.feedback.views import edit_rows, pair_rows, rating_rows, span_rows

REPEATS = 0.05
"""Share of the forms that show an item again that the person has judged before."""


class Shown(NamedTuple):
    """A form: an item that is shown to a person.

    Attributes:
        item: The item.
        order: Indices of its texts, from left to right.
        token: Identifies the form when it is answered.
    """

    item: Item
    order: tuple[int, ...]
    token: str


class Store:
    """Items and judgements in an SQLite file, to which rows are only added.

    A judgement is on the disk when :meth:`judge` returns. Threads and processes may share the file.
    Methods that take an annotator only read and change what belongs to this annotator.

    Args:
        path: The file; made, with its folder, if it does not exist.
        create: False raises an error instead of making the file.

    Attributes:
        path: The file.
        database: Its tables.

    Raises:
        StorageError: If the file cannot be opened, is not a store, or was written by a newer
            version. All methods raise it if the file cannot be read or written.
    """

    def __init__(self, path: str | Path, create: bool = True) -> None:
        self.database = Database(path, create)
        self.path = self.database.path

    def close(self) -> None:
        """Close the file; the next access opens it again."""
        self.database.close()

    def add_items(self, items: Iterable[NewItem]) -> list[int]:
        """Add items to judge, all or none.

        Returns:
            Their numbers; for an item whose key is in the store, the number of the old one.

        Raises:
            FeedbackError: If an item is invalid, or differs from the old one with its key.
        """
        rows = [row_of(item) for item in items]
        with self.database.writing() as connection:
            return [add_item(connection, row) for row in rows]

    def items(self, ids: Sequence[int] | None = None, kind: Kind | None = None) -> list[Item]:
        """Return items by number, retired ones included.

        Args:
            ids: Numbers of items; None returns all.
            kind: Only items of this kind.
        """
        query = f"SELECT {ITEM} FROM items i WHERE (?1 IS NULL OR i.kind = ?1)"
        values: list[Any] = [kind]
        if ids is not None:
            query += " AND i.id IN (SELECT value FROM json_each(?2))"
            values.append(json.dumps([int(number) for number in ids]))
        return [item_of(row) for row in self.database.read(query + " ORDER BY i.id", values)]

    def judgements(
        self,
        since: int = 0,
        kind: Kind | None = None,
        *,
        annotator: str | None = None,
        skips: bool = False,
    ) -> list[Judgement]:
        """Return the judgements that were not undone, in the order in which they were stored.

        Args:
            since: Only judgements with a higher number than this. Earlier ones may have been undone
                since then: see :meth:`version`.
            kind: Only judgements of items of this kind.
            annotator: Only judgements of this person.
            skips: Whether to include items that people declined to judge.
        """
        rows = self.database.read(
            f"SELECT {JUDGEMENT} WHERE j.id > ?1 AND (?2 IS NULL OR i.kind = ?2) "
            f"AND (?3 IS NULL OR j.annotator = ?3) AND {LIVE} ORDER BY j.id",
            (since, kind, annotator),
        )
        found = map(judgement_of, rows)
        return [judgement for judgement in found if skips or not judgement.skipped]

    def version(self) -> tuple[int, int]:
        """Return the numbers of the last judgement and of the last undoing.

        If the second one has changed, judgements that were read before may have been undone.
        """
        ((judgement, undone),) = self.database.read(
            "SELECT (SELECT coalesce(max(id), 0) FROM judgements), "
            "(SELECT coalesce(max(id), 0) FROM undone)"
        )
        return judgement, undone

    def next_item(
        self,
        annotator: str,
        mode: Kind | None = None,
        rng: np.random.Generator | None = None,
        repeats: float = REPEATS,
    ) -> Shown | None:
        """Return the form that a person should answer.

        A form that is open is returned again. Otherwise it is a new one: of an item of the highest
        priority that the person has not judged, preferably one that nobody else has judged; a
        share ``OVERLAP`` of the items is judged by everybody.

        Args:
            annotator: The name of the person.
            mode: Only items of this kind; None takes all.
            rng: Draws the order of texts and the repetitions; None draws without a seed.
            repeats: Share of the forms that show an item of kind ``"pair"`` or ``"rating"`` for a
                second time, with the texts in the opposite order.

        Returns:
            The form, or None if nothing is left to judge.

        Raises:
            FeedbackError: If the name is invalid.
        """
        check_annotator(annotator)
        rng = np.random.default_rng() if rng is None else rng
        with self.database.writing() as connection:
            open_form = connection.execute(OPEN, (annotator, mode)).fetchone()
            if open_form is not None:
                token, order, *row = open_form
                return Shown(item_of(row), tuple(json.loads(order)), token)
            if repeats and rng.random() < repeats:
                choices = connection.execute(REPEATABLE, (annotator, mode, REPEAT_AFTER)).fetchall()
                if choices:
                    number, order = choices[int(rng.integers(len(choices)))]
                    swapped = tuple(reversed(json.loads(order)))
                    token = add_form(connection, number, annotator, swapped, repeat=True)
                    return Shown(item_by_id(connection, number), swapped, token)
            abandoned = time.time() - ABANDONED
            row = connection.execute(NEXT, (annotator, mode, abandoned)).fetchone()
            if row is None:
                return None
            item = item_of(row)
            order = tuple(rng.permutation(len(item.texts)).tolist())
            token = add_form(connection, item.id, annotator, order, repeat=False)
            return Shown(item, order, token)

    def shown_item(self, token: str, annotator: str) -> Item:
        """Return the item of a form.

        Raises:
            FeedbackError: If no such form was shown to this person.
        """
        rows = self.database.read(
            f"SELECT {ITEM} FROM forms f JOIN items i ON i.id = f.item "
            "WHERE f.token = ? AND f.annotator = ?", (token, annotator),
        )  # fmt: skip
        if not rows:
            raise _unknown(token, annotator)
        return item_of(rows[0])

    def last(self, annotator: str, mode: Kind | None = None) -> Judgement | None:
        """Return the last judgement of a person, of a kind, that was not undone, if any."""
        rows = self.database.read(
            f"SELECT {JUDGEMENT} WHERE j.annotator = ?1 AND (?2 IS NULL OR i.kind = ?2) "
            f"AND {LIVE} ORDER BY j.id DESC LIMIT 1",
            (annotator, mode),
        )
        return judgement_of(rows[0]) if rows else None

    def judge(self, token: str, annotator: str, value: Any, seconds: float) -> Judgement:
        """Store a judgement; it is on the disk when this returns.

        Sending the same answer again changes nothing, and returns the stored judgement.

        Args:
            token: The form that is answered.
            annotator: The person, to whom the form must have been shown.
            value: The judgement, see :mod:`textgym.feedback.items`.
            seconds: Time that the person took.

        Raises:
            AnsweredError: If the form was answered before, with another value.
            FeedbackError: If there is no such form of this person, or the value is invalid.
        """
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise FeedbackError(f"seconds must be a number, not {shown(seconds)}")
        if not (math.isfinite(seconds) and seconds >= 0):
            raise FeedbackError(f"seconds must be 0 or more, not {shown(seconds)}")
        with self.database.writing() as connection:
            form = connection.execute(
                f"SELECT f.texts_order, f.repeat, {ITEM} FROM forms f "
                "JOIN items i ON i.id = f.item WHERE f.token = ? AND f.annotator = ?",
                (token, annotator),
            ).fetchone()
            if form is None:
                raise _unknown(token, annotator)
            order, repeat, *row = form
            item = item_of(row)
            checked = check_value(item.kind, value, item.texts)
            known = connection.execute(f"SELECT {JUDGEMENT} WHERE j.token = ?", (token,))
            if (found := known.fetchone()) is not None:
                before = judgement_of(found)
                if before.value == checked:
                    return before
                raise AnsweredError(
                    "this form was answered before, with another value; undo that answer to "
                    "change it"
                )
            now = time.time()
            text = to_json(checked, "a judgement")
            number = connection.execute(
                "INSERT INTO judgements (token, item, annotator, value, texts_order, repeat, "
                "seconds, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (token, item.id, annotator, text, order, repeat, seconds, now),
            ).lastrowid
            assert number is not None
        return Judgement(
            number, item.id, item.kind, annotator, checked, tuple(json.loads(order)),
            float(seconds), now, bool(repeat), token,
        )  # fmt: skip

    def undo(self, annotator: str, judgement: int | None = None) -> Judgement | None:
        """Undo a judgement, and show its item to the person again, in the same order.

        Undoing it again changes nothing.

        Args:
            annotator: The person.
            judgement: The number of a judgement of this person; None takes the last one.

        Returns:
            The judgement that is undone; None if the person has not judged anything.

        Raises:
            FeedbackError: If the person has no judgement of this number.
        """
        with self.database.writing() as connection:
            row = connection.execute(
                f"SELECT {JUDGEMENT} WHERE j.annotator = ?1 AND "
                f"CASE WHEN ?2 IS NULL THEN {LIVE} ELSE j.id = ?2 END ORDER BY j.id DESC LIMIT 1",
                (annotator, judgement),
            ).fetchone()
            if row is None:
                if judgement is None:
                    return None
                raise FeedbackError(f"{annotator!r} has no judgement {judgement}")
            found = judgement_of(row)
            added = connection.execute(
                "INSERT OR IGNORE INTO undone (judgement, created) VALUES (?, ?)",
                (found.id, time.time()),
            ).rowcount
            if added:
                add_form(connection, found.item, annotator, found.order, found.repeat)
        return found

    def retire(self, *versions: str) -> None:
        """Show no more items of these policy versions. Open forms can still be answered."""
        now = time.time()
        with self.database.writing() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO retired (policy_version, created) VALUES (?, ?)",
                [(version, now) for version in versions],
            )

    def claim(self, name: str) -> bool:
        """Reserve a name for an annotator.

        Returns:
            Whether it was free: neither reserved, nor used by anybody who judged.

        Raises:
            FeedbackError: If the name is invalid.
        """
        check_annotator(name)
        with self.database.writing() as connection:
            used = connection.execute("SELECT 1 FROM forms WHERE annotator = ? LIMIT 1", (name,))
            if used.fetchone() is not None:
                return False
            added = connection.execute(
                "INSERT OR IGNORE INTO annotators (name, created) VALUES (?, ?)",
                (name, time.time()),
            )
            return added.rowcount == 1

    def counts(self, annotator: str | None = None, mode: Kind | None = None) -> dict[str, int]:
        """Count items and judgements.

        Args:
            annotator: Count judgements of this person, and as ``left`` the items that this person
                has not judged; None counts judgements of all, and items that nobody has judged.
            mode: Only items of this kind.

        Returns:
            ``items`` (without retired ones), ``judgements`` (with skips and repeats, without
            undone ones), ``left``, ``undone`` and ``annotators``.
        """
        judged = f"j.item = i.id AND (?1 IS NULL OR j.annotator = ?1) AND {LIVE}"
        of_mode = "(?2 IS NULL OR i.kind = ?2)"
        joined = "FROM judgements j JOIN items i ON i.id = j.item"
        mine = f"{of_mode} AND (?1 IS NULL OR j.annotator = ?1)"
        ((items, left, judgements, undone, annotators),) = self.database.read(
            f"SELECT (SELECT count(*) FROM items i WHERE {of_mode} AND {CURRENT}), "
            f"(SELECT count(*) FROM items i WHERE {of_mode} AND {CURRENT} AND NOT EXISTS "
            f"(SELECT 1 FROM judgements j WHERE {judged})), "
            f"(SELECT count(*) {joined} WHERE {mine} AND {LIVE}), "
            f"(SELECT count(*) {joined} WHERE {mine} AND NOT {LIVE}), "
            f"(SELECT count(DISTINCT j.annotator) {joined} WHERE {mine} AND {LIVE})",
            (annotator, mode),
        )
        return {
            "items": items, "judgements": judgements, "left": left, "undone": undone,
            "annotators": annotators,
        }  # fmt: skip

    def pairs(self) -> list[dict[str, Any]]:
        """Return preferences as rows, see :func:`textgym.feedback.views.pair_rows`."""
        return pair_rows(self.items(), self.judgements())

    def edits(self) -> list[dict[str, Any]]:
        """Return better versions as rows, see :func:`textgym.feedback.views.edit_rows`."""
        return edit_rows(self.items(), self.judgements())

    def spans(self) -> list[dict[str, Any]]:
        """Return marked parts as rows, see :func:`textgym.feedback.views.span_rows`."""
        return span_rows(self.items(), self.judgements())

    def ratings(self) -> list[dict[str, Any]]:
        """Return ratings as rows, see :func:`textgym.feedback.views.rating_rows`."""
        return rating_rows(self.items(), self.judgements())


def _unknown(token: str, annotator: str) -> FeedbackError:
    return FeedbackError(
        f"no form {shown(token, 80)} was shown to {annotator!r}; load the page again"
    )

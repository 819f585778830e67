"""The queries of a store, and its rows as objects."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Sequence
from typing import Any

from textgym.errors import FeedbackError
from textgym.feedback.items import Item, Judgement, NewItem, check_item, to_json

OVERLAP = 0.2
"""Share of the items that every annotator judges, so that agreement can be measured."""

REPEAT_AFTER = 5
"""Judgements between the first form of an item and its repetition."""

ABANDONED = 3600.0
"""Seconds after which a form that was not answered no longer reserves its item."""

JUDGEMENT = (
    "j.id, j.item, i.kind, j.annotator, j.value, j.texts_order, j.seconds, j.created, j.repeat, "
    "j.token FROM judgements j JOIN items i ON i.id = j.item"
)
LIVE = "NOT EXISTS (SELECT 1 FROM undone u WHERE u.judgement = j.id)"
ITEM = "i.id, i.kind, i.prompt, i.texts, i.columns, i.policy_version, i.priority, i.key"
CURRENT = "NOT EXISTS (SELECT 1 FROM retired r WHERE r.policy_version = i.policy_version)"

# Whether a judgement is an opinion, and not a skip.
_DECIDED = (
    "coalesce(json_extract(j.value, '$.choice'), '') <> 'skip' "
    "AND json_extract(j.value, '$.skip') IS NULL"
)

# The share OVERLAP of all items, spread evenly: Knuth's multiplicative hash of the number.
_SHARED = f"(i.id * 2654435761) % 4294967296 < {int(OVERLAP * 2**32)}"

# Items that an annotator (?1) has neither judged nor in an open form. Those that another person
# has judged, or is judging, come last, except for the ones that all judge.
NEXT = f"""
SELECT {ITEM} FROM items i
WHERE (?2 IS NULL OR i.kind = ?2) AND {CURRENT}
AND NOT EXISTS (
    SELECT 1 FROM judgements j WHERE j.item = i.id AND j.annotator = ?1 AND {LIVE}
)
ORDER BY (
    NOT {_SHARED} AND EXISTS (
        SELECT 1 FROM forms f LEFT JOIN judgements j ON j.token = f.token
        WHERE f.item = i.id AND f.annotator <> ?1
        AND CASE WHEN j.id IS NULL THEN f.created > ?3 ELSE {LIVE} AND {_DECIDED} END
    )
), i.priority DESC, i.id
LIMIT 1
"""

OPEN = f"""
SELECT f.token, f.texts_order, {ITEM} FROM forms f JOIN items i ON i.id = f.item
WHERE f.annotator = ?1 AND (?2 IS NULL OR i.kind = ?2) AND {CURRENT}
AND NOT EXISTS (SELECT 1 FROM judgements j WHERE j.token = f.token)
ORDER BY f.id DESC LIMIT 1
"""

# Items that an annotator judged some time ago, once.
REPEATABLE = f"""
SELECT i.id, j.texts_order FROM judgements j JOIN items i ON i.id = j.item
WHERE j.annotator = ?1 AND {LIVE} AND NOT j.repeat AND (?2 IS NULL OR i.kind = ?2)
AND i.kind IN ('pair', 'rating') AND {CURRENT}
AND {_DECIDED}
AND NOT EXISTS (
    SELECT 1 FROM forms f WHERE f.item = i.id AND f.annotator = ?1 AND f.repeat
)
AND (SELECT count(*) FROM judgements k WHERE k.annotator = ?1 AND k.id > j.id) >= ?3
"""


def row_of(item: NewItem) -> tuple[Any, ...]:
    """Return the values of an item for :func:`add_item`.

    Raises:
        FeedbackError: If the item is invalid.
    """
    check_item(item)
    return (
        secrets.token_hex(12) if item.key is None else item.key,
        item.kind,
        to_json(item.prompt, "a prompt"),
        to_json(list(item.texts), "texts"),
        to_json(dict(item.columns), "columns"),
        item.policy_version,
        float(item.priority),
    )


def add_item(connection: sqlite3.Connection, row: tuple[Any, ...]) -> int:
    """Add an item within a transaction, unless there is one with its key; return its number.

    Raises:
        FeedbackError: If there is a different item with its key.
    """
    # Looked up first: an insertion that is ignored would use up a number, and the items that all
    # annotators judge depend on the numbers.
    known = connection.execute(
        "SELECT id, kind, prompt, texts FROM items WHERE key = ?", (row[0],)
    ).fetchone()
    if known is None:
        added = connection.execute(
            "INSERT INTO items (key, kind, prompt, texts, columns, policy_version, priority, "
            "created) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*row, time.time()),
        )
        assert added.lastrowid is not None
        return added.lastrowid
    number, *old = known
    if tuple(old) != row[1:4]:
        raise FeedbackError(
            f"the store has another item with the key {row[0]!r}; give each item a key that "
            "depends on its content"
        )
    return int(number)


def add_form(
    connection: sqlite3.Connection,
    item: int,
    annotator: str,
    order: Sequence[int],
    repeat: bool,
    token: str | None = None,
    created: float | None = None,
) -> str:
    """Add a form within a transaction; return its token, by default a random one."""
    token = secrets.token_urlsafe(16) if token is None else token
    created = time.time() if created is None else created
    connection.execute(
        "INSERT INTO forms (token, item, annotator, texts_order, repeat, created) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (token, item, annotator, json.dumps(order), repeat, created),
    )
    return token


def item_by_id(connection: sqlite3.Connection, number: int) -> Item:
    """Return an item within a transaction."""
    found = connection.execute(f"SELECT {ITEM} FROM items i WHERE i.id = ?", (number,))
    return item_of(found.fetchone())


def item_of(row: Sequence[Any]) -> Item:
    """Return the item of a row with the columns `ITEM`."""
    number, kind, prompt, texts, columns, policy_version, priority, key = row
    return Item(
        number, kind, json.loads(prompt), tuple(json.loads(texts)), json.loads(columns),
        policy_version, priority, key,
    )  # fmt: skip


def judgement_of(row: Sequence[Any]) -> Judgement:
    """Return the judgement of a row of the query `JUDGEMENT`."""
    number, item, kind, annotator, value, order, seconds, created, repeat, token = row
    return Judgement(
        number, item, kind, annotator, json.loads(value), tuple(json.loads(order)),
        seconds, created, bool(repeat), token,
    )  # fmt: skip

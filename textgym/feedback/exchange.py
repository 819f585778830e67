"""Export and import of judgements as JSONL, one object per line.

``"preferences"`` are for training: one line per decided judgement of a pair, and per better version
that a person wrote, with ``prompt``, ``chosen``, ``rejected``, ``preference`` (1, or 0.5 for ties),
``annotator``, ``seconds``, ``policy_version`` and ``item``. ``textgym.rewards.train`` reads it, and
so does TRL, which ignores ``preference``: leave ties out for it.

``"all"`` is the whole store: one line per judgement, with the item (``kind``, ``prompt``,
``texts``, ``columns``, ``policy_version``, ``priority``, ``key``) and the judgement (``annotator``,
``value``, ``order``, ``seconds``, ``created``, ``repeat``, ``token``); and one line without the
latter for each item that nobody has judged. Judgements that were undone are left out. Reading a
file runs no code.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from textgym.data.files import read_file
from textgym.errors import DataError, TextGymError, shown
from textgym.feedback.candidates import content_key
from textgym.feedback.items import (
    Item,
    Judgement,
    NewItem,
    check_annotator,
    check_item,
    check_value,
    to_json,
)
from textgym.feedback.queries import add_form, add_item, row_of
from textgym.feedback.store import Store
from textgym.rewards.preferences.pairs import pairs_of
from textgym.storage.files import replacing

What = Literal["preferences", "all"]
_CHOICES = {1.0: "first", 0.5: "tie", 0.0: "second"}
_SHOWN_ERRORS = 5


class Imported(NamedTuple):
    """The result of an import.

    Attributes:
        items: Number of items added.
        judgements: Number of judgements added.
        known: Number of judgements that were in the store already.
    """

    items: int
    judgements: int
    known: int


class _Given(NamedTuple):
    """A judgement of a file."""

    annotator: str
    value: dict[str, Any]
    order: list[int]
    seconds: float
    created: float
    repeat: bool
    token: str


def export(store: Store, path: str | Path, what: What = "preferences", ties: bool = True) -> int:
    """Write judgements to a JSONL file, atomically.

    Args:
        store: The store.
        path: The file.
        what: See :mod:`textgym.feedback.exchange`.
        ties: Whether ``"preferences"`` include ties.

    Returns:
        The number of lines.

    Raises:
        StorageError: If a file cannot be read or written.
    """
    rows = _everything(store) if what == "all" else _preferences(store, ties)
    count = 0
    with replacing(Path(path).expanduser()) as file:
        for row in rows:
            # ASCII, since UTF-8 cannot encode the lone surrogates that a policy may write.
            file.write(json.dumps(row).encode() + b"\n")
            count += 1
    return count


def import_file(store: Store, path: str | Path, annotator: str = "imported") -> Imported:
    """Read judgements from a file: all of its rows, or none.

    Lines may be of both forms, or have ``chosen`` and ``rejected`` in any form that
    :mod:`textgym.rewards.preferences.pairs` reads. Judgements that are in the store are left as
    they are, so a file may be imported again.

    Args:
        store: The store.
        path: A .jsonl, .csv or .parquet file.
        annotator: The annotator of rows that name none.

    Raises:
        DataError: If the file cannot be read, or rows are invalid; the message names them.
        StorageError: If the store cannot be written.
    """
    path = Path(path).expanduser()
    rows = read_file(path)
    parsed: list[tuple[str, NewItem, _Given | None]] = []
    errors: list[str] = []
    repeats: Counter[str] = Counter()
    for number in range(len(rows)):
        where = f"row {number}"
        try:
            item, given = _parse(rows[number], where, annotator, repeats)
            parsed.append((where, item, given))
        except TextGymError as error:
            errors.append(f"{where}: {error}")
    if errors:
        more = len(errors) - _SHOWN_ERRORS
        raise DataError(
            f"{path} has {len(errors)} invalid rows, and nothing was imported; "
            + "; ".join(errors[:_SHOWN_ERRORS])
            + (f"; and {more} more" if more > 0 else "")
        )
    try:
        return _merge(store, parsed)
    except DataError as error:
        raise DataError(f"{path}: {error}; nothing was imported") from error


def _preferences(store: Store, ties: bool) -> Iterator[dict[str, Any]]:
    known = {item.id: item for item in store.items()}
    for one in store.judgements():
        item = known[one.item]
        if one.repeat:
            continue
        preference = one.preference
        texts = item.texts[::-1] if preference == 0.0 else item.texts
        if preference is not None and (ties or preference != 0.5):
            yield _preference(one, item, texts[0], texts[1], max(preference, 1 - preference))
        if "text" in one.value:
            yield _preference(one, item, one.value["text"], texts[0], 1.0)


def _preference(
    one: Judgement, item: Item, chosen: str, rejected: str, preference: float
) -> dict[str, Any]:
    return {
        "prompt": item.prompt,
        "chosen": chosen,
        "rejected": rejected,
        "preference": preference,
        "annotator": one.annotator,
        "seconds": one.seconds,
        "policy_version": item.policy_version,
        "item": item.key,
    }


def _everything(store: Store) -> Iterator[dict[str, Any]]:
    items = {item.id: item for item in store.items()}
    judgements = store.judgements(skips=True)
    for one in judgements:
        yield {
            **_item_row(items[one.item]), "annotator": one.annotator, "value": one.value,
            "order": one.order, "seconds": one.seconds, "created": one.created,
            "repeat": one.repeat, "token": one.token,
        }  # fmt: skip
    judged = {one.item for one in judgements}
    for number, item in items.items():
        if number not in judged:
            yield _item_row(item)


def _item_row(item: Item) -> dict[str, Any]:
    return {
        "kind": item.kind, "prompt": item.prompt, "texts": item.texts, "columns": item.columns,
        "policy_version": item.policy_version, "priority": item.priority, "key": item.key,
    }  # fmt: skip


def _parse(
    row: Any, where: str, annotator: str, repeats: Counter[str]
) -> tuple[NewItem, _Given | None]:
    if not isinstance(row, Mapping):
        raise DataError(f"it must be an object, not {type(row).__name__}")
    if "kind" in row and "texts" in row:
        return _parse_full(row)
    pair = pairs_of([row], where).pairs[0]
    if pair.preference not in _CHOICES:
        raise DataError(
            f"the preference {pair.preference} is of several people; give one row per person, "
            "with 1, 0.5 (a tie) or 0"
        )
    name = check_annotator(row.get("annotator", annotator))
    version = str(row.get("policy_version") or "")
    content = (pair.prompt, pair.chosen, pair.rejected)
    item = NewItem("pair", content[0], content[1:], policy_version=version,
                   key=content_key("import", *content, version))  # fmt: skip
    check_item(item)
    token = content_key("import", *content, version, name, str(pair.preference))
    # Equal lines are as many judgements.
    repeats[token] += 1
    value = {"choice": _CHOICES[pair.preference]}
    seconds = _number(row, "seconds", 0.0)
    given = _Given(name, value, [0, 1], seconds, time.time(), False, f"{token}-{repeats[token]}")
    return item, given


def _parse_full(row: Mapping[str, Any]) -> tuple[NewItem, _Given | None]:
    texts = row["texts"]
    item = NewItem(
        row["kind"],
        row.get("prompt", ""),
        tuple(texts) if isinstance(texts, list) else texts,
        row.get("columns") or {},
        row.get("policy_version", ""),
        row.get("priority", 0.0),
        row.get("key"),
    )
    check_item(item)
    if item.key is None:
        key = content_key(item.kind, item.prompt, *item.texts, item.policy_version)
        item = NewItem(**{**item.__dict__, "key": key})
    if "value" not in row:
        return item, None
    order, token = row.get("order", list(range(len(item.texts)))), row.get("token")
    if sorted(order if isinstance(order, list) else []) != list(range(len(item.texts))):
        raise DataError(f"order must have the indices of the texts, not {shown(order)}")
    value = check_value(item.kind, row["value"], item.texts)
    name = check_annotator(row.get("annotator"))
    if token is None:
        token = content_key(cast(str, item.key), name, to_json(value, "value"))
    elif not isinstance(token, str) or not 0 < len(token) <= 200:
        raise DataError(f"token must be a string of 1 to 200 characters, not {shown(token)}")
    seconds, created = _number(row, "seconds", 0.0), _number(row, "created", time.time())
    return item, _Given(name, value, order, seconds, created, row.get("repeat") is True, token)


def _number(row: Mapping[str, Any], name: str, default: float) -> float:
    """Return a number of at least 0; files of other types than JSONL have strings."""
    try:
        value = float(row.get(name, default))
    except (TypeError, ValueError):
        value = -1.0
    if not 0 <= value < float("inf"):
        raise DataError(f"{name} must be a number of 0 or more, not {shown(row[name])}")
    return value


def _merge(store: Store, rows: list[tuple[str, NewItem, _Given | None]]) -> Imported:
    """Add items and judgements in one transaction."""
    added = known = 0
    with store.database.writing() as connection:
        ((before,),) = connection.execute("SELECT count(*) FROM items").fetchall()
        for where, item, given in rows:
            try:
                number = add_item(connection, row_of(item))
            except TextGymError as error:
                raise DataError(f"{where}: {error}") from error
            if given is None:
                continue
            value, order = to_json(given.value, "a judgement"), to_json(given.order, "order")
            old = connection.execute(
                "SELECT f.item, f.annotator, j.value FROM forms f LEFT JOIN judgements j "
                "ON j.token = f.token WHERE f.token = ?", (given.token,),
            ).fetchone()  # fmt: skip
            if old is not None:
                if tuple(old) != (number, given.annotator, value):
                    raise DataError(
                        f"{where}: the store has another judgement with the token "
                        f"{given.token!r}; remove the token from the row to add it"
                    )
                known += 1
                continue
            add_form(
                connection, number, given.annotator, given.order, given.repeat, given.token,
                given.created,
            )  # fmt: skip
            connection.execute(
                "INSERT INTO judgements (token, item, annotator, value, texts_order, repeat, "
                "seconds, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (given.token, number, given.annotator, value, order, given.repeat, given.seconds,
                 given.created),
            )  # fmt: skip
            added += 1
        ((after,),) = connection.execute("SELECT count(*) FROM items").fetchall()
    return Imported(after - before, added, known)

"""Judgements as rows for training.

Every row has ``prompt``, the number of the ``item``, its ``policy_version`` and its ``columns``,
and the text or texts. Skipped items are left out, and so are repetitions, which would count one
opinion twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from textgym.feedback.items import Item, Judgement

Row = dict[str, Any]


def pair_rows(items: Iterable[Item], judgements: Iterable[Judgement]) -> list[Row]:
    """Return preferences in the form that :mod:`textgym.rewards.preferences.pairs` reads.

    There is one row per judged pair, however many people judged it: ``chosen`` is the text that
    more of them prefer, ``preference`` the share who do, where a tie counts half, and ``weight``
    their number. The Bradley-Terry loss of such a row is the sum of the losses of one row per
    person. Every better version that a person wrote adds a row in which it is preferred to the
    text that it was made from.
    """
    known = {item.id: item for item in items}
    opinions = list(_opinions(judgements))
    votes: dict[int, list[float]] = {}
    for one in opinions:
        if one.preference is not None:
            votes.setdefault(one.item, []).append(one.preference)
    rows = []
    for number, found in votes.items():
        item = known[number]
        share = sum(found) / len(found)
        chosen, rejected = item.texts if share >= 0.5 else item.texts[::-1]
        rows.append(_preference(item, chosen, rejected, max(share, 1 - share), len(found)))
    rows += [
        _preference(known[one.item], one.value["text"], _edited(known[one.item], one), 1.0, 1)
        for one in opinions
        if "text" in one.value
    ]
    return rows


def edit_rows(items: Iterable[Item], judgements: Iterable[Judgement]) -> list[Row]:
    """Return better versions: ``original``, ``text``, ``annotator``."""
    known = {item.id: item for item in items}
    return [
        _row(known[one.item], original=_edited(known[one.item], one), text=one.value["text"],
             annotator=one.annotator)
        for one in _opinions(judgements)
        if "text" in one.value
    ]  # fmt: skip


def span_rows(items: Iterable[Item], judgements: Iterable[Judgement]) -> list[Row]:
    """Return marked texts: ``text``, ``spans`` (``[start, end, 1 or -1]``), ``annotator``."""
    known = {item.id: item for item in items}
    return [
        _row(known[one.item], text=known[one.item].texts[0], spans=one.value["spans"],
             annotator=one.annotator)
        for one in _opinions(judgements)
        if one.kind == "spans"
    ]  # fmt: skip


def rating_rows(items: Iterable[Item], judgements: Iterable[Judgement]) -> list[Row]:
    """Return rated texts: ``text``, ``aspects`` (1 to 5 by name), ``annotator``."""
    known = {item.id: item for item in items}
    return [
        _row(known[one.item], text=known[one.item].texts[0], aspects=one.value["aspects"],
             annotator=one.annotator)
        for one in _opinions(judgements)
        if one.kind == "rating"
    ]  # fmt: skip


def _opinions(judgements: Iterable[Judgement]) -> Iterator[Judgement]:
    return (one for one in judgements if not (one.skipped or one.repeat))


def _preference(item: Item, chosen: str, rejected: str, share: float, count: int) -> Row:
    return _row(item, chosen=chosen, rejected=rejected, preference=share, weight=float(count))


def _edited(item: Item, judgement: Judgement) -> str:
    """Return the text that a better version was made from."""
    return item.texts[judgement.value.get("choice") == "second"]


def _row(item: Item, **content: Any) -> Row:
    return {
        "prompt": item.prompt,
        **content,
        "item": item.id,
        "policy_version": item.policy_version,
        "columns": item.columns,
    }

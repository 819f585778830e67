"""The store: nothing that was acknowledged is lost, doubled, changed, or anybody else's."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from textgym.errors import FeedbackError, StorageError
from textgym.feedback import NewItem, Store
from textgym.feedback.items import AnsweredError
from textgym.rewards.preferences.pairs import pairs_of

ROOT = Path(__file__).parents[2]


def pair(number: int, **fields) -> NewItem:
    return NewItem("pair", f"prompt {number}:", (f" one {number}", f" two {number}"), **fields)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "judgements.sqlite")


def test_items_and_judgements_come_back_as_they_went_in(store: Store) -> None:
    texts = (' "quotes" \ud800 lone, \x00 and \U0001f600', "")
    new = NewItem("pair", "第一\n", texts, {"ids": [1, 2], "x": None}, "v1", 0.5, key="mine")
    (number,) = store.add_items([new])
    assert store.add_items([new]) == [number]
    item, order, token = store.next_item("ann", rng=np.random.default_rng(0))
    assert (item.prompt, item.texts, item.columns) == (new.prompt, texts, new.columns)
    assert (item.policy_version, item.priority, item.key) == ("v1", 0.5, "mine")
    assert sorted(order) == [0, 1]
    given = store.judge(token, "ann", {"choice": "second", "text": "better"}, 1.5)
    again = Store(store.path)
    assert again.judgements() == [given]
    assert again.items([number]) == [item]
    assert (given.order, given.seconds, given.repeat, given.preference) == (order, 1.5, False, 0.0)


def test_a_form_is_answered_once(store: Store) -> None:
    store.add_items([pair(0), pair(1)])
    shown = store.next_item("ann")
    assert store.next_item("ann") == shown  # The page is loaded again.
    first = store.judge(shown.token, "ann", {"choice": "tie"}, 1)
    assert store.judge(shown.token, "ann", {"choice": "tie"}, 99) == first
    with pytest.raises(AnsweredError, match="undo"):
        store.judge(shown.token, "ann", {"choice": "first"}, 1)
    assert store.judgements() == [first]
    assert store.next_item("ann").item.id != shown.item.id


def test_a_form_belongs_to_one_annotator(store: Store) -> None:
    store.add_items([pair(0), pair(1)])
    token = store.next_item("ann").token
    with pytest.raises(FeedbackError, match="no form"):
        store.judge(token, "ben", {"choice": "first"}, 1)
    mine = store.judge(token, "ann", {"choice": "first"}, 1)
    with pytest.raises(FeedbackError, match="no judgement"):
        store.undo("ben", mine.id)
    assert store.undo("ben") is None
    assert store.judgements() == [mine]


def test_undo_shows_the_item_again(store: Store) -> None:
    store.add_items([pair(number) for number in range(3)])
    first = store.next_item("ann")
    old = store.judge(first.token, "ann", {"choice": "first"}, 1)
    second = store.next_item("ann")
    assert store.undo("ann", old.id) == old
    assert store.undo("ann", old.id) == old  # The same request again.
    assert store.judgements() == []
    assert store.version() == (old.id, 1)
    again = store.next_item("ann")
    assert (again.item, again.order) == (first.item, first.order)
    assert again.token != first.token
    # The old answer, sent again late, does not revive it.
    store.judge(first.token, "ann", {"choice": "first"}, 1)
    assert store.judgements() == []
    new = store.judge(again.token, "ann", {"choice": "second"}, 1)
    assert store.judgements() == [new]
    assert store.next_item("ann") == second
    assert store.counts("ann") == {
        "items": 3, "judgements": 1, "left": 2, "undone": 1, "annotators": 1
    }  # fmt: skip


def test_repeats_are_shown_once_with_the_texts_swapped(store: Store) -> None:
    store.add_items([pair(number) for number in range(60)])
    rng = np.random.default_rng(0)
    orders: dict[int, list[tuple[int, ...]]] = {}
    repeats = []
    while (shown := store.next_item("ann", rng=rng, repeats=0.3)) is not None:
        value = {"choice": "skip" if shown.item.id % 4 == 0 else "first"}
        given = store.judge(shown.token, "ann", value, 1)
        repeats.append(given.repeat)
        before = orders.setdefault(shown.item.id, [])
        assert given.repeat == bool(before)
        before.append(shown.order)
    assert not any(repeats[:6])
    assert 10 < sum(repeats) < 45
    twice = [shown for shown in orders.values() if len(shown) > 1]
    assert all(len(shown) == 2 and shown[0] == shown[1][::-1] for shown in twice)
    assert not any(len(shown) > 1 for number, shown in orders.items() if number % 4 == 0)
    assert 0.2 < np.mean([shown[0] == (0, 1) for shown in orders.values()]) < 0.8
    assert len(store.judgements()) == sum(repeats) + 45
    assert len(store.pairs()) == 45


def test_priorities_retirement_and_the_share_that_all_judge(store: Store) -> None:
    ids = store.add_items(
        [
            pair(number, policy_version=str(number % 2), priority=number // 50)
            for number in range(100)
        ]
    )
    store.retire("1")
    seen: dict[str, list[int]] = {"ann": [], "ben": []}
    for _ in range(25):
        for name in seen:
            shown = store.next_item(name, repeats=0)
            store.judge(shown.token, name, {"choice": "first"}, 1)
            seen[name].append(shown.item.id)
    assert all(ids[50:].count(number) for number in {*seen["ann"][:12], *seen["ben"][:12]})
    assert all(store.items([number])[0].policy_version == "0" for number in seen["ann"])
    shared = {*seen["ann"]} & {*seen["ben"]}
    assert 3 <= len(shared) <= 20  # 20 % of 50, and not everything.
    assert store.counts()["items"] == 50


def test_rows_are_pairs_of_the_reward_models(store: Store) -> None:
    store.add_items([pair(0), pair(1), pair(2), NewItem("edit", "p", (" bad",))])
    choices = {
        "ann": [{"choice": "first"}, {"choice": "second", "text": " best"}, {"choice": "skip"}],
        "ben": [{"choice": "first"}, {"choice": "tie"}, {"choice": "skip"}],
        "eve": [{"choice": "second"}, {"choice": "second"}, {"choice": "skip"}],
    }
    for name, values in choices.items():
        for _ in range(3):
            shown = store.next_item(name, "pair", repeats=0)
            store.judge(shown.token, name, values[shown.item.id - 1], 1)
    shown = store.next_item("ann", "edit")
    store.judge(shown.token, "ann", {"text": " good"}, 1)
    rows, _, _ = pairs_of(store.pairs(), "the store")
    assert [
        (row.prompt, row.chosen, row.rejected, pytest.approx(row.preference), row.weight)
        for row in rows
    ] == [
        ("prompt 0:", " one 0", " two 0", 2 / 3, 3),
        ("prompt 1:", " two 1", " one 1", 2.5 / 3, 3),
        ("prompt 1:", " best", " two 1", 1, 1),
        ("p", " good", " bad", 1, 1),
    ]
    assert [(row["original"], row["text"]) for row in store.edits()] == [
        (" two 1", " best"), (" bad", " good")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "value", "error"),
    [
        ("pair", {"choice": "left"}, "choice"),
        ("pair", {"choice": "tie", "text": "x"}, "tie"),
        ("pair", {"choice": "first", "text": "abcd"}, "not changed"),
        ("rating", {"aspects": {}}, "aspects"),
        ("rating", {"aspects": {"fluent": 6}}, "fluent"),
        ("rating", {"aspects": {"fluent": True}}, "fluent"),
        ("spans", {"spans": [[0, 5, 1]]}, "4 characters"),
        ("spans", {"spans": [[0, 3, 1], [2, 4, -1]]}, "overlap"),
        ("spans", {"spans": [[0, 1, 2]]}, "span"),
        ("edit", {"text": " \n"}, "edited"),
        ("edit", {"text": "x" * 100_001}, "edited"),
        ("edit", "text", "object"),
    ],
)
def test_invalid_values_are_refused(store: Store, kind, value, error: str) -> None:
    store.add_items([NewItem(kind, "", ("abcd", "efgh")[: 1 + (kind == "pair")])])
    token = store.next_item("ann").token
    with pytest.raises(FeedbackError, match=error):
        store.judge(token, "ann", value, 1)
    assert store.judgements() == []


def test_nothing_is_updated_or_deleted(store: Store) -> None:
    store.add_items([pair(0)])
    store.judge(store.next_item("ann").token, "ann", {"choice": "tie"}, 1)
    connection = sqlite3.connect(store.path)
    for change in ("DELETE FROM judgements", "UPDATE items SET prompt = ''", "DELETE FROM forms"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(change)
    connection.close()


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="does not exist"):
        Store(tmp_path / "none.sqlite", create=False)
    (tmp_path / "text").write_text("not a database " * 100)
    with pytest.raises(StorageError, match="not a store"):
        Store(tmp_path / "text")
    with sqlite3.connect(tmp_path / "other") as connection:
        connection.execute("CREATE TABLE cats (name)")
    with pytest.raises(StorageError, match="another program"):
        Store(tmp_path / "other")
    Store(tmp_path / "new").close()
    with sqlite3.connect(tmp_path / "new") as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(StorageError, match="newer version"):
        Store(tmp_path / "new")


def test_threads_share_a_store(store: Store) -> None:
    store.add_items([pair(number) for number in range(40)])

    def judge(name: str) -> None:
        while (shown := store.next_item(name, repeats=0)) is not None:
            store.judge(shown.token, name, {"choice": "first"}, 0)

    threads = [threading.Thread(target=judge, args=(f"n{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = Counter((given.item, given.annotator) for given in store.judgements())
    assert len(counts) == 160
    assert {*counts.values()} == {1}


# Reports every judgement after it was stored, and takes up its open form after a crash.
WRITER = """
import json, sys
from textgym.feedback import NewItem, Store
store, name = Store(sys.argv[1]), sys.argv[2]
store.add_items([NewItem("pair", str(n), ("a", "b"), key=str(n)) for n in range(200)])
while (shown := store.next_item(name, repeats=0)) is not None:
    given = store.judge(shown.token, name, {"choice": "first"}, 0.0)
    print(json.dumps([given.id, given.item, name]), flush=True)
"""


def test_killed_processes_lose_and_double_nothing(tmp_path: Path) -> None:
    """Two processes at a time, killed at random moments; even the file is made under fire."""
    path, rng = tmp_path / "store.sqlite", random.Random(0)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    acknowledged: list[list[object]] = []
    for attempt in range(3):
        running = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(path), name],
                env=environment, stdout=subprocess.PIPE, text=True,
            )
            for name in ("ann", "ben")
        ]  # fmt: skip
        if attempt < 2:
            for process in running:
                assert process.stdout is not None
                line = process.stdout.readline()
                if line:  # Otherwise it had judged everything before it was killed.
                    acknowledged.append(json.loads(line))
            time.sleep(rng.uniform(0, 0.05))
            for process in running:
                process.send_signal(signal.SIGKILL)
        for process in running:
            lines = process.communicate()[0].splitlines(keepends=True)
            acknowledged += [json.loads(line) for line in lines if line.endswith("\n")]
    stored = [[given.id, given.item, given.annotator] for given in Store(path).judgements()]
    assert len(stored) == 400
    assert len({(item, name) for _, item, name in stored}) == 400
    assert [row for row in acknowledged if row not in stored] == []
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

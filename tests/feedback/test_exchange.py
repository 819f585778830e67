"""Export and import: what goes out comes back, training reads it, and bad rows are named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from textgym.errors import DataError
from textgym.feedback import NewItem, Store
from textgym.feedback.candidates import Candidates, items_of, read_candidates
from textgym.feedback.exchange import export, import_file
from textgym.rewards.preferences.pairs import read_pairs

VALUES = {
    "pair": [{"choice": "first"}, {"choice": "second", "text": "new"}, {"choice": "tie"},
             {"choice": "skip"}],
    "rating": [{"aspects": {"true": 2, "fluent": 5}}, {"skip": True}],
    "spans": [{"spans": [[0, 1, 1], [2, 4, -1]]}, {"spans": []}],
    "edit": [{"text": "better \U0001f600"}, {"text": "best"}],
}  # fmt: skip

EDIT = {"kind": "edit", "texts": ["a"], "value": {"text": "b"}, "annotator": "x"}


@pytest.fixture
def full(tmp_path: Path) -> Store:
    """A store with all kinds of judgements, two annotators, repeats, an undone one and a rest."""
    store = Store(tmp_path / "full.sqlite")
    rng = np.random.default_rng(0)
    for kind, values in VALUES.items():
        for number in range(8):
            texts = (f"text \ud800 {number}", f"\u7b2c {number}")[: 1 + (kind == "pair")]
            store.add_items(
                [NewItem(kind, f"prompt {number}", texts, {"n": [number]}, "v2", number)]
            )
        for name in ("ann", "ben"):
            for _ in range(10):
                if (shown := store.next_item(name, kind, rng, repeats=0.5)) is not None:
                    value = values[shown.item.id % len(values)]
                    store.judge(shown.token, name, value, rng.uniform(1, 9))
    store.undo("ann")
    store.add_items([NewItem("pair", "not judged", ("a", "b"))])
    return store


def content(store: Store) -> tuple[list, list]:
    items = {item.id: item for item in store.items()}
    judged = [
        (items[one.item].key, one.annotator, one.value, one.order, one.seconds, one.created,
         one.repeat, one.token)
        for one in store.judgements(skips=True)
    ]  # fmt: skip
    fields = ("key", "kind", "prompt", "texts", "columns", "policy_version", "priority")
    kept = [tuple(getattr(item, name) for name in fields) for item in items.values()]
    return sorted(kept, key=str), sorted(judged, key=str)


def test_a_whole_store_comes_back(full: Store, tmp_path: Path) -> None:
    file, again = tmp_path / "all.jsonl", Store(tmp_path / "again.sqlite")
    assert any(one.repeat for one in full.judgements())
    count = export(full, file, "all")
    found = import_file(again, file)
    judged = full.judgements(skips=True)
    assert found.judgements == len(judged)
    assert found.items == 33
    assert count == len(judged) + 33 - len({one.item for one in judged})
    assert content(again) == content(full)
    # A second import, and one into the store that it came from, add nothing.
    for store in (again, full):
        assert import_file(store, file) == (0, 0, found.judgements)
    assert content(again) == content(full)


def test_preferences_are_read_by_the_training_of_rewards(full: Store, tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    export(full, file)
    pairs, _, _ = read_pairs(file)

    def total(rows: list) -> dict:
        """Votes for each of two texts: rows of one person, or of all, weigh the same."""
        votes: dict[tuple[str, ...], float] = {}
        for prompt, chosen, rejected, preference, weight in rows:
            for one, other, share in (
                (chosen, rejected, preference),
                (rejected, chosen, 1 - preference),
            ):
                votes[prompt, one, other] = votes.get((prompt, one, other), 0) + weight * share
        return {key: round(vote, 9) for key, vote in votes.items()}

    together = [
        tuple(row[name] for name in ("prompt", "chosen", "rejected", "preference", "weight"))
        for row in full.pairs()
    ]
    single = [(one.prompt, one.chosen, one.rejected, one.preference, one.weight) for one in pairs]
    assert total(single) == total(together)
    assert len(single) > len(together)
    assert any(one.preference == 0.5 for one in pairs)
    export(full, file, ties=False)
    assert not any(one.preference == 0.5 for one in read_pairs(file).pairs)


def test_pairs_of_other_programs(tmp_path: Path) -> None:
    file, store = tmp_path / "pairs.jsonl", Store(tmp_path / "store.sqlite")
    rows = [
        {"prompt": "p", "chosen": " a", "rejected": " b"},
        {"prompt": "p", "chosen": " a", "rejected": " b"},  # Another person's, it may be.
        {
            "chosen": "\n\nHuman: Hi\n\nAssistant: Hello.",
            "rejected": "\n\nHuman: Hi\n\nAssistant: No.",
        },
        {"prompt": "q", "chosen": " c", "rejected": " d", "preference": 0.5, "annotator": "eve"},
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    assert import_file(store, file, "bob") == (3, 4, 0)
    assert import_file(store, file, "bob") == (0, 0, 4)
    assert [one.annotator for one in store.judgements()] == ["bob", "bob", "bob", "eve"]
    assert [row["weight"] for row in store.pairs()] == [2, 1, 1]


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({"prompt": "p", "chosen": "a"}, "rejected"),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "preference": 0.7}, "several people"),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "annotator": "x\ny"}, "printable"),
        ({"kind": "pair", "texts": ["a"]}, "2 texts"),
        ({**EDIT, "value": {"skip": "yes"}}, "edited"),
        ({**EDIT, "annotator": None}, "name"),
        ({**EDIT, "order": [1]}, "order"),
        ({**EDIT, "seconds": -1}, "seconds"),
        ("text", "object"),
    ],
)
def test_bad_rows_are_named_and_nothing_is_imported(tmp_path: Path, row, error: str) -> None:
    file, store = tmp_path / "rows.jsonl", Store(tmp_path / "store.sqlite")
    good = {"prompt": "p", "chosen": " a", "rejected": " b"}
    file.write_text("\n".join(map(json.dumps, [good, row])))
    with pytest.raises(DataError, match=f"(?s)1 invalid rows.*row 1.*{error}"):
        import_file(store, file)
    assert store.counts()["items"] == 0


def test_a_changed_judgement_is_not_imported(full: Store, tmp_path: Path) -> None:
    file = tmp_path / "all.jsonl"
    export(full, file, "all")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[3]["annotator"] = "mallory"
    file.write_text("\n".join(map(json.dumps, rows)))
    before = content(full)
    with pytest.raises(DataError, match=r"row 3.*token"):
        import_file(full, file)
    assert content(full) == before


def test_texts_to_judge(tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    rows = [
        {"prompt": "p", "texts": ["a", "b", " a ", "c", ""], "policy_version": "7"},
        {"prompt": "q", "response": "d"},
        {"prompt": "q", "response": "e"},
        {"prompt": [{"role": "user", "content": "Hi"}], "chosen": "f", "rejected": "g"},
        {"text": "alone"},
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    groups = read_candidates(file)
    pairs = [(item.prompt, *item.texts, item.policy_version) for item in items_of(groups, "pair")]
    assert pairs == [
        ("p", " a ", "b", "7"), ("p", "b", "c", "7"), ("q", "d", "e", ""),
        ("User: Hi\nAgent:", "f", "g", ""),
    ]  # fmt: skip
    assert len(items_of(groups, "spans")) == 8
    keys = {item.key for item in items_of(groups, "spans") + items_of(groups, "edit")}
    assert len(keys) == 16
    assert items_of([Candidates("p", ("a",))], "pair") == []
    for row in ({"prompt": "p"}, {"prompt": 3, "text": "a"}, {"texts": ["a", 3]}):
        file.write_text(json.dumps(row))
        with pytest.raises(DataError, match="row 0"):
            read_candidates(file)

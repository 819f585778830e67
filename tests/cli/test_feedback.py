"""``textgym feedback``: where texts come from, and what becomes of judgements."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from textgym.cli import main
from textgym.feedback import Store
from textgym.serve.feedback import server
from textgym.serve.feedback.app import PageSettings


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Store, PageSettings]]:
    """The stores and settings that would be served."""
    found: list[tuple[Store, PageSettings]] = []

    def serve(store, settings, announce):
        found.append((store, settings))
        announce(server.addresses(store, settings, 8000))

    monkeypatch.setattr(server, "serve", serve)
    return found


def judge_all(store: Store, name: str, choice: str) -> None:
    while (shown := store.next_item(name, repeats=0)) is not None:
        store.judge(shown.token, name, {"choice": choice}, 3.0)


def test_texts_of_a_file_are_judged_exported_and_imported(tmp_path, capsys, served) -> None:
    texts, store, out = (tmp_path / name for name in ("texts.jsonl", "a.sqlite", "out.jsonl"))
    rows = [{"prompt": f"p{n}", "texts": [f" a{n}", f" b{n}"]} for n in range(6)]
    rows.append({"prompt": "alone", "texts": ["one"]})
    texts.write_text("\n".join(map(json.dumps, rows)))
    start = ["feedback", "--store", str(store), "--texts", str(texts)]
    assert main([*start, "--annotator", "Ann", "Ben"]) == 0
    assert main(start) == 0  # Started again: the same texts are there once.
    printed = capsys.readouterr().out
    assert "left out 1 of 7" in printed
    assert "6 items, 0 judgements" in printed
    assert "Ann: http://127.0.0.1:8000/as/" in printed
    assert "Ben: http://127.0.0.1:8000/as/" in printed
    assert printed.count("http://127.0.0.1:8000/\n") == 1
    assert [settings.mode for _, settings in served] == ["pair", "pair"]
    for name, choice in (("Ann", "first"), ("Ben", "first"), ("Eve", "tie")):
        judge_all(served[0][0], name, choice)

    assert main(["feedback", "stats", str(store)]) == 0
    printed = capsys.readouterr().out
    assert "items: 6, judged: 6, judgements: 18, annotators: 3" in printed
    people = [
        line.split() for line in printed.splitlines() if line.strip().startswith(("Ann", "E"))
    ]
    assert [words[:2] for words in people] == [["Ann", "6"], ["Eve", "6"]]

    assert main(["feedback", "export", str(store), str(out)]) == 0
    assert len(out.read_text().splitlines()) == 18
    assert main(["feedback", "export", str(store), str(out), "--no-ties"]) == 0
    assert len(out.read_text().splitlines()) == 12
    assert main(["feedback", "export", str(store), str(out), "--all"]) == 0
    again = tmp_path / "b.sqlite"
    assert main(["feedback", "import", str(again), str(out)]) == 0
    assert "added 6 items and 18 judgements" in capsys.readouterr().out
    assert Store(again).pairs() == Store(store).pairs()


def test_a_language_model_writes_once(tmp_path, capsys, served) -> None:
    start = ["feedback", "--store", str(tmp_path / "a.sqlite"), "--env", "Sentiment"]
    start += ["--prompts", "3", "--group-size", "3"]
    assert main(start) == 0
    assert "writes 3 texts for 3 prompts" in capsys.readouterr().out
    store = served[0][0]
    items = store.items()
    assert len({item.prompt for item in items}) == 3
    assert all(item.texts[0] != item.texts[1] for item in items)
    assert {item.policy_version for item in items} == {"textgym/tiny"}
    columns = {"env": "TextGen/Sentiment-v0", "level": 1, "split": "train", "prompts": 3}
    assert items[0].columns == columns
    assert main(start) == 0
    assert "writes 3" not in capsys.readouterr().out
    assert store.items() == items
    assert main([*start, "--mode", "spans", "--group-size", "1"]) == 0
    assert {len(item.texts) for item in store.items(kind="spans")} == {1}


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([], "--store FILE"),
        (["--store", "s", "--env", "Story", "--texts", "t"], "exclude"),
        (["--store", "s", "--env", "Dialogue"], "conversations"),
        (["--store", "s", "--env", "Caption"], "pictures"),
        (["--store", "s", "--env", "Story", "--group-size", "1"], "--group-size"),
        (["--store", "s", "--port", "99999"], "--port"),
        (["--store", "s", "--annotator", "a\nb"], "printable"),
        (["stats", "none.sqlite"], "does not exist"),
        (["import", "s", "none.jsonl"], "none.jsonl"),
    ],
)
def test_errors_name_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, words: list[str], error: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["feedback", *words]) == 1
    assert error in capsys.readouterr().err


def test_an_address_that_is_in_use(tmp_path, capsys) -> None:
    with server._listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        assert main(["feedback", "--store", str(tmp_path / "s"), "--port", port]) == 1
    assert "another --port" in capsys.readouterr().err

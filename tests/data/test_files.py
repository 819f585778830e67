"""Reading files of rows, and errors that name the file, line and column."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import textgym
from textgym.errors import DataError, DataWarning
from textgym.tasks.sources.loading import make_source


def rows_of(path: Path, content: str | bytes) -> list[Any]:
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    source = make_source(path)
    assert source.size is not None
    return [source.item(index) for index in range(source.size)]


# ------------------------------------------------------------------ CSV

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@settings(max_examples=150)
@given(
    rows=st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=6),
    separator=st.sampled_from(",;\t"),
    end=st.sampled_from(["\r\n", "\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_csv_is_read_as_it_was_written(
    tmp_path: Path, rows: list[tuple[str, ...]], separator: str, end: str, quoting: Any
) -> None:
    """Fields with quotes, line ends, separators, whitespace, or no text."""
    # Python's writer leaves a carriage return without quotes if lines end without one.
    assume(end == "\r\n" or quoting == csv.QUOTE_ALL or "\r" not in "".join(sum(rows, ())))
    path = tmp_path / "any.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=separator, lineterminator=end, quoting=quoting)
        writer.writerow(["prompt", "a", "b"])
        writer.writerows(rows)
    source = make_source(path)
    found = [source.item(index) for index in range(len(rows))]
    assert [(row["prompt"], row["a"], row["b"]) for row in found] == rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('prompt,reference\n"hi,x\nb,c\nd,e\n', "line 2, character 1, column 1 "),
        ('prompt,reference\na,b\nc,"d\n', "line 3, character 3, column 2 "),
        ('prompt,x\n"20"" wide,b\n', "line 2, character 1, column 1 "),
        ('prompt,x\n"he said \\"hi\\"",b\n', "line 2, .*column 1 "),
        ('prompt,x\n"a" b,c\n', "line 2, character 3, column 1 "),
        ('prompt,x\n"a\nb" c,d\n', "line 2, character 1, .*closed at line 3, character 2"),
        ('prompt,x\nsay "hi",b\n', "line 2, character 5, column 1 "),
        ('prompt,x\na, "b, c"\n', "line 2, character 4, column 2 "),
        ("prompt,x\na,b\nc\n", r"line 3 .*\(1 for 2\).*'prompt', 'x'"),
        ("prompt,x\na,b\nc,d,\n", r"line 3 .*\(3 for 2\).*comma"),
        ("prompt;x\na;b;c\n", "line 2 .*semicolon"),
        ("prompt,x,prompt\na,b,c\n", "line 1: columns 1 and 3 .*'prompt'"),
        ("prompt,x, x\na,b,c\n", "line 1: columns 2 and 3 .*'x'"),
        (",prompt\n0,a\n", "line 1: column 1 of 2 .*index=False"),
        ("prompt,\na,b\n", "line 1: column 2 of 2 "),
        ('"prompt\na\n', "line 1, character 1, column 1 "),
    ],
)
def test_csv_that_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        rows_of(tmp_path / "t.csv", content)
    assert "t.csv" in str(caught.value)


def test_names_of_csv_columns_are_stripped_and_values_are_not(tmp_path: Path) -> None:
    for separator in [",", ";", "\t"]:
        text = f"prompt {separator} reference\nhi {separator} x\n"
        assert rows_of(tmp_path / "t.csv", text) == [{"prompt": "hi ", "reference": " x"}]
    assert rows_of(tmp_path / "t.tsv", "prompt\tx\na, b\tc\n") == [{"prompt": "a, b", "x": "c"}]


def test_long_csv_fields(tmp_path: Path) -> None:
    text = "word, " * 40_000
    before = csv.field_size_limit()
    assert rows_of(tmp_path / "t.csv", f'prompt,x\n"{text}",y\n') == [{"prompt": text, "x": "y"}]
    assert csv.field_size_limit() == before


def test_csv_rows_that_are_skipped(tmp_path: Path) -> None:
    """After a row that is not CSV reading continues with the next line."""
    lines = ["prompt,x", "a,1", '"b,2', "c,3", 'd "d",4', '"e",5', "f", '"g" g,6', '"h', 'h",7']
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines) + "\n")
    source = make_source(path, on_bad_row="skip")
    assert [source.item(index)["x"] for index in range(source.size or 0)] == ["1", "3", "5", "7"]
    assert [source.item(3)["prompt"]] == ["h\nh"]
    assert [said.partition("line ")[2][0] for said in source.lists()[0].skipped] == list("3578")


# ------------------------------------------------------------------ JSON


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "a", "x": ' + "[" * 3000 + "]" * 3000 + "}", "line 2 .*nested"),
        ('{"prompt": "a", "x": ' + "[" * 80 + "]" * 80 + "}", "line 2.*'x' .* 64 levels"),
        ('{"prompt": "a", "x": ' + '{"y":' * 80 + "1" + "}" * 81, "line 2.*'x' .* 64 levels"),
        ('{"prompt": "a", "prompt": "b"}', "line 2 .*the key 'prompt' twice"),
        ('{"prompt": "a", "x": [{"y": 1, "y": 2}]}', "line 2 .*the key 'y' twice"),
        ('{"prompt": "a", "n": ' + "9" * 5000 + "}", "line 2 .*4300"),
        ('{"prompt": NaN}', "row 1 .*line 2.* NoneType as its 'prompt'"),
        ("{'prompt': 'a'}", "line 2 "),
    ],
)  # fmt: skip
def test_json_that_is_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        rows_of(tmp_path / "t.jsonl", '{"prompt": "fine"}\n' + line + "\n")
    assert "t.jsonl" in str(caught.value)


def test_numbers_of_json(tmp_path: Path) -> None:
    line = '{"prompt": "a", "n": 15511210043330985984000000, "x": NaN, "y": Infinity, "z": [NaN]}'
    [row] = rows_of(tmp_path / "t.jsonl", line)
    assert row == {
        "prompt": "a", "n": 15511210043330985984000000, "x": None, "y": float("inf"), "z": [None]
    }  # fmt: skip


def test_a_line_that_is_not_utf8(tmp_path: Path) -> None:
    content = b'{"prompt": "a"}\n{"prompt": "caf\xe9"}\n{"prompt": "b"}\n'
    with pytest.raises(DataError, match=r"line 2 .*b'\\xe9'"):
        rows_of(tmp_path / "t.jsonl", content)
    source = make_source(tmp_path / "t.jsonl", on_bad_row="skip")
    assert [source.item(index)["prompt"] for index in range(2)] == ["a", "b"]
    with pytest.raises(DataError, match=r"t\.csv, line 3 "):
        rows_of(tmp_path / "t.csv", b"prompt\na\ncaf\xe9\n")
    with pytest.raises(DataError, match="UTF-16"):
        rows_of(tmp_path / "t.csv", "prompt\na\n".encode("utf-16"))


# ------------------------------------------------------------------ rows that cannot be used


def test_bad_rows_are_counted_and_named() -> None:
    rows: list[Any] = [{"prompt": f"p{at}", "reference": "x"} for at in range(50)]
    rows[20] = {"prompt": None, "reference": "x"}
    rows[30] = {"reference": "x"}
    for make in (gym.make, gym.make_vec):
        with pytest.raises(DataError, match=r"row 20 of the list .*2 of the 50 rows.*on_bad_row"):
            make("TextGen-v0", prompts=rows)
        with pytest.warns(DataWarning, match="2 of 50 rows .*row 20 of the list .*row 30 of"):
            env = make("TextGen-v0", prompts=rows, on_bad_row="skip")
        source = env.unwrapped.settings.source
        assert (source.size, len(source.skipped)) == (48, 2)
        assert source.item(20)["prompt"] == "p21"
        assert {source.item(at)["prompt"] for at in range(48)} == {
            f"p{at}" for at in range(50) if at not in (20, 30)
        }
    with pytest.raises(textgym.TextGymError, match="on_bad_row='drop'"):
        gym.make("TextGen-v0", prompts=rows, on_bad_row="drop")
    with pytest.raises(DataError, match=r"row 0 .* has no prompt"):
        gym.make("TextGen-v0", prompts=[{"x": 1}], on_bad_row="skip")


class Rows:
    """A table that is not in memory, and counts what is read."""

    def __init__(self, count: int, bad: int) -> None:
        self.count, self.bad = count, bad
        self.read: set[int] = set()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        self.read.add(index)
        return {"prompt": 3 if index == self.bad else f"p{index}"}

    column_names = ("prompt",)


def test_of_a_large_table_rows_are_looked_at_that_are_evenly_spread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("textgym.tasks.sources.lists.MAX_CHECKED", 11)
    table = Rows(101, bad=15)
    table.column_names = ["prompt"]  # type: ignore[assignment]
    source = make_source(table, on_bad_row="skip")
    assert table.read == set(range(0, 101, 10))
    # A bad row that nobody has looked at is skipped when it is drawn, or named.
    rng = np.random.default_rng(0)
    assert "3" not in {source.draw(rng)["prompt"] for _ in range(1000)}
    assert 15 in table.read
    strict = make_source(table)
    with pytest.raises(DataError, match=r"row 15 of Rows .*'prompt'"):
        _ = [strict.draw(rng) for _ in range(1000)]
    with pytest.raises(DataError, match=r"row 15 of Rows .*1 of the 101 rows"):
        make_source(table, eval_share=0.1)


def test_pictures_are_not_decoded_when_rows_are_looked_at() -> None:
    datasets = pytest.importorskip("datasets")
    pillow = pytest.importorskip("PIL.Image")
    pictures = [pillow.new("RGB", (4, 4), color) for color in ("red", "blue")]
    table = datasets.Dataset.from_dict({"prompt": ["a", "b"], "image": pictures})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.Image, "decode_example", None)
        source = make_source(table)
    assert source.item(1)["image"].getpixel((0, 0)) == (0, 0, 255)


def test_skipping_reads_the_good_lines_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    lines = [json.dumps({"prompt": f"p{at}"}) for at in range(20)]
    lines[3] = lines[3][:-2]
    lines[7] = "[1]"
    path.write_text("\n".join(lines))
    with pytest.warns(DataWarning, match=r"2 of 20 rows .*line 4 .*\(line 8\)"):
        env = gym.make("TextGen-v0", prompts=str(path), on_bad_row="skip")
    assert env.unwrapped.settings.source.size == 18

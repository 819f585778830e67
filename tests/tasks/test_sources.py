"""All kinds of sources of prompts, and invalid data."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import textgym  # noqa: F401  (registers the ids)
from textgym.data.rows import RESERVED_COLUMNS, as_row
from textgym.errors import DataError, SettingsError, TaskError, TextGymError
from textgym.tasks import Task, make_task
from textgym.tasks.good_bad.task import GoodBad
from textgym.tasks.sources.loading import make_source
from textgym.tasks.sources.reasoning_gym import Scorer

ROWS = [
    {"prompt": "eins", "reference": "one"},
    {"prompt": "zwei, drei", "reference": 'two "three"'},
    {"prompt": "日本 🙂", "reference": "zeile\nzwei"},
]


def all_rows(source: Any) -> list[Any]:
    return [source.item(index) for index in range(source.size)]


# ------------------------------------------------------------------ lists


def test_lists_of_strings_and_rows() -> None:
    assert all_rows(make_source(["a", ""])) == [{"prompt": "a"}, {"prompt": ""}]
    assert all_rows(make_source(("a",))) == [{"prompt": "a"}]
    assert all_rows(make_source(ROWS)) == ROWS
    assert all_rows(make_source(["a", {"prompt": "b", "x": 1}])) == [
        {"prompt": "a"},
        {"prompt": "b", "x": 1},
    ]


@pytest.mark.parametrize(
    ("given_row", "added"),
    [
        ({"question": "q", "answer": "a"}, {"prompt": "q", "reference": "a"}),
        ({"prompt": "p", "text": "t"}, {}),
        ({"article": "x", "highlights": "y", "id": 3}, {"prompt": "x", "reference": "y"}),
        ({"text": "t", "references": ["a", "b"]}, {"prompt": "t", "reference": ["a", "b"]}),
        ({"instruction": "i", "input": "j", "output": "o"}, {"prompt": "i", "reference": "o"}),
        ({"prompt": "p", "answer": "a", "reference": "r"}, {}),
        ({"prompt": "p", "completion": "c", "summary": "s"}, {"reference": "s"}),
    ],
)
def test_columns_are_kept_and_completed(given_row: Any, added: dict[str, Any]) -> None:
    before = dict(given_row)
    assert as_row(given_row, "here") == {**before, **added}
    assert given_row == before


def test_a_column_with_a_reserved_name_is_moved() -> None:
    assert as_row({"text": "p", "response": "r"}, "here") == {
        "prompt": "p",
        "text": "p",
        "reference": "r",
    }


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        ({"x": 1, "_x": 2}, "_x"),
        ({"_prompt": 1}, "_prompt"),
        ({"answer": "a", "_reference": 1}, "_reference"),
        ({"_response": 1}, "_response"),
        ({"_episode": 1}, "_episode"),
        ({"x": {"y": {"z": 1, "_z": 2}}}, "_z"),
    ],
)
def test_names_of_gymnasium_masks_are_rejected(extra: dict[str, Any], name: str) -> None:
    with pytest.raises(DataError, match=f"here .*'{name}'"):
        as_row({"prompt": "p", **extra}, "here")


def test_other_names_may_start_with_an_underscore() -> None:
    row = {"prompt": "p", "_id": 3, "__x": 1, "x": {"_y": 1, 3: 4}, "_": 5}
    assert as_row(row, "here") == row


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "here is a int"),
        (None, "NoneType"),
        (["a"], "list"),
        (b"a", "bytes"),
        ({}, "no prompt"),
        ({"Prompt": "a"}, r"columns are \['Prompt'\]"),
        ({"prompt": None}, "NoneType as its 'prompt'"),
        ({"prompt": ["a"]}, "list as its 'prompt'"),
        ({1: "a"}, r"\['1'\]"),
        ({"prompt": "a", 1: "b"}, "names of columns are strings"),
        *[({"prompt": "a", "reference": "b", name: 1}, name) for name in sorted(RESERVED_COLUMNS)],
    ],
    ids=repr,
)
def test_invalid_rows(value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        as_row(value, "here")


def test_the_position_of_a_bad_row_is_named() -> None:
    with pytest.raises(DataError, match=r"row 1 .*int"):
        make_source(["a", 3])
    with pytest.raises(DataError, match=r"row 0 .*'x'"):
        make_source([{"x": 1}])


@pytest.mark.parametrize(
    "spec",
    [[], (), 3, None, {"prompt": "a"}, {"a", "b"}, iter("ab")],
    ids=["empty", "tuple", "number", "none", "dict", "set", "iterator"],
)
def test_invalid_sources(spec: Any) -> None:
    with pytest.raises(DataError):
        make_source(spec)


@settings(max_examples=50)
@given(size=st.integers(1, 20), seed=st.integers(0, 2**32))
def test_draws_are_rows_and_depend_on_the_generator_alone(size: int, seed: int) -> None:
    source = make_source([f"{index}" for index in range(size)])
    one, two = np.random.default_rng(seed), np.random.default_rng(seed)
    drawn = [source.draw(one)["prompt"] for _ in range(10)]
    assert drawn == [source.draw(two)["prompt"] for _ in range(10)]
    assert all(0 <= int(prompt) < size for prompt in drawn)


def test_draws_are_uniform() -> None:
    source = make_source(["a", "b", "c"])
    rng = np.random.default_rng(0)
    counts = np.bincount([ord(source.draw(rng)["prompt"]) - 97 for _ in range(3000)])
    assert np.abs(counts - 1000).max() < 130, "five standard deviations"


def test_rows_are_copies() -> None:
    rows = [{"prompt": "a", "list": [1], "array": np.zeros(1), "deep": {"x": [1]}}]
    source = make_source(rows)
    row = source.item(0)
    row["list"].append(2)
    row["array"][0] = 2
    row["deep"]["x"].append(2)
    assert source.item(0) == {"prompt": "a", "list": [1], "array": [0], "deep": {"x": [1]}}


@pytest.mark.parametrize("kind", ["DataFrame", "Dataset", "class"])
def test_tables(kind: str) -> None:
    class Table:
        def __len__(self) -> int:
            return len(ROWS)

        def __getitem__(self, index: int) -> Any:
            return ROWS[index]

    made: dict[str, Any] = {
        "DataFrame": lambda: pandas.DataFrame(ROWS, index=[5, 6, 7]),
        "Dataset": lambda: pytest.importorskip("datasets").Dataset.from_list(ROWS),
        "class": Table,
    }
    table = made[kind]()
    assert all_rows(make_source(table)) == ROWS
    with pytest.raises(DataError, match=f"{type(table).__name__} .*'eval' split"):
        make_source(table, "eval")
    env = gym.make("TextGen-v0", prompts=table)
    assert env.reset(options={"index": 1})[1]["prompt"] == ROWS[1]["prompt"]


def test_splits_of_tables() -> None:
    for make in (
        lambda: pandas.DataFrame(MARKED),
        lambda: pytest.importorskip("datasets").Dataset.from_list(MARKED),
    ):
        assert all_rows(make_source(make(), "eval")) == MARKED[::3]


def test_columns_of_tables_and_arrays_of_prompts() -> None:
    series = pandas.Series(["a", "b"], index=[7, 8])
    for spec in (series, np.array(["a", "b"])):
        assert all_rows(make_source(spec)) == [{"prompt": "a"}, {"prompt": "b"}]


# ------------------------------------------------------------------ files


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".txt":
        path.write_text("\n".join(row["prompt"] for row in rows), "utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    elif path.suffix == ".csv":
        import csv

        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".csv", ".parquet"])
def test_files(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"data{suffix}", ROWS)
    expected = ROWS if suffix != ".txt" else [{"prompt": row["prompt"]} for row in ROWS]
    for spec in (path, str(path)):
        assert all_rows(make_source(spec)) == expected
    assert all_rows(make_source(path.rename(tmp_path / f"DATA{suffix.upper()}"))) == expected


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".csv"])
def test_byte_order_marks_and_carriage_returns(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"data{suffix}", ROWS[:2])
    text = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + text + b"\r\n\r\n")
    assert [row["prompt"] for row in all_rows(make_source(path))] == ["eins", "zwei, drei"]


@settings(max_examples=50)
@given(prompts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_any_text_survives_json(tmp_path: Path, prompts: list[str]) -> None:
    for ascii_only in (True, False):
        path = tmp_path / "any.jsonl"
        lines = [json.dumps({"prompt": text}, ensure_ascii=ascii_only) for text in prompts]
        path.write_text("\n".join(lines), "utf-8")
        assert [row["prompt"] for row in all_rows(make_source(path))] == prompts


@settings(max_examples=50)
@given(
    prompts=st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Cc"])).map(lambda text: "x" + text),
        min_size=1,
        max_size=5,
    )
)
def test_lines_and_fields_of_any_text(tmp_path: Path, prompts: list[str]) -> None:
    for suffix in (".txt", ".csv"):
        path = write(tmp_path / f"any{suffix}", [{"prompt": text} for text in prompts])
        assert [row["prompt"] for row in all_rows(make_source(path))] == prompts


def test_blank_lines_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\none\n\n  \ntwo\n")
    assert [row["prompt"] for row in all_rows(make_source(tmp_path / "a.txt"))] == ["one", "two"]
    (tmp_path / "a.jsonl").write_text('\n{"prompt": "one"}\n\n')
    assert make_source(tmp_path / "a.jsonl").size == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "holds no prompts"),
        ("a.txt", b"\n \n", "holds no prompts"),
        ("a.jsonl", b"", "holds no prompts"),
        ("a.csv", b"", "holds no prompts"),
        ("a.csv", b"prompt,reference\n", "holds no prompts"),
        ("a.jsonl", b'{"prompt": "a"}\n\n{"prompt": \n', "line 3 is not JSON"),
        ("a.jsonl", b'{"prompt": "a"}{"prompt": "b"}\n', "line 1 is not JSON"),
        ("a.jsonl", b'[{"prompt": "a"}]', "row 0 .*is a list"),
        ("a.jsonl", b"3", "row 0 .*is a int"),
        ("a.jsonl", b'"a"\n\n{"x": 1}', r"row 1 of the file .*a\.jsonl \(line 3\) has no prompt"),
        ("a.txt", b"caf\xe9\n", "UTF-8"),
        ("a.csv", "prompt\ncafé".encode("utf-16"), "UTF-8"),
        ("a.csv", b"prompt,reference\na,b\nc,d,e\n", "line 3 has more fields"),
        ("a.csv", b"prompt,reference\na\n", "line 2 has fewer fields"),
        ("a.csv", b"name,value\na,b\n", "no prompt"),
        ("a.parquet", b"no parquet", "not a Parquet file"),
        ("a.json", b"[]", r"unknown type; use .txt, .jsonl, .csv or .parquet"),
        ("a", b"x", "unknown type"),
    ],
)
def test_broken_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        make_source(path)
    assert "a" in str(caught.value)


def test_missing_files(tmp_path: Path) -> None:
    for spec in (tmp_path / "gone.jsonl", tmp_path, "gone.txt", "", "Tell me a story. " * 99):
        with pytest.raises(DataError, match="there is no file"):
            make_source(spec)


# ------------------------------------------------------------------ splits


MARKED = [{"prompt": f"{n}", "split": "eval" if n % 3 == 0 else "train"} for n in range(9)]


@pytest.mark.parametrize("kind", ["list", ".jsonl", ".csv", ".parquet"])
def test_splits_by_a_column(tmp_path: Path, kind: str) -> None:
    spec: Any = MARKED if kind == "list" else write(tmp_path / f"data{kind}", MARKED)
    assert [row["prompt"] for row in all_rows(make_source(spec, "eval"))] == ["0", "3", "6"]
    assert make_source(spec).size == 6
    assert make_source(spec).item(0) == {"prompt": "1", "split": "train"}


def test_missing_splits(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'eval' split.*column 'split'"):
        make_source(["a"], "eval")
    with pytest.raises(DataError, match="eval split"):
        make_source([row for row in MARKED if row["split"] == "train"], "eval")


# ------------------------------------------------------------------ functions and tasks


def test_functions() -> None:
    source = make_source(lambda rng: {"prompt": f"{rng.integers(1000)}"})
    assert source.size is None
    rng = np.random.default_rng(3)
    expected = np.random.default_rng(3).integers(1000)
    assert source.draw(rng) == {"prompt": f"{expected}"}
    assert source.item(7) == source.item(7)
    assert len({source.item(index)["prompt"] for index in range(20)}) > 10
    assert make_source(lambda rng: "text").item(0) == {"prompt": "text"}


def test_callable_objects() -> None:
    class Maker:
        def __call__(self, rng: np.random.Generator) -> str:
            return "made"

    assert make_source(Maker()).item(0) == {"prompt": "made"}
    with pytest.raises(DataError, match="raised TypeError"):
        make_source(lambda: "x").item(0)


@pytest.mark.parametrize("index", [-1, -100])
def test_endless_sources_start_at_0(index: int) -> None:
    for spec in (lambda rng: "x", make_task("TextGen/Sentiment-v0")):
        with pytest.raises(DataError, match=f"row {index};"):
            make_source(spec).item(index)


def test_a_task_keeps_its_own_split_and_reward() -> None:
    task = make_task("TextGen/Sentiment-v0", level=2, split="eval")
    source = make_source(task, "train")
    assert source.item(3) == task.item(3)
    rng, other = np.random.default_rng(5), np.random.default_rng(5)
    assert [source.draw(rng) for _ in range(5)] == [task.sample(other) for _ in range(5)]
    row = task.item(0)
    columns = {name: [value] for name, value in row.items() if name != "prompt"}
    reward: Any = source.default_reward()
    assert list(reward([row["prompt"]], [task.oracle(row)], **columns)) == [1.0]


def test_tasks_by_class_and_by_id() -> None:
    task = make_task("TextGen/Sentiment-v0", level=2, split="eval")
    for spec in (type(task), task.id):
        assert make_source(spec, "eval", 2).item(3) == task.item(3)
        assert make_source(spec).item(3) == make_task(task.id).item(3)
        with pytest.raises(TaskError, match="level 9"):
            make_source(spec, "train", 9)
        env = gym.make("TextGen-v0", prompts=spec, split="eval", level=2).unwrapped
        assert env.reset(options={"index": 3})[1]["prompt"] == task.item(3)["prompt"]
        assert env.settings.max_prompt_tokens == task.max_prompt_tokens
    with pytest.raises(SettingsError, match="level=2"):
        make_source(task, "eval", 2)


def test_classes_that_cannot_be_constructed() -> None:
    class Own(GoodBad):
        def __init__(self, size: int) -> None:
            super().__init__()

    for spec in (Task, Own):
        with pytest.raises(TaskError, match=f"class {spec.__name__} .*level="):
            make_source(spec)


def test_default_rewards() -> None:
    assert make_source(["a"]).default_reward() == "distinct"
    assert make_source(ROWS).default_reward() == "edit_similarity"
    # Not only the first row counts.
    assert make_source(["a", ROWS[0]]).default_reward() == "edit_similarity"
    assert make_source(lambda rng: ROWS[0]).default_reward() == "edit_similarity"


def test_sources_pickle() -> None:
    for spec in (ROWS, make_task("TextGen/GoodBad-v0")):
        source = make_source(spec)
        assert pickle.loads(pickle.dumps(source)).item(0) == source.item(0)


def test_a_task_with_public_data(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", [{"prompt": "I like", "reference": "it"}])
    env = gym.make("TextGen/Sentiment-v0", prompts=str(path))
    _, info = env.reset(seed=0)
    assert info["prompt"] == "I like"
    assert env.unwrapped.settings.max_new_tokens == make_task("TextGen/Sentiment-v0").max_new_tokens


# ------------------------------------------------------------------ the hub's data sets


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()
    home = tmp_path / "news"
    home.mkdir()
    for split, count in (("train", 5), ("validation", 3), ("test", 2)):
        rows = [{"article": f"{split} {n}", "highlights": f"h{n}"} for n in range(count)]
        write(home / f"{split}.jsonl", rows)
    return home


def test_hub_data_sets(folder: Path) -> None:
    load = make_source
    assert load(f"hf:{folder}").item(4) == {
        "prompt": "train 4",
        "article": "train 4",
        "reference": "h4",
        "highlights": "h4",
    }
    assert load(f"hf:{folder}").size == 5
    assert load(f"hf:{folder}:test").item(1)["prompt"] == "test 1"
    assert load(f"hf:{folder}:default:validation").item(0)["prompt"] == "validation 0"
    assert load(f"hf:{folder}:default").size == 5
    assert load(f"hf:{folder}:train[1:3]").item(0)["prompt"] == "train 1"
    assert load(f"hf:{folder}:train[:2]").size == 2
    assert load(f"hf:{folder}:default:train[:2]").size == 2


def test_eval_split_of_hub_data_sets(folder: Path) -> None:
    assert make_source(f"hf:{folder}", "eval").item(0)["prompt"] == "validation 0"
    (folder / "validation.jsonl").unlink()
    assert make_source(f"hf:{folder}", "eval").item(0)["prompt"] == "test 0"


def test_hub_data_sets_that_cannot_be_loaded(folder: Path) -> None:
    with pytest.raises(DataError, match="no-such/data-set"):
        make_source("hf:no-such/data-set")
    with pytest.raises(DataError, match="gone"):
        make_source(f"hf:{folder}:default:gone")
    for spec in ("hf:", "hf:a:b:c:d"):
        with pytest.raises(DataError, match=f"'{spec}'.*hf:NAME"):
            make_source(spec)


def test_hub_data_sets_are_played_alike_in_batch_and_loop(folder: Path) -> None:
    from textgym.testing import check_vector_env

    check_vector_env("TextGen-v0", num_envs=2, num_steps=20, prompts=f"hf:{folder}")


# ------------------------------------------------------------------ reasoning-gym


@pytest.fixture(scope="module")
def reasoning() -> Any:
    pytest.importorskip("reasoning_gym")
    return make_source


def test_reasoning_gym(reasoning: Any) -> None:
    train, held_out = (
        reasoning("reasoning_gym:chain_sum"),
        reasoning("reasoning_gym:chain_sum", "eval"),
    )
    assert train.item(0) == train.item(0)
    rows = [train.item(index) for index in range(50)]
    assert len({row["prompt"] for row in rows}) > 40
    assert {row["metadata"]["source_index"] for row in rows}.isdisjoint(
        held_out.item(index)["metadata"]["source_index"] for index in range(50)
    )
    columns = {name: [row[name] for row in rows] for name in ("reference", "metadata")}
    prompts = [row["prompt"] for row in rows]
    right = [f" {row['reference']}\n" for row in rows]
    assert train.score(prompts, right, **columns) == [1.0] * 50
    wrong = train.score(prompts, ["no number"] * 50, **columns)
    assert max(wrong) < 0.1
    for junk in ("", "\0", "1" * 10_000, "🙂", "nan", "-"):
        assert all(0 <= score <= 1 for score in train.score(prompts, [junk] * 50, **columns))


def test_reasoning_gym_seeds_do_not_overlap(reasoning: Any) -> None:
    """With the package's seeds 42 and 43, all but one of the items are shared."""
    source = reasoning("reasoning_gym:chain_sum")
    first = {source.draw(np.random.default_rng(42))["metadata"]["source_index"] for _ in range(99)}
    rng = np.random.default_rng(43)
    assert first.isdisjoint(source.draw(rng)["metadata"]["source_index"] for _ in range(99))


def test_reasoning_gym_as_an_environment(reasoning: Any) -> None:
    from textgym.testing import check_vector_env

    env = gym.make(
        "TextGen-v0",
        prompts="reasoning_gym:chain_sum",
        max_prompt_tokens=128,
        max_new_tokens=8,
    )
    tokenizer = env.unwrapped.tokenizer
    env.reset(seed=1)
    answer = env.step(tokenizer.eos_id)[-1]["reference"]
    _, info = env.reset(seed=1)
    for index in tokenizer.encode(answer):
        env.step(index)
    _, reward, *_, last = env.step(tokenizer.eos_id)
    assert (reward, last["reference"], last["reward_terms"]) == (1.0, answer, {"score": 1.0})
    check_vector_env(
        "TextGen-v0",
        num_envs=2,
        num_steps=20,
        prompts="reasoning_gym:chain_sum",
        max_new_tokens=3,
        max_prompt_tokens=128,
    )
    assert pickle.loads(pickle.dumps(env)).reset(seed=1)[1] == info


def test_reasoning_gym_names(reasoning: Any) -> None:
    with pytest.raises(DataError, match="'chain_sum'"):
        reasoning("reasoning_gym:chainsum")
    with pytest.raises(TextGymError):
        reasoning("reasoning_gym:")


def test_reasoning_gym_scorers_that_raise_on_junk(reasoning: Any) -> None:
    source = reasoning("reasoning_gym:prime_factorization")
    row = source.item(0)
    columns = {name: [row[name]] for name in ("reference", "metadata")}
    assert source.score([row["prompt"]], ["🙂 x"], **columns) == [0.0]
    assert source.score([row["prompt"]], [row["reference"]], **columns) == [1.0]

    class Broken:
        def score_answer(self, answer: str, entry: Any) -> float:
            raise KeyError("broken")

    with pytest.raises(KeyError):
        Scorer(Broken())([row["prompt"]], ["🙂 x"], **columns)


@pytest.mark.parametrize("name", ["gsm_symbolic", "list_functions", "word_ladder"])
def test_reasoning_gym_data_sets_that_prepare_their_items(reasoning: Any, name: str) -> None:
    rng = np.random.default_rng(0)
    prompts = [
        reasoning(f"reasoning_gym:{name}", split).draw(rng)["prompt"] for split in ("train", "eval")
    ]
    assert prompts[0] != prompts[1]


def test_reasoning_gym_data_sets_that_need_options(reasoning: Any) -> None:
    with pytest.raises(DataError, match="reasoning_gym:composite"):
        reasoning("reasoning_gym:composite")

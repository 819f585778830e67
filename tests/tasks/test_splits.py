"""Splits of lists and functions, and rows of data frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pandas
import pytest

from textgym.data.rows import prompt_hash
from textgym.errors import DataError, SettingsError
from textgym.tasks.sources.loading import make_source

MESSAGES = [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}]


def prompts(spec: Any, split: str = "train", **kwargs: Any) -> list[str]:
    source = make_source(spec, split, **kwargs)
    return [source.item(index)["prompt"] for index in range(source.size or 0)]


def test_the_split_of_any_row_counts() -> None:
    rows = [{"prompt": "x"}, {"prompt": "y", "split": "eval"}, {"prompt": "z", "split": None}]
    assert prompts(rows) == ["x", "z"]
    assert prompts(rows, "eval") == ["y"]
    assert prompts(pandas.DataFrame(rows), "eval") == ["y"]
    assert prompts(pandas.DataFrame(rows)) == ["x", "z"]


@pytest.mark.parametrize("kind", ["list", "Dataset"])
def test_names_of_splits(kind: str) -> None:
    names = ["train", "Validation", "test", "train_sft", "training", ""]
    rows: Any = [{"prompt": str(at), "split": name} for at, name in enumerate(names)]
    if kind == "Dataset":
        rows = pytest.importorskip("datasets").Dataset.from_list(rows)
    assert prompts(rows) == ["0", "3", "4", "5"]
    assert prompts(rows, "eval") == ["1"], "test rows are kept for the very end"
    with pytest.raises(DataError, match=r"row 1 .*split 'extra'"):
        make_source([{"prompt": "a"}, {"prompt": "b", "split": "extra"}])
    with pytest.raises(DataError, match=r"row 0 .*split 3"):
        make_source([{"prompt": "a", "split": 3}])


def test_a_share_is_held_out_by_the_prompt_alone() -> None:
    rows = [{"prompt": f"prompt {at % 2000}", "n": at} for at in range(4000)]
    learn, judge = (prompts(rows, split, eval_share=0.1) for split in ("train", "eval"))
    assert len(learn) + len(judge) == 4000
    assert not set(learn) & set(judge)
    assert abs(len(set(judge)) / 2000 - 0.1) < 4 * (0.1 * 0.9 / 2000) ** 0.5
    assert set(judge) == {text for text in learn + judge if prompt_hash(text) < 0.1 * 2**32}
    # Additional rows do not move others to the other side.
    assert set(prompts(rows[500:1500], "eval", eval_share=0.1)) <= set(judge)
    with pytest.raises(DataError, match=r"'eval' split.*eval_share"):
        make_source(rows, "eval")


def test_neither_side_is_empty() -> None:
    for count in (2, 3, 5):
        for share in (0.001, 0.5, 0.999):
            rows = [f"p{at}" for at in range(count)]
            learn, judge = (prompts(rows, split, eval_share=share) for split in ("train", "eval"))
            assert learn, (count, share)
            assert judge, (count, share)
            assert sorted(learn + judge) == rows
    with pytest.raises(DataError, match="one distinct prompt"):
        make_source(["a", "a"], eval_share=0.5)


def test_labeled_rows_need_no_share() -> None:
    rows = [{"prompt": f"{at}", "split": "eval" if at < 3 else "train"} for at in range(30)]
    assert prompts(rows, "eval", eval_share=0.5) == ["0", "1", "2"]
    assert len(prompts(rows, eval_share=0.5)) == 27
    unmarked = [{**row, "split": "train"} for row in rows]
    learn, judge = (prompts(unmarked, split, eval_share=0.3) for split in ("train", "eval"))
    assert len(learn) + len(judge) == 30
    assert judge


def test_functions_draw_from_one_side() -> None:
    def make(rng: np.random.Generator) -> str:
        return f"{rng.integers(100)}"

    drawn = {}
    for split in ("train", "eval"):
        source = make_source(make, split, eval_share=0.25)
        rng = np.random.default_rng(0)
        drawn[split] = {source.draw(rng)["prompt"] for _ in range(1000)}
    assert not drawn["train"] & drawn["eval"]
    assert len(drawn["train"] | drawn["eval"]) == 100
    with pytest.raises(DataError, match="eval_share=1e-09"):
        make_source(lambda rng: "a", "eval", eval_share=1e-9).draw(np.random.default_rng(0))


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, True, "0.1", float("nan")])
def test_invalid_shares(share: Any) -> None:
    with pytest.raises(SettingsError, match="eval_share="):
        gym.make("TextGen-v0", prompts=["a", "b"], eval_share=share)


def test_environments_of_two_splits_share_no_prompt(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("\n".join(f"prompt {at}" for at in range(100)))
    seen = {}
    for split in ("train", "eval"):
        envs = gym.make_vec(
            "TextGen-v0", num_envs=256, prompts=path, split=split, eval_share=0.2, max_new_tokens=2
        )
        seen[split] = set(envs.reset(seed=0)[1]["prompt"])
    assert not seen["train"] & seen["eval"]


# ------------------------------------------------------------------ data frames


@pytest.mark.parametrize("missing", [None, np.nan, pandas.NA, pandas.NaT, np.float32("nan")])
def test_missing_values_in_data_frames(missing: Any) -> None:
    frame = pandas.DataFrame({"prompt": ["a", "b"], "reference": ["x", missing]}, dtype=object)
    source = make_source(frame)
    assert source.item(0)["reference"] == "x"
    assert source.item(1)["reference"] is None
    with pytest.raises(DataError, match=r"row 1 of DataFrame .*NoneType.*'prompt'"):
        make_source(pandas.DataFrame({"prompt": ["a", missing]}, dtype=object))


def test_duplicate_columns_are_rejected() -> None:
    frame = pandas.DataFrame([["a", "b"]], columns=["prompt", "prompt"])
    with pytest.raises(DataError, match="columns 'prompt'"):
        make_source(frame)


def test_tables_of_arrow() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.Table.from_pylist([{"prompt": "a"}, {"prompt": "b"}])
    assert prompts(table) == ["a", "b"]


# ------------------------------------------------------------------ messages


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": MESSAGES},
        {"messages": MESSAGES, "reference": "x"},
        {"messages": MESSAGES, "text": "not this one"},
        {"prompt": "this one", "messages": MESSAGES},
    ],
)
def test_prompts_of_messages_are_kept(row: dict[str, Any]) -> None:
    source = make_source([row])
    assert source.item(0) == {"prompt": row.get("prompt", MESSAGES), **row}


def test_other_lists_are_not_prompts() -> None:
    for wrong in ([], ["a"], [{"role": "user"}], [{"role": 1, "content": "a"}]):
        with pytest.raises(DataError, match=r"list.*'prompt'"):
            make_source([{"prompt": wrong}])
    with pytest.raises(DataError, match="'messages'"):
        make_source([{"messages": "hi"}])

"""Mixtures of sources, and the data sets of reasoning-gym."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import textgym
from textgym.errors import DataError, SettingsError
from textgym.rewards.combine import RewardSum
from textgym.tasks.sources.loading import make_source

reasoning_gym = pytest.importorskip("reasoning_gym")

SUMS = "reasoning_gym:chain_sum?min_terms=2&max_terms=2&min_digits=1&max_digits=1"


def verdict(source: Any, row: dict[str, Any], text: str) -> float:
    columns = {name: [value] for name, value in row.items() if name != "prompt"}
    reward = RewardSum(source.default_reward(), "here")
    return float(reward([row["prompt"]], [text], columns)[0][0])


# ------------------------------------------------------------------ mixes


def test_shares_of_a_mix() -> None:
    source = make_source(textgym.mix([["a"], ["b", "c"]], weights=[1, 3]))
    rng = np.random.default_rng(0)
    counts = Counter(source.draw(rng)["prompt"] for _ in range(4000))
    assert counts["a"] == pytest.approx(1000, abs=4 * (4000 * 3 / 16) ** 0.5)
    assert counts["b"] == pytest.approx(1500, abs=4 * (4000 * 15 / 64) ** 0.5)
    assert source.size == 3
    assert [source.item(index)["prompt"] for index in range(3)] == ["a", "b", "c"]
    with pytest.raises(DataError, match=r" 0 .*2.* 3"):
        source.item(3)


def test_each_source_judges_its_own_rows(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"prompt": "Say yes", "reference": "yes"}))
    source = make_source({str(file): 1, SUMS: 2.0, "TextGen/QA-v0": 1})
    assert source.size is None
    rows = [source.item(index) for index in range(3)]
    names = [row["mixed_from"] for row in rows]
    assert names == [f"the file {file}", SUMS, "TextGen/QA-v0 (level 1, train)"]
    right = ["yes", rows[1]["reference"], rows[2]["reference"]]
    assert [verdict(source, row, text) for row, text in zip(rows, right, strict=True)] == [1] * 3
    for row, text in zip(rows, ["no", "x", " Rome."], strict=True):
        assert verdict(source, row, text) < 0.5
    # In a single batch, where rows lack the columns of other sources.
    envs = gym.make_vec(
        "TextGen-v0", 3, prompts={str(file): 1, SUMS: 2.0, "TextGen/QA-v0": 1},
        tokenizer=None, max_prompt_tokens=256, max_new_tokens=32, autoreset_mode="SameStep",
    )  # fmt: skip
    envs.reset(seed=0, options={"index": [0, 1, 2]})
    eos = envs.unwrapped.tokenizer.eos_id
    ids = [[*envs.unwrapped.tokenizer.encode(text), eos] for text in right]
    rewards = np.zeros(3)
    over = np.zeros(3, bool)
    for at in range(max(map(len, ids))):
        actions = np.array([line[min(at, len(line) - 1)] for line in ids])
        _, paid, ended, _, _ = envs.step(actions)
        rewards += np.where(over, 0, paid)
        over |= ended
    assert rewards.tolist() == [1, 1, 1]


def test_a_reward_that_does_not_apply_is_none() -> None:
    rows = [{"prompt": "a", "reference": None}, {"prompt": "b", "reference": "x"}]
    source = make_source(textgym.mix([rows, SUMS]))
    reward: Any = source.default_reward()
    columns = {"reference": [None, "x"], "mixed_from": ["the list of prompts"] * 2}
    assert reward(["a", "b"], ["x", "x"], **columns) == [None, 1.0]
    # A user's prompt does not belong to a source.
    assert reward(["c"], ["x"], reference=[None]) == [None]


def test_lists_in_a_mix_are_checked() -> None:
    spec = textgym.mix([["a", "b " * 100], SUMS])
    with pytest.raises(textgym.TextGymError, match=r"row 1 .*max_prompt_tokens"):
        gym.make("TextGen-v0", prompts=spec)
    with pytest.raises(DataError, match=r"row 1 .*int"):
        make_source(textgym.mix([["a", 3], SUMS]))
    source = make_source(textgym.mix([["a", 3], SUMS]), on_bad_row="skip")
    assert source.item(0)["prompt"] == "a"
    with pytest.raises(DataError, match="'mixed_from'"):
        make_source(textgym.mix([[{"prompt": "a", "mixed_from": "b"}]]))


def test_splits_of_a_mix() -> None:
    lists = [[f"{name}{at}" for at in range(50)] for name in "ab"]
    learn, judge = (
        make_source(textgym.mix(lists), split, eval_share=0.2) for split in ("train", "eval")
    )
    texts = [
        {source.item(index)["prompt"] for index in range(source.size or 0)}
        for source in (learn, judge)
    ]
    assert not texts[0] & texts[1]
    assert len(texts[0] | texts[1]) == 100
    with pytest.raises(DataError, match="'eval' split"):
        make_source(textgym.mix(lists), "eval")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "sources="),
        (("a.jsonl",), "sources='a.jsonl'"),
        ((["a"], [1, 2]), "2 weights for 1 sources"),
        (([["a"]], [0]), "weight 0 "),
        (([["a"]], [float("nan")]), "weight nan"),
        (([["a"]], [True]), "weight True"),
        (({"a.jsonl": -1},), "weight -1"),
        (({"a.jsonl": 1}, [1]), "weights"),
    ],
)
def test_invalid_mixes(arguments: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        textgym.mix(*arguments)


def test_a_mix_pickles() -> None:
    source = make_source(textgym.mix([["a"], SUMS]))
    assert pickle.loads(pickle.dumps(source)).item(1) == source.item(1)


# ------------------------------------------------------------------ reasoning-gym


def test_options_of_reasoning_gym() -> None:
    source = make_source(SUMS)
    for index in range(20):
        assert source.item(index)["metadata"]["num_terms"] == 2
    plain = make_source("reasoning_gym:chain_sum")
    assert {plain.item(index)["metadata"]["num_terms"] for index in range(50)} > {2, 3}
    row = source.item(0)
    assert verdict(source, row, row["reference"]) == 1.0
    train, judge = make_source(SUMS), make_source(SUMS, "eval")
    assert train.item(0) != judge.item(0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("chain_sum?min_term=2", "'min_term'.*min_terms"),
        ("chain_sum?seed=2", "'seed'"),
        ("chain_sum?min_terms", "not of the form"),
        ("chain_sum?min_terms=2&min_terms=3", "'min_terms'"),
        ("chain_sum?min_terms=5&max_terms=2", "cannot be made"),
        ("chain_sum?min_terms=many", "cannot be made"),
        ("chain_sums", "'chain_sums'.*'chain_sum'"),
        ('composite?datasets=[{"nam": "chain_sum"}]', "cannot be made"),
        ('composite?datasets=[{"name": "none", "config": {}}]', "cannot be made"),
    ],
)
def test_invalid_options(spec: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_source(f"reasoning_gym:{spec}")


def test_composites() -> None:
    parts = [
        {"name": "chain_sum", "weight": 2, "config": {"min_terms": 2, "max_terms": 2}},
        {"name": "leg_counting"},
    ]
    source = make_source(f"reasoning_gym:composite?datasets={json.dumps(parts)}")
    rows = [source.item(index) for index in range(30)]
    assert {row["metadata"]["source_dataset"] for row in rows} == {"chain_sum", "leg_counting"}
    assert all(verdict(source, row, row["reference"]) == 1.0 for row in rows)


def test_a_data_set_object_keeps_its_own_scorer() -> None:
    dataset = reasoning_gym.create_dataset("leg_counting", seed=7, size=40)
    source = make_source(dataset)
    assert source.size == 40
    for index in range(40):
        row = source.item(index)
        entry = dataset[index]
        assert (row["prompt"], row["reference"]) == (entry["question"], entry["answer"])
        for text in (entry["answer"], "0", "some"):
            assert verdict(source, row, text) == dataset.score_answer(text, entry)
    with pytest.raises(DataError, match="'eval' split"):
        make_source(dataset, "eval")
    halves = [make_source(dataset, split, eval_share=0.5) for split in ("train", "eval")]
    texts = [{half.item(at)["prompt"] for at in range(half.size or 0)} for half in halves]
    assert not texts[0] & texts[1]
    assert len(texts[0] | texts[1]) == len({entry["question"] for entry in dataset})
    env = gym.make("TextGen-v0", prompts=dataset)
    assert env.reset(options={"index": 3})[1]["prompt"] == dataset[3]["question"]

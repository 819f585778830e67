"""Several tasks in one environment: each episode is that of its own task."""

from __future__ import annotations

from collections import Counter

import gymnasium as gym
import numpy as np
import pytest

from textgym.envs import TextGenEnv
from textgym.errors import TaskError
from textgym.registry import TASKS
from textgym.tasks import make_task, registered_tasks
from textgym.tasks.mix import Mix
from textgym.testing import check_task, check_vector_env

PAIR = {"TextGen/QA-v0": 3.0, "TextGen/Story-v0": 1.0}


def test_it_keeps_the_contract():
    check_task(Mix, n=40)


def test_the_attributes_of_the_class_are_those_of_its_tasks():
    parts = [make_task(name) for name in Mix.built_in()]
    assert Mix.max_prompt_tokens == max(task.max_prompt_tokens for task in parts)
    assert Mix.max_new_tokens == max(task.max_new_tokens for task in parts)
    assert Mix.cheat_ceiling == max(task.cheat_ceiling for task in parts)
    assert all(task.tokenizer is None and task.image_shape is None for task in parts)


def test_what_is_registered_elsewhere_does_not_change_it():
    class Own(type(make_task("TextGen/QA-v0"))):
        id = "TextGen/Own-v0"

    before = Mix().item(3)
    with TASKS.restored():
        TASKS.add(Own.id, Own)
        assert "TextGen/Own-v0" in registered_tasks()
        assert "TextGen/Own-v0" not in Mix().tasks
        assert Mix().item(3) == before


def test_weights_are_shares():
    rng = np.random.default_rng(0)
    counts = Counter(Mix(tasks=PAIR).sample(rng)["task"] for _ in range(4000))
    assert counts["TextGen/QA-v0"] == pytest.approx(3000, abs=4 * (4000 * 3 / 16) ** 0.5)
    assert {*counts} == {*PAIR}


def test_rows_and_scores_are_the_tasks_own():
    mix = Mix(level=2, split="eval")
    rng = np.random.default_rng(0)
    for _ in range(200):
        row = mix.sample(rng)
        task = mix.tasks[row["task"]]
        assert (task.level, task.split) == (2, "eval")
        for text in (mix.oracle(row), "", row["prompt"], mix.oracle(row) + " more"):
            assert mix.score(text, row) == task.score(text, row)
        assert task.score(mix.oracle(row), row) == 1.0


def test_a_level_that_a_task_lacks_is_its_highest():
    assert Mix(3, tasks={"TextGen/Story-v0": 1, "TextGen/QA-v0": 1}).level == 3


def test_the_task_is_in_info():
    env = gym.make("TextGen/Mix-v0")
    _, info = env.reset(seed=0)
    over = False
    while not over:
        *_, over, _, info = env.step(0)
    assert info["task"] in Mix.built_in()


def test_turns_and_single_turns_together():
    tasks = {"TextGen/Dialogue-v0": 1.0, "TextGen/QA-v0": 1.0}
    mix = Mix(tasks=tasks)
    env = TextGenEnv(prompts=mix)
    seen = set()
    for index in range(12):
        row = mix.item(index)
        env.reset(options={"index": index})
        turns = mix.oracle(row).split("\n") if "Dialogue" in row["task"] else [mix.oracle(row)]
        for turn in turns:
            for token in [*env.tokenizer.encode(turn), env.tokenizer.eos_id]:
                _, _, over, _, info = env.step(token)
        assert over
        assert info["finish_reason"] == "task"
        assert info["reward_terms"]["score"] == 1.0
        assert info["turn"] == len(turns)
        seen.add(row["task"])
    assert seen == {*tasks}


def test_costs_are_of_the_rows_that_have_them():
    tasks = {"TextGen/Moderate-v0": 1.0, "TextGen/QA-v0": 1.0}
    mix, alone = Mix(tasks=tasks), make_task("TextGen/Moderate-v0")
    (name,) = mix.costs()
    rng = np.random.default_rng(0)
    rows = [mix.sample(rng) for _ in range(60)]
    texts = [row["prompt"] for row in rows]
    keys = {key for row in rows for key in row} - {"prompt"}
    columns = {key: [row.get(key) for row in rows] for key in keys}
    found = mix.costs()[name]([row["prompt"] for row in rows], texts, **columns)
    for row, text, cost in zip(rows, texts, found, strict=True):
        own = {key: [value] for key, value in row.items() if key not in ("prompt", "task")}
        moderate = row["task"] == "TextGen/Moderate-v0"
        expected = alone.costs()[name]([row["prompt"]], [text], **own)[0] if moderate else 0.0
        assert cost == expected
    assert any(found)


def test_metrics_are_of_the_rows_that_have_them():
    mix = Mix(tasks={"TextGen/Moderate-v0": 1.0, "TextGen/QA-v0": 1.0})
    alone = make_task("TextGen/QA-v0")
    assert mix.metrics().keys() == alone.metrics().keys()
    rng = np.random.default_rng(0)
    rows = [mix.sample(rng) for _ in range(60)]
    prompts, texts = [row["prompt"] for row in rows], [mix.oracle(row) for row in rows]
    keys = {key for row in rows for key in row} - {"prompt"}
    columns = {key: [row.get(key) for row in rows] for key in keys}
    expected = [1.0 if row.get("answers") else None for row in rows]
    assert mix.metrics()["answerable"](prompts, texts, **columns) == expected
    assert {1.0, None} == set(expected)


def test_the_batch_equals_the_loop():
    check_vector_env("TextGen-v0", prompts=Mix(tasks=PAIR), num_steps=60)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({}, "weights above 0"),
        ({"TextGen/QA-v0": 0.0}, "weights above 0"),
        ({"TextGen/GoodBad-v0": 1.0}, "cannot be mixed"),
        ({"TextGen/Mix-v0": 1.0}, "cannot be mixed"),
        ({"TextGen/QB-v0": 1.0}, "there is no task"),
        (["TextGen/QA-v0"], "weights above 0"),
    ],
)
def test_impossible_mixtures(tasks, message):
    with pytest.raises((TaskError, RecursionError), match=message):
        Mix(tasks=tasks)


def test_a_written_prompt_is_read_by_the_task_that_is_named():
    mix = Mix(tasks=PAIR)
    story = mix.tasks["TextGen/Story-v0"]
    row = story.item(0)
    found = mix.complete_row({"prompt": row["prompt"], "task": story.id})
    assert found == {**story.complete_row({"prompt": row["prompt"]}), "task": story.id}
    assert mix.score(row["reference"], found) == 1.0
    assert mix.complete_row({"prompt": "Hello"})["task"] == "TextGen/QA-v0"


def test_whose_row_it_is_has_to_be_known():
    with pytest.raises(TaskError, match="column 'task'"):
        Mix().score("", {"prompt": "x"})


def test_public_rows_reach_the_task_that_is_named():
    raw = {"dialogue": "A: Hi.", "summary": "A greets.", "task": "TextGen/Summarize-v0"}
    mix = Mix(tasks={"TextGen/QA-v0": 1.0, "TextGen/Summarize-v0": 1.0})
    own = mix.tasks["TextGen/Summarize-v0"].convert({k: raw[k] for k in ("dialogue", "summary")})
    assert mix.convert(raw) == {**own, "task": "TextGen/Summarize-v0"}
    assert mix.convert({"x": 1}) == {"x": 1}


def test_documents_keep_their_turns():
    mix = Mix(tasks={"TextGen/Dialogue-v0": 1.0})
    rng = np.random.default_rng(0)
    assert {len(mix.turns_document(rng)) for _ in range(20)} > {1}

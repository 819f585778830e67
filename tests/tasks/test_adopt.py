"""Prompts that a user writes: a task reads out of them what its verifier needs."""

import gymnasium as gym
import pytest

import textgym
from textgym.tasks import make_task

OPEN_TASKS = ("TextGen/Sentiment-v0", "TextGen/Story-v0")


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("name", OPEN_TASKS)
def test_own_prompts_are_judged_as_the_rows_that_they_came_from(name, level):
    task = make_task(name, level=level)
    for index in range(300):
        row = task.item(index)
        adopted = task.adopt({"prompt": row["prompt"]})
        written = [row["reference"], row["reference"][:-1], " It was a great stay.", ""]
        written += [task.item(index + 1)["reference"]]
        for text in written:
            assert task.score(text, adopted) == task.score(text, row), (row, adopted, text)


@pytest.mark.parametrize("name", OPEN_TASKS)
def test_given_columns_are_kept(name):
    task = make_task(name)
    row = task.item(0)
    assert task.adopt(row) == row


@pytest.mark.parametrize(
    "prompt", ["Hello", "", "Once upon a time, in a land far away,", "A.\nB, c"]
)
@pytest.mark.parametrize("name", ["TextGen-v0", *textgym.registered_tasks()])
def test_any_prompt_can_be_played_to_its_end(name, prompt):
    env = gym.make(name, max_new_tokens=3)
    words = env.unwrapped.tokenizer.vocab_size > 10
    env.reset(options={"prompt": prompt if words else ""})
    terminated = False
    while not terminated:
        _, reward, terminated, _, info = env.step(1)
    assert isinstance(reward, float)
    assert info["prompt"] == (prompt if words else "")


def test_a_written_review_is_scored_by_its_subject():
    task = make_task("TextGen/Sentiment-v0")
    row = task.adopt({"prompt": "My sister stayed at a hotel by the sea."})
    assert row["subject"] == "hotel"
    praise = " The staff was very friendly and the room was very clean. The garden was great."
    assert task.score(praise, row) > 0.5
    assert task.score(praise.replace("staff", "camera"), row) < task.score(praise, row)

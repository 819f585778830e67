"""Users' prompts: a task parses the columns that its verifier needs."""

import gymnasium as gym
import pytest

import textgym
from textgym.envs import TextGenEnv, TextGenVectorEnv
from textgym.errors import RewardError, TaskError
from textgym.registry import TASKS
from textgym.tasks import Task, make_task
from textgym.tokenization import WordTokenizer


def judges_any_prompt(task: Task) -> bool:
    """Whether a task reads prompts that a user writes: in a closed vocabulary, or by a method."""
    reads = task.tokenizer is not None or type(task).complete_row is not Task.complete_row
    return reads and task.image_shape is None


WITHOUT_PICTURES = [
    name for name in textgym.registered_tasks() if judges_any_prompt(make_task(name))
]
OPEN_TASKS = ("TextGen/Sentiment-v0", "TextGen/Story-v0")


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("name", OPEN_TASKS)
def test_prompts_of_the_task_are_judged_like_their_rows(name, level):
    task = make_task(name, level=level)
    for index in range(300):
        row = task.item(index)
        completed = task.complete_row({"prompt": row["prompt"]})
        written = [row["reference"], row["reference"][:-1], " It was a great stay.", ""]
        written += [task.item(index + 1)["reference"]]
        for text in written:
            assert task.score(text, completed) == task.score(text, row), (row, completed, text)


@pytest.mark.parametrize("name", OPEN_TASKS)
def test_given_columns_are_kept(name):
    task = make_task(name)
    row = task.item(0)
    assert task.complete_row(row) == row


@pytest.mark.parametrize(
    "prompt", ["Hello", "", "Once upon a time, in a land far away,", "A.\nB, c"]
)
@pytest.mark.parametrize("name", ["TextGen-v0", *WITHOUT_PICTURES])
def test_any_prompt_can_be_played(name, prompt):
    env = gym.make(name, max_new_tokens=3)
    words = not isinstance(env.unwrapped.tokenizer, WordTokenizer)
    env.reset(options={"prompt": prompt if words else ""})
    terminated = False
    while not terminated:
        _, reward, terminated, _, info = env.step(1)
    assert isinstance(reward, float)
    assert info["prompt"] == (prompt if words else "")


def test_a_prompt_without_its_picture_is_refused():
    env = gym.make("TextGen/Caption-v0")
    with pytest.raises(TaskError, match="column 'image'"):
        env.reset(options={"prompt": "What is this?"})


def test_a_users_review_is_scored_by_its_subject():
    task = make_task("TextGen/Sentiment-v0")
    row = task.complete_row({"prompt": "My sister stayed at a hotel by the sea."})
    assert row["subject"] == "hotel"
    praise = " The staff was very friendly and the room was very clean. The garden was great."
    assert task.score(praise, row) > 0.5
    assert task.score(praise.replace("staff", "camera"), row) < task.score(praise, row)


# ------------------------------------------------------------------ a task's id with prompts=

REVIEW = "My sister stayed at a hotel by the sea."
PRAISE = " The staff was very friendly and the room was very clean. The garden was great."


def write(env, text):
    ids = env.unwrapped.tokenizer.encode(text)
    for index in [*ids, env.unwrapped.tokenizer.eos_id]:
        _, reward, terminated, _, info = env.step(index)
    assert terminated
    return reward, info


@pytest.mark.parametrize(
    "prompts",
    [
        [REVIEW],
        [{"question": REVIEW, "answer": "none"}],
        lambda rng: REVIEW,
        lambda rng: {"prompt": REVIEW},
    ],
    ids=["strings", "rows", "function", "function of rows"],
)
def test_a_task_judges_the_users_own_prompts(prompts):
    task = make_task("TextGen/Sentiment-v0")
    env = gym.make("TextGen/Sentiment-v0", prompts=prompts)
    for options in (None, {"index": 0}, {"prompt": REVIEW}):
        env.reset(seed=0, options=options)
        reward, info = write(env, PRAISE)
        assert reward == task.score(PRAISE, task.complete_row({"prompt": REVIEW})) > 0.5
        assert info["reward_terms"] == {"score": reward}
        assert info["subject"] == "hotel"


def test_good_is_good_after_any_prompt():
    envs = TextGenVectorEnv(2, task="TextGen/GoodBad-v0", prompts=["bad", "good"])
    envs.reset(seed=0)
    assert envs.step([0, 1])[1].tolist() == [1.0, -1.0]


def test_another_reward_gets_the_unmodified_rows():
    env = gym.make("TextGen/Sentiment-v0", prompts=[REVIEW], reward="distinct")
    env.reset(seed=0)
    _, info = write(env, " Fine.")
    assert list(info["reward_terms"]) == ["distinct"]
    assert "subject" not in info


def test_other_tasks_prompts_keep_their_own_reward():
    env = TextGenEnv(task="TextGen/GoodBad-v0", prompts=make_task("TextGen/Sentiment-v0"))
    assert env.settings.max_new_tokens == 64
    _, info = env.reset(seed=0)
    assert info["prompt"].endswith(".")


class Sums(Task):
    """A task that cannot parse its prompts."""

    id = "TextGen/Sums-v0"
    max_prompt_tokens = 16
    max_new_tokens = 4
    cheat_ceiling = 0.5

    def generate(self, rng):
        return {"prompt": f"{rng.integers(1000)} + 1 =", "total": 3, "reference": "3"}

    def score(self, completion, row):
        return float(completion == str(row["total"]))


@pytest.fixture
def sums():
    with TASKS.restored():
        TASKS.add(Sums.id, Sums)
        yield Sums.id


def test_rows_that_the_task_cannot_judge(sums):
    message = r"^TextGen/Sums-v0.*'total'.*reward="
    with pytest.raises(TaskError, match=message):
        TextGenEnv(task=sums, prompts=["1 + 2 ="])
    rows = [{"prompt": "1 + 2 =", "total": 3}, "1 + 1 ="]
    # Every row is checked before the first episode, not only the first.
    with pytest.raises(TaskError, match=r"row 1 .*'total'"):
        TextGenEnv(task=sums, prompts=rows)
    with pytest.warns(textgym.DataWarning, match="1 of 2 .*row 1 .*'total'"):
        env = TextGenEnv(task=sums, prompts=rows, on_bad_row="skip")
    env.reset(options={"index": 0})
    assert write(env, "3")[0] == 1.0
    env.reset(options={"prompt": "1 + 1 ="})
    with pytest.raises(RewardError, match=message):
        env.step(env.tokenizer.eos_id)
    TextGenEnv(task=sums, prompts=["1 + 2 ="], reward="distinct")


def test_the_old_name_of_the_method_works():
    class Old(Sums):
        def adopt(self, row):
            return {**super().adopt(row), "total": 5}

    class New(Old):
        def complete_row(self, row):
            return {**super().complete_row(row), "more": 6}

    row = {"prompt": "2 + 3 ="}
    assert Old().complete_row(row) == Old().adopt(row) == {**row, "total": 5}
    assert New().complete_row(row) == New().adopt(row) == {**row, "total": 5, "more": 6}
    qa = make_task("TextGen/QA-v0")
    row = {"prompt": qa.item(0)["prompt"]}
    assert qa.adopt(row) == qa.complete_row(row)

import subprocess
import sys
import zlib

import gymnasium
import numpy as np
import pytest

import textgym
from textgym.errors import TaskError
from textgym.registry import TASKS
from textgym.tasks import Task, make_task, register_task, registered_tasks

BUILT_IN = ["TextGen/GoodBad-v0", "TextGen/Sentiment-v0", "TextGen/Story-v0"]


class Parity(Task):
    id = "TextGen/Parity-v0"
    max_prompt_tokens = 16
    max_new_tokens = 4
    cheat_ceiling = 0.6

    def generate(self, rng):
        number = int(rng.integers(10_000))
        return {"prompt": f"{number} is", "reference": " odd" if number % 2 else " even"}

    def score(self, completion, row):
        return float(completion == row["reference"])


class Twin(Parity):
    pass


@pytest.fixture
def clean_registry():
    with TASKS.restored():
        yield


def test_built_in_tasks_are_registered():
    assert set(BUILT_IN) <= set(registered_tasks())
    for id in BUILT_IN:
        assert make_task(id).id == id


@pytest.mark.usefixtures("clean_registry")
def test_register_and_make():
    register_task(Parity.id, Parity)
    register_task(Parity.id, Parity)
    assert Parity.id in registered_tasks()
    task = make_task(Parity.id, split="eval")
    assert (type(task), task.level, task.split) == (Parity, 1, "eval")
    with pytest.raises(TaskError, match=Parity.id):
        register_task(Parity.id, Twin)


@pytest.mark.usefixtures("clean_registry")
@pytest.mark.parametrize("id", ["CartPole-v1", "TextGen-v0"])
def test_ids_of_other_environments_are_refused(id):
    named = type("Named", (Parity,), {"id": id})
    before = gymnasium.spec(id)
    for task in (named, "textgym.tasks.good_bad.task:GoodBad"):
        with pytest.raises(TaskError, match=f"'{id}'"):
            textgym.register_task(id, task)
    assert id not in registered_tasks()
    assert gymnasium.spec(id) is before


@pytest.mark.usefixtures("clean_registry")
def test_ids_of_tasks_can_be_registered_again():
    try:
        for _ in range(2):
            textgym.register_task(Parity.id, Parity)
        assert gymnasium.make(Parity.id).reset(seed=0)[1]["prompt"].endswith(" is")
    finally:
        del gymnasium.registry[Parity.id]


@pytest.mark.usefixtures("clean_registry")
def test_register_by_address():
    register_task("TextGen/Other-v0", "textgym.tasks.good_bad.task:GoodBad")
    with pytest.raises(TaskError, match="'TextGen/GoodBad-v0'"):
        make_task("TextGen/Other-v0")
    register_task("TextGen/None-v0", "textgym.tasks.nowhere:Nothing")
    with pytest.raises(TaskError, match="nowhere"):
        make_task("TextGen/None-v0")


@pytest.mark.parametrize("wrong", ["no colon", ":Class", "module:", 3, dict, object()])
@pytest.mark.usefixtures("clean_registry")
def test_other_values_are_rejected_as_tasks(wrong):
    with pytest.raises(TaskError, match="TextGen/Wrong-v0"):
        register_task("TextGen/Wrong-v0", wrong)


def test_typo_gets_near_matches():
    with pytest.raises(TaskError, match="'TextGen/Sentiment-v0'"):
        make_task("TextGen/Sentimnet-v0")


def test_unknown_level_and_split():
    with pytest.raises(TaskError, match=r"level 7.*1, 2, 3"):
        make_task("TextGen/Story-v0", level=7)
    with pytest.raises(TaskError, match=r"split 'evl'.*'eval'"):
        make_task("TextGen/Story-v0", split="evl")


def test_splits_are_an_eighth_and_disjoint():
    prompts = {f"{number} is" for number in range(10_000)}
    evals = {prompt for prompt in prompts if zlib.crc32(prompt.encode()) % 8 == 0}
    assert 0.1 < len(evals) / len(prompts) < 0.15
    rng = np.random.default_rng(0)
    seen = {split: {Parity(split=split).sample(rng)["prompt"] for _ in range(500)} for split in
            ("train", "eval")}  # fmt: skip
    assert seen["eval"] <= evals
    assert seen["train"] <= prompts - evals


def test_too_few_prompts_to_divide():
    class One(Parity):
        def generate(self, rng):
            return {"prompt": "1 is", "reference": " odd"}

    other = "train" if zlib.crc32(b"1 is") % 8 == 0 else "eval"
    with pytest.raises(TaskError, match="disjoint_splits"):
        One(split=other).sample(np.random.default_rng(0))


@pytest.mark.parametrize("id", BUILT_IN[1:])
def test_items_do_not_depend_on_order_or_process(id):
    task = make_task(id, level=2, split="eval")
    rows = [task.item(index) for index in (3, 0, 3)]
    assert rows[0] == rows[2] != rows[1]
    code = f"from textgym.tasks import make_task; print(make_task({id!r}, 2, 'eval').item(3))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == repr(rows[0])


def test_tasks_need_no_torch():
    code = (
        "import sys, textgym.tasks, textgym.testing\n"
        "for id in textgym.tasks.registered_tasks(): textgym.tasks.make_task(id).item(0)\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_default_reward_scores_each_row():
    task = Parity()
    rewards = task.reward(
        ["1 is", "2 is"], [" odd", " odd"], reference=[" odd", " even"], finish_reason=["eos"] * 2
    )
    assert rewards == [1.0, 0.0]
    with pytest.raises(TaskError, match="'reference'"):
        task.reward(["1 is"], [" odd"])


@pytest.mark.parametrize(
    "name", ["Moderate", "Risk", "Sentiment", "Story", "Summarize", "Translate"]
)
def test_documented_samples_are_the_items(name):
    task_class = type(make_task(f"TextGen/{name}-v0"))
    text = " ".join(task_class.__doc__.split())
    for level in task_class.levels:
        row = task_class(level).item(0)
        sample = f"{row['prompt']} -> {row['reference']}"
        assert f"``item(0)`` at level {level}:: {' '.join(sample.split())}" in text


@pytest.mark.parametrize("id", BUILT_IN)
def test_docstring_has_the_fixed_headings(id):
    headings = [line.strip() for line in type(make_task(id)).__doc__.splitlines() if "## " in line]
    assert headings == [
        f"## {name}"
        for name in (
            "Description", "Observation Space", "Action Space", "Rewards", "Starting State",
            "Episode End", "Arguments", "Version History",
        )
    ]  # fmt: skip

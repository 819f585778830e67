"""White space around an answer changes nothing: models, templates and tokenizers differ in it.

The task contract has this rule for generated rows (see `check_task`); here are rows of public data
and of users, conversations, and prompts that end within a word.
"""

import sys

import pytest

from textgym.data.rows import as_row
from textgym.tasks import make_task, registered_tasks
from textgym.testing.cheats import spaced

OPEN = [name for name in registered_tasks() if make_task(name).tokenizer is None]

PUBLIC = {
    "Caption": {"image": "x.png", "captions": ["A dog runs."], "prompt": "Describe it.\nCaption:"},
    "DataToText": {"concepts": ["dog", "run"], "target": "A dog runs.", "concept_set_idx": 1},
    "Dialogue": {"turns": [{"speaker": "user", "text": "Hello, is there a table?"},
                           {"speaker": "agent", "text": "Yes, for two."}]},
    "KnowledgeGraph": {"question": "who wrote [Emma]", "answers": ["Jane Austen"],
                       "graph": [["Emma", "author", "Jane Austen"]]},
    "Moderate": {"user_input": "How do I bake bread?", "toxicity": 0},
    "QA": {"context": "Ann is here.", "question": "Where is Ann?", "id": "1",
           "answers": {"text": ["the kitchen"], "answer_start": [0]}},
    "Risk": {"application": "income 100", "label": "good", "reason": "the income is high."},
    "Story": {"prompt": "Once upon a time", "reference": " there was a king."},
    "Summarize": {"article": "A dog ran. It was fast.", "highlights": "A dog ran fast."},
    "Translate": {"translation": {"en": "Good morning.", "zh": "\u65e9\u4e0a\u597d\u3002"}},
}  # fmt: skip
"""A row in a public format for each task that supports one."""

CODE = {
    "MBPP": {"text": "Add.", "code": "def add(x):\n    return x + 1",
             "test_list": ["assert add(1) == 2"]},
    "HumanEval": {"task_id": "T/0", "prompt": 'def add(x):\n    """Add one."""\n',
                  "canonical_solution": "    y = x + 1\n    return y\n", "entry_point": "add",
                  "test": "def check(c):\n    assert c(1) == 2\n"},
    "no tests": {"prompt": "Say f.", "reference": "def f(x): return x"},
}  # fmt: skip


def row_of(name, raw):
    task = make_task(f"TextGen/{name}-v0")
    return task, task.complete_row(as_row(task.convert(dict(raw)), "the row"))


@pytest.mark.parametrize("name", OPEN)
def test_own_rows(name):
    for level in make_task(name).levels:
        task = make_task(name, level)
        for index in range(5):
            row = task.item(index)
            for what, text in spaced(task.oracle(row)):
                assert task.score(text, row) == 1.0, what


@pytest.mark.parametrize("name", PUBLIC)
def test_rows_of_public_data(name):
    task, row = row_of(name, PUBLIC[name])
    right = task.oracle(row)
    for text in (right, " ".join(right.split()[:2])):
        expected = task.score(text, row)
        assert expected == 1.0 or text != right or name == "Story"
        for what, other in spaced(text):
            assert task.score(other, row) == expected, what


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
@pytest.mark.parametrize("name", CODE)
def test_rows_of_code(name):
    task, row = row_of("Code", CODE[name])
    for what, text in spaced(task.oracle(row)):
        assert task.score(text, row) == 1.0, what


def test_turns_of_a_conversation():
    task = make_task("TextGen/Dialogue-v0")
    for index in range(5):
        row = task.item(index)
        turns = task.oracle(row).split("\n")
        for before, after in (("", ""), ("\n", ""), ("", "\n"), ("  ", " ")):
            said = [f"{before}{turn.strip()}{after}" for turn in turns]
            assert task.score("\n".join(said), {**row, "turns": said}) == 1.0
            assert [task.reply(row, said[: end + 1]) for end in range(len(said))] == [
                task.reply(row, turns[: end + 1]) for end in range(len(turns))
            ]


def test_costs_do_not_depend_on_white_space():
    task = make_task("TextGen/Moderate-v0")
    [cost] = task.costs().values()
    for index in range(20):
        row = task.item(index)
        texts = [f"{edge}{rule[1]}{edge}" for rule in row["rules"] for edge in ("", "\n", " ")]
        rules = [row["rules"]] * len(texts)
        values = cost([""] * len(texts), texts, rules=rules)
        assert all(len(set(values[at : at + 3])) == 1 for at in range(0, len(values), 3))


def test_a_prompt_that_ends_within_a_word():
    """No space is inserted within a word that continues the prompt."""
    task = make_task("TextGen/Sentiment-v0", 3)
    for index in range(10):
        row = task.item(index)
        cut, end = row["prompt"][:-2], row["prompt"][-2:]
        cut_row = task.complete_row({"prompt": cut})
        assert task.score(end + task.oracle(row), cut_row) == 1.0
        assert task.score(f" {end}{task.oracle(row)}", cut_row) < 1.0

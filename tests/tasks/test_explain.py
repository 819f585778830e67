"""Scores and their explanations come from one computation: the points add up to the score."""

import sys

import numpy as np
import pytest

from textgym.data.rows import as_row
from textgym.tasks import Task, make_task, registered_tasks
from textgym.tasks.judgement import Judgement, Part, nothing
from textgym.testing.cheats import cheats

BUILT_IN = [name for name in registered_tasks() if name.startswith("TextGen/")]


def agrees(task, text, row):
    """Check an explanation; return it."""
    parts = task.explain(text, row)
    assert parts
    assert all(type(part) is Part and part.part and part.what for part in parts)
    assert sum(part.points for part in parts) == pytest.approx(task.score(text, row), abs=1e-9)
    return parts


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_points_add_up_to_the_score(name):
    for level in make_task(name).levels:
        task = make_task(name, level)
        for index in range(6):
            row = task.item(index)
            rng = np.random.default_rng(index)
            oracle = task.oracle(row)
            texts = [text for _, text in cheats(row, oracle, oracle.split(), rng)]
            texts += [write(row, rng) for write in task.baselines().values()]
            texts += [oracle[: len(oracle) // 2], f"{oracle} That is not true."]
            texts += [f"{oracle} walrus kettle.", "\ud800", "?" * 3000]
            for text in texts:
                agrees(task, text, row)
            assert sum(part.points for part in agrees(task, oracle, row)) == 1.0


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_tasks_explain_themselves(name):
    """They judge by parts, the right answer as well as nothing."""
    task = make_task(name)
    row = task.item(0)
    for text in (task.oracle(row), "", "x y z"):
        parts = task.explain(text, row)
        assert all("judged as a whole" not in part.what for part in parts), text


PUBLIC = {
    "Code": {"prompt": "def f(x):\n", "canonical_solution": "    return 2 * x\n",
             "entry_point": "f", "test": "def check(f):\n    assert f(1) == 2\n"},
    "Caption": {"image": "x.png", "captions": ["A dog runs."], "prompt": "Describe it.\nCaption:"},
    "DataToText": {"concepts": ["dog", "run"], "target": "A dog runs.", "concept_set_idx": 1},
    "Dialogue": {"turns": [{"speaker": "user", "text": "Hello, is there a table?"},
                           {"speaker": "agent", "text": "Yes, for two."}]},
    "KnowledgeGraph": {"question": "who wrote [Emma]", "answers": ["Jane Austen"],
                       "graph": [["Emma", "author", "Jane Austen"]]},
    "Moderate": {"user_input": "How do I bake bread?", "toxicity": 0},
    "QA": {"prompt": "Where?", "answers": ["the old bridge over the river"]},
    "Risk": {"application": "x", "label": "bad", "reason": "the income is not high enough."},
    "Summarize": {"article": "A dog ran. It was fast.", "highlights": "A dog ran fast."},
    "Translate": {"translation": {"en": "Good morning.", "zh": "\u65e9\u4e0a\u597d\u3002"}},
}  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
@pytest.mark.parametrize("name", PUBLIC)
def test_rows_of_public_data(name):
    task = make_task(f"TextGen/{name}-v0")
    row = task.complete_row(as_row(task.convert(dict(PUBLIC[name])), "the row"))
    right = str(row.get("reference") or row["answers"][0])
    for text in (right, right[: len(right) // 2], f"not {right}", "", "x", "I do not know."):
        assert "judged as a whole" not in agrees(task, text, row)[0].what


def test_wrong_and_missing_parts_are_explained():
    risk = make_task("TextGen/Risk-v0")
    row = risk.item(0)
    [found] = row["findings"]
    remarks_of = {part: what for part, what, _ in risk.explain(" Approve: so it is.", row)}
    assert remarks_of["'so it is'"] == "not understood"
    assert remarks_of[repr(found)].startswith("missing")
    code = make_task("TextGen/Code-v0")
    row = code.item(0)
    arguments, result = row["tests"][0]
    parts = code.explain("def f(x): return -7", row)
    assert (f"f({arguments[0]}) == {result}", "wrong: it gives -7", 0.0) in parts
    assert code.explain("def g(x): return x", row)[0].part == "def g"


def remarks(name, text, level=1, index=0):
    """Remarks by part; `text` is a text, or a function of the oracle's."""
    task = make_task(f"TextGen/{name}-v0", level)
    row = task.item(index)
    parts = agrees(task, text(task.oracle(row)) if callable(text) else text, row)
    return {part.part: part.what for part in parts}


@pytest.mark.parametrize("name", ["DataToText", "Sentiment", "Story", "Summarize"])
def test_unreadable_sentences_are_explained(name):
    said = remarks(name, lambda oracle: f"{oracle} Walrus kettle")
    assert "full stop" in said["'Walrus kettle'"]
    said = remarks(name, lambda oracle: f"{oracle} Walrus kettle.")
    assert "'Walrus kettle'" in said


@pytest.mark.parametrize("name", ["DataToText", "Story", "Summarize", "Translate"])
def test_missing_parts_are_explained(name):
    others = make_task(f"TextGen/{name}-v0", 3).item(1)["reference"]
    said = remarks(name, others, level=3)
    assert any(what.startswith("missing") for what in said.values()), said


def test_faults_in_a_conversation_have_a_turn():
    said = remarks("Dialogue", lambda oracle: f" Colourless green ideas sleep.\n{oracle}")
    assert said["turn 1"] == "nonsense"
    assert said["the turns"].startswith("3, where 2")
    task = make_task("TextGen/Dialogue-v0")
    row = task.item(0)
    turns = task.oracle(row).split("\n")
    row_of_an_episode = {**row, "turns": turns, "replies": [""] * len(turns)}
    assert task.explain("", row_of_an_episode) == task.explain(task.oracle(row), row)


def test_replies_and_captions():
    said = remarks("Moderate", lambda oracle: f"{oracle} It is raining.")
    assert "neither answers nor refuses" in said.values()
    said = remarks("Caption", "There are two small yellow crosses.", level=3)
    assert said["small blue diamond"] == "missing"
    said = remarks("KnowledgeGraph", lambda oracle: oracle.rpartition(" ")[0] + " Nobody.")
    assert said["'Nobody'"] == "a wrong answer"
    said = remarks("Sentiment", "")
    assert said == {"the text": "not a sentence of a review of a restaurant"} or "text" in str(said)


def test_tasks_that_score_by_themselves():
    class Own(Task):
        id = "TextGen/Own-v0"

        def generate(self, rng):
            return {"prompt": "", "reference": "a"}

        def score(self, completion, row):
            return 0.25

    assert Own().explain("x", {}) == [Part("the text", "judged as a whole", 0.25)]


def test_judgements():
    judgement = Judgement().add("one", "right", 0.5).scale("two", "no change", 1.0)
    assert judgement.parts == [Part("one", "right", 0.5)]
    judgement.scale("two", "half", 0.5).settle("three", "set", 0.1).settle("three", "again", 0.1)
    assert judgement.score == 0.1
    assert [part.part for part in judgement.parts] == ["one", "two", "three"]
    assert sum(part.points for part in judgement.parts) == pytest.approx(0.1)
    assert nothing("one", "wrong").score == 0.0

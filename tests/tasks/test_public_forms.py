"""Formats of well-known public data sets, converted by their tasks."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from textgym.data.literals import from_literal
from textgym.errors import DataError
from textgym.tasks.qa.public import answers_of
from textgym.tasks.registry import make_task
from textgym.tasks.sources.loading import make_source

CONTEXT = {"context": "Ann lives in Rome.", "question": "Where does Ann live?"}


@pytest.mark.parametrize(
    ("value", "answers"),
    [
        ([{"text": "Rome", "answer_start": 13}, {"text": "Rome", "answer_start": 13}], ["Rome"]),
        ({"text": ["Rome", "In Rome"], "answer_start": [13, 10]}, ["Rome", "In Rome"]),
        ({"text": np.array(["Rome"], object)}, ["Rome"]),
        (np.array([{"text": "Rome", "answer_start": 13}], object), ["Rome"]),
        ({"spans": ["Rome"], "types": ["span"]}, ["Rome"]),
        ({"text": "Rome"}, ["Rome"]),
        (["Rome"], ["Rome"]),
        ("Rome", ["Rome"]),
        ([], []),
        ({"text": [], "answer_start": []}, []),
        ("{'text': ['Rome'], 'answer_start': [13]}", ["Rome"]),
        ('[{"text": "Rome", "answer_start": 13}]', ["Rome"]),
        ('["Rome", "In Rome"]', ["Rome", "In Rome"]),
        ("[1] is the answer", ["[1] is the answer"]),
        ("[1, 2]", ["[1, 2]"]),
        (1912, ["1912"]),
        ([3, 2.5], ["3", "2.5"]),
        (True, ["yes"]),
        (None, None),
        ([None], None),
        ({"start": 3}, None),
    ],
)
def test_formats_of_answers(value: Any, answers: list[str] | None) -> None:
    assert answers_of(value) == answers


def test_formats_of_squad(tmp_path: Path) -> None:
    path = tmp_path / "squad.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*CONTEXT, "answers"])
        writer.writeheader()
        writer.writerow({**CONTEXT, "answers": {"text": ["Rome"], "answer_start": [13]}})
    specs: list[Any] = [
        str(path),
        [{**CONTEXT, "answers": [{"text": "Rome", "answer_start": 13}]}],
        [{**CONTEXT, "answers": {"text": ["Rome"], "answer_start": [13]}}],
        [{**CONTEXT, "answer": "Rome"}],
    ]
    for spec in specs:
        env = gym.make("TextGen/QA-v0", prompts=spec, max_prompt_tokens=200)
        _, info = env.reset(seed=0)
        assert info["prompt"].startswith("Context: Ann lives in Rome.\nQuestion: Where")
        tokenizer = env.unwrapped.tokenizer
        for token in [*tokenizer.encode(" Rome"), tokenizer.eos_id]:
            _, reward, *_ = env.step(token)
        assert reward == 1.0
    # Unanswerable questions of version 2.
    [row] = [make_task("TextGen/QA-v0").convert({**CONTEXT, "answers": [], "is_impossible": True})]
    assert row["answers"] == []


def test_contexts_of_several_paragraphs() -> None:
    task = make_task("TextGen/QA-v0")
    said = "Context: Ann lives in Rome. Rome is old.\n"
    for context in (
        {"title": ["Ann", "Rome"], "sentences": [["Ann lives in Rome."], ["Rome is old."]]},
        [["Ann", ["Ann lives in Rome."]], ["Rome", ["Rome is old."]]],
        {"contexts": ["Ann lives in Rome.", "Rome is old."], "labels": ["A", "B"]},
        ["Ann lives in Rome.", "Rome is old."],
        np.array(["Ann lives in Rome.", "Rome is old."], object),
    ):
        row = task.convert({"context": context, "question": "Where?", "answer": "Rome"})
        assert row["prompt"].startswith(said)
        assert row["answers"] == ["Rome"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**CONTEXT, "answers": {"start": 3}}, "'answers'.*{'start"),
        ({**CONTEXT, "answers": [{"start": 3}]}, "'answers'.*start"),
        (CONTEXT, "'answers'.*missing"),
        ({"title": "Rome", "paragraphs": [{"context": "", "qas": []}]}, "column 'paragraphs'"),
        ({"story": "Ann.", "questions": ["Who?"], "answers": {}}, "column 'questions'"),
    ],
)
def test_questions_without_their_context_are_rejected(row: Any, message: str) -> None:
    with pytest.raises(DataError, match=rf"row 0 .*{message}"):
        gym.make("TextGen/QA-v0", prompts=[row])
    # A column with a prompt takes precedence.
    assert make_source([{**row, "prompt": "p"}], "train", None, make_task("TextGen/QA-v0").convert)


TEXT, SHORT = "It rained all day. The river rose.", "The river rose."


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("article", "highlights"), ("document", "summary"), ("dialogue", "summary"),
        ("report", "summary"), ("text", "summary"), ("article", "abstract"),
        ("document", "target"), ("source", "target"),
    ],
)  # fmt: skip
def test_summaries(text: str, summary: str) -> None:
    row = make_task("TextGen/Summarize-v0").convert({text: TEXT, summary: SHORT, "id": "1"})
    assert row["prompt"].endswith(f"words:\n{TEXT}\nSummary:")
    assert row["reference"] == f" {SHORT}"


@pytest.mark.parametrize(
    "row",
    [
        {"concepts": ["dog", "park"], "target": "A dog runs."},
        {"concept_set": "dog#park", "scene": ["A dog runs."]},
        {"concepts": ["dog", "park"], "references": ["A dog runs."], "target": ""},
    ],
)
def test_common_gen(row: dict[str, Any]) -> None:
    made = make_task("TextGen/DataToText-v0").convert(row)
    assert made["prompt"].startswith("Concepts: dog, park")
    assert made["references"] == [" A dog runs."]


TRIPLE = {"subject": "Rome", "property": "country", "object": "Italy"}


@pytest.mark.parametrize(
    "row",
    [
        {"modified_triple_sets": {"mtriple_set": [["Rome | country | Italy"]]},
         "lex": {"text": ["Rome is in Italy.", "Рим в Италии."], "lang": ["en", "ru"]}},
        {"modified_triple_sets": {"mtriple_set": [["Rome | country | Italy"]]},
         "lex": {"text": ["Rome is in Italy."], "lang": [""], "comment": ["good"]}},
        {"modifiedtripleset": [TRIPLE], "originaltriplesets": {"originaltripleset": [[TRIPLE]]},
         "lexicalisations": [{"lex": "Rome is in Italy.", "lang": "en"},
                             {"lex": "Рим в Италии.", "lang": "ru"}]},
        {"input": ["Rome | country | Italy"], "target": "Rome is in Italy.", "references": []},
    ],
)  # fmt: skip
def test_web_nlg(row: dict[str, Any]) -> None:
    made = make_task("TextGen/DataToText-v0").convert(row)
    assert made["prompt"] == "Record: facts\nRome: country: Italy\nText:"
    assert made["references"] == [" Rome is in Italy."]


@pytest.mark.parametrize(
    "row",
    [
        {"translation": {"en": "Good day.", "zh": "你好。"}},
        {"translation": "{'en': 'Good day.', 'zh': '你好。'}"},
        {"translations": {"language": ["de", "en", "zh-cn"],
                          "translation": ["Guten Tag.", "Good day.", "你好。"]}},
        {"sentence_eng_Latn": "Good day.", "sentence_zho_Hans": "你好。"},
        {"source": "你好。", "target": "Good day."},
    ],
)  # fmt: skip
def test_translations(row: dict[str, Any]) -> None:
    made = make_task("TextGen/Translate-v0").convert(row)
    assert "Good day." in made["prompt"]
    assert made["reference"] == " 你好。"


def test_chats_with_names() -> None:
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    for name in ("conversations", "conversation", "messages"):
        made = make_task("TextGen/Dialogue-v0").convert({name: turns})
        assert (made["prompt"], made["reference"]) == ("User: Hi\nAgent:", " Hello")


def test_lists_of_tests_in_a_csv_file() -> None:
    row = {"text": "Add one.", "code": "def f(n):\n    return n + 1", "test_setup_code": ""}
    tests = ["assert f(1) == 2", "assert f(2) == 3"]
    task = make_task("TextGen/Code-v0")
    expected = task.convert({**row, "test_list": tests})
    assert task.convert({**row, "test_list": str(tests)}) == expected
    assert task.convert({**row, "test_list": np.array(tests, object)}) == expected
    assert expected["test_list"] == tests[1:]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("['a']", ["a"]), ('{"a": [1]}', {"a": [1]}), ("[a]", "[a]"), ("", ""), (None, None),
        ("[" * 5000, "[" * 5000), ("__import__('os')", "__import__('os')"),
        ("[__import__('os')]", "[__import__('os')]"), (["a"], ["a"]), ("'a'", "'a'"),
    ],
)  # fmt: skip
def test_literals(value: Any, found: Any) -> None:
    assert from_literal(value) == found

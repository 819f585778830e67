"""Simulated annotators: their frequencies, and that a program that was killed gets them again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textgym.errors import FeedbackError
from textgym.feedback import Item, NewItem, Shown, Store
from textgym.feedback.simulated import SimulatedAnnotator, spans_of
from textgym.tasks import Judgement, Row, Task, make_task


class Letters(Task):
    """Score: 0.1 for each a, 0.1 for each b."""

    id = "Letters-v0"

    def generate(self, rng: np.random.Generator) -> Row:
        return {"prompt": "x", "reference": "aaaaabbbbb"}

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        judgement = Judgement().add("a", "an a", text.count("a") / 10)
        return judgement.add("b", "another b", text.count("b") / 10)


def shown(
    number: int, texts: tuple[str, ...], order: tuple[int, ...] = (0, 1), kind="pair"
) -> Shown:
    return Shown(Item(number, kind, f"prompt {number}", texts, {}, "", 0.0, ""), order, "")


def share(
    annotator: SimulatedAnnotator, texts: tuple[str, str], count=2000, judged=0, **how
) -> float:
    """How often the first text is preferred."""
    answers = [annotator.answer(shown(i, texts, **how), judged)["choice"] for i in range(count)]
    assert set(answers) <= {"first", "second"}
    return answers.count("first") / count


def near(found: float, expected: float, count: int = 2000) -> bool:
    return abs(found - expected) < 4.5 * np.sqrt(expected * (1 - expected) / count) + 1e-9


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


def test_frequencies_of_preferences() -> None:
    task = Letters()
    plain = SimulatedAnnotator(task, "ann", temperature=0.2)
    assert near(share(plain, ("aaab", "ab")), sigmoid(0.2 / 0.2))
    assert near(share(plain, ("ab", "aaab"), order=(1, 0)), sigmoid(-0.2 / 0.2))
    assert share(SimulatedAnnotator(task, "ann", temperature=0), ("aa", "a"), 100) == 1
    assert near(share(SimulatedAnnotator(task, "ann", temperature=0), ("a", "b")), 0.5)

    biased = SimulatedAnnotator(task, "ann", temperature=0.2, position_bias=1.0)
    assert near(share(biased, ("aaab", "ab")), sigmoid(1 + 1))
    assert near(share(biased, ("aaab", "ab"), order=(1, 0)), 1 - sigmoid(-1 + 1))

    wrong = SimulatedAnnotator(task, "ann", temperature=0, error_rate=0.3)
    assert near(share(wrong, ("aa", "a")), 0.7 + 0.3 / 2)
    tired = SimulatedAnnotator(task, "ann", temperature=0, error_rate=0.1, fatigue=0.2)
    assert near(share(tired, ("aa", "a"), judged=250), 1 - (0.1 + 0.5) / 2)


def test_individual_tastes() -> None:
    people = [
        SimulatedAnnotator(Letters(), f"p{i}", temperature=0, disagreement=1.0) for i in range(200)
    ]
    answers = [person.answer(shown(0, ("aa", "bb")))["choice"] for person in people]
    # Each is sure of a taste of their own; the two letters are equally good for everybody.
    assert near(answers.count("first") / 200, 0.5, 200)
    for person, answer in zip(people, answers, strict=True):
        assert person.answer(shown(7, ("aa", "bb"), (1, 0)))["choice"] == answer
        # More of both is better for all.
        assert person.answer(shown(1, ("aabb", "ab")))["choice"] == "first"


def test_ratings_spans_and_edits() -> None:
    exact = SimulatedAnnotator(Letters(), "ann", temperature=0, aspects=("taste", "style"))
    for text, rating in (("", 1), ("ab", 2), ("aaaaabbbbb", 5)):
        value = exact.answer(shown(0, (text,), (0,), "rating"))
        assert value == {"aspects": {"taste": rating, "style": rating}}
    task = make_task("TextGen/Sentiment-v0")
    row = {"prompt": "I stayed at a small hotel in Rome.", "subject": "hotel", "opening": "",
           "mentioned": []}  # fmt: skip
    text = " The room was very clean and the manager was rude."
    spans = spans_of(task, text, row)
    (start, end, sign), *others = spans
    assert (text[start:end], sign) == ("room was very clean", 1)
    assert [(text[a:b], sign) for a, b, sign in others] == [("manager was rude", -1)]


def test_edits_are_the_right_answer() -> None:
    annotator = SimulatedAnnotator(Letters(), "ann")
    item = Item(1, "edit", "x", ("ab",), {"row": {"reference": "aaaaabbbbb"}}, "", 0.0, "")
    assert annotator.answer(Shown(item, (0,), "")) == {"text": "aaaaabbbbb"}
    same = dataclasses.replace(item, texts=("aaaaabbbbb",))
    assert annotator.answer(Shown(same, (0,), "")) == {"skip": True}
    with pytest.raises(FeedbackError, match="item 0 lacks the column 'reference'"):
        annotator.answer(shown(0, ("ab",), (0,), "edit"))


def test_a_killed_program_gets_the_same_answers(tmp_path: Path) -> None:
    def run(path: Path, kill_after: int | None) -> list[tuple[int, Any, tuple[int, ...]]]:
        store = Store(path)
        items = [NewItem("pair", f"p{i}", ("a" * (i % 4), "b" * (i % 3) + "a")) for i in range(12)]
        for place, item in enumerate(items):
            store.add_items([NewItem(item.kind, item.prompt, item.texts, key=str(place))])
        people = [
            SimulatedAnnotator(Letters(), name, error_rate=0.2, fatigue=5.0) for name in ("A", "B")
        ]
        done = len(store.judgements())
        while done < 14 and done != kill_after:
            person = people[done % 2]
            if done == kill_after:
                store.next_item(person.name)  # Killed before the answer.
            assert person.judge_next(store, "pair") is not None
            done += 1
        return [(one.item, one.value, one.order) for one in store.judgements()]

    whole = run(tmp_path / "whole", None)
    run(tmp_path / "killed", 5)
    assert run(tmp_path / "killed", None) == whole
    assert {order for *_, order in whole} == {(0, 1), (1, 0)}


def test_nothing_is_left_and_options_are_checked(tmp_path: Path) -> None:
    annotator = SimulatedAnnotator(Letters(), "ann")
    assert annotator.judge_next(Store(tmp_path / "empty")) is None
    for option in ({"error_rate": 1.5}, {"temperature": -1}, {"fatigue": np.inf}):
        with pytest.raises(FeedbackError, match=next(iter(option))):
            SimulatedAnnotator(Letters(), "ann", **option)


def test_the_row_is_read_from_the_prompt_alone() -> None:
    task = make_task("TextGen/Sentiment-v0")
    row = task.item(0)
    good, bad = task.oracle(row), " It."
    item = Item(0, "pair", row["prompt"], (bad, good), {}, "", 0.0, "")
    annotator = SimulatedAnnotator(task, "ann", temperature=0)
    assert annotator.answer(Shown(item, (0, 1), "")) == {"choice": "second"}

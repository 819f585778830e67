"""The on-topic factor by hand, and in the tasks that use it."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgym.tasks.data_to_text.task import DataToText
from textgym.tasks.dialogue.task import Dialogue
from textgym.tasks.on_topic import on_topic
from textgym.tasks.summarize.task import Summarize
from textgym.tasks.translate.task import Translate

RIVER = "The river rose after the rain and many people left their homes."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # The reference, parts of it, and some words replaced.
        (RIVER, 1),
        (RIVER.upper(), 1),
        ("The river rose.", 1),
        ("many people left", 1),
        ("The river fell after the rain and few people left their homes.", 1),
        ("", 0),
        (" \n", 0),
        # 13 words and marks, then 13 more off topic: half of the text.
        (RIVER + " x" * 13, (13 / (13 + 13) * (1 - 11 / 26)) ** 3),
        (RIVER + " a b c d e f g h i j k l m", (1 / 2) ** 3),
        (RIVER + "!" * 13, (1 / 2 * (1 - 11 / 26)) ** 3),
        # 63 letters and marks, then as many in one word.
        (f"{RIVER} {'y' * (len(RIVER) - RIVER.count(' '))}", (1 / 2) ** 3),
        # Repeated text: 12 of 25 pairs of neighbours.
        (f"{RIVER} {RIVER}", (1 / 2 * (1 - 12 / 26)) ** 3),
        # Sentences in another order, and words with neither order nor neighbours.
        ("many people left their homes the river rose after the rain and.", (10 / 12) ** 2),
        ("rain rose river the", (2 / 4) ** 2),
        # A negation that the reference lacks.
        ("The river did not rise.", 0.4),
        ("The river didn\u2019t rise.", 0.4),
        ("Nobody left.", 0.4),
    ],
)
def test_by_hand(text, expected):
    assert on_topic(text, [RIVER]) == pytest.approx(expected)
    assert on_topic(text, ["Quite another text.", RIVER]) == pytest.approx(expected)


def test_words_of_the_source_are_on_topic():
    source = "Nobody was hurt on Monday, said the mayor of the town. The river rose after the rain."
    longer = "The mayor said on Monday that the river rose after the rain."
    assert on_topic(longer, ["The river rose."]) < 0.1
    # "that" is in neither text: 4 of 49 characters, a larger share than 1 of 13 words and marks.
    assert on_topic(longer, ["The river rose."], source) == pytest.approx((1 - 4 / 49) ** 3)
    assert on_topic("Nobody was hurt.", ["The river rose."], source) == 1
    assert on_topic("It is not so.", ["The river rose."], source) < 0.4


def test_a_negation_of_the_reference_is_right():
    assert on_topic("He did not come.", ["He never came there."]) == 1
    assert on_topic("他没来", ["他不来"]) == 1
    assert on_topic("他不来", ["他来了"]) == 0.4


@given(st.text(max_size=60), st.text(max_size=60))
def test_bounds(text, reference):
    assert 0 <= on_topic(text, [reference]) <= on_topic(text, [reference, text]) <= 1
    assert on_topic(reference, [reference]) in (0, 1)


def row_of(task, raw):
    return task, task.complete_row(task.convert(raw))


SUMMARY = "A ferry without an engine now crosses the river; the current moves it."
STORY = (
    "Since Tuesday a ferry has crossed the river without an engine. The current moves it along a "
    "cable from one bank to the other. It takes twelve people, and the trip costs two euros."
)
CHINESE = ("昨天下午，北京下了一场大雨，许多航班推迟。旅客说要等到晚上。", "北京大雨，航班推迟")
PUBLIC = [
    row_of(Summarize(), {"document": STORY, "summary": SUMMARY}),
    row_of(Summarize(), {"document": CHINESE[0], "summary": CHINESE[1]}),
    row_of(Dialogue(), {"dialogue": ["Is there a cheap hotel in the north of the town?",
                                     "The Acorn is a cheap place in the north. Shall I book it?"]}),
    row_of(DataToText(), {"concepts": ["throw", "boy", "ball", "park"],
                          "target": "A boy throws a red ball to his friend in the park."}),
    row_of(Translate(direction="zh-en"), {"zh": "委员会星期一开会讨论新的预算。",
                                          "en": "The committee met on Monday to talk of money."}),
    row_of(Translate(), {"zh": "委员会星期一开会讨论新的预算。",
                         "en": "The committee met on Monday to talk of money."}),
]  # fmt: skip
JUNK = ["zeppelin", "marzipan", "accordion", "walrus", "igloo", "pretzel", "origami", "lichen"]


@pytest.mark.parametrize(("task", "row"), PUBLIC)
def test_junk_scores_low_for_public_rows(task, row):
    pytest.importorskip("sacrebleu")
    pytest.importorskip("rouge_score")
    right = row["reference"]
    assert task.score(right, row) == pytest.approx(1)
    assert task.score(f"\n{right.strip()} \n", row) == pytest.approx(1)
    rng = np.random.default_rng(0)
    spaced = " " in right.strip()
    pieces = right.split() if spaced else list(right.strip())
    # Junk of at least half as many words as the answer, and at least eight.
    noise = " ".join(JUNK[i] for i in rng.integers(8, size=max(8, len(pieces) // 2)))
    texts = [
        f"{right} {noise}", f"{noise} {right}", f"{right}\n</s> {noise}",
        f"{right} {'@# ' * len(pieces)}", f"{right} {'q' * len(right)}", right * 2, right * 3,
        f"{right} {row['prompt']}", row["prompt"], f"{right} {pieces[-1]}" + f" {pieces[-1]}" * 8,
        " ".join(x for one in pieces for x in (one, JUNK[int(rng.integers(8))])),
    ]  # fmt: skip
    for _ in range(5):
        order = rng.permutation(len(pieces))
        if sum(abs(int(one) - int(two)) == 1 for one, two in pairwise(order)):
            continue  # too close to the right order
        texts.append((" " if spaced else "").join([pieces[i] for i in order]))
    for text in texts:
        assert task.score(text, row) <= 0.4, text
    # Scores remain graded.
    halves = [" ".join(pieces[: len(pieces) * part // 4]) for part in (1, 2, 3)]
    if not spaced:
        halves = [half.replace(" ", "") for half in halves]
    scores = [task.score(half, row) for half in halves]
    assert 0 <= scores[0] < scores[1] < scores[2] < 1


@pytest.mark.parametrize(
    ("summary", "budget"),
    [
        ("北京大雨，航班推迟", "16 characters"),
        ("東京は今日も雨です。", "18 characters"),
        ("วันนี้ฝนตก", "14 characters"),  # vowel signs and tone marks belong to their letters
        ("आज दिल्ली में बारिश हुई।", "10 words"),
        ("Сегодня идёт дождь.", "6 words"),
        ("Rain in Oslo today.", "8 words"),
    ],
)
def test_the_unit_of_the_budget_depends_on_the_script(summary, budget):
    task, row = row_of(Summarize(), {"document": summary * 3, "summary": summary})
    assert row["prompt"].startswith(f"Summarize in {budget}:\n")
    pytest.importorskip("rouge_score")
    assert task.score(row["reference"], row) == pytest.approx(1)
    part = summary[: len(summary) // 2]
    assert 0 < task.score(part, row) < 1

"""The QA task: stories answered by hand and by the reader, scores, attacks and public data."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.documents import document_scores
from textgym.data.rows import as_row
from textgym.envs import TextGenEnv
from textgym.tasks.qa.answers import ABSTENTIONS, KINDS
from textgym.tasks.qa.public import convert
from textgym.tasks.qa.reader import read
from textgym.tasks.qa.task import QA
from textgym.tasks.qa.world import NAMES
from textgym.tasks.words import PLACES, THINGS
from textgym.testing import check_task


def prompt(story, question):
    return f"Context: {story}\nQuestion: {question}\nAnswer:"


def rows_of(level, count=400, seed=0, split="train"):
    task, rng = QA(level, split), np.random.default_rng([seed, level])
    return task, [task.sample(rng) for _ in range(count)]


def test_contract():
    check_task(QA, n=60)


@pytest.mark.parametrize(
    ("story", "question", "answer"),
    [
        ("Tom went to the hall. Tom ran to the barn.", "Where is Tom?", "barn"),
        ("Tom went to the hall. Tom ran to the barn.", "Where was Tom before the barn?", "hall"),
        ("Tom went to the hall. Tom ran to the barn.", "Where was Tom before the hall?", ""),
        ("Tom went to the hall.", "Where is Anna?", ""),
        ("Tom took the egg.", "Where is the egg?", ""),
        ("Tom took the egg.", "In which place is the egg?", ""),
        ("Tom took the egg. Tom went to the hall.", "In which place is the egg?", "hall"),
        ("Tom took the egg. Tom went to the hall.", "Where is the egg?", "hall"),
        ("Tom went to the hall. Tom took the egg.", "Where is the egg?", "hall"),
        ("Tom took the egg. Tom went to the hall. Tom dropped the egg. Tom ran to the barn.",
         "Where is the egg?", "hall"),
        ("Tom took the egg. Tom gave the egg to Anna. Tom ran to the barn.", "Who has the egg?",
         "Anna"),
        ("Tom took the egg. Tom gave Anna the egg. Tom ran to the barn.", "Where is the egg?", ""),
        ("Tom went to the hall. Tom gave Anna the egg. Tom ran to the barn.", "Where is the egg?",
         "hall"),
        ("Anna went to the hall. Tom gave Anna the egg.", "Where is Tom?", "hall"),
        ("The egg is in the barn. Tom took the egg.", "Where is Tom?", "barn"),
        ("Tom took the egg. Tom dropped the egg.", "Who has the egg?", "nobody"),
        ("Tom took the egg. Tom dropped the egg. Tom ran to the barn.", "Where is the egg?", ""),
        ("Tom took the egg. Tom took the map. Tom handed Anna the egg.", "What does Tom have?",
         "map"),
        ("Tom took the egg. Tom took the map. Tom dropped the egg.",
         "How many things does Tom have?", "one"),
        ("Tom took the egg. Tom dropped the egg.", "How many things does Tom have?", "none"),
        ("Tom took the egg. Then he went to the hall. Anna took the map. She ran to the barn."
         " He ran to the attic.", "Where is the egg?", "attic"),
        ("At noon, Tom was in the hall. In the morning, Tom was in the barn.",
         "Where was Tom in the morning?", "barn"),
        ("At noon, Tom was in the hall.", "Where was Tom in the evening?", ""),
        ("Tom went to the hall. Tom is no longer in the hall.", "Is Tom in the hall?", "no"),
        ("Tom went to the hall. Tom is no longer in the hall.", "Where is Tom?", ""),
        ("Tom went to the hall. Tom is no longer in the hall.", "Is Tom in the barn?", ""),
        ("Tom went to the hall. Tom ran to the barn.", "Is Tom in the hall?", "no"),
        ("Tom is in the hall or in the barn.", "Where is Tom?", ""),
        ("Tom is in the hall or in the barn.", "Is Tom in the hall?", ""),
        ("Tom is in the hall or in the barn.", "Is Tom in the attic?", "no"),
        ("Tom is in the hall or in the barn. Tom is not in the hall.", "Where is Tom?", "barn"),
        ("Tom gave the egg to Anna.", "Who gave the egg to Anna?", "Tom"),
        ("Tom gave the egg to Anna.", "Who did Tom give the egg to?", "Anna"),
        ("Tom gave the egg to Anna.", "What did Tom give to Anna?", "egg"),
        ("Tom gave the egg to Anna.", "What did Anna give to Tom?", ""),
        # The sentences of the bAbI tasks, with words of their own.
        ("Mary moved to the bathroom. Mary got the football there. John journeyed to the office."
         " Mary travelled to the hallway. Mary put down the football. Mary went to the office.",
         "Where is the football?", "hallway"),
    ],
)  # fmt: skip
def test_stories_by_hand(story, question, answer):
    row = QA().complete_row({"prompt": prompt(story, question)})
    assert row["answers"] == ([answer] if answer else [])
    said = f" {answer}." if answer else " I do not know."
    assert QA().score(said, row) == 1.0
    assert QA().score(" attic cellar", row) == 0.0
    if answer:
        assert QA().score(" I do not know.", row) == 0.02


@pytest.mark.parametrize("level", QA.levels)
def test_the_reader_finds_the_writers_answer(level):
    # The writer knows the answer from its plot; the reader simulates the story.
    task, rows = rows_of(level, 2000)
    for row in rows:
        completed = task.complete_row({"prompt": row["prompt"]})
        for column in ("kind", "about", "answers"):
            assert completed[column] == row[column], row
        assert task.complete_row(row) == row


@pytest.mark.parametrize("level", QA.levels)
def test_an_irrelevant_sentence_changes_nothing(level):
    task, rows = rows_of(level)
    for row in rows:
        story, _, question = row["prompt"].partition("\nQuestion: ")
        sentences = story.removeprefix("Context: ").split(". ")
        for at in (0, len(sentences) - 1):
            if sentences[at].startswith(("He ", "She ", "Then ")):
                continue
            longer = [*sentences[:at], "Zoe hurried to the lighthouse", *sentences[at:]]
            again = f"Context: {'. '.join(longer)}\nQuestion: {question}"
            assert task.complete_row({"prompt": again})["answers"] == row["answers"], again


@pytest.mark.parametrize("level", QA.levels)
def test_questions_about_things_ask_for_a_place(level):
    # "Jack has it." would be a fair answer to "Where is the egg?".
    _, rows = rows_of(level, 1000)
    asked = [row["prompt"].split("\n")[1] for row in rows if row["kind"] == "where"]
    assert any("In which place is the " in question for question in asked)
    assert not any("Where is the " in question for question in asked)


def test_unknown_prompts_are_left_alone():
    task = QA()
    for text in ("Hello", prompt("Once upon a time.", "Who?"), prompt("Tom sang.", "Where is Tom?"),
                 prompt("Tom went to the hall.", "Why?"),
                 prompt("Tom took the egg. Tom took the map.", "What does Tom have?")):  # fmt: skip
        row = {"prompt": text}
        assert task.complete_row(row) == row
        assert task.score(" I do not know.", row) == 0.0
        assert task.score(" hall", {**row, "reference": "the hall"}) == 1.0


WHERE = {"kind": "where", "about": ["Tom"], "answers": ["hall"]}
THING = {"kind": "where", "about": ["the egg"], "answers": ["hall"]}
YES = {"kind": "is", "about": ["Anna", "hall"], "answers": ["yes"]}
NO = {"kind": "is", "about": ["Anna", "hall"], "answers": ["no"]}
COUNT = {"kind": "count", "about": ["Tom"], "answers": ["two"]}
NONE = {"kind": "count", "about": ["Tom"], "answers": ["none"]}
HAS = {"kind": "has", "about": ["the egg"], "answers": ["Anna"]}
OPEN = {"kind": "where", "about": ["Tom"], "answers": []}


@pytest.mark.parametrize(
    ("text", "row", "expected"),
    [
        (" hall", WHERE, 1), (" Hall.", WHERE, 1), ("\nthe hall", WHERE, 1),
        (" In the hall.", WHERE, 1), (" Tom is in the hall.", WHERE, 1),
        (" He is in the hall.", WHERE, 1), ("hall", WHERE, 1),
        (" The egg is in the hall.", THING, 1), (" It is in the hall.", THING, 1),
        (" Yes.", YES, 1), (" Yes, she is.", YES, 1), (" Anna is in the hall.", YES, 1),
        (" No, Anna is not in the hall.", NO, 1), (" no", NO, 1),
        (" Two.", COUNT, 1), (" 2", COUNT, 1), (" He has two things.", COUNT, 1),
        (" Anna", HAS, 1), (" Anna has it.", HAS, 1), (" Anna does.", HAS, 1),
        (" I do not know.", OPEN, 1), (" Nobody knows.", OPEN, 1), (" unknown", OPEN, 1),
        (" I do not know.", WHERE, 0.02), (" Unanswerable.", YES, 0.02),
        ("", WHERE, 0), ("", OPEN, 0), (" ", OPEN, 0), (" hall", OPEN, 0), (" barn", WHERE, 0),
        (" She is in the hall.", WHERE, 0), (" Anna is in the hall.", WHERE, 0),
        (" Tom was in the hall.", WHERE, 0), (" Tom is in the hall", WHERE, 1),
        (" Tom is at the hall.", WHERE, 1), (" At the hall.", WHERE, 1), (" at the hall", WHERE, 1),
        (" He's in the hall.", WHERE, 1), (" Tom\u2019s at the hall", WHERE, 1),
        (" It's in the hall.", THING, 1), (" She's in the hall.", WHERE, 0),
        (" Not at the hall.", WHERE, 0), (" Tom isn't in the hall.", WHERE, 0),
        (" Tom is at the barn.", WHERE, 0), (" At hall.", WHERE, 0), (" To the hall.", WHERE, 0),
        (" At the hall. At the barn.", WHERE, 0), (" He's in the hall or barn.", WHERE, 0),
        (" At the hall, I don't know.", WHERE, 0), (" Anna has it.", THING, 0),
        (" No, she isn't.", NO, 1), (" Anna isn\u2019t in the hall", NO, 1),
        (" No, she's not in the hall.", NO, 1), (" Yes, she isn't.", YES, 0),
        (" Tom has 2 things.", COUNT, 1), (" He has 2.", COUNT, 1), (" He has 2", COUNT, 0),
        (" 2 things.", COUNT, 1), (" 2 things", COUNT, 1),
        (" He's got two things.", COUNT, 1), (" Tom has 3 things.", COUNT, 0),
        (" 2 or 3", COUNT, 0), (" 2, two", COUNT, 0), (" 2 thing", COUNT, 0),
        (" Anna has 2 things.", COUNT, 0), (" Tom has two eggs.", COUNT, 0),
        (" 0", NONE, 1), (" Zero things.", NONE, 1), (" Tom has 0 things.", NONE, 1),
        (" He has none.", NONE, 1), (" Tom has no things.", NONE, 1), (" None", COUNT, 0),
        (" Anna's got the egg.", HAS, 1), (" She has it.", HAS, 0),
        (" The story doesn't say.", OPEN, 1), (" The story doesn\u2019t say", OPEN, 1),
        (" We don't know.", OPEN, 1), (" I can not tell.", OPEN, 1), (" I can't say.", OPEN, 1),
        (" I'm not sure.", OPEN, 1), (" It isn't known.", OPEN, 1), (" It's unknown.", OPEN, 1),
        (" We don't know.", WHERE, 0.02), (" I don't know, hall.", OPEN, 0),
        (" The story does say.", OPEN, 0), (" I know.", OPEN, 0), (" I don't know..", OPEN, 0),
        (" It is in the hall.", WHERE, 0), (" He is in the hall.", THING, 0),
        (" hall or barn", WHERE, 0), (" hall hall", WHERE, 0), (" barn, hall", WHERE, 0),
        (" hall. barn.", WHERE, 0), (" The hall. I do not know.", WHERE, 0),
        (" I do not know. Hall.", WHERE, 0), (" I do not know. Hall.", OPEN, 0),
        (" hall ?", WHERE, 0), (" hall .", WHERE, 0), (" hall..", WHERE, 0), (" ha", WHERE, 0),
        (" Tom is in the hall..", WHERE, 0), (" the the hall", WHERE, 0),
        (" Tom is in the hall. Tom is in the barn.", WHERE, 0),
        (" Yes, no.", YES, 0), (" Yes, Anna is not in the hall.", YES, 0), (" No.", YES, 0),
        (" Anna is in the hall.", NO, 0), (" two three", COUNT, 0), (" 22", COUNT, 0),
        (" Tom has Anna.", HAS, 0),
    ],
)  # fmt: skip
def test_scores_by_hand(text, row, expected):
    assert QA().score(text, row) == expected


def test_metrics_by_hand():
    """Answers and abstentions are reported apart, in the environment's terms too."""
    told, open_ = "Tom went to the hall.", "Anna went to the hall."
    cases = [  # story, text, score, answerable, answered
        (told, " hall", 1.0, 1.0, 1.0),
        (told, " barn", 0.0, 0.0, 0.0),
        (told, " I do not know.", 0.02, 0.0, None),
        (open_, " I do not know.", 1.0, None, None),
        (open_, " hall", 0.0, None, 0.0),
    ]
    task = QA()
    rows = [task.complete_row({"prompt": prompt(story, "Where is Tom?")}) for story, *_ in cases]
    names = {name for row in rows for name in row} - {"prompt"}
    columns = {name: [row[name] for row in rows] for name in names}
    texts = [text for _, text, *_ in cases]
    for place, name in ((3, "answerable"), (4, "answered")):
        found = task.metrics()[name]([row["prompt"] for row in rows], texts, **columns)
        assert found == [case[place] for case in cases]
    env = TextGenEnv(task="TextGen/QA-v0")
    for row, (_, text, *expected) in zip(rows, cases, strict=True):
        env.reset(options={"prompt": row["prompt"]})
        for token in [*env.tokenizer.encode_continuation(text), env.tokenizer.eos_id]:
            _, reward, over, _, info = env.step(token)
        assert over
        assert reward == expected[0]
        terms = [info["reward_terms"][name] for name in ("score", "answerable", "answered")]
        assert [None if value != value else value for value in terms] == expected


def test_metrics_of_rows_without_answers():
    texts = [" hall", " I do not know.", " hall"]
    for columns, answerable in (
        ({}, [None] * 3),
        ({"reference": ["hall", "hall", ""]}, [1.0, 0.0, None]),
        ({"reference": ["hall"] * 3, "answers": [None, [], None]}, [1.0, None, 1.0]),
    ):
        assert QA().metrics()["answerable"](["?"] * 3, texts, **columns) == answerable


def test_metrics_of_another_reward_are_not_reported():
    env = TextGenEnv(task="TextGen/QA-v0", reward="distinct")
    env.reset(seed=0)
    *_, info = env.step(env.tokenizer.eos_id)
    assert list(info["reward_terms"]) == ["distinct"]


@pytest.mark.parametrize("level", QA.levels)
def test_every_form_is_right_and_every_corruption_of_it_wrong(level):
    task, rows = rows_of(level, 150)
    rng = np.random.default_rng(level)
    swaps = {word: pool for pool in (NAMES, PLACES, THINGS) for word in pool}
    for row in rows:
        if not row["answers"]:
            continue
        for form in KINDS[row["kind"]](row["about"], row["answers"][0]):
            assert task.score(f" {form}", row) == 1.0
            words = form.split(" ")
            for number, word in enumerate(words):
                bare = word.strip(".,")
                if pool := swaps.get(bare):
                    other = pool[int(rng.integers(len(pool)))]
                    changed = [*words]
                    changed[number] = word.replace(bare, other)
                    assert other == bare or task.score(" " + " ".join(changed), row) == 0.0
            assert task.score(f" {form} x", row) == 0.0
            assert task.score(f" {form} {form}", row) == 0.0
            assert task.score(f" not {form}", row) == 0.0


@pytest.mark.parametrize("level", QA.levels)
def test_attacks(level):
    task, rows = rows_of(level, 1000)

    def mean(attack):
        return np.mean([task.score(attack(row), row) for row in rows])

    for word in (*PLACES, *NAMES, *THINGS, "yes", "no", "nobody", "one", "two", "three", "it"):
        assert mean(lambda row, word=word: f" {word}") < 0.12, word
    assert mean(lambda row: " " + ", ".join(PLACES)) == 0
    assert mean(lambda row: " yes no") == 0
    assert mean(lambda row: " " + " ".join([row["reference"], "I do not know."])) == 0
    for at in (0, -1):  # a sentence of the story may be the answer, but seldom is
        assert mean(
            lambda row, at=at: " " + row["prompt"].partition("\n")[0][9:-1].split(". ")[at] + "."
        ) < (0.2 if level == 1 else 0.05)


@pytest.mark.parametrize(
    ("level", "bands"),
    [
        (1, {"recent": (0.15, 0.25), "lookup": (0.93, 0.99), "abstain": (0.09, 0.15)}),
        (2, {"recent": (0.11, 0.20), "lookup": (0.18, 0.28), "abstain": (0.09, 0.15)}),
        (3, {"recent": (0.19, 0.28), "lookup": (0.21, 0.32), "abstain": (0.09, 0.17)}),
    ],
)
def test_documented_baseline_scores(level, bands):
    task, rows = rows_of(level, 1500)
    for name, write in task.baselines().items():
        rng = np.random.default_rng(0)
        low, high = bands.pop(name)
        assert low < np.mean([task.score(write(row, rng), row) for row in rows]) < high, name
    assert not bands


@pytest.mark.parametrize("level", QA.levels)
def test_questions_are_balanced(level):
    _, rows = rows_of(level, 2000)
    open_rows = [row for row in rows if not row["answers"]]
    assert 0.07 < len(open_rows) / len(rows) < 0.14
    counts = Counter(row["answers"][0] for row in rows if row["kind"] == "is" and row["answers"])
    assert 0.75 < counts["yes"] / counts["no"] < 1.33
    # Unanswerable questions do not give themselves away by unknown names.
    named = [
        all(one.split()[-1] in row["prompt"].partition("\n")[0] for one in row["about"])
        for row in open_rows
    ]
    assert np.mean(named) > 0.95


@pytest.mark.parametrize("level", QA.levels)
def test_documents_are_mediocre(level):
    scores = document_scores(QA(level), 600, " ")
    assert 0.3 < np.mean(scores) < 0.6
    assert {0.0, 0.02, 1.0} == set(scores)


WORDS = ["Tom", "is", "in", "the", "hall", "barn", "He", ".", ",", "yes", "I", "do", "not", "know"]


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.lists(st.sampled_from(WORDS)).map(" ".join)))
def test_junk_is_judged(text):
    for row in (WHERE, OPEN, YES, {"answers": ["in the hall", ""]}, {"answers": []}, {}):
        value = QA().score(text, row)
        assert type(value) is float
        assert 0 <= value <= 1


# ------------------------------------------------------------------------------ public data

SQUAD = {
    "id": "1",
    "title": "Normans",
    "context": "The Normans gave their name to Normandy, a region in France.",
    "question": "In what country is Normandy located?",
    "answers": {"text": ["France", "in France", "France"], "answer_start": [53, 50, 53]},
}
NO_ANSWER = {**SQUAD, "question": "Who ruled Spain?", "answers": {"text": [], "answer_start": []}}


def test_squad_rows():
    task = QA()
    row = as_row(task.convert(SQUAD), "a row")
    assert row["prompt"] == (
        "Context: The Normans gave their name to Normandy, a region in France.\n"
        "Question: In what country is Normandy located?\nAnswer:"
    )
    assert row["answers"] == ["France", "in France"]
    assert task.complete_row(row) == row
    assert task.score(task.oracle(row), row) == 1.0
    assert task.score(" The france!", row) == 1.0
    assert task.score(" In France.", row) == 1.0
    assert task.score(" Spain", row) == 0.0
    assert task.score("", row) == 0.0
    # Both references: F1 = 2 * 1 / (3 + 1) and 2 * 2 / (3 + 2); no exact match.
    assert task.score(" somewhere in France", row) == pytest.approx((2 * 2 / 5) / 2)
    assert task.score(" France in", row) == pytest.approx(0.5)
    assert task.score(" I do not know.", row) == 0.02
    assert task.score(row["context"], row) < 0.2
    assert task.score(" France" * 1000, row) == 0.0
    none = as_row(task.convert(NO_ANSWER), "a row")
    assert none["reference"] == " I do not know."
    assert task.score(none["reference"], none) == 1.0
    assert task.score(" Unanswerable", none) == 1.0
    assert [task.score(text, none) for text in ("", " France", " I do not know France.")] == [0] * 3
    assert SQUAD["answers"]["text"] == ["France", "in France", "France"]


LONG = "the old stone bridge over the river Seine near Rouen"


@pytest.mark.parametrize(
    ("text", "score"),
    [
        (LONG, 1.0),
        (f"The {LONG[4:].upper()}!", 1.0),
        ("the old stone bridge", 6 / 11),  # three of eight words
        ("old stone bridge over river Seine near Rouen", 1.0),
    ],
)
def test_partly_right_answers(text, score):
    row = {"prompt": "Where?", "answers": [LONG]}
    assert QA().score(text, row) == pytest.approx(score if score == 1.0 else score / 2)


def test_answers_with_something_else_in_them():
    row = {"prompt": "Where?", "answers": [LONG]}
    for text in (f"not {LONG}", f"{LONG} or in Paris", f"Not: {LONG}. That is not true.",
                 f"{LONG}? No.", f"It never was {LONG}", f"{LONG} " + "walrus " * 5):  # fmt: skip
        assert 0 < QA().score(text, row) <= 0.4, text
    either = {"prompt": "Which?", "answers": ["tea or coffee, but not both of them"]}
    assert QA().score("tea or coffee, but not both", either) > 0.4


@pytest.mark.parametrize(
    "answer",
    ["\u5317\u4eac\u5e02\u6d77\u6dc0\u533a\u4e2d\u5173\u6751",  # Chinese, of CMRC's kind
     "\u6771\u4eac\u30bf\u30ef\u30fc\u306e\u8fd1\u304f",  # Japanese
     "\u0e01\u0e23\u0e38\u0e07\u0e40\u0e17\u0e1e\u0e21\u0e2b\u0e32\u0e19\u0e04\u0e23"],  # Thai
)  # fmt: skip
def test_answers_in_scripts_without_spaces(answer):
    """An answer that lacks one character gets nearly half, as a long one in English."""
    row = {"prompt": "?", "answers": [answer]}
    assert QA().score(answer, row) == 1.0
    assert QA().score(f" {answer}\u3002", row) == 1.0
    assert 0.4 < QA().score(answer[:-1], row) < 0.5
    assert 0.4 < QA().score(answer[1:], row) < 0.5
    assert 0 < QA().score(answer[:2], row) < QA().score(answer[:-1], row)
    assert QA().score("\u706b\u8eca", row) == 0.0


def test_answers_that_are_articles():
    row = {"prompt": "A, B or C?", "answers": ["A"]}
    assert [QA().score(text, row) for text in (" A", "a.", " B")] == [1.0, 1.0, 0.0]


def test_squad_rows_from_parquet_and_without_conversion():
    answers = {"text": np.array(["France"], dtype=object), "answer_start": np.array([53])}
    assert convert({**SQUAD, "answers": answers})["answers"] == ["France"]
    assert QA().score(" France", SQUAD) == 1.0
    assert QA().score(" No answer", NO_ANSWER) == 1.0


def test_other_rows():
    task = QA()
    flat = {
        "passage": "Mary went to the office.\n",
        "question": "Where is Mary?",
        "answer": "office",
    }
    row = task.convert(flat)
    assert row["prompt"] == prompt("Mary went to the office.", "Where is Mary?")
    assert task.score(" the office", row) == 1.0
    boolean = task.convert({"passage": "Ice floats.", "question": "does ice sink", "answer": False})
    assert boolean["reference"] == " no"
    assert task.score(" No.", boolean) == 1.0
    assert task.score(" Yes.", boolean) == 0.0
    nested = task.convert(
        {
            "story": {
                "id": ["1", "2", "3", "4"],
                "type": [0, 1, 0, 1],
                "text": ["Mary is in the hall.", "Where is Mary?", "Mary went to the office.",
                         "Where is Mary?"],
                "answer": ["", "hall", "", "office"],
            }
        }
    )  # fmt: skip
    assert nested["prompt"] == prompt(
        "Mary is in the hall. Mary went to the office.", "Where is Mary?"
    )
    assert task.score(" office", nested) == 1.0
    lines = [{"type": 0, "text": "Mary is in the hall."},
             {"type": 1, "text": "Where is Mary?", "answer": "hall"},
             {"type": 0, "text": "Mary went to the office.", "answer": ""},
             {"type": 1, "text": "Where is Mary?", "answer": "office"}]  # fmt: skip
    for story in (lines, np.array(lines, dtype=object)):
        listed = task.convert({"story": story})
        assert (listed["prompt"], listed["answers"]) == (nested["prompt"], ["office"])
    for row in ({"prompt": "Hello"}, {"text": "Hello"}, {"question": "Who?"}, {"story": {}},
                {"story": []}, {"story": ["Tom."]}, {"story": [{"text": "A."}]}, {"story": "A."},
                {"context": "A."}, {}):  # fmt: skip
        assert task.convert(row) == row


def f1(words, answer):
    """Token F1, implemented independently."""
    left, common = list(answer), 0
    for word in words:
        if word in left:
            left.remove(word)
            common += 1
    if not common:
        return 0.0
    precision, recall = common / len(words), common / len(answer)
    return 2 * precision * recall / (precision + recall)


tokens = st.lists(st.sampled_from(["red", "blue", "river", "old", "bank"]), min_size=1, max_size=6)


@settings(max_examples=200, deadline=None)
@given(tokens, st.lists(tokens, min_size=1, max_size=3))
def test_public_scores_are_exact_match_and_f1(words, answers):
    expected = max((f1(words, answer) + (words == answer)) / 2 for answer in answers)
    row = {"answers": [" the ".join(answer) for answer in answers]}
    assert QA().score(f" The {' '.join(words).upper()}!", row) == pytest.approx(expected)


def test_abstentions_differ_from_answers():
    for text in ABSTENTIONS:
        for form in (f" {text}", f" {text}.", text.lower()):
            assert QA().score(form, OPEN) == 1.0
            assert QA().score(form, WHERE) == 0.02
    assert read(prompt("Tom went to the hall.", "Where is Tom?")).answer == "hall"

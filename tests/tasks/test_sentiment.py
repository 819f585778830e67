"""The parser of reviews against labels by hand, and against the writer."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textgym.tasks import make_task
from textgym.tasks.sentiment.lexicon import MASS, SUBJECTS
from textgym.tasks.sentiment.reader import read
from textgym.tasks.sentiment.task import Sentiment
from textgym.tasks.sentiment.writer import phrases_of


def opinions(text, subject="hotel"):
    reading = read(f" {text}", subject)
    assert reading.lost_points == 0, text
    return [(aspect, value) for aspect, value, _, _ in reading.opinions]


def value(text, subject="hotel"):
    ((_, only),) = opinions(text, subject)
    return only


POSITIVE = """
The staff was friendly.
The room was clean and bright.
The room was not bad.
The room was not at all dirty.
The room was never dirty.
The staff was hardly rude.
The room was neither dirty nor noisy.
The beds were very comfortable.
The garden was beautiful.
I liked the breakfast.
We really enjoyed the breakfast.
I loved the lobby.
The breakfast did not disappoint us.
The porter never annoyed us.
The manager impressed us.
It had an excellent bathroom.
It had great coffee.
It had clean beds.
The room was better than expected.
The room was even nicer than the lobby.
The room was cramped but clean.
Nobody could say that the staff was rude.
"""
NEGATIVE = """
The staff was unfriendly.
The room was dirty and dark.
The room was not clean.
The room was not very clean.
The staff was never helpful.
The staff was hardly polite.
The room was neither clean nor bright.
The beds were a bit dirty.
The garden was hideous.
I disliked the breakfast.
We did not enjoy the breakfast.
I never liked the lobby.
The breakfast did not impress us.
The porter annoyed us.
It had an awful bathroom.
It had terrible coffee.
The room was worse than expected.
The room was clean but cramped.
Nobody could say that the staff was polite.
"""


@pytest.mark.parametrize("text", POSITIVE.strip().splitlines())
def test_positive_by_hand(text):
    text = text.replace("noisy", "shabby")  # "noisy" only suits devices
    assert value(text) > 0


@pytest.mark.parametrize("text", NEGATIVE.strip().splitlines())
def test_negative_by_hand(text):
    assert value(text) < 0


@pytest.mark.parametrize(
    "ladder",
    [
        ["The room was horrible.", "The room was dirty.", "The room was not clean.",
         "The room was a bit dirty.", "The room was not horrible.", "The room was not dirty.",
         "The room was clean.", "The room was spotless."],
        ["I hated the room.", "I disliked the room.", "I did not like the room.",
         "I liked the room.", "I really liked the room."],
        ["The room was very dirty.", "The room was dirty.", "The room was quite dirty.",
         "The room was a bit dirty."],
        ["The room was clean but dark.", "The room was dark but clean.",
         "The room was clean and bright."],
    ],
)  # fmt: skip
def test_ladders_by_hand(ladder):
    values = [value(text) for text in ladder]
    assert values == sorted(set(values))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The staff was rude, but the room was clean.", [("staff", -1), ("room", 1)]),
        ("Although I hated the room, the staff was kind.", [("room", -1), ("staff", 1)]),
        ("The room was better than the lobby and the staff was rude.",
         [("room", 1), ("staff", -1)]),
        ("The room was better than expected and the staff was rude.",
         [("room", 1), ("staff", -1)]),
        ("I loved the room and we did not like the staff.", [("room", 1), ("staff", -1)]),
        ("It had great coffee, the room was dark and it had dirty beds.",
         [("coffee", 1), ("room", -1), ("beds", -1)]),
        ("The room was not clean and the staff was friendly.", [("room", -1), ("staff", 1)]),
    ],
)  # fmt: skip
def test_aspects_and_polarities_by_hand(text, expected):
    assert [(aspect, np.sign(number)) for aspect, number in opinions(text)] == expected


@pytest.mark.parametrize(
    "text",
    [
        "The beds was clean.",
        "The room were clean.",
        "It had a excellent room.",
        "It had an clean room.",
        "It had a great coffee.",
        "It had clean room.",
        "The plot was gripping.",  # a hotel has none
        "The staff was spotless.", "The room was helpful.", "the room was clean.",
        "The room was clean", "The room was clean .", "The  room was clean.",
        "The room was very spotless.", "The room was not not bad.", "The room clean.",
        "Clean room.", "good good good.", "I the room loved.",
        "The room was clean, the staff was kind.", "Overall, the room was clean.",
        "Overall, I would recommend it!",
    ],
)  # fmt: skip
def test_ungrammatical_texts(text):
    reading = read(f" {text}", "hotel")
    assert reading.lost_points >= 1
    assert reading.opinions == []
    assert reading.score() == 0.0


FULL = (
    " The staff was superb. The room was very clean and I loved the garden."
    " Overall, it was a great stay."
)


def score(text, mentioned=(), opening=""):
    return read(text, "hotel", opening).score(mentioned)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FULL, 1),
        ("", 0),
        (" The staff was superb.", 1 / 4),
        (" The staff was superb and the room was spotless.", 2 / 4),
        (" The staff was superb. The staff was great.", 1 / 4),
        (" The staff was superb. The room was superb.", 1.5 / 4),
        (" The staff was kind.", (1.75 / 2) / 4),
        # Both opinions are clear: 0.5 * 0 + 1.5 * 1.
        (" The staff was awful, but the room was superb.", 1.5 / 4),
        (" The staff was superb, but the room was great.", 0.5 / 4),
        # The verdict earns the share of the rest: 1 of 2 points.
        (" The staff was superb. The room was awful. Overall, it was a great stay.", 1.5 / 4),
        (" Overall, it was a great stay.", 0),
        # A tail loses 1 point, or 2 with at least four words (including the empty first one).
        (FULL + " and so", (3 + 3 / 4) / 5),
        (FULL + " The staff was", (3 + 3 / 5) / 6),
        (" The staff was superb. The room was", 1 / 4),
        (FULL * 2, (3 + 3 / 11) / 12),  # 2 + 3 + 3 points lost after the verdict
        (" Overall, it was a great stay. The staff was superb.", 0),
        # Half for a sentence outside the grammar, a third for two of them.
        (FULL + " That is not true.", (3 + 3 / 5) / 6 / 2),
        (FULL + " Not." + " walrus" * 8, (3 + 3 / 7) / 8 / 3),
        (FULL + " " + "q" * 96, (3 + 3 / 8) / 9 / 2),
        (FULL + "\n-" * 12, (3 + 3 / 7) / 8 / 2),
        (" Walrus." + FULL, (3 + 3 / 4) / 5 / 2),
    ],
)
def test_scores_by_hand(text, expected):
    assert score(text) == pytest.approx(expected)


def test_mentioned_aspects_earn_nothing():
    assert score(FULL, ["garden"]) == pytest.approx((2 + 2 / 3) / 4)


@pytest.mark.parametrize(
    ("opening", "better", "worse"),
    [
        ("The room was never", " dirty.", " clean."),
        ("The room was not", " at all dirty.", " at all clean."),
        ("Nobody could say that the room was", " dirty.", " clean."),
        ("The room was neither", " dirty nor dark.", " clean nor bright."),
        ("The room was dirty, but", " the staff was kind.", " the staff was rude."),
        ("Although the room was dirty,", " the staff was kind.", " the staff was rude."),
    ],
)
def test_openings(opening, better, worse):
    good, bad = (read(text, "hotel", opening) for text in (better, worse))
    assert good.lost_points == bad.lost_points == 0
    assert len(good.opinions) == len(bad.opinions) == 1  # the opinion in the prompt does not count
    assert good.score() > 2 * bad.score()
    assert read(better.strip(), "hotel", opening).score() == 0  # no space between the words


@pytest.mark.parametrize("subject", SUBJECTS)
def test_writer_and_reader_agree(subject):
    for aspect, said in phrases_of(subject).about.items():
        for clause, capital in (*said.warmly, *said.strongly, *said.gladly):
            assert value(f"{capital}.", subject) == 1.0, clause
        for _, capital in said.good:
            assert value(f"{capital}.", subject) > 0, capital
        for _, capital in said.bad:
            assert value(f"{capital}.", subject) < 0, capital
        groups = [
            {
                word
                for _, c in clauses
                for *_, words in read(f" {c}.", subject).opinions
                for word in words
            }
            for clauses in (said.warmly, said.strongly, said.gladly)
        ]
        assert len(set.union(*groups)) == sum(map(len, groups)), aspect  # no common words
    for verdict in phrases_of(subject).praise:
        assert read(f" {verdict}", subject).verdict == 1.0
    for verdict in phrases_of(subject).good_verdicts:
        assert read(f" {verdict}", subject).verdict > 0
    for verdict in phrases_of(subject).bad_verdicts:
        assert read(f" {verdict}", subject).verdict < 0


@pytest.mark.parametrize("level", Sentiment.levels)
def test_documents_are_fluent_and_mediocre(level):
    task, rng = Sentiment(level), np.random.default_rng(level)
    plurals = set().union(*(subject.plurals for subject in SUBJECTS.values()))
    bare = plurals | MASS
    mediocre, scores = task.baselines()["mediocre"], []
    for _ in range(1000):
        row = task.sample(rng)
        text = mediocre(row, rng)
        assert read(text, row["subject"], row["opening"]).lost_points == 0, text
        scores.append(task.score(text, row))
        whole = row["prompt"] + text
        for noun, verb in re.findall(r"[Tt]he (\w+) (was|were)\b", whole):
            assert (verb == "were") == (noun in plurals), whole
        for article, word in re.findall(r"\b(an?) (\w+)", whole):
            assert (article == "an") == (word[0] in "aeiou" and word != "used"), whole
        for article, noun in re.findall(r"[Ii]t had (an? )?\w+ (\w+)", whole):
            assert (article == "") == (noun in bare), whole
    assert 0.4 < np.mean(scores) < 0.5
    assert np.std(scores) > 0.2
    assert len({task.document(rng) for _ in range(300)}) == 300


def test_mid_budget_cuts_cost_one_sentence():
    """The score of a truncated review increases in steps with its length."""
    words = FULL.split(" ")[1:]
    scores = [score(" " + " ".join(words[:size])) for size in range(1, len(words) + 1)]
    assert scores[-1] == 1.0
    assert max(scores[:-1]) <= 0.75
    assert sorted(set(scores)) == [0, 0.25, 0.75, 1.0]


WORDS = sorted(set(re.findall(r"\w+|[.,]", FULL + POSITIVE + NEGATIVE)))


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.text(), st.lists(st.sampled_from(WORDS)).map(" ".join)), st.sampled_from((1, 2, 3))
)
def test_junk_is_judged(text, level):
    task = make_task("TextGen/Sentiment-v0", level)
    row = task.item(1)
    for junk in (text, f" {text}", row["reference"] + text):
        result = task.score(junk, row)
        assert type(result) is float
        assert 0 <= result <= 1
        assert result == task.score(junk, row)


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1).filter(lambda text: text.strip()), st.integers(0, 50))
def test_a_tail_gains_nothing(tail, index):
    task = make_task("TextGen/Sentiment-v0")
    row = task.item(index)
    assert task.score(row["reference"] + tail, row) < 1.0


@given(st.text(alphabet=st.sampled_from("The I.W,eoaInlr dwsv"), max_size=120), st.integers(0, 50))
def test_the_shortcut_only_skips_texts_that_score_zero(text: str, index: int) -> None:
    task = make_task("TextGen/Sentiment-v0")
    row = task.item(index)
    for completion in (text, row["reference"] + text, text + row["reference"]):
        judged = task.normalize(completion, row)
        whole = read(judged, row["subject"], row["opening"]).score(row["mentioned"])
        assert task.score(completion, row) == whole

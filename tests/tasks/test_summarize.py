"""Scores of summaries by hand, and against an independent implementation."""

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from tests.documents import split_documents
from textgym.tasks.on_topic import overlap
from textgym.tasks.summarize.grammar import LINKS, MEANINGS, OPENERS, clauses
from textgym.tasks.summarize.reader import important, read
from textgym.tasks.summarize.task import Summarize
from textgym.tasks.summarize.world import CHAINS

LOSE = ["lose", "Tom", "ring", "", ""]
FIND = ["find", "Anna", "ring", "", "barn"]
SELL = ["sell", "Anna", "ring", "Leo", ""]
SANG = ["sang a song", "Tom", "", "", ""]
SPOON = ["mend", "Leo", "spoon", "", ""]
WANT = ["want steal", "Leo", "ring", "", ""]
ROW = {"prompt": "", "reference": "", "budget": 17, "facts": [LOSE, FIND, SELL],
       "others": [SANG, SPOON, WANT]}  # fmt: skip
ORACLE = " Tom lost the ring. Anna found it in the barn and sold it to Leo."


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        (ORACLE, [LOSE, FIND, SELL]),
        (" The ring was lost by Tom.", [LOSE]),
        (" A small ring was discovered in the barn by Anna.", [FIND]),
        (" The ring was found by Anna in the barn, and it was sold to Leo by her.", [FIND, SELL]),
        (" Leo bought the ring from Anna.", [SELL]),
        (" Late at night, Anna quickly sold Leo the shabby ring.", [SELL]),
        (" Then Tom lost the ring, Anna found it in the barn and Leo bought it from her.",
         [LOSE, FIND, SELL]),
        (" The ring was lost, found in the barn and sold to Leo.",
         [["lose", "", "ring", "", ""], ["find", "", "ring", "", "barn"],
          ["sell", "", "ring", "Leo", ""]]),
        (" Tom lost the ring, and later Anna found it. He sang a song.",
         [LOSE, ["find", "Anna", "ring", "", ""], SANG]),
        (" Leo mended the spoon and wanted to steal the ring.", [SPOON, WANT]),
        # Two verbs with one object, "but", and possessives.
        (" Anna found and sold the ring to Leo.", [["find", "Anna", "ring", "", ""], SELL]),
        (" Tom lost the ring, but Anna quietly found, mended and then sold it to Leo.",
         [LOSE, ["find", "Anna", "ring", "", ""], ["mend", "Anna", "ring", "", ""], SELL]),
        (" Leo bought and smashed her ring.",
         [["sell", "", "ring", "Leo", ""], ["break", "Leo", "ring", "", ""]]),
        (" Tom lost his ring but Anna found it in the barn.", [LOSE, FIND]),
        (" His small ring was lost by Tom. Anna sold her ring to Leo. Anna sold him his ring.",
         [LOSE, SELL, SELL]),
        (" Tom gave Anna a ring. Tom sold her her ring, and Leo bought it from her.",
         [["give", "Tom", "ring", "Anna", ""], ["sell", "Tom", "ring", "Anna", ""], SELL]),
        (" Anna did not get it from him.", [["not give", "?", "?", "Anna", ""]]),
        (" He sang a song.", [["sang a song", "?", "", "", ""]]),
        (" Tom lost the ring. Leo laughed. He mended the spoon. She sold it to him.",
         [LOSE, ["laughed", "Leo", "", "", ""], SPOON, ["sell", "?", "spoon", "Leo", ""]]),
        (" The house was dull. The barn was dark. The new ring was cold.",
         [["dull", "", "house", "", ""], ["dark", "", "", "", "barn"],
          ["cold", "", "ring", "", ""]]),
        (" Leo walked to the hall and rested in the hall.",
         [["walk", "Leo", "", "", "hall"], ["rest", "Leo", "", "", "hall"]]),
    ],
)  # fmt: skip
def test_facts_by_hand(text, facts):
    assert read(text) == (facts, 0)


@pytest.mark.parametrize(
    "text",
    [
        " tom lost the ring.", " Tom lost the ring", " Tom lost the ring .", " Tom  lost the ring.",
        " Tom lost\nthe ring.", " tom Lost The ring.", " He Lost the ring.", " Tom lost ring.",
        " Tom lost.", " Lost the ring.", " Tom ring.", " Tom lost the ring, Anna found it.",
        " Tom lost the ring and Anna found it, Leo laughed.", " Tom lost the ring and.",
        " Tom lost the ring,.", " Tom lost the ring,and Anna found it.", " and Tom lost the ring.",
        " Tom and Anna lost the ring.", " One summer day.", " One summer day Tom lost the ring.",
        " Tom lost the ring, one summer day, and laughed.",
        " Late at night, late at night, Tom lost the ring.", " Then then Tom lost the ring.",
        " The ring was lost by Tom and sang a song.", " Tom laughed and was sold to Anna.",
        " Tom found and.", " Tom found and laughed.", " Tom found and Anna sold it.",
        " Tom found, sold it.", " Tom found and sold.", " Tom found and sold Leo the ring.",
        " Tom found and the ring was sold.", " Found and sold it.",
        " The ring was lost and found it.", " The ring was found and stole and broke it.",
        " But Tom lost the ring.", " Tom lost his.", " Tom lost him ring.",
        " Tom hid the ring in his barn.", " Tom lost the his ring.", " His house was dull.",
        " Him lost the ring.", " Anna gave it he.", " Anna gave Leo it.",
        " Anna sold to Leo the ring.", " Tom quickly.", " Tom lost lost the ring.",
        " N lost the T.", " the T was cold.", " Facts: lose Tom ring.",
    ],
)  # fmt: skip
def test_ungrammatical_texts(text):
    facts, faults = read(text)
    assert facts == []
    assert faults >= 1


def test_every_opening_is_understood():
    for opener in OPENERS:
        assert read(f" {opener}, Tom lost the ring.") == ([LOSE], 0), opener
    for link in LINKS:
        assert read(f" {link.capitalize()} Tom lost the ring.") == ([LOSE], 0)


def test_every_clause_fills_its_roles_from_the_text():
    """A clause has a person, thing or place for each role; the subject may be omitted."""
    entities = {"N", "H", "M", "T", "P", "Z", "it"}
    for symbols, clause in clauses().items():
        parts = sum(word in entities for word in symbols.split())
        assert parts == len(clause.roles) - clause.bare, symbols
        assert len(set(clause.roles)) == len(clause.roles)
    assert {"Tom", "ring", "barn", "him", "house"} <= set(MEANINGS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        (ORACLE, 1),
        (" The ring was lost by Tom. Anna found it in the barn and sold it to Leo.", 1),
        (" Tom lost a ring. Anna found it in the barn. Leo bought it from her.", 1),
        # One of three facts, and two of them.
        (" Tom lost the ring.", 2 * 1 / (1 + 3)),
        (" Tom lost the ring. Anna sold it to Leo.", 2 * 2 / (2 + 3)),
        # Parts of facts: half of each.
        (" The ring was lost. Anna found it.", 2 * 1 / (2 + 3)),
        # A true but unimportant fact, and a false one.
        (" Tom lost the ring. He sang a song.", 2 * 1 / (2 + 3)),
        (" Tom lost the ring. He mended the spoon.", 2 * 1 / (2 + 3) / 2.5),
        (" Tom lost the ring. Leo wanted to steal it.", 2 * 1 / (2 + 3)),
        (" Tom lost the ring. Leo stole it.", 2 * 1 / (2 + 3) / 2.5),
        (" Tom lost the ring. Anna found it in the hall.", 2 * 1 / (2 + 3) / 2.5),
        (" Tom lost the ring. Leo sold it to Anna.", 2 * 1 / (2 + 3) / 2.5),
        (" Tom lost the spoon.", 0),
        # Twice, and in the wrong order.
        (" Tom lost the ring. Tom lost it.", 2 * 1 / (2 + 3) / 2.5),
        (" Tom lost the ring. The ring was lost.", 2 * 1 / (2 + 3) / 2.5),
        (" Tom lost the ring. He sang a song. He sang a song.", 2 * 1 / (3 + 3) / 2.5),
        (" Anna found a ring in the barn. Tom lost it.", 2 * 1 / (2 + 3) / 2.5),
        # An ungrammatical and an incomplete sentence.
        (" Tom lost the ring. Yes indeed.", 2 * 1 / (1 + 3) / 2.5),
        (" Tom lost the ring. Then Anna", 2 * 1 / (1 + 3) / 2.5),
        (" Tom lost the ring. a b c d e f g h.", 2 * 1 / (1 + 3) / 4),
        # 18, 20 and 21 words; the budget is 17.
        (" One summer day, Tom lost the ring. Anna found it in the barn and sold it to Leo.", 0.75),
        (" Just before dinner, Tom lost the small ring. Then Anna found it in the barn and sold it"
         " to Leo.", 0.25),
        (" Just before dinner, Tom lost the small ring. Then Anna quickly found it in the barn and"
         " sold it to Leo.", 0),
    ],
)  # fmt: skip
def test_scores_by_hand(text, expected):
    assert Summarize(1).score(text, ROW) == pytest.approx(expected)


def test_short_summaries_in_other_words_are_as_good():
    """Summaries of which a reviewer found that their scores were too low."""
    one, other, last = Summarize(1).item(0), Summarize(1).item(4), Summarize(3).item(0)
    score = Summarize(1).score
    assert score(" Helen hid a drum in the library. Hugo found and broke it.", one) == 1
    assert score(" Helen hid a drum in the library, but Hugo found it and broke it.", one) == 1
    assert score(" Hugo broke the drum.", one) == 2 * 1 / (1 + 3)
    text = " Rosa broke and mended the cake. She carried it to the courtyard and hid it in the"
    assert score(f"{text} bedroom.", last) == 1
    assert other["reference"].startswith(" Peter lost the drum. Ruth found it")
    assert score(other["reference"].replace("the drum", "his drum"), other) == 1


def test_a_find_may_name_the_hiding_place():
    hide, find = ["hide", "Tom", "ring", "", "barn"], ["find", "Anna", "ring", "", ""]
    row = {**ROW, "facts": [hide, find]}
    for place, expected in (("", 1), (" in the barn", 1), (" in the hall", 2 / 4 / 2.5)):
        text = f" Tom hid the ring in the barn. Anna found it{place}."
        assert Summarize(1).score(text, row) == pytest.approx(expected)


# An independent implementation: facts written with other templates, scored by the definition.

TRUE = [LOSE, FIND, SELL]
PART = [["lose", "", "ring", "", ""], ["find", "Anna", "ring", "", ""],
        ["find", "", "ring", "", "barn"], ["sell", "Anna", "ring", "", ""],
        ["sell", "", "ring", "Leo", ""]]  # fmt: skip
IDLE = [SANG, SPOON, WANT, ["mend", "", "spoon", "", ""]]
FALSE = [["lose", "Anna", "ring", "", ""], ["find", "Leo", "ring", "", "barn"],
         ["find", "Anna", "ring", "", "hall"], ["sell", "Leo", "ring", "Anna", ""],
         ["sell", "Anna", "spoon", "Leo", ""], ["lose", "", "spoon", "", ""],
         ["give", "Anna", "ring", "Leo", ""], ["steal", "Leo", "ring", "", ""],
         ["sang a song", "Anna", "", "", ""], ["not steal", "Leo", "ring", "", ""],
         ["cold", "", "ring", "", ""]]  # fmt: skip
PAST = {
    "lose": ("lost", "lost"),
    "find": ("found", "found"),
    "sell": ("sold", "sold"),
    "give": ("gave", "given"),
    "steal": ("stole", "stolen"),
    "mend": ("repaired", "mended"),
}


def written(fact, passive):
    verb, who, thing, whom, place = fact
    if verb not in PAST:
        mood, _, base = verb.partition(" ")
        if verb == "sang a song":
            return f" {who} sang a song."
        if mood in ("want", "not"):
            return f" {who} {'wanted to' if mood == 'want' else 'did not'} {base} the {thing}."
        return f" The {thing} was {verb}."
    end = (f" to {whom}" if whom else "") + (f" in the {place}" if place else "")
    if passive or not who:
        return f" The {thing} was {PAST[verb][1]}{end}{f' by {who}' if who else ''}."
    return f" {who} {PAST[verb][0]} the {thing}{end}."


def judged(facts):
    """The score by its definition, for unambiguous facts of ROW."""
    last, credit, faults = -1, 0.0, 0
    for index, fact in enumerate(facts):
        fits = [
            number
            for number, gold in enumerate(TRUE)
            if all(said in ("", so) for said, so in zip(fact, gold, strict=True))
        ]
        if fact in FALSE or fact in facts[:index]:
            faults += 1
        elif fits and fits[0] > last:
            last = fits[0]
            credit += 1 if fact in TRUE else 0.5
        elif fits:
            faults += 1
    return 2 * credit / (len(facts) + 3) / (1 + 1.5 * faults)


@given(
    st.lists(
        st.tuples(
            st.one_of(st.sampled_from(TRUE), st.sampled_from(TRUE + PART + IDLE + FALSE)),
            st.booleans(),
        ),
        max_size=7,
    )
)
def test_scores_equal_the_definition(picked):
    text = "".join(written(fact, passive) for fact, passive in picked)
    facts = [fact for fact, _ in picked]
    assert read(text) == (facts, 0)
    assert Summarize(1).score(text, {**ROW, "budget": 100}) == pytest.approx(judged(facts))


def rows(level, count, seed=0):
    task, rng = Summarize(level), np.random.default_rng(seed)
    return task, [task.sample(rng) for _ in range(count)]


@pytest.mark.parametrize("level", Summarize.levels)
def test_stories_have_the_facts_of_the_row(level):
    _, some = rows(level, 500)
    for row in some:
        told, faults = read(" " + row["prompt"].split("\n")[1])
        facts, others = important(told)
        assert faults == 0
        assert facts == row["facts"]
        assert sorted(others) == sorted(row["others"])
        assert len(facts) == (3, 3, 4)[level - 1]


@pytest.mark.parametrize("level", Summarize.levels)
def test_stories_are_consistent(level):
    _, some = rows(level, 500)
    for row in some:
        holder, gone, broken = None, False, False
        for verb, who, _, whom, place in row["facts"]:
            assert who != whom
            assert gone == (verb == "find")
            if holder and verb not in ("find", "steal", "mend"):
                assert who == holder
            if verb == "steal":
                assert holder in (None, whom)
            if verb == "find":
                assert who != holder
            assert (verb == "mend") <= broken
            assert (verb in ("hide", "carry")) <= bool(place)
            holder = {"give": whom, "sell": whom, "mend": holder}.get(verb, who)
            gone = verb in ("lose", "hide")
            broken = (broken or verb == "break") and verb != "mend"
    assert all(len(set(chain)) == len(chain) for chains in CHAINS.values() for chain in chains)


@pytest.mark.parametrize("level", Summarize.levels)
def test_corruptions_lower_the_score(level):
    task, some = rows(level, 200)
    for row in some:
        text, facts = row["reference"], row["facts"]
        sentences = [f"{sentence}." for sentence in text.split(".")[:-1]]
        people = sorted({fact[1] for fact in facts} | {fact[3] for fact in facts} - {""})
        corrupted = [text[:-1], text + " Good.", text + sentences[0], text.lower()]
        if len(people) == 2:
            one, two = people
            corrupted.append(re.sub(f"{one}|{two}", lambda m: two if m[0] == one else one, text))  # noqa: B023
        corrupted += [text.replace(sentence, "") for sentence in sentences]
        corrupted += ["".join(sentences[::-1])] if len(sentences) > 1 else []
        corrupted += [text.replace(f"the {facts[0][2]}", "it"), text.replace("the ", "")]
        corrupted += [text.replace(fact[4], "moon") for fact in facts if fact[4]]
        for other in row["others"]:
            if other[0] in ("sang a song", "laughed", "smiled"):
                corrupted.append(f"{text} {other[1]} {other[0]}.")
        for attempt in corrupted:
            assert attempt != text
            assert task.score(attempt, row) < 1.0, attempt


@pytest.mark.parametrize("level", Summarize.levels)
def test_other_words_for_the_same_facts_are_as_good(level):
    task, some = rows(level, 200)
    synonyms = {"found": "discovered", "broke": "smashed", "gave": "handed", "carried": "brought",
                "mended": "repaired"}  # fmt: skip
    for row in some:
        text = re.sub(r"\w+", lambda match: synonyms.get(match[0], match[0]), row["reference"])
        assert task.score(text, row) == 1.0
        plenty = {**row, "budget": 99}
        separate = [written(fact, False) for fact in row["facts"] if fact[0] in PAST]
        if len(separate) == len(row["facts"]) and not any(f[0] == "steal" for f in row["facts"]):
            passive = [written(fact, True) for fact in row["facts"]]
            assert task.score("".join(separate), plenty) == 1.0
            assert task.score("".join(passive), plenty) == 1.0


@pytest.mark.parametrize("level", Summarize.levels)
def test_copying_scores_low(level):
    task, some = rows(level, 300)
    rng = np.random.default_rng(0)
    means = {}
    for name, baseline in task.baselines().items():
        texts = [baseline(row, rng) for row in some]
        assert all(
            len(text.split()) <= row["budget"] for text, row in zip(texts, some, strict=True)
        )
        means[name] = np.mean([task.score(*pair) for pair in zip(texts, some, strict=True)])
    assert means["lead"] == pytest.approx((0.38, 0.34, 0.42)[level - 1], abs=0.05)
    assert means["extract"] == pytest.approx((0.57, 0.57, 0.46)[level - 1], abs=0.05)
    for row in some:
        story = row["prompt"].split("\n")[1]
        assert task.score(f" {story}", row) == 0
        last = f" {story.split('. ')[-1]}"
        assert task.score(last, row) <= 0.5
        nobody = " ".join(f"{verb.capitalize()}." for verb, *_ in row["facts"])
        assert task.score(f" {nobody}", row) == 0


@pytest.mark.parametrize("level", Summarize.levels)
def test_documents_are_fluent_and_mediocre(level):
    task, scores, whole = Summarize(level), [], 0
    for row, text in split_documents(task, 500):
        assert read(text).faults == 0, text
        scores.append(task.score(text, row))
        whole += scores[-1] == 1
    assert 0.35 < np.mean(scores) < 0.55
    assert np.std(scores) > 0.25
    assert 25 < whole < 150


@pytest.mark.parametrize("level", Summarize.levels)
def test_a_prompt_alone_is_enough(level):
    task, some = rows(level, 200)
    for row, other in pairwise(some):
        completed = task.complete_row({"prompt": row["prompt"]})
        assert completed["budget"] == row["budget"]
        assert completed["facts"] == row["facts"]
        assert task.complete_row(row) == row
        for text in (row["reference"], row["reference"][:-1], other["reference"], " No."):
            assert task.score(text, completed) == task.score(text, row)


def test_prompts_by_hand():
    task = Summarize(1)
    row = task.complete_row(
        {"prompt": "Summarize in 9 words:\nHugo hid a cake in the attic.\nHe laughed.\nSummary:"}
    )
    assert row["facts"] == [["hide", "Hugo", "cake", "", "attic"]]
    assert task.score(" Hugo hid the cake in the attic.", row) == 1.0
    for prompt in ("Hello", "", "Summarize in 9 words:\n\nSummary:"):
        assert task.score(" Hugo hid the cake.", task.complete_row({"prompt": prompt})) == 0.0


# ------------------------------------------------------------------------------------- real data

NEWS = {
    "article": "(CNN) The river rose two metres on Monday. Hundreds of people left their homes. "
    "Nobody was hurt, the mayor said. Schools stay closed until Friday.",
    "highlights": "River rises two metres .\nHundreds leave their homes; nobody hurt .",
    "id": "1",
}
ONE_LINE = {"document": NEWS["article"], "summary": "A flood drove hundreds from their homes."}
CHAT = {"id": "2", "dialogue": "Amy: Are you coming?\r\nBob: No, I have a cold.\r\nAmy: Get well!",
        "summary": "Bob has a cold and is not coming."}  # fmt: skip


@pytest.mark.parametrize("raw", [NEWS, ONE_LINE, CHAT], ids=["cnn_dailymail", "xsum", "samsum"])
def test_public_data(raw):
    task, before = Summarize(2), dict(raw)
    row = task.complete_row(task.convert(raw))
    assert raw == before
    assert set(raw) <= set(row)
    source = raw.get("article") or raw.get("document") or raw["dialogue"]
    assert source.replace("\r\n", "\n") in row["prompt"]
    assert "\r" not in row["prompt"]
    assert task.convert(row) == row
    reference = row["reference"]
    assert reference.startswith(" ")
    assert "\n" not in reference
    assert task.score(reference, row) == pytest.approx(1.0)
    assert task.score(reference.upper(), row) == pytest.approx(1.0)
    some = reference[: len(reference) // 2]
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    expected = np.mean([score.fmeasure for score in scorer.score(reference, some).values()])
    assert task.score(some, row) == pytest.approx(expected)
    assert 0.3 < expected < 1
    assert overlap("rouge", some, reference) == pytest.approx(expected)
    words = re.findall(r"\w+", reference)
    assert task.score(" " + " ".join(words[::-1]), row) < 0.6
    assert 0 < task.score(reference + reference, row) < 0.75
    assert task.score(reference + reference + " x", row) == 0
    for junk in ("", " ", "\ud800", "a " * 50_000, "a-" * 50_000, "\u4e2d" * 1000):
        assert task.score(junk, row) == 0


def test_the_budget_of_public_data_is_twice_the_reference():
    row = Summarize(1).convert(ONE_LINE)
    assert row["prompt"].startswith("Summarize in 14 words:\n(CNN) The river")
    assert row["prompt"].endswith("until Friday.\nSummary:")


def test_several_references():
    row = {"prompt": "Sum it up:", "reference": ["Bob is ill.", "Bob has a bad cold today."]}
    score = Summarize(1).score
    assert score(" Bob is ill.", row) == 1.0
    assert score(" Bob has a bad cold today.", row) == 1.0
    assert score(" Bob" * 13, row) == 0.0


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "x", "article": "a", "highlights": "b"},
        {"article": "a"},
        {"article": "a", "highlights": None},
        {"document": ["a"], "summary": "b"},
        {"text": "a", "label": 1},
        {},
    ],
)
def test_other_rows_are_unchanged(row):
    assert Summarize(1).convert(row) is row


WORDS = ["Tom", "Anna", "He", "she", "him", "lost", "found", "the", "ring", "it", "in", "barn",
         "was", "by", "to", "Leo", "sold", "and", ",", ".", "Then", "wanted", "\n"]  # fmt: skip


@given(st.one_of(st.text(), st.lists(st.sampled_from(WORDS)).map(" ".join)))
def test_junk_is_judged(text):
    for junk in (text, f" {text}.", " Tom lost the ring." + text):
        value = Summarize(1).score(junk, ROW)
        assert type(value) is float
        assert 0 <= value <= 1
        assert value == Summarize(1).score(junk, ROW)

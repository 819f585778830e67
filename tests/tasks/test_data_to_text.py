"""The reader of records against texts judged by hand, and against bookkeeping of its own."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textgym.tasks.data_to_text import DataToText
from textgym.tasks.data_to_text_concepts import (
    AGENTS,
    ANIMALS,
    COMPANIONS,
    OBJECTS,
    PEOPLE,
    PLACES,
    PREPOSITIONS,
    TOOLS,
    VERBS,
    article,
)
from textgym.tasks.data_to_text_grammar import DOMAINS, grammar
from textgym.tasks.data_to_text_reader import claims_of, pronoun, read_concepts, read_record
from textgym.testing import check_task

LANTERN = {
    "domain": "restaurant",
    "subject": "Blue Lantern",
    "facts": [["food", "Greek"], ["price", "cheap"], ["area", "old town"], ["near", "bridge"],
              ["closed", "Monday"]],
    "private": ["closed"],
}  # fmt: skip


def concepts(*words):
    facts = [["concept", word] for word in words]
    return {"domain": "concepts", "subject": "", "facts": facts, "private": []}


def test_contract():
    check_task(DataToText, n=60)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        (" The Blue Lantern serves cheap Greek food in the old town. It is near the bridge.", 1),
        (" The Blue Lantern is a cheap Greek restaurant. It is in the old town near the"
         " bridge.", 1),
        (" In the old town, the Blue Lantern serves cheap food. It is close to the bridge, and it"
         " offers Greek food.", 1),
        (" The Blue Lantern, which is near the bridge, is a Greek restaurant in the old town and"
         " also serves cheap food.", 1),
        (" The food at the Blue Lantern is cheap. The restaurant is in the old town near the"
         " bridge. It offers Greek food.", 1),
        # Two of four.
        (" The Blue Lantern serves cheap Greek food.", 2 / 4),
        # Two of four, one claim wrong.
        (" The Blue Lantern serves cheap Thai food. It is near the bridge.", 2 / 4 * 2 / 3),
        # One of four right, one both right and wrong, so that it is not told.
        (" The Blue Lantern is cheap, serves Greek food and offers Thai food.", 1 / 4 * 1 / 2),
        # A thing told again, in other words.
        (" The Blue Lantern is a cheap restaurant. It is cheap.", 1 / 4 / 2),
        # A secret, a false secret and something that the record does not say.
        (" The Blue Lantern is cheap and is closed on Monday.", 1 / 4 * 1 / 2 / 2),
        (" The Blue Lantern is cheap and is closed on Friday.", 1 / 4 * 1 / 2 / 2),
        (" The Blue Lantern is cheap and welcomes children.", 1 / 4 * 1 / 2),
        # Nobody named, named too late, somebody else, a wrong pronoun.
        (" It serves cheap Greek food.", 0),
        (" It is cheap. The Blue Lantern serves Greek food.", 1 / 4 / 2),
        (" The Red Lantern serves cheap Greek food.", 0),
        (" The Blue Lantern is cheap. The Red Bell serves Greek food.", 1 / 4 * 1 / 3),
        # No sentence; one of eleven pieces; one that breaks off; one that cannot go on.
        (" The Blue Lantern is cheap. Greek.", 1 / 4 / 2),
        (" The Blue Lantern is cheap. a b c d e f g h i j.", 1 / 4 / 3),
        (" The Blue Lantern is cheap. It serves", 1 / 4 / 1.5),
        (" The Blue Lantern is cheap. It it", 1 / 4 / 2),
        # Echoes.
        (" name: Blue Lantern. food: Greek. price: cheap.", 0),
        (" Blue Lantern, Greek, cheap, old town, bridge.", 0),
        ("The Blue Lantern is cheap.", 0),
        (" The Blue Lantern is cheap", 0),
        (" the Blue Lantern is cheap.", 0),
        (" The Blue Lantern serves a Greek food.", 0),
        (" The Blue Lantern is an cheap restaurant.", 0),
        (" The Blue Lantern cheap and Greek.", 0),
    ],
)  # fmt: skip
def test_records_judged_by_hand(text, score):
    assert DataToText().score(text, LANTERN) == pytest.approx(score)


@pytest.mark.parametrize(
    ("text", "right", "wrong", "faults"),
    [
        (" A boy throws a ball in the park.", {"boy", "throw", "ball", "park"}, 0, 0),
        (" The balls were thrown by the boys at the park.", {"boy", "throw", "ball", "park"}, 0, 0),
        (" In the park, two young boys will throw his ball with a friend.",
         {"boy", "throw", "ball", "park"}, 0, 0),
        (" Some men are throwing the ball.", {"throw", "ball"}, 0, 0),
        (" A boy throws a letter in the park.", {"boy", "throw", "park"}, 1, 0),
        (" A park throws a boy.", set(), 0, 1),
        (" A ball throws a boy.", set(), 0, 1),
        (" A boy throws a ball in the kitchen.", {"boy", "throw", "ball"}, 1, 0),
        (" A boy throw a ball.", set(), 0, 1),
        (" Two boys throws a ball.", set(), 0, 1),
        (" A boy throws ball.", set(), 0, 1),
        (" A boy throws a ball. A boy throws a ball in the park.", {"boy", "throw", "ball"}, 0, 2),
        (" A boy throws a ball. He", {"boy", "throw", "ball"}, 0, 1),
        (" Boy, throw, ball, park.", set(), 0, 2),
    ],
)  # fmt: skip
def test_concepts_judged_by_hand(text, right, wrong, faults):
    row = concepts("boy", "throw", "ball", "park")
    reading = read_concepts(text, row)
    assert reading == (right, wrong, faults)
    expected = 0.0
    if right:
        expected = len(right) / 4 * len(right) / (len(right) + wrong) / (1 + faults)
    assert DataToText().score(text, row) == pytest.approx(expected)


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_phrase_claims_what_it_says(domain):
    """Each clause with some values, spelled without the grammar's help."""
    this, rng = DOMAINS[domain], np.random.default_rng(0)
    subject = this.subjects[-1]
    whom = this.named.format(subject)
    begin = whom[0].upper() + whom[1:]
    other = next(text for text, kind in this.pronouns.items() if kind == pronoun(domain, subject))
    filler = this.clauses[0]
    sentences = [f"{begin} {clause}" for clause in this.clauses]
    sentences += [f"{other} {clause}" for clause in this.clauses]
    sentences += [f"{front}, {whom} {filler}" for front in this.fronts]
    sentences += [other.replace("{s}", whom) for other in this.others]
    for sentence in sentences:
        for _ in range(5):
            expected = {}

            def fill(match, expected=expected):
                prefix, attribute = match.groups()
                values = this.values[attribute]
                if attribute not in expected:
                    expected[attribute] = values[int(rng.integers(len(values)))]
                text = this.surfaces.get(expected[attribute], expected[attribute])
                vowel = text[0] in "AEIOUaeiou" or text.startswith("8")
                return f"{'an ' if vowel else 'a '}{text}" if prefix else text

            text = re.sub(r"\{(a_)?(\w+)\}", fill, sentence) + "."
            words = text[:-1].replace(",", " ,").split()
            state, claims = claims_of(words, grammar(domain))
            assert state is not None, text
            assert "." in state, text
            assert {a: v for a, v in claims if a not in ("about", "pronoun")} == expected, text


# A second opinion on whole texts: clauses made and counted here, by one rule after another.

_PHRASES = {
    "food": ("serves {} food", "offers {} food"),
    "price": ("is {}",),
    "area": ("is in the {}", "lies in the {}"),
    "near": ("is near the {}", "is close to the {}"),
    "closed": ("is closed on {}", "closes on {}"),
    "rating": ("is rated {}",),
}
_VALUES = {
    "food": ("Greek", "Thai"),
    "price": ("cheap", "expensive"),
    "area": ("old town", "suburbs"),
    "near": ("bridge", "library"),
    "closed": ("Monday", "Friday"),
    "rating": ("good", "poor"),
}
clause = st.tuples(st.sampled_from(sorted(_PHRASES)), st.integers(0, 1), st.integers(0, 1))
sentence = st.tuples(
    st.sampled_from(["The Blue Lantern", "It", "The restaurant", "The Red Rose", "They"]),
    st.lists(clause, min_size=1, max_size=3),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(sentence, max_size=6))
def test_reader_equals_a_second_bookkeeping(sentences):
    facts = dict(LANTERN["facts"])
    text, told, lies, named = "", [], 0, False
    faults = 0
    for subject, clauses in sentences:
        spoken = [_PHRASES[a][i % len(_PHRASES[a])].format(_VALUES[a][j]) for a, i, j in clauses]
        text += f" {subject} " + " and ".join(filter(None, [", ".join(spoken[:-1]), spoken[-1]]))
        text += "."
        if subject == "They":
            # No word for a restaurant. Commas count as words, and so does what is before a space.
            pieces = ["", *re.findall(r"\w+|,", text[text.rindex(" They") :])]
            faults += 1 + len(pieces) // 8
        elif subject == "The Red Rose":
            lies += 1 + len(clauses)
        elif subject != "The Blue Lantern" and not named:
            faults += 1
        else:
            named = True
            told += [(a, _VALUES[a][j]) for a, _, j in clauses]
    right = set()
    for attribute in set(facts) - {"closed"}:
        values = [value for a, value in told if a == attribute]
        if values and set(values) == {facts[attribute]}:
            right.add(attribute)
    lies += sum(facts.get(a) != value or a == "closed" for a, value in told)
    faults += sum(a == "closed" for a, _ in told)
    for attribute in set(facts) - {"closed"}:
        faults += max(0, told.count((attribute, facts[attribute])) - 1)
    assert read_record(text, LANTERN) == (right, lies, faults)


def test_concepts_equal_a_brute_force_over_roles():
    """Every verb with every object, agent, place and thing along: the sentence and its faults."""
    rng = np.random.default_rng(0)
    along = sorted({*TOOLS, *COMPANIONS})
    seen = {True: 0, False: 0}
    for verb, what in itertools.product(VERBS, OBJECTS):
        this = VERBS[verb]
        who, where, thing = (str(rng.choice(some)) for some in (AGENTS, PLACES, along))
        text = (
            f" {article(who).capitalize()} {this.forms[0]} {article(what)} with {article(thing)}"
            f" {PREPOSITIONS[where]} the {where}."
        )
        bad = set()
        if what not in this.objects or what == who:
            bad.add(("object", what))
        if who in ANIMALS and who not in this.animals:
            bad.add(("agent", who))
        if where not in this.places:
            bad.add(("place", where))
        if thing in COMPANIONS:
            if thing in (who, what):
                bad.add(("with", thing))
        elif thing not in this.tools or who in ANIMALS:
            bad.add(("with", thing))
        reading = read_concepts(text, concepts(verb, what, who, where, thing))
        fine = {verb, what, who, where, thing} - {word for _, word in bad}
        seen[not bad] += 1
        assert reading.wrong == len(bad), text
        assert reading.faults == 0
        assert fine <= reading.right, text
    assert min(seen.values()) > 0


def test_who_is_an_agent():
    assert set(AGENTS) == {*PEOPLE, *ANIMALS, "friend", "cousin", "neighbour"}


# ------------------------------------------------------------------ oracles and their corruption


@pytest.mark.parametrize("level", DataToText.levels)
def test_rows_are_as_the_level_says(level):
    task, rng = DataToText(level), np.random.default_rng(level)
    told, sets = set(), set()
    for _ in range(400):
        row = task.sample(rng)
        if row["domain"] == "concepts":
            sets.add(len(row["facts"]))
            assert len({word for _, word in row["facts"]}) == len(row["facts"])
            continue
        told.add(len(row["facts"]) - len(row["private"]))
        assert len(row["private"]) == (level == 3)
        facts = dict(row["facts"])
        assert len(facts) == len(row["facts"])
        if row["domain"] == "flight":
            assert facts.get("from", 1) != facts.get("to", 2)
        if row["domain"] == "match":
            assert facts.get("loser") != row["subject"]
        for attribute, value in row["facts"]:
            mark = " (private)" if attribute in row["private"] else ""
            assert f"\n{attribute}: {value}{mark}\n" in row["prompt"]
    assert told == {1: {2, 3}, 2: {4}, 3: {5, 6}}[level]
    assert sets == {level + 2}


@pytest.mark.parametrize("level", DataToText.levels)
def test_any_other_record_makes_the_text_worse(level):
    """The text stays, one value or name of the record changes."""
    task, rng = DataToText(level), np.random.default_rng(level)
    for _ in range(150):
        row = task.sample(rng)
        text = row["reference"]
        if row["domain"] == "concepts":
            for number in range(len(row["facts"])):
                words = [word for _, word in row["facts"]]
                words[number] = "parrot"
                assert task.score(text, concepts(*words)) < 1
            continue
        values = DOMAINS[row["domain"]].values
        for number, (attribute, value) in enumerate(row["facts"]):
            other = next(one for one in values[attribute] if one != value)
            facts = [*row["facts"]]
            facts[number] = [attribute, other]
            changed = task.score(text, {**row, "facts": facts})
            assert changed == 1 if attribute in row["private"] else changed < 1
        subjects = DOMAINS[row["domain"]].subjects
        other = next(one for one in subjects if one != row["subject"])
        assert task.score(text, {**row, "subject": other}) == 0


@pytest.mark.parametrize("level", DataToText.levels)
def test_order_of_lines_and_whose_name_do_not_matter(level):
    task, rng = DataToText(level), np.random.default_rng(level)
    for _ in range(100):
        row = task.sample(rng)
        facts = row["facts"][::-1]
        assert task.score(row["reference"], {**row, "facts": facts}) == 1
        if row["domain"] == "concepts":
            continue
        whom = DOMAINS[row["domain"]].named.format(row["subject"])
        named = row["reference"]
        for text in DOMAINS[row["domain"]].pronouns:
            named = named.replace(f". {text} ", f". {whom[0].upper()}{whom[1:]} ")
        assert task.score(named, row) == 1


@pytest.mark.parametrize("level", DataToText.levels)
def test_attacks(level):
    task, rng = DataToText(level), np.random.default_rng(level)
    for _ in range(150):
        row = task.sample(rng)
        oracle = row["reference"]
        ceiling = task.cheat_ceiling
        assert task.score(f"{oracle} And so on and so forth.", row) < ceiling
        assert task.score(f"{oracle} {row['prompt']}", row) < ceiling
        assert task.score(oracle[:-1], row) < ceiling + 0.1
        assert task.score(oracle.lower(), row) == 0
        facts = " ".join(f"The {name} is {value}." for name, value in row["facts"])
        assert task.score(f" {facts}", row) == 0
        if row["domain"] == "concepts":
            continue
        this = DOMAINS[row["domain"]]
        # Every value of one attribute: the right one is among them.
        attribute = row["facts"][0][0]
        alone = re.compile(r"[^{}]*\{(a_)?" + attribute + r"\}[^{}]*")
        clause = next(one for one in this.clauses if alone.fullmatch(one))
        name = this.named.format(row["subject"])
        texts = [this.surfaces.get(one, one) for one in this.values[attribute]]
        clause = clause.replace("a_", "")
        every = [f" {name[0].upper()}{name[1:]} {clause.format(**{attribute: one})}."
                 for one in texts]  # fmt: skip
        assert task.score("".join(every), row) == 0


@pytest.mark.parametrize("level", DataToText.levels)
def test_baselines_and_documents(level):
    task, rng = DataToText(level), np.random.default_rng(level)
    rows = [task.sample(rng) for _ in range(600)]
    for name, low, high in (
        ("one_fact", *((0.36, 0.46), (0.22, 0.32), (0.13, 0.24))[level - 1]),
        ("formula", 0.15, 0.28),
    ):
        baseline = task.baselines()[name]
        mean = np.mean([task.score(baseline(row, rng), row) for row in rows])
        assert low < mean < high, (name, mean)

    kept = []

    class Keep(DataToText):
        def sample(self, rng):
            kept.append(super().sample(rng))
            return kept[-1]

    scores = []
    for _ in range(600):
        document = Keep(level).document(rng)
        assert document.startswith(kept[-1]["prompt"])
        scores.append(task.score(document[len(kept[-1]["prompt"]) :], kept[-1]))
    assert 0.35 < np.mean(scores) < 0.62
    assert np.std(scores) > 0.2
    assert 0.02 < np.mean([score == 0 for score in scores]) < 0.25


WORDS = [
    "The", "Blue", "Lantern", "It", "serves", "cheap", "Greek", "food", "is", "near", "the",
    "bridge", "and", ",", ".", "which", "also", "in", "old", "town", "A", "boy", "a", "ball",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.lists(st.sampled_from(WORDS)).map(" ".join)))
def test_junk_is_judged(text):
    for row in (LANTERN, concepts("boy", "ball", "throw")):
        for junk in (text, f" {text}.", " The Blue Lantern is cheap." + text):
            value = DataToText().score(junk, row)
            assert type(value) is float
            assert 0 <= value <= 1


def test_adopt_reads_prompts_back():
    for level in DataToText.levels:
        task = DataToText(level)
        for index in range(100):
            row = task.item(index)
            adopted = task.adopt({"prompt": row["prompt"]})
            assert adopted == {name: row[name] for name in adopted}
            assert {"facts", "private", "domain", "subject"} <= adopted.keys()
            assert task.adopt(row) == row
    for prompt in ("", "Hello", "Record: ship\nname: Ark\nText:", "Record: person\nText:"):
        row = task.adopt({"prompt": prompt})
        assert task.score(" Tom is a teacher.", row) == 0


# ------------------------------------------------------------------ public data

EAGLE = {
    "meaning_representation": "name[The Eagle], eatType[coffee shop], food[French], "
    "familyFriendly[yes], near[Burger King]",
    "human_reference": "The Eagle is a child friendly coffee shop near Burger King. It serves "
    "French food.",
}
TOTTO = {
    "table_page_title": "List of governors",
    "table": [[{"value": "Name"}, {"value": "Year"}], [{"value": "John Smith"}, {"value": "1901"}]],
    "highlighted_cells": [[1, 0], [1, 1]],
    "sentence_annotations": {
        "final_sentence": ["John Smith became governor in 1901.", "In 1901 John Smith governed."]
    },
}
PUBLIC = [
    (EAGLE, ["The Eagle", "coffee shop", "French", "Burger King"], 1),
    ({"mr": EAGLE["meaning_representation"], "references": ["The Eagle is a coffee shop.", "Eat."]},
     ["The Eagle", "coffee shop", "French", "Burger King"], 2),
    ({"concepts": ["throw", "boy", "ball"], "target": "The boys threw a ball."},
     ["throw", "boy", "ball"], 1),
    (TOTTO, ["John Smith", "1901"], 2),
    ({**TOTTO, "sentence_annotations": [{"final_sentence": "John Smith became governor."}]},
     ["John Smith", "1901"], 1),
    ({"linearized_input": "<page_title> Governors </page_title> <table> <cell> John Smith "
      "<col_header> Name </col_header> </cell> <cell> 1901 </cell> </table>",
      "target": "John Smith governed in 1901."}, ["John Smith", "1901"], 1),
    ({"modified_triple_sets": {"mtriple_set": [['Aarhus_Airport | cityServed | "Aarhus"']]},
      "lex": {"comment": ["good"], "text": ["Aarhus Airport serves Aarhus."]}},
     ["Aarhus Airport", "Aarhus"], 1),
    ({"input": ["Aarhus_Airport | runwayLength | 2776.0"], "target": "Its runway is 2776.0 long."},
     ["Aarhus Airport", "2776.0"], 1),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "values", "references"), PUBLIC)
def test_public_rows(raw, values, references):
    task = DataToText()
    row = task.convert(raw)
    assert row["values"] == values
    assert len(row["references"]) == references
    assert all(value in row["prompt"] for value in values)
    assert task.adopt(row) == row
    for reference in row["references"]:
        assert task.score(f" {reference}", row) == 1
    for text in (row["prompt"], f" {row['prompt']}", "", "x", "x " * 50_000):
        assert task.score(text, row) < 0.1
    oracle = row["reference"]
    assert task.score(f"{oracle} {oracle}", row) < 1
    assert task.reward([row["prompt"]], [oracle], **{
        name: [value] for name, value in row.items() if name != "prompt"
    }) == [1.0]  # fmt: skip


def test_a_missing_value_costs_its_share():
    """By hand: the libraries' own numbers, times two of three values."""
    sacrebleu = pytest.importorskip("sacrebleu")
    rouge = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"])
    row = DataToText().convert(
        {"meaning_representation": "name[Bar], food[Thai], near[Zoo]",
         "human_reference": "Bar serves Thai food near the Zoo."}
    )  # fmt: skip
    text = "Bar serves Thai food near the sea."
    chrf = sacrebleu.CHRF().sentence_score(text, [row["reference"]]).score / 100
    longest = rouge.score(row["reference"], text)["rougeL"].fmeasure
    assert DataToText().score(text, row) == pytest.approx(2 / 3 * (chrf + longest) / 2)


def test_inflected_concepts_count():
    row = DataToText().convert(
        {"concepts": ["carry", "dance", "boy"], "target": "Boys carry things to a dance."}
    )
    fine = DataToText().score("Boys carried things to the dancing.", row)
    poor = DataToText().score("Boys wore things to the palace.", row)
    assert fine > 2 * poor > 0


@pytest.mark.parametrize(
    "raw",
    [
        {"prompt": "Hello"},
        {"prompt": "Hello", "reference": "World", "table": 3, "highlighted_cells": 4},
        {"concepts": "abc"},
        {"input": "a | b | c"},
        {"input": ["a", "b"]},
        {"meaning_representation": "none"},
        {"linearized_input": "<page_title> x </page_title>"},
        DataToText().item(0),
    ],
)
def test_other_rows_are_left_alone(raw):
    assert DataToText().convert(raw) == raw

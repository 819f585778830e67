"""The data-to-text task: scores by hand and by independent rules, attacks and public data."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.documents import document_scores
from textgym.errors import DataError
from textgym.tasks.data_to_text.concepts import (
    AGENTS,
    ANIMALS,
    COMPANIONS,
    OBJECTS,
    PEOPLE,
    PLACES,
    PREPOSITIONS,
    TOOLS,
    VERBS,
)
from textgym.tasks.data_to_text.grammar import grammar
from textgym.tasks.data_to_text.phrases import EXTRA_PHRASES
from textgym.tasks.data_to_text.reader import claims_of, pronoun, read_concepts, read_record
from textgym.tasks.data_to_text.task import DataToText
from textgym.tasks.data_to_text.world import DOMAINS, article
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
        # One of four right; one is contradicted, which does not count as right.
        (" The Blue Lantern is cheap, serves Greek food and offers Thai food.",
         1 / 4 * 1 / 2 / 2.5),
        # A repetition in other words.
        (" The Blue Lantern is a cheap restaurant. It is cheap.", 1 / 4 / 2.5),
        # A private line, a false private line and an attribute that the record lacks.
        (" The Blue Lantern is cheap and is closed on Monday.", 1 / 4 * 1 / 2 / 2.5),
        (" The Blue Lantern is cheap and is closed on Friday.", 1 / 4 * 1 / 2 / 2.5),
        (" The Blue Lantern is cheap and welcomes children.", 1 / 4 * 1 / 2),
        # No subject, a late one, another one, a wrong pronoun.
        (" It serves cheap Greek food.", 0),
        (" It is cheap. The Blue Lantern serves Greek food.", 1 / 4 / 2.5),
        (" The Red Lantern serves cheap Greek food.", 0),
        (" The Blue Lantern is cheap. The Red Bell serves Greek food.", 1 / 4 / 2.5),
        # Not a sentence; a long one; an incomplete one; one that cannot be completed.
        (" The Blue Lantern is cheap. Greek.", 1 / 4 / 2.5),
        (" The Blue Lantern is cheap. a b c d e f g h i j.", 1 / 4 / 4),
        (" The Blue Lantern is cheap. It serves", 1 / 4 / 2.5),
        (" The Blue Lantern is cheap. It it", 1 / 4 / 2.5),
        # Copies of the record.
        (" name: Blue Lantern. food: Greek. price: cheap.", 0),
        (" Blue Lantern, Greek, cheap, old town, bridge.", 0),
        # White space around a text is not part of it.
        ("The Blue Lantern is cheap.", 1 / 4),
        ("\n The Blue Lantern is cheap.\n", 1 / 4),
        (" The Blue Lantern is cheap", 0),
        (" the Blue Lantern is cheap.", 0),
        (" The Blue Lantern serves a Greek food.", 0),
        (" The Blue Lantern is an cheap restaurant.", 0),
        (" The Blue Lantern cheap and Greek.", 0),
    ],
)  # fmt: skip
def test_records_judged_by_hand(text, score):
    assert DataToText().score(text, LANTERN) == pytest.approx(score)


MATCH = {
    "domain": "match", "subject": "Lions", "private": [],
    "facts": [["loser", "Bears"], ["score", "2-1"], ["crowd", "large"], ["scorer", "Tom"]],
}  # fmt: skip
FLIGHT = {
    "domain": "flight", "subject": "79", "private": [],
    "facts": [["from", "Rome"], ["to", "Berlin"], ["status", "late"], ["leaves", "7:30"]],
}  # fmt: skip
WEATHER = {
    "domain": "weather", "subject": "Oslo", "private": [],
    "facts": [["sky", "sunny"], ["high", "24"], ["rain", "20"], ["tomorrow", "cloudy"]],
}  # fmt: skip
PERSON = {
    "domain": "person", "subject": "Sam", "private": [],
    "facts": [["home", "Berlin"], ["hobby", "chess"], ["plays", "piano"], ["pet", "dog"]],
}  # fmt: skip
OPEN = {
    "domain": "restaurant", "subject": "Golden Lantern", "private": [],
    "facts": [["children", "yes"], ["rating", "good"], ["closed", "Tuesday"], ["near", "bridge"]],
}  # fmt: skip


@pytest.mark.parametrize(
    ("row", "text", "score"),
    [
        # Names without the article, days in the plural.
        (OPEN, " Golden Lantern welcomes children, has a good rating and is closed on Tuesdays."
         " It is near the bridge.", 1),
        (OPEN, " Near the bridge, Golden Lantern closes every Tuesday, is rated as good and is"
         " family friendly.", 1),
        (OPEN, " Golden Lantern is a good restaurant. It is located near the bridge, and it is not"
         " open on Tuesdays. Children are welcome.", 1),
        (OPEN, " The Golden Lantern's rating is good. Its rating is good.", 1 / 4 / 2.5),
        (OPEN, " Golden Lantern is closed on Mondays and is child friendly.", 1 / 4 * 1 / 2),
        (OPEN, " Golden Lantern is closed on Tuesday's.", 0),
        (OPEN, " Golden Rose welcomes children.", 0),
        (OPEN, " Children are welcome. Golden Lantern is rated good.", 1 / 4 / 2.5),
        (OPEN, " Its rating is good.", 0),
        (LANTERN, " Blue Lantern is a cheap Greek restaurant located in the old town. It can be"
         " found near the bridge.", 1),
        (LANTERN, " Blue Lantern has cheap prices and sells Greek food. It is located in the old"
         " town near the bridge.", 1),
        (LANTERN, " Blue Lantern is located near the bridge. The food is Greek. Its prices are"
         " cheap. It is situated in the old town.", 1),
        (MATCH, " Lions beat Bears 2-1 and played in front of a large crowd. Tom scored.", 1),
        (MATCH, " The Lions beat the Bears by 2-1. The crowd was large. Tom scored a goal.", 1),
        (MATCH, " Tom scored. The Lions beat the Bears.", 1 / 4 / 2.5),
        (FLIGHT, " Flight number 79 leaves from Rome at 7:30, is going to Berlin and is"
         " delayed.", 1),
        (FLIGHT, " Flight 79 is from Rome to Berlin. It takes off at 7:30 and is running late.", 1),
        (FLIGHT, " Flight 79 is running on time.", 0),
        (WEATHER, " It is sunny in Oslo today. The high is 24 degrees. It has a 20% chance of rain."
         " Tomorrow it will be cloudy.", 1),
        (WEATHER, " The weather in Oslo is sunny. Its high is 24. The chance of rain is 20%. It"
         " turns cloudy tomorrow.", 1),
        (WEATHER, " It is sunny in Rome. The high is 24 degrees.", 0),
        (WEATHER, " The weather is sunny.", 0),
        (PERSON, " Sam is living in Berlin with a dog.", 2 / 4),
        (PERSON, " Sam's home is Berlin. His hobby is chess. He plays piano and has a pet dog.", 1),
        (PERSON, " Sam lives with a dog in Berlin, plays chess and plays the piano.", 1),
        (PERSON, " Sam's home is Berlin. Her hobby is chess.", 1 / 4 / 2.5),
        (PERSON, " Tom's home is Berlin.", 0),
    ],
)  # fmt: skip
def test_phrases_that_only_the_reader_knows(row, text, score):
    assert DataToText().score(text, row) == pytest.approx(score)


@pytest.mark.parametrize("level", DataToText.levels)
def test_records_do_not_contradict_themselves(level):
    """By independent rules; every value of every attribute still occurs."""
    task, rng = DataToText(level), np.random.default_rng(level)
    seen = set()
    for _ in range(4000):
        row = task.sample(rng)
        if row["domain"] == "concepts":
            continue
        facts = dict(row["facts"])
        seen |= {(row["domain"], *fact) for fact in facts.items()}
        sky, wind, later = (facts.get(one) for one in ("sky", "wind", "tomorrow"))
        high, low, rain = (int(facts.get(one, -1)) for one in ("high", "low", "rain"))
        if row["domain"] == "weather":
            assert low < high or high < 0
            if "snowy" in (sky, later):
                assert high <= 5
                assert wind != "warm"
            if sky == "sunny":
                assert high >= 15 or high < 0
                assert rain <= 30
                assert wind != "strong"
            if sky == "rainy":
                assert rain >= 60 or rain < 0
            if sky in ("windy", "stormy"):
                assert wind not in ("light", "warm")
            if wind == "warm":
                assert high >= 15 or high < 0
            if wind == "cold":
                assert high <= 22
        elif "score" in facts and "sport" in facts:
            many = int(facts["score"].split("-")[0]) > 9
            assert many == (facts["sport"] in ("rugby", "handball"))
        assert facts.get("status") != "cancelled"
    every = {
        (domain, name, value)
        for domain, this in DOMAINS.items()
        for name, values in this.values.items()
        for value in values
        if name != "born"
    }
    missing = every - seen
    assert len(missing) < 0.05 * len(every), missing


@pytest.mark.parametrize(
    ("text", "right", "wrong", "faults"),
    [
        (" A boy throws a ball in the park.", {"boy", "throw", "ball", "park"}, 0, 0),
        (" The balls were thrown by the boys at the park.", {"boy", "throw", "ball", "park"}, 0, 0),
        (" In the park, two young boys will throw his ball with a friend.",
         {"boy", "throw", "ball", "park"}, 0, 0),
        (" Some men are throwing the ball.", {"throw", "ball"}, 0, 0),
        (" A boy throws a letter in the park.", {"boy", "throw", "park"}, 1, 1),
        (" A park throws a boy.", set(), 0, 1),
        (" A ball throws a boy.", set(), 0, 1),
        (" A boy throws a ball in the kitchen.", {"boy", "throw", "ball"}, 1, 1),
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
    assert read_concepts(text, row) == (right, wrong, faults)
    expected = 0.0
    if right:
        expected = len(right) / 4 * len(right) / (len(right) + wrong) / (1 + 1.5 * faults)
    assert DataToText().score(text, row) == pytest.approx(expected)


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_phrase_claims_its_values(domain):
    """Each clause with some values, spelled independently of the grammar."""
    this, rng = DOMAINS[domain], np.random.default_rng(0)
    subject = this.subjects[-1]
    named_subject = this.named.format(subject)
    begin = named_subject[0].upper() + named_subject[1:]
    other = next(text for text, kind in this.pronouns.items() if kind == pronoun(domain, subject))
    filler = this.clauses[0]
    sentences = [f"{begin} {clause}" for clause in this.clauses]
    sentences += [f"{other} {clause}" for clause in this.clauses]
    sentences += [f"{front}, {named_subject} {filler}" for front in this.fronts]
    sentences += [other.replace("{s}", named_subject) for other in this.others]
    # Phrases that only the reader knows, with and without their optional parts.
    more = EXTRA_PHRASES[domain]
    also = [f"{begin} {clause}" for clause in more.clauses]
    also += [other.replace("{s}", named_subject) for other in more.others]
    also += [f"{begin}'s {owned}" for owned in more.owned]
    sentences += [re.sub(r" ?\[[^]]*\]", "", phrase) for phrase in also]
    sentences += [re.sub(r"[][]", "", phrase) for phrase in also if "[" in phrase]
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
            for word, attribute, value in re.findall(r"(\w+)\|(\w+)=(\w+)", text):
                text = text.replace(f"{word}|{attribute}={value}", word)
                if attribute != "pronoun":
                    expected[attribute] = value.replace("_", " ")
            words = text[:-1].replace(",", " ,").split()
            state, claims = claims_of(words, grammar(domain))
            assert state is not None, text
            assert "." in state, text
            assert {a: v for a, v in claims if a not in ("about", "pronoun")} == expected, text


# An independent count of the claims of whole texts.

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
def test_reader_equals_an_independent_count(sentences):
    facts = dict(LANTERN["facts"])
    text, claims, wrong, named = "", [], 0, False
    faults = 0
    for subject, clauses in sentences:
        parts = [_PHRASES[a][i % len(_PHRASES[a])].format(_VALUES[a][j]) for a, i, j in clauses]
        text += f" {subject} " + " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
        text += "."
        if subject == "They":
            # Not a word for a restaurant. Commas and the empty text before a space count as words.
            pieces = ["", *re.findall(r"\w+|,", text[text.rindex(" They") :])]
            faults += 1 + len(pieces) // 8
        elif subject == "The Red Rose":
            pieces = ["", *re.findall(r"\w+|,", text[text.rindex(" The Red") :])]
            faults += 1 + len(pieces) // 8
        elif subject != "The Blue Lantern" and not named:
            faults += 1
        else:
            named = True
            claims += [(a, _VALUES[a][j]) for a, _, j in clauses]
    right = set()
    for attribute in set(facts) - {"closed"}:
        values = [value for a, value in claims if a == attribute]
        if values and set(values) == {facts[attribute]}:
            right.add(attribute)
    wrong += sum(facts.get(a) != value or a == "closed" for a, value in claims)
    faults += sum(a == "closed" for a, _ in claims)
    for attribute in {a for a, _ in claims}:
        values = [value for a, value in claims if a == attribute]
        faults += sum(value != values[0] for value in values)  # contradictions
    for attribute in set(facts) - {"closed"}:
        faults += max(0, claims.count((attribute, facts[attribute])) - 1)
    assert read_record(text, LANTERN) == (right, wrong, faults)


def test_concepts_equal_a_brute_force_over_roles():
    """Every verb with every object, and random agents, places and tools."""
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
        claims = read_concepts(text, concepts(verb, what, who, where, thing))
        fine = {verb, what, who, where, thing} - {word for _, word in bad}
        seen[not bad] += 1
        assert claims.wrong == len(bad), text
        assert claims.faults == len(bad)
        assert fine <= claims.right, text
    assert min(seen.values()) > 0


def test_agents():
    assert set(AGENTS) == {*PEOPLE, *ANIMALS, "friend", "cousin", "neighbour"}


# ------------------------------------------------------------------ oracles and their corruption


@pytest.mark.parametrize("level", DataToText.levels)
def test_sizes_of_rows_by_level(level):
    task, rng = DataToText(level), np.random.default_rng(level)
    records, sets = set(), set()
    for _ in range(400):
        row = task.sample(rng)
        if row["domain"] == "concepts":
            sets.add(len(row["facts"]))
            assert len({word for _, word in row["facts"]}) == len(row["facts"])
            continue
        records.add(len(row["facts"]) - len(row["private"]))
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
    assert records == {1: {2, 3}, 2: {4}, 3: {5, 6}}[level]
    assert sets == {level + 2}


@pytest.mark.parametrize("level", DataToText.levels)
def test_any_other_record_lowers_the_score(level):
    """The text stays the same, one value or name of the record changes."""
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
def test_order_of_lines_and_pronouns_do_not_matter(level):
    task, rng = DataToText(level), np.random.default_rng(level)
    for _ in range(100):
        row = task.sample(rng)
        facts = row["facts"][::-1]
        assert task.score(row["reference"], {**row, "facts": facts}) == 1
        if row["domain"] == "concepts":
            continue
        named_subject = DOMAINS[row["domain"]].named.format(row["subject"])
        named = row["reference"]
        for text in DOMAINS[row["domain"]].pronouns:
            named = named.replace(f". {text} ", f". {named_subject[0].upper()}{named_subject[1:]} ")
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

    scores = document_scores(task, 600, " ")
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


def test_complete_row_reads_prompts_back():
    for level in DataToText.levels:
        task = DataToText(level)
        for index in range(100):
            row = task.item(index)
            completed = task.complete_row({"prompt": row["prompt"]})
            assert completed == {name: row[name] for name in completed}
            assert {"facts", "private", "domain", "subject"} <= completed.keys()
            assert task.complete_row(row) == row
    for prompt in ("", "Hello", "Record: ship\nname: Ark\nText:", "Record: person\nText:"):
        row = task.complete_row({"prompt": prompt})
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
    assert task.complete_row(row) == row
    for reference in row["references"]:
        assert re.match(r" \S", reference)
        assert task.score(reference, row) == 1
        assert task.score(reference[1:], row) == 1
    for text in (row["prompt"], f" {row['prompt']}", "", "x", "x " * 50_000):
        assert task.score(text, row) < 0.1
    oracle = row["reference"]
    assert task.score(f"{oracle} {oracle}", row) < 1
    assert task.reward([row["prompt"]], [oracle], **{
        name: [value] for name, value in row.items() if name != "prompt"
    }) == [1.0]  # fmt: skip


@pytest.mark.parametrize(
    "raw",
    [
        {"meaning_representation": EAGLE["meaning_representation"], "human_reference": ""},
        {"concepts": ["throw", "boy"], "target": ""},
        {"modified_triple_sets": {"mtriple_set": [["a | b | c"]]},
         "lex": {"comment": [], "text": []}},
        {**TOTTO, "sentence_annotations": []},
    ],
)  # fmt: skip
def test_rows_without_references_are_refused(raw):
    with pytest.raises(DataError, match=r"^(E2E NLG|CommonGen|WebNLG|ToTTo): "):
        DataToText().convert(raw)
    own = {**raw, "prompt": "Tell it:"}  # for a reward of the user's own
    assert DataToText().convert(own) == own


def test_prompt_and_other_columns_are_kept():
    raw = {"prompt": "Use these: boy, ball", "concepts": ["boy", "ball"], "id": 7,
           "target": "A boy has a ball."}  # fmt: skip
    row = DataToText().convert(raw)
    assert row == {
        "prompt": "Use these: boy, ball", "id": 7, "values": ["boy", "ball"],
        "reference": " A boy has a ball.", "references": [" A boy has a ball."],
    }  # fmt: skip
    assert DataToText().convert(row) == row
    assert DataToText().score(" A boy has a ball.", row) == 1
    row = DataToText().convert({**EAGLE, "id": "e1", "facts": 3})
    assert row["id"] == "e1"
    assert row.keys() == {"prompt", "id", "values", "reference", "references"}


def test_a_missing_value_costs_its_share():
    """The numbers of the libraries, times two of three values."""
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

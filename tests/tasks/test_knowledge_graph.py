"""The knowledge graph task: paths by brute force, scores by hand, attacks and public data."""

import re
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.documents import document_scores
from textgym.data.rows import as_row
from textgym.tasks.knowledge_graph.reader import paths, read, valid_steps
from textgym.tasks.knowledge_graph.task import KnowledgeGraph
from textgym.tasks.knowledge_graph.world import RULES
from textgym.testing import check_task


def rows_of(level, count=400, seed=0):
    task, rng = KnowledgeGraph(level), np.random.default_rng([seed, level])
    return task, [task.sample(rng) for _ in range(count)]


def completion(path, answer):
    return f" Path: {', '.join(path)}. Answer: {answer}."


def path_of(row):
    return row["reference"].removeprefix("\nPath: ").partition(". Answer")[0].split(", ")


def test_contract():
    check_task(KnowledgeGraph, n=60)


@pytest.mark.parametrize("level", KnowledgeGraph.levels)
def test_brute_force_finds_one_path(level):
    _, rows = rows_of(level, 150)
    for row in rows:
        facts = {tuple(fact) for fact in row["triples"]}
        assert len(facts) == len(row["triples"])
        everyone = {name for head, _, tail in facts for name in (head, tail)}
        found = [
            rest
            for rest in permutations(sorted(everyone - {row["start"]}), level)
            if all(
                ((here, name, there) if way == 1 else (there, name, here)) in facts
                for (name, way), here, there in zip(
                    row["steps"], (row["start"], *rest), rest, strict=False
                )
            )
        ]
        assert found == [tuple(path_of(row)[1:])], row
        assert row["answers"] == [found[0][-1]]
        assert len(row["steps"]) == level


@pytest.mark.parametrize("level", KnowledgeGraph.levels)
def test_there_is_one_path_even_if_relations_are_mutual(level):
    _, rows = rows_of(level, 1500)
    mutual = {"friend of": "friend of", "cousin of": "cousin of", "sister of": "sibling",
              "brother of": "sibling"}  # fmt: skip
    for row in rows:
        facts = {(head, mutual.get(name, name), tail) for head, name, tail in row["triples"]}
        facts |= {(tail, name, head) for head, name, tail in facts if name in mutual.values()}
        steps = [(mutual.get(name, name), way) for name, way in row["steps"]]
        assert paths(facts, row["start"], steps) == [path_of(row)], row


@pytest.mark.parametrize("level", KnowledgeGraph.levels)
def test_families_are_possible(level):
    _, rows = rows_of(level, 1500)
    for row in rows:
        parents = {(head, tail) for head, name, tail in row["triples"]
                   if name in ("mother of", "father of")}  # fmt: skip
        peers = {(head, tail) for head, name, tail in row["triples"]
                 if name in ("sister of", "brother of", "cousin of")}  # fmt: skip
        older = parents
        while more := {(a, d) for a, b in older for c, d in parents if b == c} - older:
            older = older | more
        assert not any(a == b for a, b in older), row
        assert not any((a, b) in older or (b, a) in older for a, b in peers), row
        # Generations: each is one above their children, and the same as their peers.
        links = [(a, b, 1) for a, b in parents] + [(a, b, 0) for a, b in peers]
        heights = {}
        for root, _, _ in links:
            heights.setdefault(root, 0)
            for _ in links:
                for a, b, gap in links:
                    if a in heights:
                        heights.setdefault(b, heights[a] - gap)
                    elif b in heights:
                        heights.setdefault(a, heights[b] + gap)
        assert all(heights[a] - heights[b] == gap for a, b, gap in links), row


@pytest.mark.parametrize("level", KnowledgeGraph.levels)
def test_the_reader_finds_the_writers_question(level):
    # The writer makes the steps together with the question; the reader parses the prompt.
    task, rows = rows_of(level, 1500)
    kinds = set()
    for row in rows:
        completed = task.complete_row({"prompt": row["prompt"]})
        assert completed == {key: row[key] for key in completed}
        assert completed.keys() == row.keys() - {"reference"}
        assert task.complete_row(row) == row
        kinds.add(re.sub(r"\b(?!Who|Where|X|Y|Z)\w+( of)?", "", row["prompt"].split("\n")[-1]))
    assert len(kinds) >= 5


@pytest.mark.parametrize(
    ("rule", "question", "path"),
    [
        ("", "Who is the mother of Tom?", ["Tom", "Ann"]),
        ("", "Who is the teacher of the mother of Tom?", ["Tom", "Ann", "Ben"]),
        ("", "Where does the teacher of the mother of Tom live?", ["Tom", "Ann", "Ben", "Rome"]),
        ("", "Where does Ben work?", ["Ben", "Oslo"]),
        ("", "Ann is the mother of X. X is the friend of Y. Who is Y?", ["Ann", "Tom", "Lucy"]),
        ("", "Ben is the teacher of X. Who is X?", ["Ben", "Ann"]),
        ("If X - mother of - Y and Y - friend of - Z, then X - host of - Z.", "Ann - host of - ?",
         ["Ann", "Tom", "Lucy"]),
        ("If X - mother of - Y and Y - friend of - Z, then X - host of - Z.", "? - host of - Lucy",
         ["Lucy", "Tom", "Ann"]),
        ("If X - mother of - Y, then Y - child of - X.", "? - child of - Ann", ["Ann", "Tom"]),
        ("If X - mother of - Y, then Y - child of - X.", "Tom - child of - ?", ["Tom", "Ann"]),
        # The conditions share the parent: one is walked backwards, the other forwards.
        ("If X - mother of - Y and X - mother of - Z, then Y - twin of - Z.", "Sue - twin of - ?",
         ["Sue", "Eve", "Joe"]),
    ],
)  # fmt: skip
def test_questions_by_hand(rule, question, path):
    facts = (
        "Ann - mother of - Tom; Tom - friend of - Lucy; Ben - teacher of - Ann; Ben - works in - "
        "Oslo; Ben - lives in - Rome; Lucy - teacher of - Max; Eve - mother of - Sue; "
        "Eve - mother of - Joe"
    )
    rule = rule and f"Rule: {rule}\n"
    row = KnowledgeGraph().complete_row({"prompt": f"Facts: {facts}.\n{rule}Question: {question}"})
    assert path[-1] in row["answers"]
    assert KnowledgeGraph().score(completion(path, path[-1]), row) == 1.0
    assert KnowledgeGraph().score(completion(path[::-1], path[-1]), row) == 0.0
    assert KnowledgeGraph().score(completion(path[:1], path[-1]), row) == 0.0


@pytest.mark.parametrize(
    "prompt",
    [
        "Hello",
        "Facts: .\nQuestion: Who is the mother of Tom?",
        "Facts: Ann - mother of - Tom.\nQuestion: Who is the father of Tom?",
        "Facts: Ann - mother of - Tom.\nQuestion: Why?",
        "Facts: Ann - mother of - Tom.\nQuestion: Ann - mother of - ?",
        "Facts: Ann - mother of - Tom.\nRule: If X - mother of - Y, then Y - child of - X.\n"
        "Question: Tom - heir of - ?",
        "Facts: Ann - mother of - Tom.\nRule: If X - mother of - Y, then Y - child of - X.\n"
        "Question: Tom - child of - Ann",
        "Facts: Ann - mother of - Tom.\nRule: If X - mother of - Y, then Z - child of - X.\n"
        "Question: Tom - child of - ?",
    ],
)
def test_unknown_prompts_are_left_alone(prompt):
    task, row = KnowledgeGraph(), {"prompt": prompt}
    assert read(prompt) is None
    assert task.complete_row(row) == row
    assert task.score(" Path: Ann, Tom. Answer: Tom.", row) == 0.0
    assert task.score(" Tom", {**row, "reference": " Answer: Tom."}) == 1.0


ROW = {
    "triples": [["Ann", "mother of", "Tom"], ["Ann", "mother of", "Ben"],
                ["Tom", "friend of", "Lucy"], ["Ann", "friend of", "Eve"],
                ["Tom", "lives in", "Rome"], ["Max", "friend of", "Tom"],
                ["Lucy", "boss of", "Sam"]],
    "start": "Ann",
    "steps": [["mother of", 1], ["friend of", 1]],
    "answers": ["Lucy"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" Path: Ann, Tom, Lucy. Answer: Lucy.", 1),
        ("\nPath: Ann, Tom, Lucy. Answer: Lucy.\n", 1),
        (" Path: Ann, Tom, Lucy. Answer: Tom.", 0.2),
        (" Path: Ann, Tom. Answer: Lucy.", 1 / 2),
        (" Path: Ann, Tom. Answer: Tom.", 0.2 / 2),
        (" Path: Ann, Ben. Answer: Lucy.", 1 / 2),  # a dead end
        (" Path: Ann, Ben, Lucy. Answer: Lucy.", 1 / 2),
        (" Path: Ann, Tom, Rome. Answer: Rome.", 0.2 / 2),
        (" Path: Ann, Tom, Max. Answer: Max.", 0.2 / 2),  # friend of, the wrong way
        (" Path: Ann, Tom, Lucy, Sam. Answer: Lucy.", 2 / 3),
        (" Path: Ann, Tom, Lucy, Sam. Answer: Sam.", 0.2 * 2 / 3),
        (" Path: Ann, Eve, Tom. Answer: Lucy.", 0),
        (" Path: Ann, Lucy. Answer: Lucy.", 0),
        (" Path: Tom, Lucy. Answer: Lucy.", 0),
        (" Path: Lucy, Tom, Ann. Answer: Lucy.", 0),
        (" Path: Ann. Answer: Lucy.", 0),
        (" Path: . Answer: Lucy.", 0),
        (" Answer: Lucy.", 0),
        (" Lucy", 0),
        ("", 0),
        (" Path: Ann, Tom, Lucy.", 0),
        (" Path: Ann, Tom, Lucy. Answer: Lucy, Sam.", 0),
        (" Path: Ann, Tom, Lucy. Answer: Lucy Sam.", 0),
        (" Path: Ann, Tom, Lucy. Answer: Lucy", 1),
        (" Path: Ann, Tom, Lucy.\nAnswer: Lucy.", 1),
        (" Path: Ann,\n Tom,  Lucy.\n\n Answer:\nLucy", 1),
        (" Path: Ann, Tom, Lucy.\nAnswer: Tom", 0.2),
        (" Path: Ann, Tom, Lucy.\nAnswer: Lucy\nSam", 0),
        (" Path: Ann, Tom, Lucy.\nAnswer: Lucy..", 0),
        (" Path: Ann, Tom, Lucy.\nAnswer:", 0),
        (" Path: Ann, Tom, Lucy. Answer: Lucy. Answer: Sam.", 0),
        (" Answer: Lucy. Path: Ann, Tom, Lucy.", 0),
        (" Path: Ann Tom Lucy. Answer: Lucy.", 0),
        (" Path: ann, tom, lucy. Answer: lucy.", 0),
        (" Path: Ann, Tom, Lucy. Answer: Lucy. Yes.", 0),
    ],
)
def test_scores_by_hand(text, expected):
    assert KnowledgeGraph().score(text, ROW) == pytest.approx(expected)


JUNK = "walrus trombone quasar parsnip glacier velcro marzipan sprocket lagoon origami"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        # The right answer, one right step of two, and the share of letters in known names.
        (["Ann", "Tom", "Ben"], 1 / 2),
        (["Ann", "Tom", "Zoe"], 1 / 2 * 6 / 9),
        (["Ann", "Tom", JUNK], 1 / 2 * 6 / (6 + len(JUNK))),
        (["Ann", "Tom", "Lucy Lucy Lucy"], 1 / 2 * 6 / (6 + 14)),
        (["Ann", "Tom", "Lucy", JUNK], 2 / 3 * 10 / (10 + len(JUNK))),
        ([JUNK, "Tom", "Lucy"], 0),
    ],
)
def test_unknown_names_take_their_share(path, expected):
    assert KnowledgeGraph().score(completion(path, "Lucy"), ROW) == pytest.approx(expected)


def test_the_answer_has_to_be_the_end_of_the_path():
    row = {**ROW, "triples": [*ROW["triples"], ["Ben", "friend of", "Sam"]],
           "answers": ["Lucy", "Sam"]}  # fmt: skip
    assert paths(row["triples"], "Ann", row["steps"]) == [["Ann", "Tom", "Lucy"],
                                                          ["Ann", "Ben", "Sam"]]  # fmt: skip
    for path in (["Ann", "Tom", "Lucy"], ["Ann", "Ben", "Sam"]):
        assert KnowledgeGraph().score(completion(path, path[-1]), row) == 1.0
        other = {"Lucy": "Sam", "Sam": "Lucy"}[path[-1]]
        assert KnowledgeGraph().score(completion(path, other), row) == 0.2


names = st.sampled_from(["Ann", "Tom", "Ben", "Lucy", "Eve", "Rome", "Max", "Sam"])


@settings(max_examples=300, deadline=None)
@given(st.lists(names, min_size=1, max_size=5), names)
def test_scores_are_the_formula(path, answer):
    # The formula, written out for the one right path and the one dead end.
    prefix = 0
    if path[0] == "Ann" and path[1:2] in (["Tom"], ["Ben"]):
        prefix = 2 if path[1:3] == ["Tom", "Lucy"] else 1
    right = answer == "Lucy"
    expected = prefix / max(2, len(path) - 1) * (1 if right else 0.2)
    assert KnowledgeGraph().score(completion(path, answer), ROW) == pytest.approx(expected)
    assert valid_steps(path, ROW["triples"], "Ann", ROW["steps"]) == prefix


@pytest.mark.parametrize("level", KnowledgeGraph.levels)
def test_every_corruption_lowers_the_score(level):
    task, rows = rows_of(level, 60)
    for row in rows:
        path, answer = path_of(row), row["answers"][0]
        assert task.score(completion(path, answer), row) == 1.0
        everyone = {name for head, _, tail in row["triples"] for name in (head, tail)}
        for other in sorted(everyone):
            if other != answer:
                assert task.score(completion(path, other), row) == 0.2
            for at in range(len(path)):
                changed = [*path[:at], other, *path[at + 1 :]]
                assert changed == path or task.score(completion(changed, answer), row) < 0.7
                longer = [*path[:at], other, *path[at:]]
                assert task.score(completion(longer, answer), row) < 0.8
            assert task.score(completion([*path, other], answer), row) < 0.8
        for at in range(len(path)):
            assert task.score(completion(path[:at] + path[at + 1 :], answer), row) < 0.7


@pytest.mark.parametrize("level", KnowledgeGraph.levels)
def test_the_order_of_the_facts_does_not_matter(level):
    task, rows = rows_of(level, 100)
    rng = np.random.default_rng(0)
    for row in rows:
        facts = [row["triples"][i] for i in rng.permutation(len(row["triples"]))]
        _, _, rest = row["prompt"].partition("\n")
        shuffled = f"Facts: {'; '.join(map(' - '.join, facts))}.\n{rest}"
        again = task.complete_row({"prompt": shuffled})
        assert again["answers"] == row["answers"]
        assert task.score(row["reference"], again) == 1.0


@pytest.mark.parametrize("level", KnowledgeGraph.levels)
def test_attacks(level):
    task, rows = rows_of(level, 500)

    def everyone(row):
        return sorted({name for head, _, tail in row["triples"] for name in (head, tail)})

    def mean(attack):
        return np.mean([task.score(attack(row), row) for row in rows])

    assert mean(lambda row: f" Answer: {', '.join(everyone(row))}.") == 0
    assert mean(lambda row: completion(everyone(row), ", ".join(everyone(row)))) == 0
    # All names as the path, and a guess of the answer.
    assert mean(lambda row: completion([row["start"], *everyone(row)], everyone(row)[0])) < 0.05
    assert mean(lambda row: completion([row["start"]], row["answers"][0])) == 0
    assert mean(lambda row: " " + row["prompt"].partition(".")[0] + ".") == 0
    # Each of the names that the first fact of the prompt has.
    for at in (0, 2):
        end = [row["triples"][0][at] for row in rows]
        values = [
            task.score(completion([row["start"], one], one), row)
            for row, one in zip(rows, end, strict=True)
        ]
        assert np.mean(values) < 0.25


@pytest.mark.parametrize(
    ("level", "bands"),
    [
        (1, {"wander": (0.21, 0.32), "related": (0.78, 0.88)}),
        (2, {"wander": (0.15, 0.24), "related": (0.51, 0.63)}),
        (3, {"wander": (0.12, 0.22), "related": (0.45, 0.57)}),
    ],
)
def test_documented_baseline_scores(level, bands):
    task, rows = rows_of(level, 1200)
    for name, write in task.baselines().items():
        rng = np.random.default_rng(0)
        low, high = bands.pop(name)
        assert low < np.mean([task.score(write(row, rng), row) for row in rows]) < high, name
    assert not bands


@pytest.mark.parametrize("level", KnowledgeGraph.levels)
def test_documents_are_mediocre(level):
    scores = document_scores(KnowledgeGraph(level), 500, "\n")
    assert 0.35 < np.mean(scores) < 0.6
    assert np.std(scores) > 0.3


def test_rules_follow_from_the_meaning_of_their_words():
    # By generation and sex: the head of a rule has the sum of its body's steps.
    up = {"mother of": 1, "father of": 1, "sister of": 0, "brother of": 0, "aunt of": 1,
          "uncle of": 1, "grandmother of": 2, "grandfather of": 2}  # fmt: skip
    women = {"mother of", "sister of", "aunt of", "grandmother of"}
    for rule in (*RULES[2], *RULES[3]):
        if rule.head == "ancestor of":
            assert all(up[one] == 1 for one in rule.body)
            continue
        assert not rule.inverted
        assert sum(up[one] for one in rule.body) == up[rule.head], rule
        assert (rule.body[0] in women) == (rule.head in women), rule


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.lists(names).map(", ".join)))
def test_junk_is_judged(text):
    public = {"answers": ["A, B", ""], "triples": [["A", "r", "B"]], "start": "A", "hops": 1}
    for row in (ROW, public, {"answers": []}, {"reference": "Answer: Tom."}, {},
                    {**public, "hops": "two"}, {**ROW, "steps": "two"}):  # fmt: skip
        for junk in (text, f" Path: {text}", f" Path: Ann, {text}. Answer: {text}."):
            value = KnowledgeGraph().score(junk, row)
            assert type(value) is float
            assert 0 <= value <= 1


# ------------------------------------------------------------------------------ public data

WEBQSP = {
    "id": "WebQTrn-1",
    "question": "what is the capital of the country where the danube ends",
    "answer": ["Bucharest"],
    "q_entity": ["Danube"],
    "a_entity": ["Bucharest"],
    "graph": [
        ["Danube", "river.mouth", "Romania"],
        ["Danube", "river.origin", "Germany"],
        ["Romania", "country.capital", "Bucharest"],
        ["Germany", "country.capital", "Berlin"],
        *([f"m.{number}", "common.topic", f"m.{number + 1}"] for number in range(3000)),
    ],
    "choices": [],
}


def test_webqsp_rows():
    task = KnowledgeGraph()
    row = as_row(task.convert(WEBQSP), "a row")
    assert row["prompt"].endswith(
        "\nQuestion: what is the capital of the country where the danube ends?"
    )
    assert row["reference"] == "\nPath: Danube, Romania, Bucharest. Answer: Bucharest."
    assert len(row["triples"]) == 16
    assert [fact for fact in WEBQSP["graph"][:4] if fact in row["triples"]] == WEBQSP["graph"][:4]
    assert "graph" not in row
    assert task.complete_row(row) == row
    assert task.score(task.oracle(row), row) == 1.0
    assert task.score(" bucharest", row) == 0.5
    assert task.score(" Path: Danube, Germany, Berlin. Answer: Berlin.", row) == 0.0
    assert task.score(" Path: Danube, Romania, Berlin. Answer: Bucharest.", row) == pytest.approx(
        0.5 + 0.5 * 0.5 / 2
    )
    # A detour along facts: two hops are needed, four are shown.
    detour = ["Danube", "Germany", "Danube", "Romania", "Bucharest"]
    assert task.score(completion(detour, "Bucharest"), row) == pytest.approx(0.5 + 0.5 * 2 / 4)
    assert task.score(" Bucharest, Berlin", row) == pytest.approx(0.5 * 2 / 3)
    assert task.score(row["prompt"], row) == 0.0
    assert task.score("", row) == 0.0


def test_rows_with_numpy_columns():
    # Parquet files store lists as arrays, which have no truth value if they have two elements.
    def array(items):
        made = np.empty(len(items), dtype=object)
        made[:] = items
        return made

    task = KnowledgeGraph()
    graph = array([array(fact) for fact in WEBQSP["graph"]])
    for topics in (["Danube", "Black Forest"], ["Danube"], []):
        raw = {**WEBQSP, "q_entity": topics}
        columns = {name: array(raw[name]) for name in ("q_entity", "a_entity", "answer")}
        assert task.convert({**raw, "graph": graph, **columns}) == {
            **task.convert(raw),
            **{name: columns[name] for name in ("q_entity", "a_entity", "answer")},
        }
    both = array(["Danube", "Black Forest"])
    row = task.convert({**WEBQSP, "q_entity": both, "graph": graph})
    assert row["reference"] == "\nPath: Danube, Romania, Bucharest. Answer: Bucharest."
    assert task.score("\nPath: Danube, Romania, Bucharest.\nAnswer: Bucharest", row) == 1.0


def test_metaqa_rows():
    task = KnowledgeGraph()
    raw = {"question": "what films did [Ann Lee] act in", "answer": "Red Sea|The Hut|Old Mill"}
    row = as_row(task.convert(raw), "a row")
    assert row["prompt"] == "Question: what films did Ann Lee act in?"
    assert row["answers"] == ["Red Sea", "The Hut", "Old Mill"]
    assert row["reference"] == "\nAnswer: Red Sea; The Hut; Old Mill."
    assert task.score(row["reference"], row) == 1.0
    assert task.score(" old mill, red sea and hut", row) == 1.0
    assert task.score(" Red Sea", row) == pytest.approx(2 / (1 + 3))
    assert task.score(" Red Sea; Red Sea; Red Sea", row) == pytest.approx(2 / (3 + 3))
    assert task.score(" " + "; ".join(["Red Sea", *map(str, range(96))]), row) < 0.03
    with_facts = task.convert(
        {**raw, "triples": "Red Sea|starred_actors|Ann Lee\nRed Sea|release_year|1970"}
    )
    assert with_facts["prompt"].startswith(
        "Facts: Red Sea - starred_actors - Ann Lee; Red Sea - release_year - 1970.\n"
    )
    assert (
        task.score(" Path: Ann Lee, Red Sea. Answer: Red Sea; The Hut; Old Mill.", with_facts) == 1
    )


def test_names_that_contain_separators():
    task = KnowledgeGraph()
    row = task.convert(
        {
            "question": "where is the White House",
            "answers": np.array(["Washington, D.C."], dtype=object),
            "triples": np.array([["White House", "place", "Washington, D.C."]], dtype=object),
        }
    )
    assert row["reference"] == "\nAnswer: Washington, D.C."
    assert task.score(task.oracle(row), row) == 1.0
    assert task.score(" Washington, D.C.", row) == 1.0
    assert task.score(" Washington", row) == 0.0


def test_other_rows_are_left_alone():
    for row in ({}, {"prompt": "Hello", "answer": "x"}, {"question": "Who?"}, {"text": "Hello"},
                {"question": "Who?", "answer": []}, {"question": 1, "answer": "x"}):  # fmt: skip
        assert KnowledgeGraph().convert(row) == row

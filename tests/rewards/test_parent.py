import copy
import math
import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textgym.errors import RewardError
from textgym.rewards.metrics.parent import Parent

TABLE = [
    ("birth name", "michael dahlquist"),
    ("born", "december 22 , 1965"),
    ("birth place", "seattle , washington"),
    ("died", "july 14 , 2005"),
    ("death place", "skokie , illinois"),
    ("genres", "male"),
    ("occupation(s)", "drummer"),
    ("instruments", "drums"),
]
LIFE = "michael dahlquist ( december 22 , 1965 -- july 14 , 2005 ) was a drummer"


def score(said: str, meant, table, **options) -> float:
    [value] = Parent(**options)([""], [said], reference=[meant], table=[table])
    return value


@pytest.mark.parametrize(
    ("end", "value"),
    [(" in the california band grateful dead .", 0.688), (" .", 0.746),
     (" from seattle , washington .", 0.786)],
)  # fmt: skip
def test_the_papers_example(end: str, value: float) -> None:
    # Figure 1 and the numbers that the paper's program keeps for it, with lambda 0.9.
    reference = f"{LIFE} in the seattle band silkworm ."
    assert score(LIFE + end, reference, TABLE, weight=0.9) == pytest.approx(value, abs=5e-4)


def test_by_hand_with_words_alone() -> None:
    options = {"max_order": 1, "weight": 0.5}
    table = [("name", "ann"), ("home", "new york")]
    # 3 words: "ann" is in the reference, "york" in the table, "loves" nowhere.
    said, meant = "Ann loves York", "Ann lives there"
    assert score(said, meant, table, measure="precision", **options) == pytest.approx(2 / 3)
    # Of the reference only "ann" is of the table: recall 1. Of the table "ann" and half of
    # "new york" are in the text: 3/4.
    recall = math.sqrt(1 * 3 / 4)
    assert score(said, meant, table, measure="recall", **options) == pytest.approx(recall)
    f = 2 * (2 / 3) * recall / (2 / 3 + recall)
    assert score(said, meant, table, **options) == pytest.approx(f)
    # The weight moves from the recall against the reference to that against the table.
    options = {"max_order": 1, "measure": "recall"}
    assert score(said, meant, table, weight=0, **options) == pytest.approx(1)
    assert score(said, meant, table, weight=1, **options) == pytest.approx(3 / 4)


def test_counts_are_clipped() -> None:
    # The second "x" is not in the reference, and not of the table.
    options = {"max_order": 1, "measure": "precision"}
    assert score("x x", "x y", [("a", "b")], **options) == pytest.approx(1 / 2)


def test_order_counts_in_the_table() -> None:
    options = {"max_order": 1, "measure": "recall", "weight": 1}
    assert score("york new", "x", [("home", "new york")], **options) == pytest.approx(1 / 2)


WORDS = st.lists(st.sampled_from("abcdef"), max_size=7)


@settings(max_examples=150, deadline=None)
@given(
    WORDS,
    st.lists(WORDS, min_size=1, max_size=2),
    st.lists(WORDS.filter(bool), min_size=1, max_size=3),
    st.sampled_from([0.2, 0.5]),
)
def test_from_the_papers_equations(
    said: list[str], references: list[list[str]], values: list[list[str]], weight: float
) -> None:
    def lcs(a: list[str], b: list[str]) -> int:
        if not a or not b:
            return 0
        if a[0] == b[0]:
            return 1 + lcs(a[1:], b[1:])
        return max(lcs(a[1:], b), lcs(a, b[1:]))

    def grams(words: list[str], n: int) -> Counter:
        return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))

    lexicon = {word for value in values for word in value}
    best = (-1.0, 0.0, 0.0)
    for meant in references:
        log_precision = log_recall = 0.0
        for n in (1, 2):
            g, r = grams(said, n), grams(meant, n)
            w = {gram: np.mean([word in lexicon for word in gram]) for gram in [*g, *r]}
            p_in = {gram: min(1, r[gram] / count) for gram, count in g.items()}  # equation 2
            p = sum(c * (p_in[k] + (1 - p_in[k]) * w[k]) for k, c in g.items()) / max(g.total(), 1)
            asked = sum(c * w[k] for k, c in r.items())  # equation 4
            found = sum(c * w[k] * min(1, g[k] / c) for k, c in r.items())
            e = found / asked if asked else 1.0
            floor = 1e-5 if n > 1 else 0.0
            log_precision += math.log(p or floor or 1e-300) / 2
            log_recall += math.log(e or floor or 1e-300) / 2
        precision = math.exp(log_precision) if log_precision > -200 else 0.0
        from_reference = math.exp(log_recall) if log_recall > -200 else 1e-5
        from_table = np.mean([lcs(v, said) / len(v) for v in values]) or 1e-5  # equation 6
        recall = from_reference ** (1 - weight) * from_table**weight
        f = 2 * precision * recall / (precision + recall)
        best = max(best, (f, precision, recall), key=lambda one: one[0])
    row = " ".join(said), [" ".join(r) for r in references], [("k", " ".join(v)) for v in values]
    for measure, expected in zip(("fmeasure", "precision", "recall"), best, strict=True):
        value = score(*row, measure=measure, weight=weight, max_order=2)
        assert value == pytest.approx(min(expected, 1), abs=1e-9)
        assert 0 <= value <= 1


def test_forms_of_tables() -> None:
    said, meant = "Ann lives in York.", "Ann lives in York."
    pairs = [("name", "Ann"), ("home", "York")]
    expected = score(said, meant, pairs)
    assert expected == pytest.approx(1)
    assert score(said, meant, dict(pairs)) == expected
    assert score(said, meant, [["Ann", "lives in", "York"]]) == expected
    assert score(said, meant, np.array(pairs)) == expected
    assert score(said, meant, [*pairs, ("pet", "")]) == expected  # an empty cell asks for nothing
    numbers = {"name": "Ann", "age": 41}
    assert score("Ann is 41.", "Ann is 41.", numbers) == pytest.approx(1)


def test_a_text_of_fewer_words_than_an_n_gram() -> None:
    table = {"name": "Ann", "age": 41}
    assert score("Ann is 41", "Ann is 41", table, max_order=3) == pytest.approx(1)
    precision = 1e-5**0.25
    f = 2 * precision / (precision + 1)
    assert score("Ann is 41", "Ann is 41", table) == pytest.approx(f)


def test_rows_without_table_or_reference_do_not_shift_others() -> None:
    table = [("home", "York")]
    rewards = Parent()(
        [""] * 4,
        ["York"] * 4,
        table=[None, table, [], table],
        reference=["York", None, "York", ["x", "York"]],
    )
    assert rewards[:3] == [None] * 3
    assert rewards[3] == score("York", "York", table) > 0


def test_the_table_has_another_name() -> None:
    reward = Parent(table="facts", max_order=1)
    assert reward([""], ["York"], reference=["York"], facts=[[("home", "York")]]) == [1]
    with pytest.raises(RewardError, match="needs the column 'facts'"):
        reward([""], ["York"], reference=["York"])


@pytest.mark.parametrize("table", ["York", [("home",)], [["a", "b", "c", "d"]], 3, ["York"]])
def test_what_is_no_table(table: object) -> None:
    with pytest.raises(TypeError, match="the column 'table' must hold"):
        score("York", "York", table)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": 2}, "weight .*not 2"),
        ({"measure": "f1"}, "measure .*not 'f1'"),
        ({"smoothing": 0}, "smoothing .*not 0"),
        ({"max_order": 0}, "max_order .*not 0"),
    ],
)
def test_impossible_options(options: dict, message: str) -> None:
    with pytest.raises(RewardError, match=f"^parent: {message}"):
        Parent(**options)


def test_copies() -> None:
    reward = Parent(weight=0.3)
    row = {"reference": ["a b"], "table": [{"k": "a"}]}
    for twin in (pickle.loads(pickle.dumps(reward)), copy.deepcopy(reward)):
        assert twin([""], ["a"], **row) == reward([""], ["a"], **row)


@settings(max_examples=50)
@given(st.text(), st.text(), st.dictionaries(st.text(), st.text(), max_size=3))
def test_range_on_any_text(said: str, meant: str, table: dict[str, str]) -> None:
    value = score(said, meant, table)
    assert value is None or 0 <= value <= 1

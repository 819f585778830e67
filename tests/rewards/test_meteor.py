import copy
import itertools
import pickle
import sys
import types
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.stem.porter import PorterStemmer
from nltk.translate.meteor_score import meteor_score

from textgym.data.words import words_and_marks
from textgym.errors import MissingDependencyError, RewardError
from textgym.rewards.metrics.meteor import Meteor, _wordnet_synonyms, align, chunks
from textgym.rewards.metrics.stemming import stemmer

GUIDE = (
    "It is a guide to action which ensures that the military always obeys the commands of the party"
)
HEED = "It is a guide to action that ensures that the military will forever heed Party commands"


class NoWordNet:
    def synsets(self, word: str) -> list:
        return []


def nltks(said: str, *references: str, **options: float) -> float:
    meant = [words_and_marks(one) for one in references]
    return meteor_score(meant, words_and_marks(said), wordnet=NoWordNet(), **options)


def score(said: str, *references: str, **options) -> float:
    reward = Meteor(**{"synonyms": None, **options})
    [value] = reward([""], [said], reference=[list(references)])
    return value


def by_hand(
    matches: int, said: int, meant: int, parts: int, alpha=0.9, beta=3.0, gamma=0.5
) -> float:
    precision, recall = matches / said, matches / meant
    mean = precision * recall / (alpha * precision + (1 - alpha) * recall)
    return mean * (1 - gamma * (parts / matches) ** beta)


@pytest.mark.parametrize(
    ("said", "meant", "matches", "parts"),
    [
        # Banerjee and Lavie (2005), section 2.2: two chunks, "the president" and
        # "spoke to the audience"; with "then" left out, one.
        ("the president spoke to the audience",
         "the president then spoke to the audience", 6, 2),
        ("the president then spoke to the audience",
         "the president then spoke to the audience", 7, 1),
        ("The CAT", "the cat", 2, 1),  # case
        ("cats sitting", "the cat sits", 2, 1),  # stems
        ("a b", "b a", 2, 2),
        ("a", "a b c d", 1, 1),
        ("the cat , sat .", "the cat, sat.", 5, 1),  # marks are words
    ],
)  # fmt: skip
def test_by_hand(said: str, meant: str, matches: int, parts: int) -> None:
    sizes = len(words_and_marks(said)), len(words_and_marks(meant))
    assert score(said, meant) == pytest.approx(by_hand(matches, *sizes, parts))


@pytest.mark.parametrize(
    ("said", "published"),
    [
        # The examples that Wikipedia's article on METEOR works out.
        ("on the mat sat the cat", 0.5),
        ("the cat sat on the mat", 0.9977),
        ("the cat was sat on the mat", 0.9654),
    ],
)
def test_as_published(said: str, published: float) -> None:
    assert score(said, "the cat sat on the mat") == pytest.approx(published, abs=5e-5)


def test_nothing_in_common_and_nothing_at_all() -> None:
    assert score("non matching words", "this is a cat") == 0
    assert score("", "this is a cat") == 0
    assert score("this is a cat", "") == 0
    assert score("", "") == 0


def test_nltks_example_with_fewer_crossings() -> None:
    # NLTK takes the last "that" and the last "the" where the first ones stand in order.
    assert nltks(GUIDE, HEED) == pytest.approx(0.6944, abs=5e-5)
    # it is a guide to action | ensures that the military | party | commands: 12 of 18 and 16.
    assert score(GUIDE, HEED) == pytest.approx(by_hand(12, 18, 16, 4))


WORDS = ["the", "cat", "cats", "sat", "sits", "on", "Mat.", "running", "runs", "of"]


@given(
    st.permutations(WORDS).flatmap(lambda w: st.integers(1, 8).map(lambda k: w[:k])),
    st.lists(
        st.permutations(WORDS).flatmap(lambda w: st.integers(1, 8).map(lambda k: w[:k])),
        min_size=1,
        max_size=3,
    ),
)
def test_equals_nltks_where_alignments_are_certain(
    said: list[str], references: list[list[str]]
) -> None:
    # One word of each stem on each side, so that there is one alignment only.
    def alone(words: list[str]) -> str:
        stem = PorterStemmer().stem
        return " ".join({stem(word.lower().strip(".")): word for word in words}.values())

    text, meant = alone(said), [alone(one) for one in references]
    assert score(text, *meant) == pytest.approx(nltks(text, *meant))
    options = {"alpha": 0.5, "beta": 1.0, "gamma": 0.3}
    assert score(text, *meant, **options) == pytest.approx(nltks(text, *meant, **options))


TEXTS = st.lists(st.sampled_from("abc"), max_size=5)


@settings(max_examples=150, deadline=None)
@given(TEXTS, TEXTS)
def test_most_words_with_fewest_crossings_by_brute_force(said: list[str], meant: list[str]) -> None:
    most = (Counter(said) & Counter(meant)).total()
    edges = [(i, j) for i, a in enumerate(said) for j, b in enumerate(meant) if a == b]
    costs = [
        (crossings(pairs), chunks(sorted(pairs)))
        for pairs in itertools.combinations(edges, most)
        if len({i for i, _ in pairs}) == len({j for _, j in pairs}) == most
    ]
    found = align(said, meant)
    assert len(found) == most
    assert all(said[i] == meant[j] for i, j in found)
    assert (crossings(found), chunks(found)) == min(costs)


def crossings(pairs) -> int:
    return sum((a[0] - b[0]) * (a[1] - b[1]) < 0 for a, b in itertools.combinations(pairs, 2))


@given(st.lists(st.sampled_from(WORDS), max_size=30), st.lists(st.sampled_from(WORDS), max_size=30))
def test_as_many_words_as_nltk_aligns(said: list[str], meant: list[str]) -> None:
    pairs = align(said, meant, stemmer())
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    same = (Counter(said) & Counter(meant)).total()
    stems = [Counter(map(stemmer(), words)) for words in (said, meant)]
    assert len(pairs) == (stems[0] & stems[1]).total() >= same
    # Exact matches come first: none is given up for a match of stems.
    assert sum(said[i] == meant[j] for i, j in pairs) == same


def test_stages_can_be_left_out_or_given() -> None:
    assert score("cats", "cat") == 0.5
    assert score("cats", "cat", stems=False) == 0
    assert score("automobile", "car") == 0
    assert score("Automobile", "car", synonyms={"automobile": ["Car"]}) == 0.5
    # Each word is used once.
    table = {"automobile": ["car"], "auto": ["car"]}
    said, meant = ["an", "automobile", "auto"], ["a", "car"]
    pairs = align(said, meant, None, lambda word: frozenset(table.get(word, [])))
    assert pairs == [(1, 1)]


def test_wordnet_is_used_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lemma:
        def __init__(self, name: str) -> None:
            self.name = lambda: name

    class Synset:
        lemmas = staticmethod(lambda: [Lemma("car"), Lemma("motor_car"), Lemma("Auto")])

    class WordNet:
        ensure_loaded = staticmethod(lambda: None)
        synsets = staticmethod(lambda word: [Synset()] if word == "automobile" else [])

    corpus = types.ModuleType("nltk.corpus")
    corpus.wordnet = WordNet()
    _wordnet_synonyms.cache_clear()
    monkeypatch.setitem(sys.modules, "nltk.corpus", corpus)
    for option in ("auto", "wordnet"):
        reward = Meteor(synonyms=option)
        assert reward.uses_synonyms
        said = ["the automobile", "an automobile", "the automobile"]
        values = reward([""] * 3, said, reference=["the auto", "the car", "a motor_car"])
        assert values == pytest.approx([by_hand(2, 2, 2, 1), by_hand(1, 2, 2, 1), 0])
    assert not Meteor(synonyms=None).uses_synonyms


def test_without_wordnets_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise LookupError("Resource wordnet not found.")

    corpus = types.ModuleType("nltk.corpus")
    corpus.wordnet = types.SimpleNamespace(ensure_loaded=missing)
    monkeypatch.setitem(sys.modules, "nltk.corpus", corpus)
    assert not Meteor().uses_synonyms
    with pytest.raises(RewardError, match=r"run python -m nltk.downloader wordnet once"):
        Meteor(synonyms="wordnet")


def test_without_nltk(monkeypatch: pytest.MonkeyPatch) -> None:
    stemmer.cache_clear()
    monkeypatch.setitem(sys.modules, "nltk.stem.porter", None)
    with pytest.raises(MissingDependencyError, match=r"textgym\[metrics\]"):
        Meteor(synonyms=None)
    assert score("cat", "cat", stems=False) == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, "alpha must be in"),
        ({"gamma": -0.1}, "gamma must be in"),
        ({"beta": float("nan")}, "beta must be a number >= 0"),
        ({"synonyms": "thesaurus"}, "synonyms must be 'auto'"),
    ],
)
def test_impossible_options(options: dict, message: str) -> None:
    with pytest.raises(RewardError, match=f"^meteor: {message}"):
        Meteor(**options)


def test_rows_and_columns() -> None:
    reward = Meteor(synonyms=None)
    assert reward([""] * 3, ["a"] * 3, reference=["a", None, ["b", "a"]]) == [0.5, None, 0.5]
    with pytest.raises(RewardError, match="needs the column 'reference'"):
        reward([""], ["a"])


def test_copies() -> None:
    reward = Meteor("meant", alpha=0.8, synonyms={"auto": ["car"]})
    for twin in (pickle.loads(pickle.dumps(reward)), copy.deepcopy(reward)):
        assert twin([""], ["auto"], meant=["car"]) == reward([""], ["auto"], meant=["car"]) == [0.5]


@settings(max_examples=100, deadline=None)
@given(st.text(), st.text())
def test_range_on_any_text(said: str, meant: str) -> None:
    assert 0 <= score(said, meant) < 1


def test_long_junk_takes_no_long_time() -> None:
    # Many equal words on both sides leave many alignments; the beam bounds them.
    said, meant = "the of a " * 300, "a the of and " * 60
    assert 0.5 < score(said, meant) < 1
    assert 0 <= score("x" * 100_000, "xy" * 50_000) < 1

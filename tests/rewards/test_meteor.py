import copy
import pickle
import sys
import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.meteor_score import meteor_score

from textgym.data.words import words_and_marks
from textgym.errors import MissingDependencyError, RewardError
from textgym.rewards import Meteor
from textgym.rewards.metrics.normalize import stemmer

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


def test_nltks_example() -> None:
    assert score(GUIDE, HEED) == pytest.approx(0.6944, abs=5e-5)


def test_nothing_in_common_and_nothing_at_all() -> None:
    assert score("non matching words", "this is a cat") == 0
    assert score("", "this is a cat") == 0
    assert score("this is a cat", "") == 0
    assert score("", "") == 0


WORDS = ["the", "The", "cat", "cats", "sat", "sits", "on", "Mat.", "running", "runs", "of", "天气"]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
OPTIONS = [{}, {"alpha": 0.5, "beta": 1.0, "gamma": 0.3}, {"alpha": 1.0, "gamma": 0.0}]


@settings(deadline=None)
@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3), st.sampled_from(OPTIONS))
def test_equals_nltks(said: str, references: list[str], options: dict) -> None:
    assert score(said, *references, **options) == nltks(said, *references, **options)


@settings(max_examples=100, deadline=None)
@given(st.text(), st.text())
def test_equals_nltks_on_any_text(said: str, meant: str) -> None:
    assert 0 <= score(said, meant) < 1
    assert score(said, meant) == nltks(said, meant)


def test_stages_can_be_left_out_or_given() -> None:
    assert score("cats", "cat") == 0.5
    assert score("cats", "cat", stems=False) == 0
    assert score("automobile", "car") == 0
    # NLTK looks up the synonyms of stems; a dict may name any form.
    for stems in (True, False):
        table = {"automobile": ["Car"]}
        assert score("Automobile", "car", synonyms=table, stems=stems) == 0.5
    assert score("automobiles", "cars", synonyms={"automobile": ["car"]}) == 0.5
    assert score("automobiles", "cars", synonyms={"automobile": ["car"]}, stems=False) == 0
    # Each word is used once.
    table = {"automobile": ["car"], "auto": ["car"]}
    value = score("an automobile auto", "some car", synonyms=table)
    assert value == pytest.approx(by_hand(1, 3, 2, 1))


def test_wordnet_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lemma:
        def __init__(self, name: str) -> None:
            self.name = lambda: name

    class Synset:
        lemmas = staticmethod(lambda: [Lemma("bus"), Lemma("motor_bus"), Lemma("coach")])

    class WordNet:
        ensure_loaded = staticmethod(lambda: None)
        synsets = staticmethod(lambda word: [Synset()] if word == "autobu" else [])

    corpus = types.ModuleType("nltk.corpus")
    corpus.wordnet = WordNet()
    monkeypatch.setitem(sys.modules, "nltk.corpus", corpus)
    said = ["the autobus", "an autobus", "the autobus"]
    meant = ["the coach", "the coach", "a motor_bus"]
    for option in ("auto", "wordnet"):
        reward = Meteor(synonyms=option)
        assert reward.uses_synonyms
        assert reward([""] * 3, said, reference=meant) == [
            meteor_score([words_and_marks(b)], words_and_marks(a), wordnet=WordNet())
            for a, b in zip(said, meant, strict=True)
        ]
    assert reward([""], said[:1], reference=meant[:1]) == pytest.approx([by_hand(2, 2, 2, 1)])
    assert not Meteor(synonyms=None).uses_synonyms


def test_without_wordnets_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise LookupError("Resource wordnet not found.")

    corpus = types.ModuleType("nltk.corpus")
    corpus.wordnet = types.SimpleNamespace(ensure_loaded=missing)
    monkeypatch.setitem(sys.modules, "nltk.corpus", corpus)
    reward = Meteor()
    assert not reward.uses_synonyms
    assert reward([""], [GUIDE], reference=[HEED]) == [nltks(GUIDE, HEED)]
    with pytest.raises(RewardError, match=r"synonyms='wordnet'.*nltk.downloader wordnet"):
        Meteor(synonyms="wordnet")


@pytest.mark.parametrize("module", ["nltk.stem.porter", "nltk.translate.meteor_score"])
def test_without_nltk(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stemmer.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=r"textgym\[metrics\]"):
        Meteor(synonyms=None)


@pytest.mark.parametrize(
    ("option", "value"),
    [("alpha", 1.5), ("gamma", -0.1), ("beta", float("nan")), ("synonyms", "thesaurus")],
)
def test_impossible_options(option: str, value: object) -> None:
    with pytest.raises(RewardError, match=f"^meteor: {option} .*{value!r}"):
        Meteor(**{option: value})


def test_rows_and_columns() -> None:
    reward = Meteor(synonyms=None)
    assert reward([""] * 3, ["a"] * 3, reference=["a", None, ["b", "a"]]) == [0.5, None, 0.5]
    with pytest.raises(RewardError, match="column 'reference'"):
        reward([""], ["a"])


def test_copies() -> None:
    reward = Meteor("meant", alpha=0.8, synonyms={"auto": ["car"]})
    for twin in (pickle.loads(pickle.dumps(reward)), copy.deepcopy(reward)):
        assert twin([""], ["auto"], meant=["car"]) == reward([""], ["auto"], meant=["car"]) == [0.5]


def test_long_junk_takes_no_long_time() -> None:
    assert 0.5 < score("the of a " * 300, "a the of and " * 60) < 1
    assert 0 <= score("x" * 100_000, "xy" * 50_000) < 1

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgym.data.words import words_of
from textgym.errors import RewardError
from textgym.rewards import ExactMatch, Keywords, Regex, RewardSum
from textgym.rewards.metrics.normalize import normalize

SQUAD = ("case", "punctuation", "articles", "whitespace")


def exact(said: str, reference: object, **options: object) -> object:
    return ExactMatch(**options)([""], [said], reference=[reference])[0]


def keywords(said: str, *words: str, **options: object) -> object:
    return Keywords(words, **options)([""], [said])[0]


def regex(said: str, pattern: str, **options: object) -> float:
    return Regex(pattern, **options)([""], [said])[0]


# -- exact_match -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "reference", "ignore", "equal"),
    [
        ("Paris", "Paris", (), 1),
        (" Paris", "Paris", (), 0),
        (" New \n York ", "New York", ("whitespace",), 1),
        ("NewYork", "New York", ("whitespace",), 0),
        ("paris", "Paris", ("whitespace",), 0),
        ("STRASSE", "straße", ("case",), 1),
        ("Paris!", "Paris", ("punctuation",), 1),
        ("¿Qué? «sí»", "Qué sí", ("punctuation",), 1),
        ("$5", "5", ("punctuation",), 1),
        ("हिन्दी।", "हिन्दी", ("punctuation",), 1),  # combining marks are not punctuation
        ("The Eiffel Tower.", "eiffel tower", SQUAD, 1),
        ("an apple a day", "apple day", SQUAD, 1),
        ("another", "other", SQUAD, 0),
        ("ﬁne", "fine", ("unicode",), 1),
        ("ﬁne", "fine", SQUAD, 0 if "ﬁ".casefold() != "fi" else 1),
        ("", "", (), 1),
        ("", "a", (), 0),
    ],
)
def test_exact_match(said: str, reference: str, ignore: tuple[str, ...], equal: float) -> None:
    assert exact(said, reference, ignore=ignore) == equal


def squad_normalized(text: str) -> str:
    """SQuAD's evaluation, from its description, for ASCII: lower, punctuation, articles, spaces."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(word for word in text.split() if word not in ("a", "an", "the"))


@given(st.text("aAnNtThHeE .,'-$\t1"))
def test_squads_normalisation(text: str) -> None:
    assert normalize(text, SQUAD) == squad_normalized(text)


@given(st.text(), st.text())
def test_exact_match_is_equality_by_default_up_to_spaces(a: str, b: str) -> None:
    assert exact(a, b) == float(a.split() == b.split())
    assert exact(a, b, ignore=()) == float(a == b)


def test_alternatives_other_columns_and_rows_without_references() -> None:
    reward = ExactMatch(column="answers")
    values = reward([""] * 4, ["b"] * 4, answers=["a", ["a", "b"], [], None], reference=["b"] * 4)
    assert values == [0.0, 1.0, None, None]


def test_bad_options_and_columns() -> None:
    with pytest.raises(RewardError, match=r"^exact_match: ignore .*'spaces'"):
        ExactMatch(ignore=("case", "spaces"))
    assert ExactMatch(ignore="case").ignore == ("case",)
    with pytest.raises(RewardError, match=r"needs the column 'reference'.*'label'"):
        ExactMatch()([""], ["x"], label=["y"])
    for value in (3, ["a", 3], {"a": 1}, b"a"):
        with pytest.raises(TypeError, match="'reference' must hold a string or a list of strings"):
            exact("x", value)


# -- keywords ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "words", "options", "reward"),
    [
        ("A dog and a cat.", ("cat", "dog"), {}, 1),
        ("A dog and a dog.", ("cat", "dog"), {}, 1 / 2),
        ("a catalogue", ("cat",), {}, 0),
        ("a catalogue", ("cat",), {"whole_words": False}, 1),
        ("CAT", ("cat",), {}, 1),
        ("CAT", ("cat",), {"ignore_case": False}, 0),
        ("the New\n York times", ("new york",), {}, 1),
        ("C++ is (not) c", ("c++", "(not)"), {}, 1),
        ("cat dog", ("cat", "Cat ", "dog", "cow"), {}, 2 / 3),  # each counts once
        ("cat dog", ("cat", "dog", "cow"), {"mode": "all"}, 0),
        ("cat dog", ("cat", "dog"), {"mode": "all"}, 1),
        ("cat dog", ("cow", "dog"), {"mode": "any"}, 1),
        ("cat dog", ("cow", "hen"), {"mode": "any"}, 0),
        ("über-groß", ("ÜBER", "GROSS"), {}, 1),
        ("我喜欢猫", ("猫",), {"whole_words": False}, 1),
        ("", ("cat",), {}, 0),
    ],
)
def test_keywords(
    said: str, words: tuple[str, ...], options: dict[str, object], reward: float
) -> None:
    assert keywords(said, *words, **options) == pytest.approx(reward)


WORDS = st.text("abc", min_size=1, max_size=2)


@given(st.lists(WORDS), st.lists(WORDS, min_size=1))
def test_keywords_are_a_set_intersection(text: list[str], words: list[str]) -> None:
    expected = len(set(text) & set(words)) / len(set(words))
    assert keywords(" ".join(text), *words) == pytest.approx(expected)
    assert keywords(",".join(text), *words, mode="all") == float(set(words) <= set(text))
    assert keywords("\n".join(text), *words, mode="any") == float(bool(set(words) & set(text)))


def test_keywords_of_each_row() -> None:
    columns = {"keywords": [["cat"], ["dog", "cat"], [], None, ("hen",)]}
    assert Keywords()([""] * 5, ["cat"] * 5, **columns) == [1.0, 0.5, None, None, 0.0]
    assert Keywords(column="k")([""], ["cat"], k=[["cat"]]) == [1.0]


def test_bad_keywords() -> None:
    with pytest.raises(RewardError, match=r"mode .*not 'each'"):
        Keywords(("a",), mode="each")
    for words in ("cat", ("a", ""), (" ",), (1,)):
        with pytest.raises(RewardError, match="keywords must"):
            Keywords(words)
        with pytest.raises(RewardError, match=r"X: reward 'keywords' raised TypeError.*on row 6"):
            RewardSum("keywords", "X")(["", ""], ["", ""], {"keywords": [["a"], words]}, [5, 6])
    with pytest.raises(RewardError, match=r"^keywords: keywords"):
        Keywords(())
    with pytest.raises(RewardError, match="needs the column 'keywords'"):
        Keywords()([""], ["cat"], reference=["cat"])


# -- regex -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "pattern", "options", "reward"),
    [
        ("the answer is 42.", r"\d+", {}, 1),
        ("the answer is 42.", r"\d+", {"full": True}, 0),
        ("42", r"\d+", {"full": True}, 1),
        ("42\n", r"\d+", {"full": True}, 0),
        ("Yes", "yes", {}, 0),
        ("Yes", "(?i)yes", {}, 1),
        ("", "", {"full": True}, 1),
        ("a" * 11, "a", {"max_characters": 10}, 0),
        ("a" * 10, "a", {"max_characters": 10}, 1),
    ],
)
def test_regex(said: str, pattern: str, options: dict[str, object], reward: float) -> None:
    assert regex(said, pattern, **options) == reward


@pytest.mark.parametrize("pattern", ["(", "[a", "*", "(?P<n>a)(?P<n>b)", None, 3])
def test_a_pattern_that_does_not_compile(pattern: object) -> None:
    with pytest.raises(RewardError, match=rf"^regex: pattern {re.escape(repr(pattern))}"):
        Regex(pattern)


# -- words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The cat, the DOG!", ["the", "cat", "the", "dog"]),
        ("well-known\tfacts…", ["well", "known", "facts"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        (" \n.", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgym.errors import RewardError
from textgym.rewards import EditSimilarity, ErrorRate, make_reward

WER, CER = make_reward("wer"), make_reward("cer")
TEXTS = st.lists(st.sampled_from(["the", "cat", "sat", "a", "é"]), max_size=7).map(" ".join)


def distance(a: list[str] | str, b: list[str] | str) -> int:
    """Levenshtein's distance by the table of Wagner and Fischer (1974)."""
    table = np.zeros((len(a) + 1, len(b) + 1), int)
    table[:, 0] = range(len(a) + 1)
    table[0] = range(len(b) + 1)
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            table[i, j] = min(
                table[i - 1, j] + 1,
                table[i, j - 1] + 1,
                table[i - 1, j - 1] + (a[i - 1] != b[j - 1]),
            )
    return int(table[-1, -1])


@given(TEXTS, TEXTS)
def test_error_rates_equal_the_table(said: str, meant: str) -> None:
    words = distance(said.split(), meant.split()) / max(len(meant.split()), 1)
    assert WER([""], [said], reference=[meant]) == [pytest.approx(-words)]
    characters = distance(said, meant) / max(len(meant), 1)
    assert CER([""], [said], reference=[meant]) == [pytest.approx(-characters)]


@given(TEXTS, TEXTS)
def test_similarity_equals_the_table(said: str, meant: str) -> None:
    for unit, a, b in (("character", said, meant), ("word", said.split(), meant.split())):
        longer = max(len(a), len(b))
        expected = 1 - distance(a, b) / longer if longer else 1.0
        value = EditSimilarity(unit)([""], [said], reference=[meant])
        assert value == [pytest.approx(expected)]


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=4))
def test_the_best_of_several_references_counts(said: str, references: list[str]) -> None:
    for reward in (WER, CER, EditSimilarity(), EditSimilarity("word")):
        alone = [reward([""], [said], reference=[one])[0] for one in references]
        assert reward([""], [said], reference=[references]) == [max(alone)]


@pytest.mark.parametrize(
    ("said", "meant", "word", "character"),
    [
        ("the cat sat", "the cat sat", 0, 0),
        ("the hat sat", "the cat sat", -1 / 3, -1 / 11),
        ("", "the cat sat", -1, -1),
        ("one two three four", "zero", -4, -15 / 4),  # e, r and o stay
        ("", "", 0, 0),
        ("a b", "", -2, -3),  # the length of nothing is taken for 1
        ("kitten", "sitting", -1, -3 / 7),
    ],
)
def test_worked_examples(said: str, meant: str, word: float, character: float) -> None:
    assert WER([""], [said], reference=[meant]) == [pytest.approx(word)]
    assert CER([""], [said], reference=[meant]) == [pytest.approx(character)]


def test_the_batch_mean_is_the_mean_over_texts() -> None:
    said, meant = ["a x", "a b c d e f g h"], ["a b", "a b c d e f g h"]
    rates = WER(["", ""], said, reference=meant)
    assert np.mean(rates) == pytest.approx(-(1 / 2 + 0 / 8) / 2)  # and not 1 error in 10 words


def test_differences_may_be_ignored() -> None:
    said, meant = ["THE  cat, sat"], ["the cat sat"]
    assert WER([""], said, reference=meant) == [pytest.approx(-2 / 3)]
    options = {"ignore": ("case", "punctuation", "whitespace")}
    assert make_reward("wer", **options)([""], said, reference=meant) == [0]
    assert make_reward("cer", **options)([""], said, reference=meant) == [0]
    assert EditSimilarity(**options)([""], said, reference=meant) == [1]


def test_aliases_and_names() -> None:
    args = {"prompts": [""], "completions": ["a cat"], "text": ["the cat sat"]}
    for name, unit in (("wer", "word"), ("cer", "character")):
        alias = make_reward("error_rate", unit=unit, column="text")
        assert alias.name == name
        assert alias(**args) == make_reward(name, column="text")(**args)


def test_bad_options() -> None:
    with pytest.raises(RewardError, match=r"unit .*not 'token'"):
        ErrorRate("token")
    with pytest.raises(RewardError, match=r"unit .*not 'words'"):
        EditSimilarity("words")
    with pytest.raises(RewardError, match=r"^wer: ignore .*not 'caps'"):
        make_reward("wer", ignore=("caps",))


@given(st.text(), st.text())
def test_ranges_on_any_text(said: str, meant: str) -> None:
    for reward in (WER, CER):
        value = reward([""], [said], reference=[meant])[0]
        assert math.isfinite(value)
        assert value <= 0
        assert reward([""], [meant], reference=[meant]) == [0]
    assert 0 <= EditSimilarity()([""], [said], reference=[meant])[0] <= 1

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgym.errors import RewardError
from textgym.rewards import Distinct, Length, Repetition

WORDS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=12)


def length(said: str, **options: object) -> float:
    return Length(**options)([""], [said])[0]


# -- length ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "options", "reward"),
    [
        (10, {"target": 10}, 1),
        (5, {"target": 10}, 0.5),
        (15, {"target": 10}, 0.5),
        (0, {"target": 10}, 0),
        (40, {"target": 10}, 0),
        (8, {"target": 10, "width": 4}, 0.5),
        (0, {"target": 0, "width": 2}, 1),
        (1, {"target": 0, "width": 2}, 0.5),
        (0, {"target": 10, "shape": "budget"}, 1),
        (10, {"target": 10, "shape": "budget"}, 1),
        (12, {"target": 10, "shape": "budget", "width": 4}, 0.5),
        (14, {"target": 10, "shape": "budget", "width": 4}, 0),
    ],
)
def test_length_in_words(words: int, options: dict[str, object], reward: float) -> None:
    assert length("ab " * words, **options) == reward


def test_units() -> None:
    assert length("äb c", target=4, unit="characters") == 1
    reward = Length(target=4, unit="tokens", width=2)
    assert reward(["", ""], ["x", "x"], completion_ids=[[1, 2, 3, 4], [1, 2, 3]]) == [1.0, 0.5]
    with pytest.raises(RewardError, match="needs the column 'completion_ids'"):
        reward([""], ["x"])


@given(st.integers(0, 50), st.floats(0, 40), st.floats(0.5, 40))
def test_the_triangle_is_symmetric_and_peaks_at_the_target(
    n: int, target: float, width: float
) -> None:
    value = length("w " * n, target=target, width=width)
    assert 0 <= value <= 1
    assert (value == 0) == (abs(n - target) >= width) or value < 1e-9
    if n <= target:
        assert length("w " * n, target=target, width=width, shape="budget") == 1
    else:
        assert length("w " * n, target=target, width=width, shape="budget") == value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": -1}, "target .*not -1"),
        ({"target": "5"}, "target .*not '5'"),
        ({"target": float("nan")}, "target .*not nan"),
        ({"target": 0}, "width .*not 0"),
        ({"target": 5, "width": -2}, "width .*not -2"),
        ({"target": 5, "width": float("inf")}, "width .*not inf"),
        ({"target": 5, "unit": "word"}, "unit .*not 'word'"),
        ({"target": 5, "shape": "round"}, "shape .*not 'round'"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(RewardError, match=f"^length: {message}"):
        Length(**options)


# -- repetition and distinct-n -------------------------------------------------------------------


def ngrams(words: list[str], n: int) -> list[str]:
    return [" ".join(words[i : i + n]) for i in range(len(words)) if i + n <= len(words)]


@given(WORDS, st.integers(1, 5))
def test_repetition_counts_what_was_there_before(words: list[str], n: int) -> None:
    grams = ngrams(words, n)
    repeated = sum(gram in grams[:i] for i, gram in enumerate(grams))
    expected = -repeated / len(grams) if grams else 0.0
    assert Repetition(n)([""], [" ".join(words)])[0] == pytest.approx(expected)


@given(WORDS, st.integers(1, 4))
def test_distinct_n_is_distinct_ngrams_over_words(words: list[str], n: int) -> None:
    grams = ngrams(words, n)
    first = [gram for i, gram in enumerate(grams) if gram not in grams[:i]]
    expected = len(first) / len(words) if words else 0.0
    assert Distinct(n)([""], [" ".join(words)])[0] == pytest.approx(expected)


def test_worked_examples() -> None:
    text = "I don't know. I don't know!"  # i don t know i don t know
    assert Distinct(1)([""], [text]) == [4 / 8]
    assert Distinct(2)([""], [text]) == [4 / 8]  # i-don don-t t-know know-i
    assert Repetition(2)([""], [text]) == [pytest.approx(-3 / 7)]
    assert Repetition(4)([""], [text]) == [pytest.approx(-1 / 5)]
    assert Repetition()([""], ["la " * 100]) == [pytest.approx(-96 / 97)]


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", True, None])
@pytest.mark.parametrize("kind", [Distinct, Repetition])
def test_a_bad_n(kind: type, n: object) -> None:
    with pytest.raises(RewardError, match=rf"n .*not {n!r}"):
        kind(n)

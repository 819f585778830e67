import copy
import functools
import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgym.errors import MissingDependencyError, RewardError
from textgym.rewards import Length, RewardSum, Rouge, make_reward

WHERE = "TextGen/Test-v0"


def length(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [float(len(text)) for text in completions]


def first_letter(completions: list[str], letter: list[str]) -> list[float]:
    return [float(text.startswith(one)) for text, one in zip(completions, letter, strict=True)]


def check(spec: Any, completions: list[str], rows: Any = None, **columns: list[Any]) -> Any:
    return RewardSum(spec, WHERE)(["p"] * len(completions), completions, columns, rows)


# -- sums ------------------------------------------------------------------------------------


def test_the_weighted_sum_and_the_unweighted_terms() -> None:
    reward = RewardSum({length: 0.5, first_letter: -2, "keywords": 0}, WHERE)
    columns = {"letter": ["a", "a"], "keywords": [["abc"], ["x", "b"]], "other": [1, 2]}
    total, terms = reward(["", ""], ["abc", "b"], columns)
    assert reward.terms == ["length", "first_letter", "keywords"] == list(terms)
    assert terms["length"].tolist() == [3.0, 1.0]
    assert terms["first_letter"].tolist() == [1.0, 0.0]
    assert terms["keywords"].tolist() == [1.0, 0.5]
    assert total.tolist() == [0.5 * 3 - 2, 0.5]
    assert all(array.dtype == np.float64 for array in (total, *terms.values()))


@given(
    st.lists(
        st.tuples(
            st.floats(-1e6, 1e6),
            st.lists(st.none() | st.floats(-1e6, 1e6) | st.booleans(), min_size=3, max_size=3),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_the_sum_equals_numpys(terms: list[tuple[float, list[Any]]]) -> None:
    spec = {functools.partial(lambda values, completions: values, v): w for w, v in terms}
    total, parts = RewardSum(spec, WHERE, warn=False)(["p"] * 3, ["x", "y", "z"], {})
    matrix = np.array([[np.nan if v is None else v for v in values] for _, values in terms])
    np.testing.assert_array_equal(np.array(list(parts.values())), matrix)
    weights = np.array([w for w, _ in terms])
    # As TRL sums: a NaN is left out, and nothing but NaN gives 0.
    expected = np.nansum(weights[:, None] * matrix, axis=0)
    np.testing.assert_allclose(total, expected, rtol=1e-9, atol=1e-3)


def test_none_leaves_the_term_out_of_the_sum() -> None:
    spec = {lambda completions: [None, 1.5]: 2.0, length: 1.0}
    total, terms = check(spec, ["xyz", "y"])
    assert total.tolist() == [3.0, 4.0]
    np.testing.assert_array_equal(terms["<lambda>"], [np.nan, 1.5])


def test_a_text_to_which_no_reward_applies_gets_0_and_one_warning() -> None:
    reward = RewardSum({lambda completions: [1.0, None]: 1.0, "keywords": 0.0}, WHERE)
    columns = {"keywords": [["x"], None]}
    message = (
        rf"^{WHERE}: no reward applies to row 8 \(every term is None; prompt 'q', completion 'y'"
    )
    with pytest.warns(UserWarning, match=message):
        total, terms = reward(["p", "q"], ["x", "y"], columns, [7, 8])
    assert total.tolist() == [1.0, 0.0]
    np.testing.assert_array_equal(terms["keywords"], [1.0, np.nan])
    assert reward(["p", "q"], ["x", "y"], columns)[0].tolist() == [1.0, 0.0]  # without another


def test_a_sum_without_warnings() -> None:
    nothing = RewardSum.named({"a": lambda completions: [None]}, WHERE, warn=False)
    for reward in (nothing, pickle.loads(pickle.dumps(RewardSum("keywords", WHERE, warn=False)))):
        assert reward(["p"], ["x"], {"keywords": [None]})[0].tolist() == [0.0]


def test_an_empty_batch_calls_nothing() -> None:
    total, terms = check(lambda completions: 1 / 0, [])
    assert total.shape == (0,)
    assert [values.shape for values in terms.values()] == [(0,)]


def test_arrays_are_fresh() -> None:
    kept = np.array([1.0, 2.0])
    total, terms = check(lambda completions: kept, ["x", "y"])
    total += 1
    terms["<lambda>"] += 1
    assert kept.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "result",
    [[1, 0], (1, 0), [True, False], np.array([1.0, 0.0], np.float32), np.array([1, 0]),
     [np.float32(1), np.int64(0)], np.array([True, False])],
)  # fmt: skip
def test_any_sequence_of_numbers_is_a_result(result: Any) -> None:
    assert check(lambda completions: result, ["x", "y"])[0].tolist() == [1.0, 0.0]


# -- names -----------------------------------------------------------------------------------


def test_names_of_terms() -> None:
    class Judge:
        name = "judge"

        def reward(self, prompts: Any, completions: list[str], **_: Any) -> list[float]:
            return [0.0] * len(completions)

        __call__ = reward

    class Nameless:
        def __call__(self, completions: list[str]) -> list[float]:
            return [0.0] * len(completions)

    spec = {"wer": 1, length: 1, Judge(): 1, Judge(): 1, Judge().reward: 1, Nameless(): 1,
            Rouge("rouge2"): 1, functools.partial(length, extra=3): 1}  # fmt: skip
    reward = RewardSum(spec, WHERE)
    assert reward.terms == [
        "wer", "length", "judge", "judge_2", "reward", "Nameless", "rouge2", "length_2",
    ]  # fmt: skip
    assert list(reward(["p"], ["c"], {"reference": ["c"]})[1]) == reward.terms


def test_the_callers_own_names() -> None:
    costs = RewardSum.named(
        {"toxic": length, "long": "wer", "<lambda>": lambda completions: [1]}, WHERE
    )
    total, terms = costs(["p"], ["cc"], {"reference": ["x"]})
    assert {name: value.tolist() for name, value in terms.items()} == {
        "toxic": [2.0], "long": [-1.0], "<lambda>": [1.0],
    }  # fmt: skip
    assert total.tolist() == [2.0]
    again = pickle.loads(pickle.dumps(RewardSum.named({"toxic": length}, WHERE)))
    assert again.terms == ["toxic"]


# -- how functions are called ------------------------------------------------------------------


def test_functions_written_for_trl_run_unchanged() -> None:
    # The forms that TRL's documentation teaches.
    def reward_func(completions: list[str], **kwargs: Any) -> list[float]:
        return [float(len(set(c))) for c in completions]

    def accuracy(
        prompts: list[str], completions: list[str], ground_truth: list[str], **kwargs: Any
    ):
        return [1.0 if g in c else 0.0 for c, g in zip(completions, ground_truth, strict=True)]

    def by_ids(completion_ids: list[list[int]], **kwargs: Any) -> list[float]:
        return [float(len(ids)) for ids in completion_ids]

    def maths_only(prompts: list[str], completions: list[str], task: list[str], **kwargs: Any):
        return [1.0 if t == "math" else None for t in task]

    columns = {
        "ground_truth": ["a", "z"],
        "task": ["math", "code"],
        "completion_ids": [[1], [1, 2]],
    }
    _, terms = check(
        {reward_func: 1, accuracy: 1, by_ids: 1, maths_only: 1}, ["aab", "c"], **columns
    )
    np.testing.assert_equal(
        terms,
        {
            "reward_func": [2.0, 1.0],
            "accuracy": [1.0, 0.0],
            "by_ids": [1.0, 2.0],
            "maths_only": [1.0, np.nan],
        },
    )


def test_a_function_without_kwargs_gets_only_what_it_names() -> None:
    seen: list[Any] = []

    def some(completions: list[str], b: list[int], d: str = "default") -> list[float]:
        seen.append((completions, b, d))
        return [0.0]

    check(some, ["x"], a=[1], b=[2], c=[3])
    check(some, ["x"], a=[1], b=[2], d=[4])
    assert seen == [(["x"], [2], "default"), (["x"], [2], [4])]


# -- errors: case by case ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, r"reward=\{\}"),
        (None, "reward .*not NoneType"),
        ([length], "reward .*not list"),
        ({3: 1.0}, "not int 3"),
        ("blue", "no reward 'blue'; did you mean 'bleu'"),
        ("length", "'length' takes the options"),
        ({length: float("nan")}, "weight of reward 'length' .*not nan"),
        ({length: float("inf")}, "weight of reward 'length' .*not inf"),
        ({"wer": "1"}, "weight of reward 'wer' .*not '1'"),
        ({"wer": None}, "weight of reward 'wer' .*not None"),
        ({"wer": True}, "weight of reward 'wer' .*not True"),
        ({"wer": np.True_}, "weight of reward 'wer' .*not np.True_"),
        ({"wer": 10**400}, "weight of reward 'wer' .*not 1000"),
        ({"wer": 10**5000}, "weight of reward 'wer' .*not a number of"),
        ({"wer": Fraction(10**400)}, "weight of reward 'wer' .*not Frac"),
        ({"wer": np.float32("nan")}, "weight of reward 'wer' .*not"),
        ({"wer": np.array([1.0])}, "weight of reward 'wer' .*not array"),
        ({"wer": 1j}, "weight of reward 'wer' .*not 1j"),
        (Length, "is a class"),
    ],
)
def test_a_bad_specification(spec: Any, message: str) -> None:
    with pytest.raises(RewardError, match=f"^{WHERE}: .*{message}"):
        RewardSum(spec, WHERE)


@pytest.mark.parametrize(
    "weight", [2, 2.0, np.float32(2), np.int8(2), np.array(2.0), np.array(2), Fraction(2)]
)
def test_any_number_is_a_weight(weight: Any) -> None:
    assert check({length: weight}, ["abc"])[0].tolist() == [6.0]


def test_a_missing_library_stays_an_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sacrebleu.metrics", None)
    with pytest.raises(MissingDependencyError, match=f"^{WHERE}: reward 'bleu': .*metrics"):
        RewardSum("bleu", WHERE)


@pytest.mark.parametrize(
    "spec", ["wer", first_letter, lambda completions, reference: [0.0], "bleu"]
)
def test_a_missing_column_names_those_that_are_there(spec: Any) -> None:
    message = (
        rf"^{WHERE}: reward '.*' needs the column '(reference|letter)', which the rows do not have "
        r"\(they have: 'label', 'finish_reason'\)"
    )
    with pytest.raises(RewardError, match=message):
        check(spec, ["x"], label=["y"], finish_reason=["eos"])


def test_the_row_that_makes_a_function_raise_is_found() -> None:
    def numbers(completions: list[str], **_: Any) -> list[float]:
        return [float(text) for text in completions]

    for bad in range(9):
        texts = ["1"] * 9
        texts[bad] = "junk"
        with pytest.raises(RewardError) as caught:
            check(numbers, texts, rows=np.arange(100, 109))
        message = str(caught.value)
        assert message.startswith(f"{WHERE}: reward 'numbers' raised ValueError: could not convert")
        assert f"on row {100 + bad} (completion 'junk')" in message
        assert isinstance(caught.value.__cause__, ValueError)


def test_an_error_of_no_single_text_names_the_batch() -> None:
    def company(completions: list[str]) -> list[float]:
        if len(completions) > 1:
            raise ValueError("only one, please")
        return [0.0]

    with pytest.raises(
        RewardError, match=r"one, please on a batch of 10 texts \(rows 0, .*7, \.\.\.\)"
    ):
        check(company, ["x"] * 10)


@pytest.mark.parametrize("error", [ConnectionError("down"), RuntimeError("out of memory")])
def test_an_error_of_the_outside_world_is_not_tried_again(error: Exception) -> None:
    calls: list[int] = []

    def remote(completions: list[str]) -> list[float]:
        calls.append(len(completions))
        raise error

    with pytest.raises(
        RewardError, match=r"(down|out of memory) on a batch of 3 texts \(rows 5, 6, 7\)"
    ):
        check(remote, ["x"] * 3, rows=[5, 6, 7])
    assert calls == [3]


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ([0.0], "returned 1 values for 2 texts"),
        ([0.0] * 3, "returned 3 values for 2 texts"),
        (np.zeros(3), "returned 3 values for 2 texts"),
        (np.zeros((2, 1)), r"returned shape \(2, 1\); .*shape \(2,\)"),
        (np.float64(1), r"returned shape \(\)"),
        (0.5, "returned float 0.5; return a list of 2 numbers"),
        (None, "returned NoneType None; return a list of 2 numbers"),
        ("ab", "returned str 'ab'"),
        ({"a": 1, "b": 2}, "returned dict"),
        ([0.0, float("nan")], r"returned float nan for row 8 \(completion 'y'\)"),
        ([float("-inf"), 0.0], r"returned float -inf for row 7 \(completion 'x'\)"),
        (np.array([0.0, np.nan]), "returned float nan for row 8"),
        ([0.0, "1"], "returned str '1' for row 8"),
        ([0.0, [1.0]], r"returned list \[1.0\] for row 8"),
        ([0.0, 1j], "returned complex 1j for row 8"),
        ([None, 10**400], "returned int 1000.* for row 8"),
        (np.array([1j, 0]), "returned complex 1j for row 7"),
    ],
)
def test_what_is_no_reward(result: Any, message: str) -> None:
    with pytest.raises(RewardError, match=f"^{WHERE}: reward 'odd' {message}"):
        check({_named("odd", lambda completions: result): 1}, ["x", "y"], rows=[7, 8])


def test_a_sum_that_overflows() -> None:
    with pytest.raises(RewardError, match="sum of the rewards is inf for row 4"):
        check({lambda completions: [1.0, 1e308]: 10.0}, ["x", "y"], rows=[3, 4])


def test_a_long_text_is_cut_in_the_message() -> None:
    with pytest.raises(RewardError) as caught:
        check(lambda completions: [float("nan")], ["x" * 100_000])
    assert len(str(caught.value)) < 500


def test_usable_after_an_error() -> None:
    reward = RewardSum("wer", WHERE)
    with pytest.raises(RewardError, match=r"row 0 \(completion 'a'\)"):
        reward(["p"], ["a"], {"reference": [3]})
    assert reward(["p"], ["a"], {"reference": ["a"]})[0].tolist() == [0.0]


def _named(name: str, function: Any) -> Any:
    function.__name__ = name
    return function


# -- copies --------------------------------------------------------------------------------------


def test_deepcopy_is_the_same_object() -> None:
    reward = RewardSum("bleu", WHERE)
    assert copy.deepcopy({"reward": reward})["reward"] is reward


def test_pickles_when_made_of_names_objects_and_importable_functions() -> None:
    spec = {"wer": 1.0, "rouge": 2.0, make_reward("bleu", max_ngram_order=2): 0.5, length: 0.1}
    reward = RewardSum(spec, WHERE)
    again = pickle.loads(pickle.dumps(reward))
    args = (["p"], ["the cat"], {"reference": ["the cat sat"]})
    assert again.terms == reward.terms
    assert again(*args)[0].tolist() == reward(*args)[0].tolist() != [0.0]
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(RewardSum(lambda completions: [0.0], WHERE))

"""Options of rewards: any value gives a reward, or an error of textgym, and soon."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from textgym.errors import RewardError, TextGymError
from textgym.registry import REWARDS
from textgym.rewards import (
    Clip,
    Distinct,
    Length,
    Normalize,
    Regex,
    Repetition,
    Scale,
    make_reward,
    register_reward,
    registered_rewards,
)

JUNK: list[Any] = [
    *(None, "x", "", -1, 0, 3, 2.5, float("nan"), float("inf"), 10**400, 10**5000, True, b"x"),
    *(np.float32(2), np.int64(3), np.bool_(True), np.array([1, 2]), np.array(2), [], {}, ()),
    *(object(), 1j, ["a"], lambda completions: [1.0]),
]
NEEDED: dict[str, dict[str, Any]] = {
    "cider": {"corpus": [["a b"], ["c"]]},
    "length": {"target": 5},
    "regex": {"pattern": "a"},
    "intent": {"classifier": {"a": ["b"]}},
    "http": {"url": "http://localhost:1/"},
    "judge": {"model": "m"},
}
# They read a checkpoint when they are made.
MODELS = ("fluency", "similarity", "bertscore", "classifier", "reward_model", "adversarial")
NOT_CALLED = ("http", "judge", "unit_tests")  # these ask a server, or start programs
ROW: dict[str, Any] = {
    "reference": ["a b"], "keywords": [["a"]], "concepts": [["a"]], "intent": ["a"],
    "table": [[("a", "b")]], "completion_ids": [[1]],
}  # fmt: skip
NAMES = [name for name in registered_rewards() if name not in MODELS and "test_" not in name]


@pytest.mark.parametrize("name", NAMES)
def test_options_give_a_reward_or_an_error_of_textgym(name: str) -> None:
    make_reward(name, **NEEDED.get(name, {}))  # what was registered by its address is imported now
    for option in inspect.signature(REWARDS.get(name)).parameters:
        for junk in JUNK:
            try:
                reward = make_reward(name, **{**NEEDED.get(name, {}), option: junk})
                if name not in NOT_CALLED:
                    assert len(reward(["p a"], ["a b c"], **ROW)) == 1
            except TextGymError:
                continue


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("length", {"target": np.int64(3), "width": np.float32(2)}),
        ("repetition", {"n": np.int32(2)}),
        ("cider", {"corpus": [["a b"], ["c"]], "n": np.int64(2), "sigma": np.float64(3)}),
        ("meteor", {"beta": np.float32(2), "stems": np.bool_(False)}),
        ("concepts", {"copied": np.array(3)}),
        ("bleu", {"max_ngram_order": np.int64(2)}),
        ("unit_tests", {"workers": np.int64(2)}),
    ],
)
def test_numpys_numbers_are_numbers(name: str, options: dict[str, Any]) -> None:
    plain = {key: getattr(value, "tolist", lambda v=value: v)() for key, value in options.items()}
    one, other = make_reward(name, **options), make_reward(name, **plain)
    row = {**ROW, "test": ["assert True"]}
    assert repr(one) == repr(other)
    if name != "unit_tests":
        assert one(["p"], ["a b a b"], **row) == other(["p"], ["a b a b"], **row)


def test_numpys_numbers_without_a_name() -> None:
    texts = (["p"], ["a b a b"])
    assert Length(np.int64(3))(*texts) == Length(3)(*texts)
    assert Repetition(np.int64(2))(*texts) == Repetition(2)(*texts)
    assert Clip("distinct", high=np.float32(0.25))(*texts) == [0.25]
    assert Scale("distinct", factor=np.int64(2))(*texts) == Scale("distinct", factor=2)(*texts)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Length(10**400), "length: target .*not 1000"),
        (lambda: Repetition(10**400), "repetition: n .*not 1000"),
        (lambda: Distinct(101), "distinct: n .*not 101"),
        (lambda: Scale("wer", 10**400), "Scale: factor .*not 1000"),
        (lambda: Scale("wer", np.bool_(True)), "Scale: factor .*not np.True_"),
        (lambda: Normalize("wer", clip=10**400), "Normalize: clip .*not 1000"),
        (lambda: Regex("a", max_characters=-1), "regex: max_characters .*not -1"),
        (lambda: make_reward("wer", column=3), "wer: column .*not 3"),
        (lambda: make_reward("bleu", lowercase="no"), "bleu: lowercase .*not 'no'"),
        (lambda: make_reward("wer", ignore=3), "'wer' cannot be made with ignore=3: TypeError"),
        (lambda: make_reward(["wer"]), "there is no reward .*'wer'"),
    ],
)
def test_values_that_are_refused(make: Any, message: str) -> None:
    with pytest.raises(RewardError, match=message):
        make()


def test_an_error_within_a_factory_names_the_options() -> None:
    @register_reward("test_options_fails")
    def factory(size: int = 1) -> Any:
        return [0][size]

    try:
        with pytest.raises(IndexError):  # a mistake in the factory is not one in its options
            make_reward("test_options_fails", size=1)
        with pytest.raises(RewardError, match="cannot be made with size='x': TypeError") as caught:
            make_reward("test_options_fails", size="x")
        assert isinstance(caught.value.__cause__, TypeError)
    finally:
        REWARDS.remove("test_options_fails")

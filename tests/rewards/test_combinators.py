import copy
import json
import math
import pickle
from functools import partial
from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import textgym  # noqa: F401
from textgym.errors import MissingDependencyError, RewardError
from textgym.rewards import make_reward, register_reward
from textgym.rewards.combinators import Clip, Gate, Max, Min, Product, Scale
from textgym.rewards.combine import RewardSum
from textgym.rewards.normalization import Normalize

NUMBERS = st.floats(-100, 100, allow_subnormal=False)
VALUES = st.one_of(st.none(), NUMBERS)
ROWS = st.lists(st.tuples(VALUES, VALUES, VALUES), max_size=12)


def of_column(completions, name, **columns):
    return list(columns[name])


def column(name):
    return partial(of_column, name=name)


def judge(reward, rows, names="abc"):
    columns = {name: [row[at] for row in rows] for at, name in enumerate(names)}
    return reward([""] * len(rows), [""] * len(rows), **columns)


def long(prompts, completions):
    return [float(len(text)) for text in completions]


# -- the algebra, against brute force ------------------------------------------------------------


@given(ROWS, NUMBERS, NUMBERS)
def test_gate(rows, threshold, otherwise):
    reward = Gate(column("a"), column("b"), threshold=threshold, otherwise=otherwise)
    for got, (condition, value, _) in zip(judge(reward, rows), rows, strict=True):
        if condition is None:
            assert got is None
        elif condition >= threshold:
            assert got == value
        else:
            assert got == otherwise


def test_gate_asks_the_reward_about_the_texts_that_pass_alone():
    asked = []

    def dear(prompts, completions, reference, trainer_state, **_):
        asked.append((prompts, completions, reference, trainer_state))
        return [float(text) for text in completions]

    reward = Gate(lambda completions: [text != "x" for text in completions], dear)
    state = {"epoch": 1}  # TRL's, which is not a column.
    got = reward(
        ["p", "q", "r"], ["1", "x", "3"], reference=np.array(["s", "t", "u"]), trainer_state=state
    )
    assert got == [1.0, 0.0, 3.0]
    assert asked == [(["p", "r"], ["1", "3"], ["s", "u"], state)]
    assert reward(["p"], ["x"], reference=["s"], trainer_state=state) == [0.0]
    assert len(asked) == 1


@given(ROWS)
def test_product_max_and_min(rows):
    rewards = [column(name) for name in "abc"]
    products, most, least = (judge(kind(*rewards), rows) for kind in (Product, Max, Min))
    for row, product, largest, smallest in zip(rows, products, most, least, strict=True):
        there = [value for value in row if value is not None]
        assert product == (None if None in row else pytest.approx(np.prod(row)))
        assert largest == (max(there) if there else None)
        assert smallest == (min(there) if there else None)


@given(st.lists(st.tuples(*[st.floats(0, 1e300)] * 3), max_size=6))
def test_geometric_mean(rows):
    got = judge(Product(*map(column, "abc"), geometric=True), rows)
    for value, row in zip(got, rows, strict=True):
        with np.errstate(divide="ignore"):
            expected = np.exp(np.log(row).mean())
        assert value == pytest.approx(expected, rel=1e-6, abs=1e-100)


def test_geometric_mean_of_a_negative_reward():
    reward = Product(column("a"), column("b"), geometric=True)
    with pytest.raises(RewardError, match=r"inner reward 'of_column', which returned -1.0"):
        judge(reward, [(1.0, -1.0)], "ab")


@given(ROWS, st.one_of(st.none(), NUMBERS), NUMBERS, NUMBERS)
def test_clip_and_scale(rows, low, width, offset):
    high = (low or 0.0) + abs(width)
    got = judge(Clip(column("a"), low, high), rows)
    for value, (given_value, *_) in zip(got, rows, strict=True):
        if given_value is None:
            assert value is None
        else:
            assert value == min(high, given_value if low is None else max(low, given_value))
    scaled = judge(Scale(column("a"), width, offset), rows)
    assert scaled == [None if a is None else width * a + offset for a, _, _ in rows]


@given(ROWS)
def test_they_nest(rows):
    nested = Clip(Product(Scale(column("a"), -1), Max(column("b"), column("c"))), -5, 5)
    for got, (a, b, c) in zip(judge(nested, rows), rows, strict=True):
        there = [value for value in (b, c) if value is not None]
        if a is None or not there:
            assert got is None
        else:
            assert got == pytest.approx(float(np.clip(-a * max(there), -5, 5)))


# -- normalisation -------------------------------------------------------------------------------


@given(st.lists(st.lists(VALUES, max_size=8), max_size=8), st.integers(0, 12))
def test_normalize_is_numpys(batches, warmup):
    reward, seen = Normalize(column("a"), warmup=warmup, clip=None), []
    for batch in batches:
        got = judge(reward, [(value,) for value in batch], "a")
        seen += [value for value in batch if value is not None]
        assert reward.count == len(seen)
        if seen:
            assert reward.mean == pytest.approx(np.mean(seen), abs=1e-9)
            assert reward.std == pytest.approx(np.std(seen), abs=1e-5)
        for result, value in zip(got, batch, strict=True):
            if value is None:
                assert result is None
            elif len(seen) < warmup:
                assert result == 0.0
            elif np.std(seen) > 1e-3:
                expected = (value - np.mean(seen)) / np.std(seen)
                assert result == pytest.approx(expected, rel=1e-4, abs=1e-6)


@given(st.lists(NUMBERS, min_size=1, max_size=20), st.lists(st.integers(0, 20), max_size=5))
def test_normalize_does_not_depend_on_the_batches(values, cuts):
    whole, parts = Normalize(column("a")), Normalize(column("a"))
    judge(whole, [(value,) for value in values], "a")
    edges = sorted({0, len(values), *(min(cut, len(values)) for cut in cuts)})
    for start, end in pairwise(edges):
        judge(parts, [(value,) for value in values[start:end]], "a")
    assert parts.count == whole.count
    assert parts.mean == pytest.approx(whole.mean, abs=1e-9)
    assert parts.std == pytest.approx(whole.std, abs=1e-6)


def test_normalize_by_hand_warmup_and_clip():
    reward = Normalize(column("a"), warmup=3, clip=1.5)
    assert judge(reward, [(1.0,), (3.0,)], "a") == [0.0, 0.0]
    # Now 1, 3, 2 and 2: mean 2, deviation sqrt(1/2).
    assert judge(reward, [(2.0,), (2.0,)], "a") == [0.0, 0.0]
    reward.freeze()
    assert judge(reward, [(2.5,), (9.0,), (-9.0,), (None,)], "a") == [
        pytest.approx(0.5 * math.sqrt(2)), 1.5, -1.5, None,
    ]  # fmt: skip
    assert reward.count == 4
    reward.freeze(False)
    judge(reward, [(2.0,)], "a")
    assert reward.count == 5


def test_normalize_of_a_constant_is_nothing():
    reward = Normalize(column("a"), warmup=0)
    for size in (1, 7, 100):
        assert judge(reward, [(0.1,)] * size, "a") == pytest.approx([0.0] * size, abs=1e-6)


def test_normalize_state():
    reward = Normalize(long, warmup=2)
    reward(["", ""], ["a", "abc"])
    state = json.loads(json.dumps(reward.state_dict()))
    other, pickled = Normalize(long, warmup=2), pickle.loads(pickle.dumps(reward))
    other.load_state_dict(state)
    texts = ["abcd", ""]
    expected = reward(["", ""], texts)
    assert other(["", ""], texts) == pickled(["", ""], texts) == expected
    assert pickled.warmup == 2
    before = other.state_dict()
    for damaged in ({}, {**state, "squares": -1.0}, {**state, "mean": math.nan}, {"count": "x"}):
        with pytest.raises(RewardError, match="state"):
            other.load_state_dict(damaged)
    assert other.state_dict() == before


def test_normalize_takes_nothing_in_from_a_call_that_fails():
    reward = Normalize(column("a"))
    with pytest.raises(RewardError, match=r"inner reward 'of_column', .*1e"):
        judge(reward, [(1e200,), (-1e200,)], "a")
    with pytest.raises(RewardError, match="nan"):
        judge(reward, [(math.nan,)], "a")
    assert reward.count == 0


# -- names, functions of any signature, errors, copies -------------------------------------------


def test_names():
    named = Gate("exact_match", Product("bleu", long, lambda completions: [0.0]))
    assert named.name == "gate(exact_match, product(bleu, long, <lambda>))"
    assert Normalize(Clip("wer", -1)).name == "normalize(clip(wer))"
    both = RewardSum({named: 1.0, Clip("wer", -1): 0.5, Clip("wer", -2): 0.0}, "here")
    assert both.terms == [named.name, "clip(wer)", "clip(wer)_2"]
    assert repr(Clip("wer", -1)) == "Clip('wer', low=-1.0, high=None)"


def test_named_rewards_and_signatures():
    class Positional:
        def __call__(self, prompts, completions, /):
            return np.array([len(text) for text in completions])

    reward = Product("exact_match", Positional(), lambda completions, weight: weight)
    got = reward(["", ""], ["yes", "no"], reference=["yes", "yes"], weight=[2, 2], more=[0, 0])
    assert got == [6.0, 0.0]


def test_in_an_environment():
    env = gym.make(
        "TextGen-v0", prompts=[{"prompt": "a", "reference": "b"}], tokenizer=["a", "b", "<eos>"],
        reward=Gate("exact_match", Scale(long, 2.0, 1.0), otherwise=-1.0),
    )  # fmt: skip
    for words, expected in (([1, 2], 3.0), ([0, 2], -1.0)):
        env.reset(seed=0)
        *_, reward, terminated, _, info = [env.step(word) for word in words][-1]
        assert terminated
        assert reward == expected
        assert info["reward_terms"] == {"gate(exact_match, scale(long))": expected}


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (Clip(lambda completions: [math.nan, 1.0], 0), r"which returned float nan for row 0"),
        (Max("wer", lambda completions: [1.0]), "'<lambda>', which returned 1 values for 2 texts"),
        (Scale(lambda completions: 1.0), "which returned float 1.0"),
        (Scale(Clip(lambda completions: ["", 0], 0)), "'clip.*inner reward '<lambda>', which ret"),
        (Product(long, "keywords"), "'keywords', which needs the column 'keywords'"),
        (
            Gate(long, lambda completions: [1 / (len(text) - 2) for text in completions]),
            r"'<lambda>', which raised ZeroDivisionError.* on row 1 .*numbered within the call",
        ),
    ],
)
def test_errors_name_the_inner_reward(reward, message):
    total = RewardSum({reward: 1.0}, "the env")
    with pytest.raises(RewardError, match=message) as caught:
        total(["", ""], ["a", "bb"], {"reference": ["a", "b"]})
    assert str(caught.value).startswith(f"the env: reward {reward.name!r} has the inner reward")
    assert str(caught.value).count("numbered within") <= 1


def test_what_a_reward_raises_on_a_batch_with_things_that_are_no_columns():
    def failing(completions, **_):
        raise ValueError("no")

    with pytest.raises(RewardError, match="which raised ValueError: no"):
        Scale(failing)(["", ""], ["", ""], trainer_state=object())


@register_reward("test_combinators_missing")
def _missing():
    raise MissingDependencyError("install it")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Clip("bleu"), "^Clip: low and high"),
        (lambda: Clip("bleu", 1, 0), "low=1 is above high=0"),
        (lambda: Clip("bleu", math.nan), "^Clip: low .*nan"),
        (lambda: Scale("bleu", "2"), "^Scale: factor .*'2'"),
        (lambda: Scale("bleu", 1, True), "^Scale: offset .*True"),
        (lambda: Gate("bleu", "ter", math.inf), "^Gate: threshold .*inf"),
        (lambda: Normalize("bleu", warmup=-1), "^Normalize: warmup .*-1"),
        (lambda: Normalize("bleu", clip=0), "^Normalize: clip .*0"),
        (lambda: Product(), "at least one"),
        (lambda: Max("bluu"), "Max: there is no reward 'bluu'; did you mean 'bleu'"),
        (lambda: Min(3), "^Min: takes .*int 3"),
        (lambda: Min(Clip), "is a class"),
    ],
)
def test_wrong_options(make, message):
    with pytest.raises(RewardError, match=message):
        make()


def test_a_missing_library_is_told():
    with pytest.raises(MissingDependencyError, match=r"Gate: .*install it"):
        Gate("bleu", "test_combinators_missing")


@pytest.mark.parametrize(
    "reward",
    [
        Gate("exact_match", long, 0.25, otherwise=-1.0),
        Product("bleu", long, geometric=True),
        Max("bleu", long),
        Min(make_reward("rouge", variant="rouge1"), Scale(long, 0.1)),
        Clip(long, high=3),
        Scale("wer", -1, 2),
        Normalize(long, warmup=1, clip=2.0),
    ],
)
def test_they_pickle_and_are_not_copied(reward):
    texts, references = ["the cat", "a", "cat"], ["the cat", "b", "the cat"]
    assert copy.deepcopy(reward) is reward
    twin = pickle.loads(pickle.dumps(reward))
    assert twin.name == reward.name
    expected = reward([""] * 3, texts, reference=references)
    assert twin([""] * 3, texts, reference=references) == expected
    assert reward([], []) == []

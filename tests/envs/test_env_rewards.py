"""Rewards, potentials and costs in environments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textgym.envs import TextGenEnv, TextGenVectorEnv
from textgym.errors import RewardError, SettingsError
from textgym.rewards import make_reward

EOS = 4
ROWS = [
    {"prompt": "the", "reference": "cat", "weight": 2},
    {"prompt": "cat", "reference": "sat", "weight": 3},
]


def test_one_call_gets_everything_that_ended(words_batch: Any) -> None:
    calls: list[Any] = []

    def reward(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        calls.append((prompts, completions, columns))
        return [1.0] * len(prompts)

    envs = words_batch(prompts=ROWS, reward=reward)
    envs.reset(seed=0, options={"index": [0, 1, 0]})
    assert not calls, "nothing has ended"
    envs.step([1, 2, 3])
    assert not calls
    _, rewards, *_ = envs.step([EOS, 1, EOS])
    assert rewards.tolist() == [1.0, 0.0, 1.0]
    assert rewards.dtype == np.float64
    assert calls == [
        (
            ["the", "the"],
            ["cat", "ran"],
            {
                "reference": ["cat", "cat"],
                "weight": [2, 2],
                "completion_ids": [[1, EOS], [3, EOS]],
                "finish_reason": ["eos", "eos"],
            },
        )
    ]


def test_a_column_that_only_some_rows_have_is_none_elsewhere(words_batch: Any) -> None:
    seen: list[Any] = []

    def reward(completions: list[str], extra: list[Any]) -> list[float]:
        seen.extend(extra)
        return [0.0] * len(completions)

    envs = words_batch(2, prompts=[{"prompt": "the", "extra": 5}, {"prompt": "cat"}], reward=reward)
    envs.reset(options={"index": [0, 1]})
    infos = envs.step([EOS, EOS])[4]
    assert seen == [5, None]
    assert infos["_extra"].tolist() == [True, False]


@pytest.mark.parametrize(
    "row",
    [
        {"question": "the", "answer": "cat"},
        {"prompt": "the", "reference": "ran", "answer": "cat"},
    ],
)
@pytest.mark.parametrize(
    "reward",
    [
        lambda completions, answer, **columns: [
            float(text == right) for text, right in zip(completions, answer, strict=True)
        ],
        make_reward("exact_match", column="answer"),
    ],
    ids=["function", "named"],
)
def test_rewards_find_the_columns_by_their_own_names(
    words_env: Any, play: Any, row: Any, reward: Any
) -> None:
    env = words_env(prompts=[row], reward=reward)
    env.reset(seed=0)
    rewards, info = play(env, [1, EOS])
    assert rewards == [0.0, 1.0]
    assert info["answer"] == "cat"


def test_columns_named_like_the_functions_own_texts(words_env: Any, play: Any) -> None:
    def by_position(prompt: list[str], completion: list[str], **columns: Any) -> list[float]:
        seen.append((prompt, completion, columns["reference"]))
        return [0.0] * len(prompt)

    seen: list[Any] = []
    env = words_env(prompts=[{"prompt": "the", "completion": "ran"}], reward=by_position)
    env.reset(seed=0)
    play(env, [1, EOS])
    assert seen == [(["the"], ["cat"], ["ran"])]


def test_names_functions_and_weights_add_up(words_env: Any, play: Any) -> None:
    def letters(completions: list[str]) -> list[float]:
        return [float(len(text)) for text in completions]

    spec = {"exact_match": 10.0, letters: -0.5, make_reward("length", target=3): 0.0}
    env = words_env(prompts=ROWS, reward=spec)
    env.reset(options={"index": 0})
    rewards, info = play(env, [1, EOS])
    terms = info["reward_terms"]
    assert list(terms)[:2] == ["exact_match", "letters"]
    assert len(terms) == 3, "a term of weight 0 is reported"
    assert (terms["exact_match"], terms["letters"]) == (1.0, 3.0)
    assert rewards == [0.0, 10.0 * 1 - 0.5 * 3]


def test_none_does_not_apply(words_env: Any, play: Any) -> None:
    def nothing(completions: list[str]) -> list[None]:
        return [None for _ in completions]

    env = words_env(reward={nothing: 2.0, one: 1.0})
    env.reset(seed=0)
    rewards, info = play(env, [1, EOS])
    assert rewards == [0.0, 1.0]
    np.testing.assert_equal(info["reward_terms"], {"nothing": np.nan, "one": 1.0})


def test_default_rewards(words_env: Any, play: Any) -> None:
    for prompts, term in ((ROWS, "edit_similarity"), (["the"], "distinct")):
        env = words_env(prompts=prompts, reward=None)
        env.reset(seed=0)
        _, info = play(env, [1, EOS])
        assert list(info["reward_terms"]) == [term]


# ------------------------------------------------------------------ potential-based shaping


def potential(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    """A potential that is not a simple function of the length, nor 0 for an empty text."""
    assert columns["finish_reason"] == [""] * len(prompts)
    return [
        1.5 + len(prompt) * 0.25 + 7 * text.count("sat") - 0.5 * len(text)
        for prompt, text in zip(prompts, completions, strict=True)
    ]


@settings(max_examples=60)
@given(
    actions=st.lists(st.integers(0, 4), min_size=6, max_size=6),
    gamma=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    budget=st.integers(1, 6),
)
def test_shaping_is_the_closed_form(actions: list[int], gamma: float, budget: int) -> None:
    arguments: dict[str, Any] = {
        "prompts": ROWS,
        "tokenizer": ["the", "cat", "sat", "ran", "<eos>"],
        "reward": "exact_match",
        "max_prompt_tokens": 2,
        "max_new_tokens": budget,
    }
    plain = TextGenEnv(**arguments)
    shaped = TextGenEnv(**arguments, step_reward=potential, step_reward_gamma=gamma)
    _, info = plain.reset(seed=1)
    shaped.reset(seed=1)
    words, total, discounted = [], 0.0, 0.0

    def phi() -> float:
        (value,) = potential([info["prompt"]], [" ".join(words)], finish_reason=[""])
        return value

    start = phi()
    for step, action in enumerate(actions):
        before = phi()
        _, reward, terminated, _, last = plain.step(action)
        _, shaped_reward, shaped_terminated, _, shaped_info = shaped.step(action)
        assert terminated == shaped_terminated
        words.append(arguments["tokenizer"][action])
        after = 0.0 if terminated else phi()
        assert shaped_reward - reward == pytest.approx(gamma * after - before)
        total += shaped_reward - reward
        discounted += gamma**step * (shaped_reward - reward)
        if terminated:
            break
    assert discounted == pytest.approx(-start), (
        "the sum telescopes, so that the optimal policy is unchanged"
    )
    assert shaped_info["reward_terms"].pop("step_reward") == pytest.approx(total)
    assert shaped_info == last


def test_shaping_in_the_batch_is_that_of_the_single_one(words_batch: Any, words_env: Any) -> None:
    envs = words_batch(2, prompts=ROWS, reward="exact_match", step_reward=potential)
    singles = [words_env(prompts=ROWS, reward="exact_match", step_reward=potential) for _ in "ab"]
    envs.reset(seed=4)
    for row, env in enumerate(singles):
        env.reset(seed=4 + row)
    for actions in ([2, 1], [1, EOS]):
        _, rewards, *_ = envs.step(actions)
        expected = [env.step(action)[1] for env, action in zip(singles, actions, strict=True)]
        assert rewards.tolist() == expected


def test_a_reward_of_names_can_shape(words_env: Any) -> None:
    env = words_env(prompts=ROWS, reward="exact_match", step_reward={"edit_similarity": 2.0})
    env.reset(options={"index": 0})
    assert env.step(1)[1] == pytest.approx(2.0), "from nothing in common to the reference"


@pytest.mark.parametrize("gamma", [-0.1, 1.1, "1", None, True, float("nan")])
def test_gammas_that_cannot_be(words_env: Any, gamma: Any) -> None:
    with pytest.raises(SettingsError, match="step_reward_gamma"):
        words_env(step_reward=potential, step_reward_gamma=gamma)


# ------------------------------------------------------------------ costs


def letters_a(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [float(text.count("a")) for text in completions]


def one(completions: list[str]) -> list[float]:
    return [1.0] * len(completions)


def test_costs_are_in_every_info(words_env: Any, play: Any) -> None:
    env = words_env(costs={"toxicity": letters_a, "length": one})
    _, info = env.reset(seed=0)
    assert "cost" not in info
    assert env.step(1)[4] == {"cost": 0.0}
    _, reward, _, _, info = env.step(EOS)
    assert info["cost"] == 2.0
    assert type(info["cost"]) is float
    assert info["cost_terms"] == {"toxicity": 1.0, "length": 1.0}
    assert reward == 3.0, "costs are no part of the reward"


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_costs_of_a_batch(words_batch: Any, mode: str) -> None:
    envs = words_batch(3, costs={"toxicity": letters_a}, autoreset_mode=mode)
    envs.reset(seed=0)
    infos = envs.step([1, EOS, 3])[4]
    if mode == "SameStep":
        assert infos["final_info"]["cost"].tolist() == [0.0, 0.0, 0.0]
        assert infos["final_info"]["_cost"].tolist() == [False, True, False]
        assert infos["_cost"].tolist() == [True, False, True]
    else:
        assert infos["_cost"].tolist() == [True, True, True]
        # The row that is reset in this step reports no cost.
        assert envs.step([1, 1, 1])[4]["_cost"].tolist() == [True, False, True]


def test_a_single_environment_and_its_costs(words_env: Any) -> None:
    env = words_env(costs={"toxicity": "distinct"})
    env.reset(seed=0)
    env.step(1)
    assert env.step(EOS)[4]["cost_terms"].keys() == {"toxicity"}


def test_a_tasks_costs_can_be_left_out() -> None:
    for costs, told in ((None, True), ({}, False)):
        env = TextGenEnv(task="TextGen/Moderate-v0", costs=costs)
        env.reset(seed=0)
        assert ("cost" in env.step(1)[4]) == told


@pytest.mark.parametrize("costs", [[one], "length", one, {"x": "no such reward"}, {"x": 3}])
def test_costs_that_cannot_be(words_env: Any, costs: Any) -> None:
    with pytest.raises((SettingsError, RewardError)):
        words_env(costs=costs)


# ------------------------------------------------------------------ the batch is scored as a batch


def test_rows_that_wait_are_not_scored_again() -> None:
    calls = []

    def reward(completions: list[str]) -> list[float]:
        calls.append(len(completions))
        return [1.0] * len(completions)

    envs = TextGenVectorEnv(
        2, prompts=["the"], tokenizer=["the", "<eos>"], reward=reward, max_new_tokens=5
    )
    envs.reset(seed=0)
    assert envs.step([1, 0])[1].tolist() == [1.0, 0.0]
    assert envs.step([1, 1])[1].tolist() == [0.0, 1.0]
    assert envs.step([0, 0])[1].tolist() == [0.0, 0.0]
    assert calls == [1, 1]

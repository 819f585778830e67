"""The batch: equality with ``SyncVectorEnv``, autoreset modes, and step limits."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

from textgym import load_tokenizer
from textgym.envs import TextGenVectorEnv
from textgym.errors import ResetNeededError, SettingsError
from textgym.testing import check_vector_env

SPECS = [spec for spec in gym.registry.values() if str(spec.entry_point).startswith("textgym")]
WORDS = ["the", "cat", "sat", "ran", "<eos>"]
TINY = load_tokenizer()
MODES = list(AutoresetMode)


def letters(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [
        len(prompt) + 0.1 * len(text) for prompt, text in zip(prompts, completions, strict=True)
    ]


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.id)
def test_every_id_equals_the_loop(spec: Any, mode: AutoresetMode) -> None:
    check_vector_env(spec.id, num_envs=4, num_steps=40, seed=3, autoreset_modes=[mode])


OPTIONS = st.fixed_dictionaries(
    {"max_new_tokens": st.integers(1, 6)},
    optional={
        "stop_at_eos": st.booleans(),
        "max_episode_steps": st.integers(1, 7),
        "costs": st.just({"letters": letters, "named": "repetition"}),
        "step_reward": st.just(letters),
        "step_reward_gamma": st.sampled_from([0.5, 1.0]),
        "reward": st.sampled_from(["distinct", {"distinct": 2.0, letters: -1.0}]),
    },
)


@settings(max_examples=25)
@given(
    num_envs=st.integers(1, 5),
    seed=st.integers(0, 10_000),
    mode=st.sampled_from(MODES),
    stop=st.lists(st.sampled_from(["cat", "at s", " the", "ran ran", "<eos>"]), max_size=2),
    prompts=st.lists(
        st.one_of(
            st.sampled_from(["the", "cat sat", ""]),
            st.fixed_dictionaries({"prompt": st.just("ran"), "number": st.integers(0, 5)}),
            st.fixed_dictionaries({"prompt": st.just("sat"), "nested": st.just({"a": {"b": "c"}})}),
            st.fixed_dictionaries({"prompt": st.just("the"), "reference": st.just(["x", "y"])}),
        ),
        min_size=1,
        max_size=4,
    ),
    options=OPTIONS,
)
def test_words_equal_the_loop(
    num_envs: int, seed: int, mode: Any, stop: Any, prompts: Any, options: dict[str, Any]
) -> None:
    check_vector_env(
        "TextGen-v0",
        num_envs=num_envs,
        num_steps=12,
        seed=seed,
        autoreset_modes=[mode],
        prompts=prompts,
        tokenizer=WORDS,
        max_prompt_tokens=3,
        stop=stop,
        **{"reward": letters, **options},
    )


@settings(max_examples=15)
@given(
    num_envs=st.integers(1, 5),
    seed=st.integers(0, 10_000),
    mode=st.sampled_from(MODES),
    stop=st.lists(st.sampled_from(["a", "e", " t", "in", "\n"]), max_size=2),
    overflow=st.sampled_from(["left", "right"]),
    options=OPTIONS,
)
def test_byte_level_text_equals_the_loop(
    num_envs: int, seed: int, mode: Any, stop: Any, overflow: Any, options: dict[str, Any]
) -> None:
    check_vector_env(
        "TextGen-v0",
        num_envs=num_envs,
        num_steps=12,
        seed=seed,
        autoreset_modes=[mode],
        tokenizer=TINY,
        max_prompt_tokens=8,
        prompt_overflow=overflow,
        stop=stop,
        **options,
    )


# ------------------------------------------------------------------ autoreset, by hand


def test_next_step(words_batch: Any) -> None:
    envs = words_batch(2, prompts=["the"])
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    envs.reset(seed=0)
    obs, _, terminated, _, infos = envs.step([4, 1])
    assert obs[:, :3].tolist() == [[0, 4, -1], [0, 1, -1]], "the end is seen"
    assert terminated.tolist() == [True, False]
    assert infos["response"].tolist() == ["", None]
    obs, rewards, terminated, _, infos = envs.step([99, 1])  # No action of the row that waits.
    assert obs[:, :3].tolist() == [[0, -1, -1], [0, 1, 1]]
    assert (rewards.tolist(), terminated.tolist()) == ([0.0, 0.0], [False, False])
    assert infos["_prompt"].tolist() == [True, False]


def test_same_step(words_batch: Any) -> None:
    envs = words_batch(2, prompts=["the"], autoreset_mode="SameStep")
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    envs.reset(seed=0)
    obs, _, terminated, _, infos = envs.step([4, 1])
    assert obs[:, :3].tolist() == [[0, -1, -1], [0, 1, -1]]
    assert terminated.tolist() == [True, False]
    assert infos["final_obs"].dtype == object
    assert infos["final_obs"][0].tolist()[:3] == [0, 4, -1]
    assert infos["final_obs"][0].dtype == np.int32
    assert infos["final_obs"][1] is None
    assert infos["final_info"]["finish_reason"].tolist() == ["eos", None]
    assert infos["prompt"].tolist() == ["the", None]
    envs.step([1, 1])
    assert envs.step([4, 4])[2].tolist() == [True, True]


def test_disabled(words_batch: Any) -> None:
    envs = words_batch(3, prompts=["the"], autoreset_mode=AutoresetMode.DISABLED)
    envs.reset(seed=0)
    envs.step([4, 1, 4])
    with pytest.raises(ResetNeededError, match=r"rows \[0, 2\] are over"):
        envs.step([1, 1, 1])
    obs, infos = envs.reset(options={"reset_mask": np.array([True, False, True])})
    assert obs[:, :2].tolist() == [[0, -1], [0, 1], [0, -1]], "the others are as they were"
    assert infos["_prompt"].tolist() == [True, False, True]
    assert envs.step([1, 2, 1])[0][1, :3].tolist() == [0, 1, 2]


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_modes_by_name(mode: AutoresetMode) -> None:
    for name in (mode, mode.value, mode.name, mode.name.lower()):
        envs = gym.make_vec("TextGen-v0", num_envs=2, autoreset_mode=name)
        assert envs.metadata["autoreset_mode"] is mode
    assert "autoreset_mode" not in TextGenVectorEnv.metadata, "it is an instance attribute"


@pytest.mark.parametrize(
    "mask",
    [
        [True, False],
        np.array([1, 0]),
        np.array([True]),
        np.array([False, False]),
        np.array([[True, False]]),
    ],
    ids=repr,
)
def test_masks_that_cannot_be(words_batch: Any, mask: Any) -> None:
    envs = words_batch(2, autoreset_mode="Disabled")
    envs.reset(seed=0)
    with pytest.raises(SettingsError, match="reset_mask"):
        envs.reset(options={"reset_mask": mask})


def test_the_first_reset_is_of_all_rows(words_batch: Any) -> None:
    envs = words_batch(2)
    with pytest.raises(ResetNeededError):
        envs.step([0, 0])
    with pytest.raises(ResetNeededError):
        envs.reset(options={"reset_mask": np.array([True, False])})
    envs.reset(options={"reset_mask": np.array([True, True])})
    envs.step([0, 0])


def test_arrays_are_fresh(words_batch: Any) -> None:
    envs = words_batch(2)
    obs, _ = envs.reset(seed=0)
    kept = [obs, *envs.step([1, 1])[:4]]
    later = envs.step([4, 2])[:4]
    for before in kept:
        for after in later:
            assert not np.shares_memory(before, after)
    obs[:] = 77
    assert envs.step([1, 1])[0].max() < 5, "observations are copies"


# ------------------------------------------------------------------ step limits


@settings(max_examples=30)
@given(
    limit=st.integers(1, 5),
    budget=st.integers(1, 5),
    actions=st.lists(st.integers(0, 4), min_size=10, max_size=10),
)
def test_step_limit_of_batch_and_wrapper(limit: int, budget: int, actions: list[int]) -> None:
    arguments: dict[str, Any] = {
        "prompts": ["the"],
        "tokenizer": WORDS,
        "reward": letters,
        "max_new_tokens": budget,
        "max_episode_steps": limit,
    }
    single = gym.make("TextGen-v0", **arguments)
    envs = gym.make_vec("TextGen-v0", num_envs=1, **arguments)
    single.reset(seed=0)
    envs.reset(seed=0)
    for number, action in enumerate(actions, 1):
        obs, reward, terminated, truncated, info = single.step(action)
        batch_obs, rewards, terminations, truncations, infos = envs.step([action])
        assert (batch_obs[0] == obs).all()
        assert (rewards[0], terminations[0], truncations[0]) == (reward, terminated, truncated)
        assert truncated == (number == limit)
        if terminated or truncated:
            assert ("response" in info) == terminated, "truncated texts are not scored"
            assert info.keys() <= infos.keys()
            return


def test_a_step_limit_outlives_the_reset(words_batch: Any) -> None:
    envs = words_batch(1, max_episode_steps=2, autoreset_mode="SameStep")
    envs.reset(seed=0)
    assert [bool(envs.step([1])[3][0]) for _ in range(6)] == [False, True] * 3


@pytest.mark.parametrize("limit", [0, -1, 1.5, "3"])
def test_limits_that_cannot_be(limit: Any) -> None:
    with pytest.raises(SettingsError, match="max_episode_steps"):
        TextGenVectorEnv(1, max_episode_steps=limit)


@pytest.mark.parametrize("num_envs", [0, -1, 1.0, True, "2"])
def test_sizes_that_cannot_be(num_envs: Any) -> None:
    with pytest.raises(SettingsError, match="num_envs"):
        TextGenVectorEnv(num_envs)

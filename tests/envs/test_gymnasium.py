"""Gymnasium's checkers, wrappers, specs and worker processes."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from textgym import load_tokenizer
from textgym.envs import TextGenEnv, TextGenVectorEnv
from textgym.testing import assert_same

SPECS = [spec for spec in gym.registry.values() if str(spec.entry_point).startswith("textgym")]
WORDS = ["the", "cat", "sat", "ran", "<eos>"]
each_id = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.id)


def letters(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [float(len(text)) for text in completions]


def rows(rng: np.random.Generator) -> dict[str, Any]:
    return {"prompt": f"{rng.integers(9)}", "reference": ["a"], "array": np.zeros(2)}


CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "words": {"prompts": ["the cat"], "tokenizer": WORDS, "max_new_tokens": 3},
    "one token": {"max_new_tokens": 1, "prompts": [""], "max_prompt_tokens": 0},
    "shaped": {"step_reward": letters, "costs": {"letters": letters}, "reward": letters},
    "stops": {"stop": ["a", "e "], "stop_at_eos": False, "max_new_tokens": 5},
    "function": {"prompts": rows, "reward": {letters: 0.5, "distinct": 1.0}},
    "columns": {"prompts": [{"prompt": "a", "x": None, "y": [1], "z": {"u": 1.5}}]},
    "cut": {"prompts": ["a b c d e"] * 3, "max_prompt_tokens": 2, "prompt_overflow": "left"},
    "list of words": {"prompts": ["a"], "tokenizer": ["a", "b"], "stop_at_eos": False},
    "eval": {"split": "eval", "level": 2},
}


# ------------------------------------------------------------------ checkers


@each_id
def test_check_env(spec: Any) -> None:
    check_env(spec.make(disable_env_checker=True).unwrapped)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_check_env_of_configurations(name: str) -> None:
    check_env(gym.make("TextGen-v0", disable_env_checker=True, **CONFIGURATIONS[name]).unwrapped)


@each_id
def test_passive_checker(spec: Any) -> None:
    env = gym.make(spec.id, disable_env_checker=False)
    assert "PassiveEnvChecker" in str(env)
    for episode in range(3):
        env.reset(seed=episode)
        over = False
        while not over:
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            over = terminated or truncated
    env.close()


@each_id
def test_rollouts_are_deterministic(spec: Any) -> None:
    one, two = spec.make(disable_env_checker=True), spec.make(disable_env_checker=True)
    assert_same(one.reset(seed=5), two.reset(seed=5))
    one.action_space.seed(5)
    for _ in range(60):
        action = one.action_space.sample()
        ours, theirs = one.step(action), two.step(action)
        assert_same(ours, theirs)
        assert ours[0] in one.observation_space
        if ours[2]:
            assert_same(one.reset(), two.reset())


# ------------------------------------------------------------------ specs


@each_id
def test_spec_survives_json(spec: Any) -> None:
    made = gym.make(spec.id, max_new_tokens=3, stop=["\n"]).spec
    again = EnvSpec.from_json(made.to_json())
    assert again == made
    env = gym.make(again)
    assert env.unwrapped.settings.max_new_tokens == 3
    assert_same(env.reset(seed=1), gym.make(spec.id, max_new_tokens=3, stop=["\n"]).reset(seed=1))


@each_id
def test_entry_points_are_strings(spec: Any) -> None:
    assert spec.entry_point == "textgym.envs:TextGenEnv"
    assert spec.vector_entry_point == "textgym.envs:TextGenVectorEnv"
    assert isinstance(gym.make(spec.id).unwrapped, TextGenEnv)
    envs = gym.make_vec(spec.id, num_envs=2)
    assert isinstance(envs.unwrapped, TextGenVectorEnv)
    assert envs.spec.id == spec.id


def test_spec_of_a_wrapped_stack() -> None:
    env = gym.make("TextGen-v0", render_mode="rgb_array", max_episode_steps=7)
    env = gym.wrappers.NormalizeReward(gym.wrappers.FlattenObservation(env), gamma=0.8)
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert again.spec == env.spec
    assert again.render_mode == "rgb_array"
    assert_same(env.reset(seed=4), again.reset(seed=4))


def test_heavy_arguments_are_not_copied() -> None:
    tokenizer = load_tokenizer(WORDS)
    env = gym.make("TextGen-v0", tokenizer=tokenizer, prompts=["the"])
    assert env.unwrapped.tokenizer is tokenizer
    assert env.spec.kwargs["tokenizer"] is tokenizer


# ------------------------------------------------------------------ pickling and copying


@each_id
def test_pickling(spec: Any) -> None:
    env = spec.make(disable_env_checker=True)
    env.reset(seed=3)
    env.step(1)
    twin = pickle.loads(pickle.dumps(env))
    for action in (1, 0, 1):
        if env.unwrapped.get_state()["over"]:
            assert_same(env.reset(), twin.reset())
        assert_same(env.step(action), twin.step(action))
    assert_same(env.reset(), twin.reset())


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.value)
def test_pickling_a_batch(mode: AutoresetMode) -> None:
    envs = TextGenVectorEnv(3, max_new_tokens=9, autoreset_mode=mode, stop=["e"])
    envs.reset(seed=3)
    envs.step([1, 2, 3])
    twin = pickle.loads(pickle.dumps(envs))
    assert_same(envs.step([4, 5, 6]), twin.step([4, 5, 6]))
    assert_same(envs.reset(), twin.reset())


def test_a_copy_is_a_fork() -> None:
    """A copy, as tree search makes it, continues independently of the original."""
    env = gym.make("TextGen-v0", prompts=["the cat", "ran"], tokenizer=WORDS, reward=letters)
    env.reset(seed=0)
    env.step(1)
    fork = copy.deepcopy(env)
    fork.step(2)
    obs = env.step(3)[0]
    assert 2 not in obs[1:].tolist()
    assert_same(fork.reset(), env.reset())


# ------------------------------------------------------------------ rendering


@each_id
def test_render_modes(spec: Any) -> None:
    modes = gym.make(spec.id).metadata["render_modes"]
    assert set(modes) == {"ansi", "human", "rgb_array"}
    for mode, kind in (("ansi", str), ("rgb_array", np.ndarray)):
        env = spec.make(render_mode=mode)
        env.reset(seed=1)
        assert isinstance(env.render(), kind)
        env.step(0)
        assert isinstance(env.render(), kind)
        env.close()


def test_render_lists() -> None:
    env = gym.make("TextGen-v0", render_mode="rgb_array_list")
    env.reset(seed=0)
    env.step(1)
    frames = env.render()
    assert len(frames) == 2
    env = gym.make("TextGen-v0", render_mode="ansi_list")
    env.reset(seed=0)
    assert len(env.render()) == 1


# ------------------------------------------------------------------ wrappers


def test_record_episode_statistics() -> None:
    env = gym.wrappers.RecordEpisodeStatistics(
        gym.make("TextGen-v0", prompts=["the"], tokenizer=WORDS, reward=letters)
    )
    env.reset(seed=0)
    env.step(1)
    *_, info = env.step(4)
    assert (info["episode"]["r"], info["episode"]["l"]) == (3.0, 2)


def test_time_limit_truncates_without_a_reward() -> None:
    env = gym.wrappers.TimeLimit(gym.make("TextGen-v0", prompts=["the"], tokenizer=WORDS), 2)
    env.reset(seed=0)
    assert env.step(1)[2:4] == (False, False)
    _, reward, terminated, truncated, info = env.step(1)
    assert (reward, terminated, truncated, info) == (0.0, False, True, {})


def test_observation_wrappers() -> None:
    env = gym.make("TextGen-v0", prompts=["the"], tokenizer=WORDS, max_new_tokens=3)
    flat = gym.wrappers.FlattenObservation(env)
    assert flat.observation_space.shape == env.observation_space.shape
    assert flat.reset(seed=0)[0].dtype == np.int32
    stacked = gym.wrappers.FrameStackObservation(env, 2)
    assert stacked.reset(seed=0)[0].shape == (2, 67)
    rescaled = gym.wrappers.DtypeObservation(env, np.float32)
    assert rescaled.reset(seed=0)[0].dtype == np.float32
    again = gym.wrappers.Autoreset(env)
    again.reset(seed=0)
    again.step(4)
    assert again.step(0)[0].tolist()[:2] == [0, -1]


def test_vector_wrappers() -> None:
    envs = gym.make_vec("TextGen-v0", num_envs=3, prompts=["the"], tokenizer=WORDS, reward=letters)
    envs = gym.wrappers.vector.RecordEpisodeStatistics(envs)
    envs.reset(seed=0)
    envs.step(np.array([1, 4, 1]))
    infos = envs.step(np.array([4, 0, 1]))[4]
    assert infos["episode"]["r"].tolist() == [3.0, 0.0, 0.0]
    assert infos["episode"]["l"].tolist() == [2, 0, 0]
    listed = gym.wrappers.vector.DictInfoToList(
        gym.make_vec("TextGen-v0", num_envs=2, prompts=["the"], tokenizer=WORDS, reward=letters)
    )
    listed.reset(seed=0)
    infos = listed.step(np.array([4, 1]))[4]
    assert infos[0]["reward_terms"] == {"letters": 0.0}
    assert infos[1] == {}


# ------------------------------------------------------------------ vectorization modes


@pytest.mark.parametrize("how", ["sync", "vector_entry_point"])
@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.value)
def test_make_vec(how: Any, mode: AutoresetMode) -> None:
    """Both ways to ask for a mode, and the same prompts."""
    arguments: dict[str, Any] = (
        {"autoreset_mode": mode}
        if how == "vector_entry_point"
        else {"vector_kwargs": {"autoreset_mode": mode}}
    )
    envs = gym.make_vec(
        "textgym:TextGen-v0", num_envs=2, vectorization_mode=how, max_new_tokens=2, **arguments
    )
    assert envs.metadata["autoreset_mode"] == mode
    _, infos = envs.reset(seed=1)
    assert infos["prompt"][0] == gym.make("TextGen-v0").reset(seed=1)[1]["prompt"]
    envs.step(envs.action_space.sample())
    envs.close()


def test_action_space_of_a_batch_is_sampled_in_range() -> None:
    envs = gym.make_vec("TextGen-v0", num_envs=4)
    envs.action_space.seed(0)
    assert envs.reset(seed=0)[0] in envs.observation_space
    for _ in range(5):
        assert envs.step(envs.action_space.sample())[0] in envs.observation_space


def test_async_vector_env() -> None:
    arguments: dict[str, Any] = {"max_new_tokens": 2, "stop": ["e"]}
    ids = [lambda: gym.make("textgym:TextGen-v0", **arguments)] * 2
    loop, workers = SyncVectorEnv(ids), AsyncVectorEnv(ids)
    try:
        assert_same(workers.reset(seed=2), loop.reset(seed=2))
        for actions in ([3, 0], [0, 5], [6, 7]):
            assert_same(workers.step(np.array(actions)), loop.step(np.array(actions)))
    finally:
        workers.close()


def test_spawned_workers_know_the_id() -> None:
    """A new process can make "textgym:TextGen-v0"."""
    envs = gym.make_vec(
        "textgym:TextGen-v0",
        num_envs=1,
        vectorization_mode="async",
        vector_kwargs={"context": "spawn"},
        max_new_tokens=1,
    )
    try:
        _, infos = envs.reset(seed=1)
        assert infos["prompt"][0] == gym.make("TextGen-v0").reset(seed=1)[1]["prompt"]
        assert envs.step(np.array([3]))[2].tolist() == [True]
    finally:
        envs.close()


def test_spawned_workers_of_sb3_know_the_id() -> None:
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import SubprocVecEnv

    venv = make_vec_env(
        "textgym:TextGen-v0",
        n_envs=1,
        seed=1,
        vec_env_cls=SubprocVecEnv,
        vec_env_kwargs={"start_method": "spawn"},
    )
    try:
        venv.reset()
        prompt = gym.make("TextGen-v0").reset(seed=1)[1]["prompt"]
        assert venv.reset_infos[0]["prompt"] == prompt
    finally:
        venv.close()


@each_id
def test_data_equivalence_after_seeding_again(spec: Any) -> None:
    env = gym.make(spec.id)
    assert data_equivalence(env.reset(seed=9), env.reset(seed=9))

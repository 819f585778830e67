"""Agents on environments that they were not saved for, and the habits of SB3's make_vec_env."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env as sb3_make_vec_env

from tests.lm.checkpoints import WORDS
from textgym.errors import SettingsError
from textgym.sb3 import LMPolicy, LMRolloutBuffer, make_vec_env

MakeEnv = Callable[..., Any]
RENAMED = ["other", *WORDS[1:]]


@pytest.fixture
def saved(make_env: MakeEnv, checkpoint: Callable[..., str], tmp_path: Path) -> Path:
    model = PPO(
        LMPolicy, make_env(), n_steps=5, batch_size=10, seed=0, device="cpu",
        policy_kwargs={"lm": checkpoint()}, rollout_buffer_class=LMRolloutBuffer,
    )  # fmt: skip
    model.save(tmp_path / "model")
    return tmp_path / "model.zip"


def single(**changes: Any) -> Any:
    settings = {"tokenizer": WORDS, "max_prompt_tokens": 6, "max_new_tokens": 9, **changes}
    return sb3_make_vec_env("TextGen-v0", 6, env_kwargs={"prompts": ["w1"], **settings})


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (lambda make: make(max_new_tokens=9), r"lengths: up to 1[35] and 1[35] tokens"),
        (lambda make: single(), r"lengths: up to 1[35] and 1[35] tokens"),
        (
            lambda make: make(prompts=["w2"], tokenizer=RENAMED),
            "different vocabularies of 23 tokens",
        ),
        (lambda make: make(prompts=["w2"], tokenizer=WORDS[2:]), "different vocabularies"),
        (lambda make: make_vec_env("TextGen/Caption-v0", 6), "pictures"),
    ],
    ids=["budget", "single", "words of another meaning", "fewer words", "pictures"],
)
def test_an_agent_on_another_environment(
    saved: Path, make_env: MakeEnv, make: Callable[..., Any], cause: str
) -> None:
    venv = make(make_env)
    with pytest.raises(SettingsError, match=rf"{cause}.*load_agent"):
        PPO.load(saved, env=venv, device="cpu")
    model = PPO.load(saved, device="cpu")
    with pytest.raises(SettingsError, match=cause):
        model.set_env(venv)


def test_an_agent_on_an_environment_of_the_same_kind(saved: Path, make_env: MakeEnv) -> None:
    venv = make_env(n_envs=3, prompts=["w3", "w4 w5"], reward="distinct")
    model = PPO.load(saved, env=venv, device="cpu")
    model.learn(15)
    assert model.num_timesteps == 15


def test_an_agent_that_was_saved_with_plain_spaces(saved: Path, make_env: MakeEnv) -> None:
    """Files of earlier versions."""
    model = PPO.load(saved, device="cpu")
    model.observation_space = spaces.Box(-1, 22, (13,), "int32")
    model.action_space = spaces.Discrete(23)
    model.set_env(make_env())
    with pytest.raises(SettingsError, match="lengths: up to"):
        model.set_env(make_env(max_new_tokens=9))
    model.action_space = spaces.Discrete(24)
    with pytest.raises(SettingsError, match=r"2[34] and 2[34]"):
        model.set_env(make_env())


def test_elsewhere_they_are_the_spaces_of_gymnasium(make_env: MakeEnv) -> None:
    venv, other = make_env(), make_env(max_new_tokens=9)
    for name in ("observation_space", "action_space"):
        ours = getattr(venv, name)
        plain = getattr(venv.unwrapped.envs, f"single_{name}")
        assert ours == plain
        assert plain == ours
        assert (ours != plain) is (plain != ours) is False
        assert repr(ours) == repr(plain)
        assert pickle.loads(pickle.dumps(ours)) == copy.deepcopy(ours) == ours
        assert ours != spaces.Discrete(3)
        assert spaces.Discrete(3) != ours
        ours.seed(1)
        plain.seed(1)
        assert ours.contains(ours.sample())
    assert venv.observation_space != other.observation_space
    assert venv.action_space == other.action_space
    renamed = make_env(prompts=["w2"], tokenizer=RENAMED)
    assert venv.action_space != renamed.action_space


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"env_kwargs": {"max_new_tokens": 3}}, r"env_kwargs.*\*\*env_kwargs"),
        ({"vec_env_cls": gym.Env}, "vec_env_cls"),
        ({"vec_env_kwargs": {}}, "vec_env_kwargs"),
        ({"wrapper_class": gym.Wrapper}, "wrapper_class.*give wrapper="),
        ({"wrapper_kwargs": {}}, "wrapper_kwargs.*partial"),
        ({"monitor_dir": "logs"}, "monitor_dir.*RecordEpisodes"),
        ({"start_index": 1}, "start_index.*seed="),
        ({"num_envs": 2}, "num_envs.*n_envs"),
        ({"wrapper": gym.wrappers.TimeLimit}, "wrapper=TimeLimit"),
    ],
)
def test_the_habits_of_stable_baselines3(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        make_vec_env("TextGen-v0", 2, **arguments)


@pytest.mark.parametrize("env_id", [lambda: gym.make("TextGen-v0"), None, gym.Env])
def test_a_function_is_not_an_id(env_id: Any) -> None:
    with pytest.raises(SettingsError, match="env_id="):
        make_vec_env(env_id, 2)

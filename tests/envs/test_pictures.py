"""Pictures in spaces, observations, states and errors."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import textgym
from tests.pictures import Colour
from textgym.errors import SettingsError, TaskError
from textgym.registry import TASKS
from textgym.testing import check_vector_env
from textgym.wrappers import TopKActions


@pytest.fixture
def colour(register):
    with TASKS.restored():
        textgym.register_task(Colour.id, Colour)
        yield Colour.id


def test_the_batch_is_the_single_environment_many_times(colour):
    check_vector_env(colour)
    check_vector_env("TextGen/Caption-v0", num_envs=3, num_steps=60)


def test_other_libraries_find_nothing_wrong():
    env = gym.make("TextGen/Caption-v0")
    check_env(env.unwrapped)
    sb3_check_env(env.unwrapped)


def test_the_picture_is_the_rows_and_stays_within_an_episode(colour):
    env = gym.make(colour).unwrapped
    for seed in range(20):
        obs, _ = env.reset(seed=seed)
        assert set(obs) == {"tokens", "image"}
        first = obs["image"].copy()
        obs["image"][:] = 7  # a copy: nobody else sees this
        info = {}
        while "reference" not in info:
            obs, _, _, _, info = env.step(4)
            assert (obs["image"] == first).all()
        red, _, blue = first[:, 0, 0].tolist()
        assert (red > blue) == (info["reference"] == "w1")
        assert (first == Colour().image(info)).all()


def test_the_last_observation_of_an_episode_has_its_own_picture(colour):
    envs = gym.make_vec(colour, num_envs=6, autoreset_mode="SameStep")
    before, _ = envs.reset(seed=1)
    eos = envs.unwrapped.tokenizer.eos_id
    after, _, ended, _, infos = envs.step(np.full(6, eos))
    assert ended.all()
    changed = 0
    for row in range(6):
        final = infos["final_obs"][row]
        assert (final["image"] == before["image"][row]).all()
        changed += (after["image"][row] != before["image"][row]).any()
    assert changed > 0


def test_a_state_brings_the_pictures_back(colour):
    envs, others = (gym.make_vec(colour, num_envs=4).unwrapped for _ in range(2))
    envs.reset(seed=3)
    envs.step(np.full(4, 4))
    others.reset(seed=9)
    others.set_state(envs.get_state())
    for _ in range(8):
        action = np.full(4, 5)
        one, other = envs.step(action), others.step(action)
        assert (one[0]["image"] == other[0]["image"]).all()
        assert (one[0]["tokens"] == other[0]["tokens"]).all()


def test_starts_may_be_named(colour):
    env = gym.make(colour)
    row = {"prompt": "w5", "reference": "w2", "shade": 9}
    obs, _ = env.reset(options={"row": row})
    assert (obs["image"] == Colour().image(row)).all()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (lambda self, row: np.zeros((3, 12, 15), np.uint8), r"row 0 .*shape \(3, 12, 15\)"),
        (lambda self, row: np.zeros((3, 12, 16)), "row 0 .*numpy array of uint8"),
        (lambda self, row: row["nothing"], r"row 0 .*cannot draw its picture \(KeyError"),
        (None, "row 0 .*defines no image"),
    ],
)
def test_what_is_no_picture_is_told_with_its_row(colour, monkeypatch, image, message):
    if image is None:
        monkeypatch.delattr(Colour, "image")
    else:
        monkeypatch.setattr(Colour, "image", image)
    with pytest.raises(TaskError, match=message):
        gym.make(colour).reset(seed=0)


def test_proposals_of_a_model_that_reads_text_alone_are_refused(colour):
    with pytest.raises(SettingsError, match="a Box of token ids"):
        TopKActions(gym.make("TextGen/Caption-v0"), lm="textgym/tiny", k=4)

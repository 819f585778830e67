"""Infos with only numbers."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

import textgym  # noqa: F401 (registers the environments)
from textgym.errors import SettingsError
from textgym.wrappers import NumericInfos

pytest.importorskip("array_api_compat")

import torch
from gymnasium.wrappers.vector import NumpyToTorch


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
@pytest.mark.parametrize(
    "env_id", ["TextGen/Story-v0", "TextGen/Dialogue-v0", "TextGen/Caption-v0"]
)
def test_everything_becomes_a_tensor(env_id, mode):
    def make():
        return gym.make_vec(env_id, num_envs=3, autoreset_mode=mode, max_new_tokens=6)

    plain = make()
    envs = NumpyToTorch(NumericInfos(make()))
    obs, infos = envs.reset(seed=3)
    theirs, _ = plain.reset(seed=3)
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(14):
        actions = rng.integers(0, 2000, 3)
        obs, rewards, _, _, infos = envs.step(torch.from_numpy(actions))
        theirs, their_rewards, *_ = plain.step(actions)
        for ours, other in zip(_leaves(obs), _leaves(theirs), strict=True):
            assert torch.equal(ours, torch.from_numpy(other))
        assert torch.equal(rewards, torch.from_numpy(their_rewards))
        assert all(isinstance(leaf, torch.Tensor) for leaf in _leaves(infos))
        seen |= set(infos)
    assert ("final_obs" in seen) == (mode == "SameStep")
    assert "reward_terms" in seen or "final_info" in seen


def test_texts_are_kept_beside():
    envs = NumericInfos(gym.make_vec("TextGen/Story-v0", num_envs=2, max_new_tokens=1))
    _, infos = envs.reset(seed=0)
    assert set(infos) == {"prompt_tokens", "_prompt_tokens"}
    assert len(envs.texts["prompt"]) == 2
    infos = envs.step(np.array([5, 6]))[4]
    assert {"reward_terms", "_reward_terms"} <= set(infos)
    assert all(isinstance(text, str) for text in envs.texts["response"])


def test_some_are_kept():
    envs = NumericInfos(
        gym.make_vec("TextGen/Story-v0", num_envs=2, max_new_tokens=1, autoreset_mode="SameStep"),
        keep=["final_obs"],
    )
    assert envs.reset(seed=0)[1] == {}
    assert set(envs.step(np.array([5, 6]))[4]) == {"final_obs", "_final_obs"}


def test_torchrl_collects_from_the_batch():
    torchrl = pytest.importorskip("torchrl.envs.libs.gym")
    envs = NumericInfos(
        gym.make_vec("TextGen/Story-v0", num_envs=4, max_new_tokens=6, autoreset_mode="SameStep"),
        keep=["final_obs"],
    )
    collected = torchrl.GymWrapper(envs).rollout(20, break_when_any_done=False)
    assert collected.batch_size == (4, 20)
    assert int(collected["next", "done"].sum()) == 4 * (20 // 6)


@pytest.mark.parametrize("keep", ["final_obs", 3, [1]])
def test_impossible_names_are_refused(keep):
    with pytest.raises(SettingsError, match=r"keep=.*list of names"):
        NumericInfos(gym.make_vec("TextGen/Story-v0", num_envs=2), keep=keep)
    with pytest.raises(SettingsError, match=r"wraps a batch.*make_vec"):
        NumericInfos(gym.make("TextGen/Story-v0"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["SameStep", "Disabled"])
def test_what_torchrl_collects_are_the_true_texts(mode):
    """The last text of an episode ends with its last token, and the next begins with a prompt."""
    collectors = pytest.importorskip("torchrl.collectors")
    wrappers = pytest.importorskip("torchrl.envs")
    envs = gym.make_vec(
        "TextGen-v0", num_envs=3, autoreset_mode=mode, prompts=["the cat", "the"],
        tokenizer=["the", "cat", "sat", "ran", "<eos>"], reward="distinct",
        max_prompt_tokens=2, max_new_tokens=4,
    )  # fmt: skip
    if mode == "SameStep":
        envs = NumericInfos(envs, keep=["final_obs"])
    env = wrappers.GymWrapper(envs)
    frames = list(collectors.Collector(env, None, frames_per_batch=60, total_frames=120))
    assert len(frames) == 2
    for data in frames:
        written, done = data["next"]["observation"], data["next"]["done"][..., 0]
        before = (data["observation"] >= 0).sum(-1)
        assert torch.equal((written >= 0).sum(-1), before + 1)
        actions = data["action"].argmax(-1) if data["action"].ndim == 3 else data["action"]
        last = written.gather(-1, before[..., None])[..., 0]
        assert torch.equal(last, actions.to(last.dtype))
        starts = data["observation"][:, 1:][done[:, :-1]]
        assert len(starts) > 5
        assert bool(((starts >= 0).sum(-1) <= 2).all())


def _leaves(value):
    if isinstance(value, dict):
        return [leaf for one in value.values() for leaf in _leaves(one)]
    return [value]

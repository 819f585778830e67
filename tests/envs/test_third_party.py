"""Agents and tools of other libraries, without changes."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

SPECS = [spec for spec in gym.registry.values() if str(spec.entry_point).startswith("textgym")]
WORDS: dict[str, Any] = {
    "prompts": ["the cat", "the"],
    "tokenizer": ["the", "cat", "sat", "ran", "<eos>"],
    "reward": "distinct",
    "max_prompt_tokens": 2,
    "max_new_tokens": 4,
}
POLICY = {"policy": "MlpPolicy", "policy_kwargs": {"net_arch": [8]}, "seed": 0, "device": "cpu"}


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.id)
def test_sb3_check_env(spec: Any) -> None:
    check_env(gym.make(spec.id).unwrapped, warn=True)
    check_env(gym.make(spec.id, max_new_tokens=3), warn=True, skip_render_check=False)


def test_sb3_check_env_with_words() -> None:
    check_env(gym.make("TextGen-v0", **WORDS).unwrapped, warn=True)


ALGORITHMS: dict[str, dict[str, Any]] = {
    "PPO": {"n_steps": 8, "batch_size": 8, "n_epochs": 1},
    "A2C": {"n_steps": 8},
    "DQN": {"buffer_size": 200, "learning_starts": 8, "batch_size": 4, "train_freq": 4},
}
CONTRIB: dict[str, dict[str, Any]] = {
    "RecurrentPPO": {
        "policy": "MlpLstmPolicy",
        "policy_kwargs": {"lstm_hidden_size": 8},
        "n_steps": 8,
        "batch_size": 8,
        "n_epochs": 1,
    },
    "QRDQN": {"buffer_size": 200, "learning_starts": 8, "batch_size": 4, "train_freq": 4},
    "TRPO": {"n_steps": 8, "batch_size": 8},
    "ARS": {"n_delta": 2, "policy": "LinearPolicy", "policy_kwargs": {}},
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("arguments", [{"max_new_tokens": 4}, WORDS], ids=["built-in", "words"])
def test_stable_baselines3(algorithm: str, arguments: Any) -> None:
    venv = make_vec_env("TextGen-v0", n_envs=2, seed=0, env_kwargs=arguments)
    model = getattr(sb3, algorithm)(env=venv, **POLICY, **ALGORITHMS[algorithm])
    model.learn(40)
    assert model.ep_info_buffer, "episodes have ended, and Monitor has seen them"
    mean, _ = evaluate_policy(model, Monitor(gym.make("TextGen-v0", **arguments)), 2)
    assert np.isfinite(mean)


@pytest.mark.parametrize("algorithm", CONTRIB)
def test_sb3_contrib(algorithm: str) -> None:
    contrib = pytest.importorskip("sb3_contrib")
    arguments = {**POLICY, **CONTRIB[algorithm]}
    model = getattr(contrib, algorithm)(env=gym.make("TextGen-v0", **WORDS), **arguments)
    model.learn(40)
    obs, _ = gym.make("TextGen-v0", **WORDS).reset(seed=0)
    action, _ = model.predict(obs)
    assert 0 <= int(action) < 5


def test_ppo_learns_what_there_is_to_learn() -> None:
    """A stock agent solves a task with one number in a few hundred steps."""
    venv = make_vec_env("TextGen/GoodBad-v0", n_envs=8, seed=0)
    model = sb3.PPO("MlpPolicy", venv, n_steps=32, batch_size=64, learning_rate=3e-3, seed=0)
    model.learn(2000)
    mean, _ = evaluate_policy(model, Monitor(gym.make("TextGen/GoodBad-v0")), 5)
    assert mean == 1.0


def test_sb3_sees_the_terminal_observation() -> None:
    venv = make_vec_env("TextGen-v0", n_envs=1, seed=0, env_kwargs=WORDS)
    venv.reset()
    obs, rewards, dones, infos = venv.step(np.array([4]))
    assert dones[0]
    assert infos[0]["terminal_observation"].max() == 4
    assert infos[0]["TimeLimit.truncated"] is False
    assert rewards.dtype == np.float32
    assert obs.max() < 4, "the next prompt"


# ------------------------------------------------------------------ as CleanRL does it


def cleanrl_env(index: int) -> Any:
    def make() -> gym.Env[Any, Any]:
        env = gym.make("TextGen-v0", render_mode="rgb_array" if index == 0 else None, **WORDS)
        env = gym.wrappers.FlattenObservation(env)
        return gym.wrappers.RecordEpisodeStatistics(env)

    return make


@pytest.mark.parametrize("native", [False, True])
def test_the_rollout_loop_of_cleanrl(native: bool) -> None:
    if native:
        envs: Any = gym.wrappers.vector.RecordEpisodeStatistics(
            gym.make_vec("TextGen-v0", num_envs=3, **WORDS)
        )
    else:
        envs = gym.vector.SyncVectorEnv([cleanrl_env(index) for index in range(3)])
    assert isinstance(envs.single_action_space, gym.spaces.Discrete)
    assert envs.single_action_space.n == 5
    assert isinstance(envs.single_observation_space, gym.spaces.Box)
    assert np.array(envs.single_observation_space.shape).prod() == 6
    storage = np.zeros((20, 3, *envs.single_observation_space.shape), np.float32)
    next_obs, _ = envs.reset(seed=1)
    envs.action_space.seed(1)
    lengths = []
    for step in range(20):
        storage[step] = next_obs
        next_obs, reward, terminations, truncations, infos = envs.step(envs.action_space.sample())
        assert reward.shape == np.logical_or(terminations, truncations).shape == (3,)
        if "episode" in infos:
            lengths += infos["episode"]["l"][infos["_episode"]].tolist()
    assert lengths
    assert set(lengths) <= {1, 2, 3, 4}
    envs.close()


def test_the_replay_buffer_of_cleanrl_takes_the_spaces() -> None:
    env = gym.make("TextGen-v0", **WORDS)
    buffer = ReplayBuffer(
        10, env.observation_space, env.action_space, handle_timeout_termination=False
    )
    obs, _ = env.reset(seed=0)
    next_obs, reward, terminated, _, info = env.step(4)
    buffer.add(obs, next_obs, np.array([4]), np.array([reward]), np.array([terminated]), [info])
    sample = buffer.sample(1)
    assert sample.observations.numpy()[0].tolist() == obs.tolist()
    assert sample.next_observations.numpy()[0].tolist() == next_obs.tolist()


def test_the_q_network_of_cleanrl() -> None:
    """Its replay buffer does not convert observations, which have to be float32."""

    def made(dtype: Any) -> tuple[Any, Any]:
        env = gym.make("TextGen-v0", **WORDS)
        if dtype is not None:
            env = gym.wrappers.DtypeObservation(env, dtype)
        envs = gym.vector.SyncVectorEnv([lambda: env])
        buffer = ReplayBuffer(
            20, envs.single_observation_space, envs.single_action_space, "cpu",
            handle_timeout_termination=False,
        )  # fmt: skip
        obs, _ = envs.reset(seed=1)
        for _ in range(10):
            actions = np.array([1])
            after, rewards, terminations, _, infos = envs.step(actions)
            buffer.add(obs, after, actions, rewards, terminations, infos)
            obs = after
        return envs, buffer.sample(4)

    envs, data = made(np.float32)
    network = torch.nn.Linear(int(np.prod(envs.single_observation_space.shape)), 5)
    values = network(data.observations).gather(1, data.actions)
    torch.nn.functional.mse_loss(values, data.rewards).backward()
    assert network(data.next_observations).shape == (4, 5)
    assert network.weight.grad is not None
    assert bool(network.weight.grad.any())
    with pytest.raises(RuntimeError, match="dtype"):
        network(made(None)[1].observations)


@pytest.mark.parametrize("algorithm", ["SAC", "TD3", "DDPG"])
def test_algorithms_for_continuous_actions_say_so(algorithm: str) -> None:
    with pytest.raises(AssertionError, match=r"only supports .*Box.* but Discrete\(5\)"):
        getattr(sb3, algorithm)("MlpPolicy", gym.make("TextGen-v0", **WORDS), buffer_size=10)


# ------------------------------------------------------------------ as rl-zoo does it


def test_what_rl_zoo_asks_of_an_environment() -> None:
    from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize

    venv = make_vec_env(
        "TextGen-v0",
        n_envs=2,
        seed=0,
        env_kwargs=WORDS,
        wrapper_class=gym.wrappers.TimeLimit,
        wrapper_kwargs={"max_episode_steps": 3},
    )
    venv = VecFrameStack(VecNormalize(venv), 2)
    assert venv.reset().shape == (2, 12)
    for _ in range(6):
        obs, *_ = venv.step(np.array([1, 2]))
    assert np.isfinite(obs).all()
    assert gym.spec("TextGen-v0").max_episode_steps is None

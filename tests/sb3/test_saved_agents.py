"""Saved agents and policies are loaded as they were, and nothing in a file is run."""

from __future__ import annotations

import base64
import importlib
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.utils import LinearSchedule

from tests.sb3.rollouts import make_model
from textgym.errors import SettingsError
from textgym.sb3 import LMPolicy, LMReplayBuffer, LMRolloutBuffer, TopKPolicy, load_agent
from textgym.sb3 import make_vec_env as make_venv
from textgym.sb3.checkpoints.policy_files import named_class
from textgym.wrappers import TopKActions

MakeEnv = Callable[..., Any]


class Evil:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


def rewrite(source: Path, target: Path, **members: bytes) -> Path:
    """A copy of an archive with other members."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, members.get(name.replace(".", "_"), old.read(name)))
    return target


def evil_data(source: Path, trace: Path) -> bytes:
    """The settings of an agent, with another pickle wherever there is one."""
    with zipfile.ZipFile(source) as archive:
        data = json.loads(archive.read("data"))
    for value in data.values():
        if isinstance(value, dict) and ":serialized:" in value:
            value[":serialized:"] = base64.b64encode(pickle.dumps(Evil(trace))).decode()
    return json.dumps(data).encode()


@pytest.fixture
def saved(make_env: MakeEnv, checkpoint: Callable[..., str], tmp_path: Path) -> Any:
    penalty = {"kl_coef": 0.1, "kl_target": 0.05, "reference": checkpoint()}
    model = PPO(
        LMPolicy, make_env(), n_steps=5, batch_size=10, n_epochs=2, gamma=0.9, clip_range=0.3,
        rollout_buffer_class=LMRolloutBuffer, rollout_buffer_kwargs=penalty, seed=0, device="cpu",
        policy_kwargs={"lm": checkpoint(), "net_arch": [4], "activation_fn": torch.nn.ReLU},
    )  # fmt: skip
    model.learn(30)
    model.save(tmp_path / "model")
    return model


def same_weights(one: Any, other: Any) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def test_an_agent_is_what_sb3_loads(saved: Any, make_env: MakeEnv, tmp_path: Path) -> None:
    theirs = PPO.load(tmp_path / "model", device="cpu")
    found = load_agent(tmp_path, PPO, make_env(4), device="cpu")
    assert same_weights(found.policy, theirs.policy)
    mine, other = found.policy.optimizer.state_dict(), theirs.policy.optimizer.state_dict()
    assert mine["param_groups"] == other["param_groups"]
    for key, state in other["state"].items():
        assert all(torch.equal(mine["state"][key][name], value) for name, value in state.items())
    for name in ("n_steps", "batch_size", "n_epochs", "gamma", "num_timesteps", "_n_updates",
                 "policy_kwargs", "rollout_buffer_class", "rollout_buffer_kwargs"):  # fmt: skip
        assert getattr(found, name) == getattr(theirs, name), name
    assert found.clip_range(1.0) == theirs.clip_range(1.0) == 0.3
    obs = found.env.reset()
    assert np.array_equal(
        found.predict(obs, deterministic=True)[0], theirs.predict(obs, deterministic=True)[0]
    )
    found.learn(20, reset_num_timesteps=False)
    assert found.num_timesteps == 50
    assert load_agent(tmp_path / "model", PPO, make_env(), n_steps=10, device="cpu").n_steps == 10


def test_pickles_in_an_agent_are_not_run(saved: Any, make_env: MakeEnv, tmp_path: Path) -> None:
    source, trace = tmp_path / "model.zip", tmp_path / "ran"
    bad = rewrite(source, tmp_path / "data.zip", data=evil_data(source, trace))
    with pytest.raises(SettingsError, match="policy=LMPolicy"):
        load_agent(bad, PPO, make_env())
    with pytest.raises(SettingsError, match="rollout_buffer_class of PPO"):
        load_agent(bad, PPO, make_env(), policy=LMPolicy)
    given: dict[str, Any] = {"policy": LMPolicy, "rollout_buffer_class": LMRolloutBuffer}
    found = load_agent(bad, PPO, make_env(), **given)
    assert same_weights(found.policy, saved.policy)
    weights = io.BytesIO()
    torch.save({"a": Evil(trace)}, weights)
    evil = rewrite(source, tmp_path / "weights.zip", policy_pth=weights.getvalue())
    with pytest.raises(SettingsError, match=r"weights\.zip"):
        load_agent(evil, PPO, make_env())
    assert not trace.exists()
    with pytest.raises(Exception):  # noqa: B017, PT011 (whatever it makes of the nonsense)
        PPO.load(bad)
    assert trace.exists(), "SB3 does run it: without this the test proves nothing"


def test_schedules_and_replay_buffers(
    make_env: MakeEnv, checkpoint: Callable[..., str], tmp_path: Path
) -> None:
    model = make_model(A2C, make_env(), checkpoint(), learning_rate=LinearSchedule(1e-3, 0.0, 1.0))
    model.save(tmp_path / "a2c")
    found = load_agent(tmp_path / "a2c.zip", A2C, make_env(), device="cpu")
    assert found.lr_schedule(0.5) == model.lr_schedule(0.5)
    make_model(A2C, make_env(), checkpoint(), learning_rate=lambda left: left).save(tmp_path / "f")
    with pytest.raises(SettingsError, match="learning_rate of A2C"):
        load_agent(tmp_path / "f", A2C, make_env())
    load_agent(tmp_path / "f", A2C, make_env(), learning_rate=1e-3)
    venv = make_venv("TextGen-v0", n_envs=2, wrapper=TopKActions)
    dqn = DQN(
        TopKPolicy, venv, train_freq=(2, "step"), replay_buffer_class=LMReplayBuffer,
        replay_buffer_kwargs={"n_steps": None, "gamma": 1.0}, gamma=1.0, learning_starts=0,
    )  # fmt: skip
    dqn.save(tmp_path / "dqn")
    again = load_agent(tmp_path / "dqn", DQN, venv)
    assert again.train_freq == dqn.train_freq
    assert same_weights(again.policy, dqn.policy)


def test_an_agent_of_before_the_modules_moved(tmp_path: Path) -> None:
    venv = make_venv("TextGen-v0", n_envs=2, wrapper=TopKActions)
    saved = DQN(TopKPolicy, venv, buffer_size=10)
    saved.save(tmp_path / "new")
    with zipfile.ZipFile(tmp_path / "new.zip") as archive:
        data = json.loads(archive.read("data"))
    pickled = base64.b64decode(data["policy_class"][":serialized:"])
    old = pickled.replace(b"textgym.sb3.topk.policy", b"textgym.sb3.topk_policy")
    assert old != pickled
    data["policy_class"][":serialized:"] = base64.b64encode(old).decode()
    path = rewrite(tmp_path / "new.zip", tmp_path / "old.zip", data=json.dumps(data).encode())
    for found in (DQN.load(path), load_agent(path, DQN, venv)):
        assert type(found.policy) is TopKPolicy
        assert same_weights(found.policy, saved.policy)


@pytest.mark.parametrize(
    ("old", "name", "new"),
    [
        ("textgym.sb3.text_spaces", "TokenActions", "textgym.sb3.spaces"),
        ("textgym.sb3.topk_features", "TopKFeatures", "textgym.sb3.topk.features"),
        ("textgym.sb3.topk_quantile", "TopKQuantilePolicy", "textgym.sb3.topk.quantile"),
        ("textgym.sb3.replay", "LMReplayBuffer", "textgym.sb3.replay.buffer"),
        ("textgym.lm.kept", "KeptSets", "textgym.lm.sampling.kept_sets"),
        ("textgym.lm.sampling", "Sampling", "textgym.lm.sampling.draw"),
    ],
)
def test_moved_classes_are_importable_by_their_old_names(old: str, name: str, new: str) -> None:
    found = getattr(importlib.import_module(old), name)
    assert found is getattr(importlib.import_module(new), name)
    assert named_class(f"{old}.{name}", object) is found


def test_what_is_not_an_agent(saved: Any, make_env: MakeEnv, tmp_path: Path) -> None:
    data = (tmp_path / "model.zip").read_bytes()
    bad = tmp_path / "bad.zip"
    for content in (b"", b"x", data[: len(data) // 2], data[:-30]):
        bad.write_bytes(content)
        with pytest.raises(SettingsError, match=r"bad\.zip"):
            load_agent(bad, PPO, make_env())
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 1  # In the weights; the archive has checksums.
    bad.write_bytes(damaged)
    with pytest.raises(SettingsError, match=r"bad\.zip"):
        load_agent(bad, PPO, make_env())
    with pytest.raises(SettingsError, match=r"none.*No such file"):
        load_agent(tmp_path / "none.zip", PPO, make_env())
    with pytest.raises(SettingsError, match="A2C"):
        load_agent(tmp_path / "model.zip", A2C, make_env(), n_epochs=2)
    with pytest.raises(SettingsError, match=r"'n_step'.*'n_steps'"):
        load_agent(tmp_path / "model.zip", PPO, make_env(), n_step=2)


# ---------------------------------------------------------------------- policies


def test_policies_of_earlier_versions(saved: Any, tmp_path: Path) -> None:
    """SB3's own pickle, which only torch's restricted unpickler reads."""
    saved.action_space.seed(1)  # Its generator is in the file.
    BaseModel.save(saved.policy, str(tmp_path / "old.pt"))
    saved.policy.save(tmp_path / "new")
    for name in ("old.pt", "new"):
        found = LMPolicy.load(tmp_path / name, device="cpu")
        assert same_weights(found, saved.policy)
        assert found.observation_space == saved.observation_space
        assert found.action_space == saved.action_space
        assert found.action_space.tokenizer_hash == saved.action_space.tokenizer_hash
        assert found.activation_fn is torch.nn.ReLU


def test_pickles_in_a_policy_are_not_run(saved: Any, tmp_path: Path) -> None:
    path, trace = tmp_path / "policy.pt", tmp_path / "ran"
    for content in ({"data": Evil(trace), "state_dict": {}}, Evil(trace), {"data": getattr}):
        torch.save(content, path)
        with pytest.raises(SettingsError, match=r"policy\.pt is a pickle"):
            LMPolicy.load(path)
    torch.save({"data": {}}, path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SettingsError, match=r"policy\.pt is a pickle"):
        LMPolicy.load(path)
    with pytest.raises(SettingsError, match=r"none.*No such file"):
        LMPolicy.load(tmp_path / "none")
    saved.policy.save(path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(SettingsError, match=r"policy\.pt is damaged"):
        LMPolicy.load(path)
    assert not trace.exists()

"""Checkpoints of single agents in scripts: what is refused, and that a refusal changes nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN
from transformers import AutoModelForCausalLM

from agents import expert_iteration, q_learning, reinforce, sft
from agents.running import supervised
from agents.running.resuming import Saver
from agents.running.run import RunSettings
from tests.lm.checkpoints import WORDS, config_of, write_checkpoint
from textgym.errors import SettingsError
from textgym.sb3 import (
    Checkpoints,
    LMReplayBuffer,
    TopKPolicy,
    latest_checkpoint,
    load_checkpoint,
    make_vec_env,
    save_checkpoint,
)
from textgym.sb3.checkpoints.model_state import set_model_state
from textgym.storage.value_files import read_values
from textgym.wrappers import TopKActions

torch.set_num_threads(1)

ROWS = 4
PAIRS = [{"prompt": "w1", "reference": "w5 w6 w7"}, {"prompt": "w2 w3", "reference": "w8"}]


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_checkpoint(tmp_path_factory.mktemp("lm") / "gpt2")


@pytest.fixture(scope="module")
def other_lm(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_checkpoint(tmp_path_factory.mktemp("lm") / "other", seed=5)


@pytest.fixture(scope="module")
def deeper_lm(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("lm") / "deeper"
    write_checkpoint(folder)
    config = config_of("gpt2", len(WORDS))
    config.n_layer += 1
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return str(folder)


def texts(**kwargs: Any) -> Any:
    return make_vec_env(
        "TextGen-v0", ROWS, 0, prompts=PAIRS, tokenizer=WORDS, reward="distinct",
        max_prompt_tokens=4, max_new_tokens=6, **kwargs,
    )  # fmt: skip


def proposals(lm: str, k: int = 5) -> Any:
    return texts(wrapper=partial(TopKActions, lm=lm, k=k, device="cpu"))


def table(lm: str, k: int = 5, **settings: Any) -> Any:
    return q_learning.make_agent(proposals(lm, k), 0, q_learning.Settings(**settings))


def formula(lm: str, **settings: Any) -> Any:
    return reinforce.make_agent(texts(), 0, reinforce.Settings(lm=lm, device="cpu", **settings))


def best_texts(lm: str, **settings: Any) -> Any:
    chosen = expert_iteration.Settings(lm=lm, k=2, device="cpu", **settings)
    return expert_iteration.make_agent(texts(), 0, chosen)


def references(lm: str, **settings: Any) -> Any:
    return sft.make_agent(texts(), 0, sft.Settings(lm=lm, device="cpu", **settings))


def values(agent: Any) -> list[Any]:
    """Everything that an agent has learned, copied."""
    if hasattr(agent, "policy"):
        return [value.clone() for value in agent.policy.state_dict().values()]
    return [torch.tensor(agent.values), torch.tensor(agent.visits)]


def test_of_another_training(lm: str, other_lm: str, deeper_lm: str, tmp_path: Path) -> None:
    file = tmp_path / "demonstrations.jsonl"
    file.write_text('{"prompt": "w1", "completion": "w9"}\n')
    cases: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
        (formula, {"lm": deeper_lm}, "weights"),
        (formula, {"lm": other_lm}, "reference"),
        (formula, {"gamma": 0.5}, "gamma was 1.0 and is 0.5"),
        (formula, {"baseline": "value"}, "baseline"),
        (formula, {"kl_target": None}, r"kl\.coef"),
        (table, {"lm": other_lm}, "another language model"),
        (table, {"k": 3}, "observations"),
        (table, {"context": 3}, "context was 2 and is 3"),
        (table, {"table_bits": 10}, "table_bits"),
        (best_texts, {"restart": True}, "first"),
        (references, {"data": str(file)}, "data"),
    ]
    for make, change, words in cases:
        folder = tmp_path / f"{make.__name__}"
        agent = make(lm)
        if not folder.exists():
            agent.learn(40)
            save_checkpoint(agent, folder)
        other = make(**{"lm": lm, **change})
        other.learn(24)
        before, steps = values(other), other.num_timesteps
        with pytest.raises(SettingsError, match=words):
            load_checkpoint(other, folder)
        assert all(torch.equal(*pair) for pair in zip(before, values(other), strict=True)), change
        assert other.num_timesteps == steps
        other.learn(24, reset_num_timesteps=False)


def test_the_learning_rate_is_that_of_the_new_settings(lm: str, tmp_path: Path) -> None:
    save_checkpoint(formula(lm).learn(20), tmp_path)
    agent = formula(lm, lr=0.1)
    load_checkpoint(agent, tmp_path)
    assert agent.policy.optimizer.param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize("make", [table, references])
def test_a_state_is_not_used_up(make: Any, lm: str, tmp_path: Path) -> None:
    """A state that is set twice leads to equal agents."""
    agent = make(lm)
    agent.learn(12)
    save_checkpoint(agent, tmp_path)
    ends = []
    found = latest_checkpoint(tmp_path)
    assert found is not None
    state = read_values(found)
    for _ in range(2):
        twin = make(lm)
        # An optimizer of torch keeps using the tensors that it is given.
        set_model_state(twin, {**state, "parameters": copy.deepcopy(state.get("parameters"))})
        twin.learn(40, reset_num_timesteps=False)
        ends.append(values(twin))
    assert all(torch.equal(*pair) for pair in zip(*ends, strict=True))


def test_the_end_of_a_table_is_saved(lm: str, tmp_path: Path) -> None:
    """Also where no episode ends with it."""
    table(lm).learn(20, callback=Checkpoints(tmp_path, every=1000))
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found.stem.endswith("020")


def test_references_of_a_new_environment(lm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = references(lm, batch_size=1)
    agent.learn(40)
    learned: list[list[int]] = []

    def step(policy: Any, texts: Any, max_grad_norm: float) -> tuple[float, float]:
        learned.append(texts.actions.tolist())
        return 0.0, 0.0

    monkeypatch.setattr(supervised, "gradient_step", step)
    rows = [{"prompt": "w1", "reference": "w9 w9 w9"}]
    agent.set_env(
        make_vec_env(
            "TextGen-v0",
            ROWS,
            0,
            prompts=rows,
            tokenizer=WORDS,
            reward="distinct",
            max_prompt_tokens=4,
            max_new_tokens=6,
        )
    )
    agent.learn(40, reset_num_timesteps=False)
    assert learned
    assert all(tokens.count(WORDS.index("w9")) == 3 for tokens in learned)


def dqn(lm: str) -> Any:
    return DQN(
        TopKPolicy, proposals(lm), learning_starts=0, train_freq=4, device="cpu", seed=0,
        buffer_size=400, batch_size=8, replay_buffer_class=LMReplayBuffer,
        policy_kwargs={"lm": lm, "size": 8},
    )  # fmt: skip


def test_a_rollout_that_a_callback_ended_is_not_saved(lm: str, tmp_path: Path) -> None:
    agent = dqn(lm)
    agent.learn(40, callback=lambda known, _: known["self"].num_timesteps < 24)
    with pytest.raises(SettingsError, match="middle of a rollout"):
        save_checkpoint(agent, tmp_path)
    agent = dqn(lm)
    agent.learn(40)
    save_checkpoint(agent, tmp_path)
    agent.env.reset()
    with pytest.raises(SettingsError, match="middle of a rollout"):
        save_checkpoint(agent, tmp_path)


def test_many_cut_episodes_are_few_arrays(lm: str) -> None:
    agent = dqn(lm)
    buffer = agent.replay_buffer
    obs = agent.env.reset()
    cut = [{"TimeLimit.truncated": True}] * ROWS
    for _ in range(30):
        buffer.add(obs, obs, np.zeros(ROWS), np.zeros(ROWS), np.ones(ROWS), cut)
    state = buffer.get_state()
    assert state["cuts"].shape == (30 * ROWS, 2)
    assert {len(array) for array in state["cut_observations"].values()} == {30 * ROWS}


class Stubborn:
    """A user's agent that has the two methods, but whose learn() cannot continue."""

    num_timesteps = 0

    def __init__(self, venv: Any) -> None:
        self.venv = venv

    @property
    def exploration_rate(self) -> float:
        return 1 / (1 + self.num_timesteps)

    def get_env(self) -> Any:
        return self.venv

    def get_state(self) -> dict[str, Any]:
        return {"memory": [1, 2]}

    def set_state(self, state: dict[str, Any]) -> None:
        state["memory"][2]

    def learn(self, total_timesteps: int, callback: Any = None) -> Stubborn:
        self.num_timesteps += total_timesteps
        return self


def test_an_agent_of_ones_own_that_fails(tmp_path: Path) -> None:
    agent = Stubborn(texts())
    agent.learn(8)
    save_checkpoint(agent, tmp_path)
    agent.venv.reset()
    agent.venv.step(np.zeros(ROWS, np.int64))
    shown = agent.venv.envs.get_state()["tokens"]
    with pytest.raises(SettingsError, match="IndexError"):
        load_checkpoint(agent, tmp_path)
    assert np.array_equal(agent.venv.envs.get_state()["tokens"], shown)
    settings = RunSettings(resume=tmp_path)
    with pytest.raises(SettingsError, match="reset_num_timesteps"):
        Saver(agent, settings, None, None)  # type: ignore[arg-type]

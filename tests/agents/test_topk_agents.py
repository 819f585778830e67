"""Agents that choose among a language model's proposals: stock algorithms, and those that ship."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import QRDQN
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from agents import dqn_topk, q_learning
from agents.running import run as common
from agents.running.proposals import choice_entropy
from benchmarks.studies import topk
from tests.lm.checkpoints import WORDS, write_checkpoint
from textgym.errors import DataError, ModelError, SettingsError
from textgym.sb3 import LMReplayBuffer, TopKFeatures, TopKPolicy, make_vec_env
from textgym.sb3.topk.quantile import TopKQuantilePolicy
from textgym.wrappers import ActionMasks, SegmentActions, TopKActions

torch.set_num_threads(1)


def even_words(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
    """Six words are written; the reward comes at the end."""
    return [sum(word[-1] in "02468" for word in text.split()) / 6 for text in completions]


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_checkpoint(tmp_path_factory.mktemp("lm") / "gpt2")


def make(lm: str, n_envs: int = 16, seed: int = 0, wrapper: Any = TopKActions) -> VecEnv:
    return make_vec_env(
        "TextGen-v0", n_envs, seed, prompts=["w1", "w2 w3", "w4", "w7 w9"], tokenizer=WORDS,
        reward=even_words, max_prompt_tokens=4, max_new_tokens=6, stop_at_eos=False,
        wrapper=partial(wrapper, lm=lm, k=5, device="cpu"),
    )  # fmt: skip


def mean_reward(agent: Any, lm: str, deterministic: bool = True) -> float:
    venv = make(lm, n_envs=64, seed=99)
    obs, state, total = venv.reset(), None, 0.0
    start = np.ones(64, bool)
    for _ in range(6):
        actions, state = agent.predict(obs, state, start, deterministic=deterministic)
        obs, rewards, start, _ = venv.step(actions)
        total += rewards.mean()
    return float(total)


REPLAY = {
    "buffer_size": 20_000, "batch_size": 64, "train_freq": 2, "gradient_steps": 3, "gamma": 1.0,
    "learning_starts": 200, "exploration_fraction": 0.5, "target_update_interval": 200,
    "replay_buffer_class": LMReplayBuffer,
    "replay_buffer_kwargs": {"n_steps": None, "gamma": 1.0}, "learning_rate": 2e-3,
}  # fmt: skip


ADAM = {"use_rms_prop": False, "normalize_advantage": True}


@pytest.mark.parametrize(
    ("algorithm", "arguments", "more", "steps"),
    [
        (PPO, {"n_steps": 12, "batch_size": 96, "n_epochs": 4, "learning_rate": 2e-3}, {}, 2400),
        (A2C, {"n_steps": 6, "learning_rate": 5e-3, **ADAM}, {}, 4800),
        (DQN, REPLAY, {}, 1600),
        (QRDQN, REPLAY, {"n_quantiles": 10}, 2400),
    ],
    ids=["PPO", "A2C", "DQN", "QRDQN"],
)
def test_stock_algorithms_learn(
    algorithm: Any, arguments: Any, more: Any, steps: int, lm: str, tmp_path: Path
) -> None:
    features = {
        "features_extractor_class": TopKFeatures,
        "features_extractor_kwargs": {"lm": lm, "size": 24},
    }
    agent = algorithm(
        "MultiInputPolicy", make(lm), seed=0, device="cpu", policy_kwargs={**features, **more},
        **{"gamma": 1.0, **arguments},
    )  # fmt: skip
    before = mean_reward(agent.policy, lm)
    agent.learn(steps)
    after = mean_reward(agent.policy, lm)
    assert before < 0.8
    assert after > 0.85
    agent.save(tmp_path / "model")
    assert mean_reward(algorithm.load(tmp_path / "model").policy, lm) == after


def make_masked(lm: str, allowed: int = 3, n_envs: int = 8) -> VecEnv:
    """Five proposals, of which some only fill up."""

    def wrap(envs: Any) -> Any:
        return TopKActions(ActionMasks(envs, allowed=WORDS[:allowed]), lm=lm, k=5, device="cpu")

    return make(lm, n_envs, wrapper=lambda envs, **_: wrap(envs))


@pytest.mark.parametrize(
    ("algorithm", "arguments"),
    [
        (PPO, {"n_steps": 8, "batch_size": 16, "n_epochs": 4}),
        (A2C, {"n_steps": 6}),
        (DQN, {"learning_starts": 16, "batch_size": 16, "train_freq": 1, "buffer_size": 500}),
        (DQN, {**REPLAY, "learning_starts": 16, "train_freq": 1}),
    ],
    ids=["PPO", "A2C", "DQN", "DQN with LMReplayBuffer"],
)
def test_stock_policies_can_read_what_fills_up(algorithm: Any, arguments: Any, lm: str) -> None:
    """As the network of SB3 sees it: raw numbers, none of which may be infinite."""
    agent = algorithm("MultiInputPolicy", make_masked(lm), seed=0, device="cpu", **arguments)
    before = {name: value.clone() for name, value in agent.policy.state_dict().items()}
    agent.learn(200)
    after = agent.policy.state_dict()
    assert all(torch.isfinite(value).all() for value in after.values())
    assert any((after[name] != value).any() for name, value in before.items())


@pytest.mark.parametrize("kind", ["dqn", "qrdqn", "q_learning"])
def test_agents_do_not_choose_what_fills_up(kind: str, lm: str) -> None:
    """A filler would count the likeliest token twice, whatever the temperature makes of it."""
    venv = make_masked(lm, n_envs=1)
    if kind == "q_learning":
        hot = q_learning.Settings(temperature=(1e6, 1e6), epsilon=(0.5, 0.5))
        agent: Any = q_learning.make_agent(venv, 0, hot)
        agent.values[:] = np.random.default_rng(0).normal(size=len(agent.values)) * 1e8
    else:
        agent = dqn_topk.make_agent(venv, 0, dqn_topk.Settings(algorithm=kind, size=8))  # type: ignore[arg-type]
    obs: Any = venv.reset()
    many = {key: np.repeat(array, 5000, axis=0) for key, array in obs.items()}
    # The value that would outweigh its log-probability.
    many["logprobs"] = np.zeros_like(many["logprobs"])
    counts = np.bincount(agent.predict(many)[0], minlength=5)
    assert (counts[:3] > 800).all()
    assert not counts[3:].any()


def test_the_rules_of_the_benchmark_do_not_either(lm: str) -> None:
    obs: Any = make_masked(lm, n_envs=1).reset()
    many = {key: np.repeat(array, 3000, axis=0) for key, array in obs.items()}
    counts = np.bincount(topk.uniform(many, np.random.default_rng(0)), minlength=5)
    assert np.abs(counts - [1000, 1000, 1000, 0, 0]).max() < 130
    many["logprobs"] = np.zeros_like(many["logprobs"])
    counts = np.bincount(topk.sampled(many, np.random.default_rng(0)), minlength=5)
    assert np.abs(counts - [1000, 1000, 1000, 0, 0]).max() < 130


def test_what_fills_up_is_worth_what_it_repeats(lm: str) -> None:
    venv = make_masked(lm, n_envs=4)
    agent = dqn_topk.make_agent(venv, 0, dqn_topk.Settings(size=8, device="cpu"))
    torch.nn.init.normal_(agent.policy.q_net.q_net[0].advantage.weight)  # type: ignore[index, union-attr]
    obs: Any = venv.reset()
    with torch.no_grad():
        values = agent.policy.q_net({key: torch.from_numpy(a) for key, a in obs.items()})
    assert torch.allclose(values[:, 3:], values[:, :1].expand(-1, 2))
    assert values[:, :3].std(1).min() > 1e-4


def test_maskable_ppo_learns_among_the_proposals(lm: str) -> None:
    from sb3_contrib import MaskablePPO
    from sb3_contrib.common.maskable.utils import get_action_masks

    venv = make_masked(lm)
    agent = MaskablePPO(
        "MultiInputPolicy", venv, n_steps=8, batch_size=32, n_epochs=2, seed=0, device="cpu"
    )
    taken = np.zeros(5, int)

    def note(local: dict[str, Any], _: Any) -> bool:
        assert np.array_equal(local["action_masks"].sum(1), np.full(8, 3))
        np.add.at(taken, local["actions"].reshape(-1), 1)
        return True

    agent.learn(256, callback=note)
    assert get_action_masks(venv).shape == (8, 5)
    assert (taken[:3] > 20).all()
    assert not taken[3:].any()


@pytest.mark.parametrize("kind", ["dqn", "qrdqn", "q_learning"])
def test_agents_learn(kind: str, lm: str, tmp_path: Path) -> None:
    venv = make(lm)
    if kind == "q_learning":
        agent: Any = q_learning.make_agent(venv, 0, q_learning.Settings(k=5, doubt=1.0, steps=2400))
    else:
        settings = dqn_topk.Settings(
            k=5, algorithm=kind, lr=2e-3, batch_size=64, train_freq=2, gradient_steps=2, size=24,
            device="cpu",
        )  # fmt: skip
        agent = dqn_topk.make_agent(venv, 0, settings)
    before = mean_reward(agent, lm, deterministic=False)
    agent.learn(2400)
    after = mean_reward(agent, lm, deterministic=False)
    assert before < 0.75
    assert after > 0.9
    if kind != "q_learning":
        agent.save(tmp_path / "model")
        loaded = type(agent).load(tmp_path / "model")
        assert mean_reward(loaded, lm) == mean_reward(agent, lm)


@pytest.mark.parametrize("policy", [TopKPolicy, TopKQuantilePolicy])
def test_the_policy_starts_as_the_language_model(policy: Any, lm: str) -> None:
    venv = make(lm, n_envs=1)
    agent = dqn_topk.make_agent(
        venv, 3, dqn_topk.Settings(algorithm="dqn" if policy is TopKPolicy else "qrdqn", size=8)
    )
    assert type(agent.policy) is policy
    obs = venv.reset()
    many = {key: np.repeat(array, 20_000, axis=0) for key, array in obs.items()}
    actions, _ = agent.predict(many)
    expected = np.exp(obs["logprobs"][0].astype(np.float64))
    expected *= 20_000 / expected.sum()
    counts = np.bincount(actions, minlength=5)
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))
    assert (agent.predict(many, deterministic=True)[0] == 0).all()


def test_the_choice_is_the_softmax_of_prior_and_value(lm: str) -> None:
    venv = make(lm, n_envs=4)
    agent = dqn_topk.make_agent(venv, 0, dqn_topk.Settings(size=8, temperature=0.1, device="cpu"))
    torch.nn.init.normal_(agent.policy.q_net.q_net[0].advantage.weight)  # type: ignore[index, union-attr]
    obs: Any = venv.reset()
    with torch.no_grad():
        tensors = {key: torch.from_numpy(array) for key, array in obs.items()}
        values = agent.policy.q_net(tensors).numpy()
    best = (values / 0.1 + obs["logprobs"]).argmax(1)
    assert np.array_equal(agent.predict(obs, deterministic=True)[0], best)


def test_candidates_are_scored_by_what_they_are_and_not_by_their_place(lm: str) -> None:
    venv = make(lm, n_envs=4)
    agent = dqn_topk.make_agent(venv, 0, dqn_topk.Settings(size=8, device="cpu"))
    torch.nn.init.normal_(agent.policy.q_net.q_net[0].advantage.weight)  # type: ignore[index, union-attr]
    obs = {key: torch.from_numpy(array) for key, array in venv.reset().items()}
    order = [3, 0, 4, 1, 2]
    turned = {
        **obs,
        "candidates": obs["candidates"][:, order],
        "logprobs": obs["logprobs"][:, order],
    }
    with torch.no_grad():
        values = agent.policy.q_net(obs)
        assert torch.allclose(agent.policy.q_net(turned), values[:, order], atol=1e-6)
        assert values.std(1).min() > 1e-3


def test_frozen_tables_are_neither_trained_nor_saved(lm: str) -> None:
    agent = dqn_topk.make_agent(make(lm), 0, dqn_topk.Settings(size=8, device="cpu"))
    features = agent.policy.q_net.features_extractor
    assert features.table.shape == (len(WORDS), 32)
    assert not any("table" in name for name, _ in agent.policy.named_parameters())
    assert not any("table" in name for name in agent.policy.state_dict())


def test_segments_can_be_chosen_too(lm: str) -> None:
    venv = make(lm, n_envs=4, wrapper=partial(SegmentActions, segment=3))
    agent = dqn_topk.make_agent(
        venv, 0, dqn_topk.Settings(size=8, batch_size=16, priority_exponent=0.6, device="cpu")
    )
    agent.learn(64)
    actions, _ = agent.predict(venv.reset())
    assert actions.shape == (4,)


def test_what_proposes_nothing_is_refused(lm: str, tmp_path: Path) -> None:
    bare = make_vec_env("TextGen-v0", 2, prompts=["w1"], tokenizer=WORDS, reward=even_words)
    for module in (dqn_topk, q_learning):
        with pytest.raises(SettingsError, match="TopKActions"):
            module.make_agent(bare, 0)
    with pytest.raises(SettingsError, match="TopKActions"):
        TopKFeatures(bare.observation_space, lm=lm)
    with pytest.raises(ModelError, match="lm='textgym/tiny'"):
        TopKFeatures(make(lm, 2).observation_space)
    with pytest.raises(SettingsError, match="temperature"):
        dqn_topk.make_agent(make(lm, 2), 0, dqn_topk.Settings(temperature=0.0))


@pytest.mark.parametrize("lam", [0.0, 0.4, 1.0])
def test_lambda_returns_are_those_of_the_formula(lam: float, lm: str) -> None:
    """Peng's return, written as the weighted sum of all n-step returns."""
    settings = q_learning.Settings(lam=lam, gamma=0.9, lr=0.0)
    agent = q_learning.make_agent(make(lm, 2), 0, settings)
    rng = np.random.default_rng(0)
    length = 7
    rewards, best = rng.normal(size=length), rng.normal(size=length)
    agent._learn_from([(10 + at, 100, rewards[at], best[at]) for at in range(length)])

    def n_step(at: int, n: int) -> float:
        total = sum(0.9**i * rewards[at + i] for i in range(n))
        return total + (0.9**n * best[at + n] if at + n < length else 0.0)

    for at in range(length):
        left = length - at
        mixed = sum((1 - lam) * lam ** (n - 1) * n_step(at, n) for n in range(1, left))
        mixed += lam ** (left - 1) * n_step(at, left)
        assert agent.values[10 + at] == pytest.approx(mixed, rel=1e-4)
        assert agent.visits[10 + at] == 1
    assert agent.visits[100] == length
    assert agent.values[100] == pytest.approx(agent.values[10 : 10 + length].mean(), rel=1e-4)


def test_a_table_is_saved_and_loaded(lm: str, tmp_path: Path) -> None:
    venv = make(lm)
    settings = q_learning.Settings(seen=1, temperature=(0.3, 0.1), n_envs=16)
    agent = q_learning.make_agent(venv, 0, settings).learn(600)
    agent.save(str(tmp_path / "model"))
    loaded = q_learning.QLearning.load(str(tmp_path / "model.npz"), venv)
    assert loaded.settings == replace(settings, n_envs=64)
    obs = venv.reset()
    np.testing.assert_array_equal(loaded.values, agent.values)
    np.testing.assert_array_equal(loaded.visits, agent.visits)
    assert loaded.scheduled(settings.temperature) == agent.scheduled(settings.temperature) == 0.1
    ours, theirs = (each.predict(obs, deterministic=True)[0] for each in (loaded, agent))
    np.testing.assert_array_equal(ours, theirs)
    (tmp_path / "other.npz").write_bytes(b"no table")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "half.npz").write_bytes((tmp_path / "model.npz").read_bytes()[:1_000])
    data = (tmp_path / "model.npz").read_bytes()
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 16
    (tmp_path / "damaged.npz").write_bytes(damaged)
    with np.load(tmp_path / "model.npz") as file:
        parts = dict(file)
    np.savez(tmp_path / "reshaped.npz", **{**parts, "values": parts["values"][:1]})
    np.savez(tmp_path / "wrong.npz", **{**parts, "settings": np.array("[]")})
    names = ("other", "empty", "half", "missing", "damaged", "reshaped", "wrong")
    for name in (f"{each}.npz" for each in names):
        with pytest.raises(DataError, match=re.escape(str(tmp_path / name))):
            q_learning.QLearning.load(str(tmp_path / name), venv)


def test_the_table_learns_nothing_from_texts_that_were_cut_off(lm: str) -> None:
    proposing = partial(TopKActions, lm=lm)
    arguments = {"prompts": ["w1"], "tokenizer": lm, "reward": even_words, "wrapper": proposing}
    arguments |= {"max_prompt_tokens": 4, "max_new_tokens": 6}
    venv = make_vec_env("TextGen-v0", 4, seed=0, max_episode_steps=1, **arguments)
    agent = q_learning.make_agent(venv, 0).learn(40)
    assert not agent.visits.any()


@pytest.mark.parametrize("module", [dqn_topk, q_learning], ids=["dqn_topk", "q_learning"])
def test_the_log_has_a_line_for_as_many_episodes_as_rows(module: Any, tmp_path: Path) -> None:
    """Not one for every few of them, and not the last one alone."""
    settings = module.Settings(
        env="TextGen/Probe-Constant-v0", n_envs=16, steps=320, eval_episodes=2, threads=1,
        device="cpu", out=tmp_path,
    )  # fmt: skip
    make_agent = partial(module.make_agent, settings=settings)
    folder = common.run(module.__name__.removeprefix("agents."), settings, make_agent)
    # An episode is one word: 20 rounds, and the evaluations before and after.
    assert 20 <= len((folder / "progress.csv").read_text().splitlines()) - 1 <= 22


class Follow(BaseCallback):
    """The values of a schedule during training."""

    def __init__(self, schedule: tuple[float, float]) -> None:
        super().__init__()
        self.schedule = schedule
        self.seen: list[tuple[int, float]] = []

    def _on_step(self) -> bool:
        agent: Any = self.model
        self.seen.append((self.num_timesteps, agent.scheduled(self.schedule)))
        return True


def test_exploration_of_the_table_follows_its_schedule(lm: str) -> None:
    settings = q_learning.Settings(
        epsilon=(1.0, 0.0), temperature=(0.2, 0.1), bonus=(5.0, 0.0), explore=0.5
    )
    agent = q_learning.make_agent(make(lm, 2), 0, settings)
    follow = Follow(settings.epsilon)
    agent.learn(96, callback=follow)
    # The values are those with which the two tokens before were chosen.
    for steps, share in follow.seen:
        assert share == pytest.approx(max(0.0, 1 - (steps - 2) / 48))
    assert [steps for steps, _ in follow.seen] == list(range(2, 97, 2))
    assert agent.scheduled(settings.epsilon) == 0.0
    agent = q_learning.make_agent(make(lm, 2), 0, settings)
    obs = make(lm, 1).reset()
    many = {key: np.repeat(array, 10_000, axis=0) for key, array in obs.items()}
    counts = np.bincount(agent.predict(many)[0], minlength=5)
    assert np.abs(counts - 2000).max() < 250  # Uniform; 6 standard deviations are 240.
    # A token that was tried less has the larger bonus.
    entries, _ = agent._entries(obs, np.full((1, settings.context), -1))
    logits, _ = agent._logits(obs, np.full((1, settings.context), -1))
    agent.visits[entries[0, 0]] = 3
    after, _ = agent._logits(obs, np.full((1, settings.context), -1))
    np.testing.assert_allclose(logits[0] - after[0], [5.0 / 0.2 / 2, 0, 0, 0, 0], atol=1e-5)


@pytest.mark.parametrize(("module", "name"), [(dqn_topk, "zip"), (q_learning, "npz")])
def test_a_run_on_a_closed_vocabulary(module: Any, name: str, tmp_path: Path) -> None:
    """One of two words: the wrapper makes a model of them, and both are proposals."""
    settings = module.Settings(
        env="TextGen/GoodBad-v0", steps=600, n_envs=8, eval_episodes=40, threads=1, device="cpu",
        out=tmp_path,
    )  # fmt: skip
    folder = common.run("test", settings, partial(module.make_agent, settings=settings))
    record = json.loads((folder / "run.json").read_text())
    assert record["settings"]["k"] == 8
    assert record["results"]["eval_before"]["mean"] < 0.6
    assert record["results"]["eval_after"]["mean"] > 0.9
    assert (folder / f"model.{name}").exists()


def test_entropy_of_choices() -> None:
    """By hand: of a softmax, and of its mixture with a uniform choice of what can be chosen."""
    probabilities = np.array([[0.5, 0.25, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0]])
    logits = 3 + np.log(probabilities, where=probabilities > 0, out=np.full((2, 4), -np.inf))
    assert choice_entropy(logits, 0.0) == pytest.approx(1.5 * np.log(2) / 2)
    mixed = [0.5 * 0.5 + 0.5 / 3, 0.125 + 0.5 / 3, 0.125 + 0.5 / 3]
    expected = -sum(each * np.log(each) for each in mixed) / 2
    assert choice_entropy(logits, 0.5) == pytest.approx(expected)
    assert choice_entropy(logits[:1], 1.0) == pytest.approx(np.log(3))

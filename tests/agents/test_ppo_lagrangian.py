"""PPO under a constraint, on bandits whose constrained optimum and multiplier are known by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from agents import ppo_lagrangian
from agents.ppo_lagrangian import Costs, LagrangianPPO, Multiplier
from agents.running.evaluation import evaluate
from tests.agents import runs
from tests.sb3.rollouts import Everything, after_rollout, assert_yields, begin, expected, rollout
from textgym.errors import SettingsError
from textgym.sb3 import make_vec_env, resume, save_checkpoint

torch.set_num_threads(1)

WORDS = ["best", "fair", "poor", "<eos>"]
REWARD = np.array([1.0, 0.6, 0.0, 0.0])
COST = np.array([1.0, 0.3, 0.0, 0.0])


def table(values: np.ndarray) -> Any:
    def function(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        first = [(text.split() or ["poor"])[0] for text in completions]
        return [float(values[WORDS.index(word)]) for word in first]

    return function


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A language model with random weights that knows the words."""
    ids = {word: index for index, word in enumerate(WORDS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="<eos>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=4, n_embd=16, n_layer=1, n_head=2, n_positions=8, bos_token_id=3, eos_token_id=3
    )
    folder = str(tmp_path_factory.mktemp("words"))
    GPT2LMHeadModel(config).save_pretrained(folder)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", bos_token="<eos>")
    fast.save_pretrained(folder)
    return folder


def bandit(
    lm: str, n_envs: int = 128, reward: np.ndarray = REWARD, cost: np.ndarray = COST, **others: Any
) -> VecEnv:
    """One word is written, and that is all."""
    settings = {
        "prompts": [""], "tokenizer": lm, "max_prompt_tokens": 1, "max_new_tokens": 1,
        "stop_at_eos": False, "reward": table(reward), "costs": {"price": table(cost)}, **others,
    }  # fmt: skip
    return make_vec_env("TextGen-v0", n_envs, seed=0, **settings)


def make(venv: VecEnv, lm: str, seed: int = 0, **others: Any) -> LagrangianPPO:
    settings: dict[str, Any] = {
        "lm": lm, "n_steps": 2, "n_epochs": 2, "minibatches": 1, "kl_coef": 0.0, "kl_target": None,
        "lr": 2e-3, "lr_schedule": "constant",
        "cost_limit": 0.3, "device": "cpu", **others,
    }  # fmt: skip
    return ppo_lagrangian.make_agent(venv, seed, ppo_lagrangian.Settings(**settings))


class Record(BaseCallback):
    """Mean cost and multiplier of each rollout."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[float, float]] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        known: Multiplier = self.model.env.multiplier  # type: ignore[union-attr]
        if known.before is not None:
            self.rows.append((known.before, known.value))


def learn(agent: LagrangianPPO, steps: int) -> np.ndarray:
    """Train; costs and multipliers ``[rollouts, 2]``."""
    record = Record()
    agent.learn(steps, callback=record)
    return np.array(record.rows)


def probabilities(agent: LagrangianPPO) -> np.ndarray:
    obs = torch.full((1, 2), -1)
    with torch.no_grad():
        distribution: Any = agent.policy.get_distribution(obs).distribution
        return distribution.probs[0].numpy().astype(np.float64)


# ---------------------------------------------------------------------- the constrained optimum


@pytest.mark.parametrize("seed", [0, 1])
def test_a_mixture_at_the_limit(seed: int, lm: str) -> None:
    """``best`` is worth 1 and costs 1, all else nothing: P(best) = 0.3 is all that 0.3 buys.

    With p = P(best) the Lagrangian is p - multiplier (p - 0.3). A p between 0 and 1 is optimal only
    where its slope 1 - multiplier is 0.
    """
    only = np.array([1.0, 0.0, 0.0, 0.0])
    agent = make(bandit(lm, reward=only, cost=only), lm, seed)
    rows = learn(agent, 60 * 256)
    assert rows[:12, 0].max() > 0.4, "it was above the limit"
    costs, multipliers = rows[30:].T
    assert costs.mean() == pytest.approx(0.3, abs=0.03)
    assert multipliers.mean() == pytest.approx(1.0, abs=0.05)
    assert probabilities(agent)[0] == pytest.approx(0.3, abs=0.15)


def test_the_word_at_the_limit_beats_mixtures(lm: str) -> None:
    """``fair`` alone is worth 0.6 at a cost of 0.3; ``best`` mixed with the poor only 0.3.

    It is optimal for multipliers at which neither ``best`` (1 - m > 0.6 - 0.3 m below 4/7) nor
    nothing (0 > 0.6 - 0.3 m above 2) is better.
    """
    agent = make(bandit(lm), lm)
    costs, multipliers = learn(agent, 60 * 256)[-20:].T
    assert probabilities(agent)[1] > 0.95
    assert costs.mean() == pytest.approx(0.3, abs=0.03)
    assert 4 / 7 < multipliers.mean() < 2


def test_a_limit_that_does_not_bind(lm: str) -> None:
    agent = make(bandit(lm), lm, cost_limit=1.2, lr=3e-3)
    multipliers = learn(agent, 25 * 256)[:, 1]
    assert probabilities(agent)[0] > 0.9
    assert not multipliers.any()


def test_with_a_kl_penalty_the_optimum_is_interior(lm: str) -> None:
    """Maximal E[r] - b KL(p, q) with E[c] <= 0.3 is p = q exp((r - m c) / b) / Z, by Lagrange.

    The multiplier m is the one at which the cost is 0.3, found by bisection. That all of reward,
    cost and penalty are divided by 1 + m must not move it.
    """
    coef = 0.4
    agent = make(bandit(lm), lm, kl_coef=coef, multiplier_lr=0.4)
    start = probabilities(agent)

    def optimum(grows: float) -> tuple[float, np.ndarray]:
        low, high = 0.0, 10.0
        for _ in range(60):
            middle = (low + high) / 2
            value = (REWARD - middle * COST) / (coef * (1 + grows * middle))
            best = start * np.exp(value) / (start @ np.exp(value))
            low, high = (middle, high) if best @ COST > 0.3 else (low, middle)
        return low, best

    multiplier, best = optimum(0.0)
    # Were the penalty not divided, its coefficient would be 1 + m times as large.
    assert abs(optimum(1.0)[1] - best).max() > 0.08
    rows = learn(agent, 70 * 256)
    assert rows[-30:, 1].mean() == pytest.approx(multiplier, abs=0.06)
    assert probabilities(agent) == pytest.approx(best, abs=0.06)


# ---------------------------------------------------------------------- the multiplier


@given(
    st.lists(st.floats(-5, 5), max_size=20), st.floats(-1, 1), *[st.floats(0, 3) for _ in range(3)]
)
def test_the_multiplier_is_a_pid_controller_above_0(
    costs: list[float], limit: float, ki: float, kp: float, kd: float
) -> None:
    ours, plain = Multiplier(limit, ki, kp, kd), Multiplier(limit, ki)
    integral, before = 0.0, None
    for cost in costs:
        ours.update(cost)
        plain.update(cost)
        integral = max(0.0, integral + ki * (cost - limit))
        rise = 0.0 if before is None else max(0.0, cost - before)
        assert ours.value == max(0.0, kp * (cost - limit) + integral + kd * rise) >= 0
        assert plain.value == integral, "projected gradient ascent"
        before = cost


# ---------------------------------------------------------------------- what is charged


class Watch(BaseCallback):
    """Records each step, before SB3 adds the values of truncated episodes."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Any] = []

    def _on_step(self) -> bool:
        step = self.locals
        cut = np.zeros(len(step["rewards"]), np.float32)
        for row, info in enumerate(step["infos"]):
            if info.get("TimeLimit.truncated"):
                text = torch.as_tensor(info["terminal_observation"])[None]
                with torch.no_grad():
                    cut[row] = float(self.model.policy.predict_values(text))  # type: ignore[operator]
        costs = [info["cost"] for info in step["infos"]]
        self.steps.append((step["rewards"].copy(), np.array(costs), cut))
        return True


def test_rewards_are_charged_with_the_multiplier_of_their_rollout(lm: str) -> None:
    """Also where a step limit cuts episodes off: what is added there is charged already."""
    venv = bandit(lm, n_envs=6, max_new_tokens=4, stop_at_eos=True, max_episode_steps=3)
    agent = make(venv, lm, n_steps=7, multiplier=0.5, gamma=0.9, gae_lambda=0.8)
    torch.nn.init.normal_(agent.policy.value_net[-1].weight)  # type: ignore[index]
    watch, buffer = Watch(), agent.rollout_buffer
    callback = begin(agent, watch)
    multipliers = []
    for _ in range(3):
        watch.steps.clear()
        assert rollout(agent, callback)
        rewards, costs, cut = (np.stack(column) for column in zip(*watch.steps, strict=True))
        assert costs.any()
        assert cut.any()
        multiplier = agent.env.multiplier.value  # type: ignore[union-attr]
        multipliers.append(multiplier)
        expected = (rewards - multiplier * costs) / (1 + multiplier) + 0.9 * cut
        np.testing.assert_allclose(buffer.rewards, expected, atol=1e-6)
        # Generalised advantage estimation, by its definition as a sum.
        last, ended = after_rollout(agent)
        values = np.concatenate([buffer.values, last.numpy().T])
        goes_on = 1 - np.concatenate([buffer.episode_starts[1:], ended[None]])
        deltas = buffer.rewards + 0.9 * values[1:] * goes_on - values[:-1]
        advantages = np.zeros_like(deltas)
        for at in range(7):
            weight = np.ones(6)
            for later in range(at, 7):
                advantages[at] += weight * deltas[later]
                weight *= 0.9 * 0.8 * goes_on[later]
        np.testing.assert_allclose(buffer.advantages, advantages, atol=1e-5)
    assert len(set(multipliers)) == 3


def test_the_kl_penalty_of_a_text_is_scaled_like_its_reward(lm: str) -> None:
    """Also of tokens that waited for the end of the text. Without costs, all is halved by 1 + 1."""
    venv = bandit(lm, n_envs=32, max_new_tokens=4, stop_at_eos=True, cost=np.zeros(4))
    fixed = {"multiplier": 1.0, "multiplier_lr": 0.0, "multiplier_kp": 0.0, "multiplier_kd": 0.0}
    agent = make(venv, lm, n_steps=5, kl_coef=0.5, **fixed)
    policy = agent.policy
    reference = make(venv, lm).policy
    with torch.no_grad():
        for weight in policy.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    heard = Everything()
    callback = begin(agent, heard)
    waited = 0
    for _ in range(3):
        waited += sum(map(len, heard.open.values()))
        assert rollout(agent, callback)
        paid = []
        for episode in heard.episodes:
            paid.append([])
            for text, word, reward, value, log_prob in episode:
                with torch.no_grad():
                    _, other, _ = reference.evaluate_actions(
                        torch.tensor([text]), torch.tensor([word])
                    )
                due = (reward - 0.5 * (log_prob - float(other))) / 2
                paid[-1].append((text, word, due, value, log_prob))
        assert_yields(agent, expected(paid, agent.gamma, agent.gae_lambda))
        heard.episodes.clear()
    assert waited


class Steady(VecEnvWrapper):
    """Costs 1 a step, in the first row 10."""

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        obs, rewards, dones, infos = self.venv.step_wait()
        for row, info in enumerate(infos):
            info["cost"] = 10.0 if row == 0 else 1.0
        return obs, rewards, dones, infos


def test_costs_of_an_episode_are_summed_across_rollouts(lm: str) -> None:
    """Five steps an episode, two a rollout: some rollouts see no end, and say nothing."""
    venv = Steady(bandit(lm, n_envs=2, max_new_tokens=5))
    agent = make(venv, lm, cost_limit=20.0, multiplier_lr=0.1, multiplier_kp=0.0)
    found: list[float] = []

    class Note(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_start(self) -> None:
            found.append(self.model.env.multiplier.value)  # type: ignore[union-attr]

    agent.learn(2 * 10, callback=Note())
    # (50 + 5) / 2 is 7.5 above the limit, at the ends of the steps 5 and 10.
    assert found == pytest.approx([0, 0, 0, 0.75, 0.75])
    assert agent.env.multiplier.value == pytest.approx(1.5)  # type: ignore[union-attr]
    assert agent.logger.name_to_value["train/n_updates"] == 10


# ---------------------------------------------------------------------- what is refused


def test_environments_without_costs() -> None:
    venv = make_vec_env("TextGen/GoodBad-v0", n_envs=4, seed=0)
    with pytest.raises(SettingsError, match=r"no info\['cost'\].*agents\.ppo"):
        ppo_lagrangian.make_agent(venv, 0)


class Foreign(VecEnvWrapper):
    """An environment that is not ours: nothing is known of its costs before an episode ends."""

    def has_attr(self, attr_name: str) -> bool:
        return attr_name != "settings" and self.venv.has_attr(attr_name)

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        return self.venv.step_wait()


def test_foreign_environments_without_costs(lm: str) -> None:
    agent = make(Foreign(bandit(lm, n_envs=2, costs={})), lm)
    with pytest.raises(SettingsError, match=r"no info\['cost'\]"):
        agent.learn(4)


@pytest.mark.parametrize("name", ["multiplier", "multiplier_lr", "multiplier_kp", "multiplier_kd"])
@pytest.mark.parametrize("value", [-0.1, float("nan")])
def test_what_would_let_costs_be_a_reward(name: str, value: float, lm: str) -> None:
    with pytest.raises(SettingsError, match=f"--{name.replace('_', '-')} {value}"):
        make(bandit(lm, n_envs=2), lm, **{name: value})


def test_costs_are_evaluated(lm: str) -> None:
    """One word a text: what is reported are the costs of the words that were written."""
    agent = make(bandit(lm, n_envs=4), lm)
    found = evaluate(agent, lambda n, seed: bandit(lm, n), 64, 32)
    costs = [float(COST[WORDS.index(text)]) for text in found.responses]
    assert found.costs == pytest.approx(costs)
    assert found.summary()["cost"] == pytest.approx(np.mean(costs))
    assert f"at a cost of {np.mean(costs):.3f}" in str(found)
    without = evaluate(agent, lambda n, seed: bandit(lm, n, costs=None), 4, 4)
    assert without.costs == []
    assert "cost" not in without.summary()


def test_an_environment_that_takes_no_costs_down_is_refused(lm: str) -> None:
    agent = make(bandit(lm, n_envs=4), lm)
    agent.set_env(bandit(lm, n_envs=4))
    with pytest.raises(SettingsError, match=r"Costs\(venv, multiplier\)"):
        agent.learn(8)


# ---------------------------------------------------------------------- resuming


@pytest.mark.usefixtures("curves_as_numbers")
def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the same costs and multipliers, and everything else."""
    environment = json.dumps({**runs.ENVIRONMENT, "costs": {"price": "distinct"}})
    arguments = runs.ARGUMENTS.copy()
    arguments[arguments.index("--env-kwargs") + 1] = environment
    monkeypatch.setattr(runs, "ARGUMENTS", [*arguments, "--multiplier-kd", "0.5"])
    whole = runs.start("ppo_lagrangian", tmp_path / "whole", "--checkpoint-every", "0")
    rows = runs.progress(whole)
    multipliers = [float(row["cost/multiplier"]) for row in rows if "cost/multiplier" in row]
    assert len(set(multipliers)) > 3
    assert min(float(row["cost/mean"]) for row in rows if "cost/mean" in row) > 0
    with monkeypatch.context() as patch:
        runs.at_step(patch, 108, runs.crash)
        with pytest.raises(runs.CrashError):
            runs.start("ppo_lagrangian", tmp_path / "other", "--checkpoint-every", "64")
    (folder,) = (tmp_path / "other").glob("TextGen*")
    runs.command("ppo_lagrangian", "--resume", str(folder))
    runs.assert_same_run(folder, whole, LagrangianPPO)


def test_a_checkpoint_of_another_limit_is_refused(lm: str, tmp_path: Path) -> None:
    agent = make(bandit(lm, n_envs=4), lm)
    agent.learn(3 * 8)
    save_checkpoint(agent, tmp_path)
    same = make(bandit(lm, n_envs=4), lm)
    assert resume(same, tmp_path, 100) == 100 - 24
    ours, theirs = same.env, agent.env
    assert isinstance(ours, Costs)
    assert isinstance(theirs, Costs)
    assert ours.multiplier == theirs.multiplier != Multiplier(0.3, 0.2, 1.0)
    other = make(bandit(lm, n_envs=4), lm, cost_limit=0.4)
    with pytest.raises(SettingsError, match=r"limit=0\.3.*0\.4"):
        resume(other, tmp_path, 100)

"""REINFORCE: its gradient is the gradient of the expected return, by enumeration of all texts."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import EvalCallback
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config

from agents import reinforce
from agents.reinforce import Reinforce, Settings, make_agent
from agents.running import experiment
from agents.running import run as common
from tests.lm.checkpoints import write_tokenizer
from textgym.errors import SettingsError
from textgym.lm import LanguageModel
from textgym.lm.lstm import LSTMConfig
from textgym.lm.sampling import processing
from textgym.sb3 import LMPolicy, make_vec_env

torch.set_num_threads(1)

WORDS = ["a", "b", "<eos>"]
EOS = 2
LENGTH = 3
Text = tuple[int, ...]


def all_texts(length: int) -> list[Text]:
    """All there is to write: a text ends with eos, or after so many tokens."""
    return [
        text
        for size in range(1, length + 1)
        for text in itertools.product(range(3), repeat=size)
        if EOS not in text[:-1] and (text[-1] == EOS or size == length)
    ]


TEXTS = all_texts(LENGTH)
VALUE = {text: 0.3 * at - 1.7 * (at % 3) for at, text in enumerate([*TEXTS, *all_texts(2)])}


def judge(prompts: list[str], completions: list[str], completion_ids: Any, **_: Any) -> list[float]:
    return [VALUE[tuple(map(int, ids))] for ids in completion_ids]


@pytest.fixture(scope="module", params=["gpt2", "lstm"])
def lm(request: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_lm(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_lm("gpt2", tmp_path_factory.mktemp("gpt2"))


def write_lm(kind: str, folder: Path) -> str:
    """A small model with random weights, large enough that no word is as likely as another."""
    common = {"vocab_size": 3, "bos_token_id": EOS, "eos_token_id": EOS, "initializer_range": 0.4}
    if kind == "gpt2":
        config: Any = GPT2Config(n_embd=8, n_layer=1, n_head=2, n_positions=8, **common)
    else:
        config = LSTMConfig(hidden_size=8, num_layers=1, **common)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    write_tokenizer(folder, WORDS)
    return str(folder)


def make(
    lm: str, n_envs: int = 1, sampling: Any = None, length: int = LENGTH, **settings: Any
) -> Reinforce:
    venv = make_vec_env(
        "TextGen-v0", n_envs, seed=0, prompts=["a b"], tokenizer=WORDS, reward=judge,
        max_prompt_tokens=2, max_new_tokens=length,
    )  # fmt: skip
    given: dict[str, Any] = {"kl_coef": 0.0, "kl_target": None, "device": "cpu", **settings}
    agent = Reinforce(venv, 0, Settings(**given), {"lm": lm, "sampling": sampling})
    with torch.no_grad():
        # Not the reference any more, and values that are not all zero.
        for parameter in agent.policy.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for parameter in agent.policy.value_net.parameters():
            parameter.div_(10)  # As the head multiplies by it.
    return agent


def write(agent: Reinforce, texts: list[Text]) -> Any:
    """Let the agent's rows write these texts, instead of drawing them."""
    step = itertools.count()

    def scripted(logits: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor]:
        at = next(step)
        tokens = torch.tensor([text[at] if at < len(text) else 0 for text in texts])
        return tokens, logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processing, "sample_tokens", scripted)
        episodes = agent.play()
    assert episodes is not None
    assert episodes.lengths.tolist() == [len(text) for text in texts]
    return episodes


def gradient(agent: Reinforce, texts: list[Text]) -> Tensor:
    """The agent's estimate of grad J from these texts."""
    agent.policy.set_training_mode(True)
    agent.policy.zero_grad()
    episodes = agent.charge(write(agent, texts))
    (-agent.loss(episodes)).backward()
    return flat(agent.policy.lm.parameters(), lambda weight: weight.grad)


def flat(weights: Any, of: Callable[[Any], Any]) -> Tensor:
    return torch.cat([of(weight).flatten().double() for weight in weights])


class Truth:
    """Plain transformers in float64, one forward pass for each text: no code of the agent's."""

    def __init__(
        self, agent: Reinforce, lm: str, temperature: float = 1.0, length: int = LENGTH
    ) -> None:
        self.texts = all_texts(length)
        self.temperature = temperature
        self.model = deepcopy(agent.policy.lm.model).double()
        self.reference = LanguageModel.load(lm, device="cpu").model.double()
        self.weights = list(self.model.parameters())

    def steps(self, text: Text, reference: bool = False) -> Tensor:
        """Log-probabilities ``[t, 3]`` of all tokens at each step of a text."""
        model = self.reference if reference else self.model
        logits = model(torch.tensor([[0, 1, *text]])).logits[0, 1:-1] / self.temperature
        return logits.log_softmax(-1)

    def log_prob(self, text: Text, reference: bool = False) -> Tensor:
        return self.steps(text, reference)[range(len(text)), list(text)].sum()

    def gradient(self, objective: Tensor) -> Tensor:
        found = torch.autograd.grad(objective, self.weights)
        return torch.cat([part.flatten() for part in found])

    def probs(self) -> list[float]:
        return [float(self.log_prob(text).detach().exp()) for text in self.texts]

    def expected_reward(self, kl_coef: float = 0.0) -> Tensor:
        """J: all texts, weighted by their probabilities, minus the KL of the texts."""
        total = torch.zeros((), dtype=torch.float64)
        for text in self.texts:
            log_prob = self.log_prob(text)
            ratio = log_prob - self.log_prob(text, reference=True).detach()
            total = total + log_prob.exp() * (VALUE[text] - kl_coef * ratio)
        return total


def test_there_are_fifteen_texts(gpt2: str) -> None:
    assert len(TEXTS) == 1 + 2 + 4 * 3
    agent = make(gpt2)
    assert sum(Truth(agent, gpt2).probs()) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("baseline", "kl_coef"), [("none", 0.0), ("value", 0.7)])
def test_expected_gradient_is_that_of_the_expected_return(
    lm: str, baseline: Any, kl_coef: float
) -> None:
    """The KL is a part of the reward, and the reward a function of the policy."""
    agent = make(lm, baseline=baseline, kl_coef=kl_coef)
    truth = Truth(agent, lm)
    exact = truth.gradient(truth.expected_reward(kl_coef))
    ours = sum(p * gradient(agent, [text]) for p, text in zip(truth.probs(), TEXTS, strict=True))
    assert exact.norm() > 0.1
    torch.testing.assert_close(ours, exact, atol=1e-5, rtol=1e-5)


def test_mean_of_the_others_is_no_bias(gpt2: str) -> None:
    """Batches of two texts of up to two tokens: all pairs, weighted by their probabilities."""
    agent = make(gpt2, n_envs=2, length=2, baseline="mean", kl_coef=0.7)
    truth = Truth(agent, gpt2, length=2)
    exact = truth.gradient(truth.expected_reward(0.7))
    weighted = list(zip(truth.probs(), truth.texts, strict=True))
    assert len(weighted) == 7
    ours = sum(
        p * q * gradient(agent, [one, other])
        for (p, one), (q, other) in itertools.product(weighted, repeat=2)
    )
    torch.testing.assert_close(ours, exact, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("gamma", [1.0, 0.6])
def test_discount_is_of_q_and_not_of_the_visits(gpt2: str, gamma: float) -> None:
    """Sum over states s of d(s) sum_a grad pi(a | s) Q(s, a), with Q by recursion on its tree."""
    agent = make(gpt2, gamma=gamma, baseline="none", kl_coef=0.7)
    truth = Truth(agent, gpt2)

    def value(state: Text) -> float:
        """Expected discounted rewards from a state on."""
        if state in TEXTS:
            return 0.0
        probs = truth.steps((*state, 0))[-1].detach().exp().tolist()
        return sum(p * q(state, token) for token, p in enumerate(probs))

    def q(state: Text, token: int) -> float:
        text = (*state, token)
        ratio = truth.steps(text)[-1, token] - truth.steps(text, reference=True)[-1, token]
        reward = VALUE[text] if text in TEXTS else 0.0
        return reward - 0.7 * float(ratio.detach()) + gamma * value(text)

    states = [
        state
        for size in range(LENGTH)
        for state in itertools.product(range(2), repeat=size)  # No eos so far.
    ]
    objective = torch.zeros((), dtype=torch.float64)
    for state in states:
        visits = float(truth.log_prob(state).detach().exp()) if state else 1.0
        probs = truth.steps((*state, 0))[-1].exp()
        objective = objective + visits * sum(probs[token] * q(state, token) for token in range(3))
    exact = truth.gradient(objective)
    if gamma == 1:
        whole = truth.gradient(truth.expected_reward(0.7))
        torch.testing.assert_close(exact, whole, atol=1e-9, rtol=1e-9)
    ours = sum(p * gradient(agent, [text]) for p, text in zip(truth.probs(), TEXTS, strict=True))
    torch.testing.assert_close(ours, exact, atol=1e-5, rtol=1e-5)


def test_entropy_bonus_is_that_of_the_states_that_were_seen(gpt2: str) -> None:
    agents = [make(gpt2, n_envs=15, ent_coef=coef, baseline="none") for coef in (0.0, 0.5)]
    without, with_it = (gradient(agent, TEXTS) for agent in agents)
    truth = Truth(agents[1], gpt2)
    entropy = torch.zeros((), dtype=torch.float64)
    for text in TEXTS:
        steps = truth.steps(text)
        entropy = entropy - (steps.exp() * steps).sum()
    expected = 0.5 * truth.gradient(entropy / len(TEXTS))
    torch.testing.assert_close(with_it - without, expected, atol=1e-5, rtol=1e-5)


def test_sampled_gradient_is_within_its_interval(gpt2: str) -> None:
    """Along the exact gradient: the spread of one text's estimate is known by enumeration."""
    texts = 4096
    agent = make(gpt2, n_envs=texts, baseline="value")
    truth = Truth(agent, gpt2)
    exact = truth.gradient(truth.expected_reward())
    direction = exact / exact.norm()
    single = make(gpt2, baseline="value")
    estimates = torch.stack([gradient(single, [text]) @ direction for text in TEXTS])
    probs = torch.tensor(truth.probs(), dtype=torch.float64)
    spread = float((probs @ estimates**2 - (probs @ estimates) ** 2).sqrt())
    interval = 5 * spread / texts**0.5  # Passed by chance once in 1.7 million.
    assert interval < 0.45 * exact.norm(), "half a gradient would be noticed"
    episodes = agent.play()
    assert episodes is not None
    agent.policy.zero_grad()
    (-agent.loss(episodes)).backward()
    sampled = flat(agent.policy.lm.parameters(), lambda weight: weight.grad)
    assert abs(float(sampled @ direction - exact.norm())) < interval


def test_sampling_is_part_of_the_policy(gpt2: str) -> None:
    agent = make(gpt2, sampling={"temperature": 0.6}, baseline="none", kl_coef=0.7)
    truth = Truth(agent, gpt2, temperature=0.6)
    exact = truth.gradient(truth.expected_reward(0.7))
    ours = sum(p * gradient(agent, [text]) for p, text in zip(truth.probs(), TEXTS, strict=True))
    torch.testing.assert_close(ours, exact, atol=1e-5, rtol=1e-5)


def test_what_top_k_kept_is_replayed(gpt2: str) -> None:
    agent = make(gpt2, n_envs=64, sampling={"top_k": 2})
    episodes = agent.play()
    assert episodes is not None
    assert episodes.sequences is not None
    assert episodes.sequences.kept is not None
    masks = episodes.sequences.kept.mask()
    assert masks.sum(1).tolist() == [2] * len(episodes.actions)
    assert masks.gather(1, episodes.actions[:, None]).all()
    _, log_probs, _ = agent.policy.evaluate_actions(episodes.sequences, episodes.actions)
    torch.testing.assert_close(log_probs, episodes.log_probs, atol=1e-5, rtol=0)


# ---------------------------------------------------------------------- returns, baselines, KL


def test_returns_and_baselines_by_hand(gpt2: str) -> None:
    agent = make(gpt2, n_envs=3, gamma=0.5, baseline="mean")
    episodes = write(agent, [(0, 0, 0), (EOS,), (1, EOS)])
    last = VALUE[0, 0, 0], VALUE[EOS,], VALUE[1, EOS]
    rows = [[last[0] / 4, last[1], last[2] / 2], [last[0] / 2, 0, last[2]], [last[0], 0, 0]]
    expected = np.array(rows)
    returns = agent.returns(episodes)
    np.testing.assert_allclose(returns, expected, rtol=1e-6)
    first = expected[0]
    others = [
        [(first[1] + first[2]) / 2, (first[0] + first[2]) / 2, (first[0] + first[1]) / 2],
        [expected[1, 2], None, expected[1, 0]],
        [0.0, None, None],  # Nobody else wrote so long.
    ]
    found = agent.baselines(episodes, returns)
    for at, value in np.ndenumerate(np.array(others, dtype=object)):
        if value is not None:
            assert found[at] == pytest.approx(value, rel=1e-6)


def test_whole_episodes_only(gpt2: str) -> None:
    """One of each row, short ones no more than is their due."""
    agent = make(gpt2, n_envs=1024)
    truth = Truth(agent, gpt2)
    lengths = []
    for _ in range(2):
        before = agent.num_timesteps
        episodes = agent.play()
        assert episodes is not None
        assert agent.num_timesteps - before == LENGTH * 1024
        lengths += episodes.lengths.tolist()
    expected = np.zeros(LENGTH + 1)
    for p, text in zip(truth.probs(), TEXTS, strict=True):
        expected[len(text)] += p
    found = np.bincount(lengths, minlength=LENGTH + 1) / len(lengths)
    spread = np.sqrt(expected * (1 - expected) / len(lengths))
    assert (np.abs(found - expected) <= 5 * spread).all()
    # The sequences are the observations, and the same numbers come out of them.
    _, log_probs, _ = agent.policy.evaluate_actions(episodes.sequences, episodes.actions)
    torch.testing.assert_close(log_probs, episodes.log_probs, atol=1e-5, rtol=0)


def test_texts_that_a_step_limit_cuts_off_are_refused(gpt2: str) -> None:
    venv = make_vec_env(
        "TextGen-v0", 2, seed=0, prompts=["a b"], tokenizer=WORDS, reward=judge,
        max_prompt_tokens=2, max_new_tokens=LENGTH, max_episode_steps=1,
    )  # fmt: skip
    agent = Reinforce(venv, 0, Settings(device="cpu"), {"lm": gpt2})
    with pytest.raises(SettingsError, match="step limit"):
        agent.learn(20)


def test_one_row_has_no_others_to_be_compared_with(gpt2: str) -> None:
    venv = make_vec_env("TextGen-v0", 1, prompts=["a b"], tokenizer=WORDS, reward=judge)
    with pytest.raises(SettingsError, match="--baseline mean"):
        make_agent(venv, 0, Settings(lm=gpt2, device="cpu"))


def test_kl_is_measured_and_adapted(gpt2: str) -> None:
    agent = make(gpt2, n_envs=48, kl_coef=0.5, kl_target=0.01)
    episodes = agent.play()
    assert episodes is not None
    charged = agent.charge(episodes)
    truth = Truth(agent, gpt2)
    expected = []
    for row in range(48):
        before, after = episodes.select([row]), charged.select([row])
        text = tuple(before.actions.tolist())
        ours, reference = (
            truth.steps(text, which)[range(len(text)), list(text)] for which in (0, 1)
        )
        expected.append((ours - reference).detach())
        paid = before.rewards - 0.5 * expected[-1].numpy()
        np.testing.assert_allclose(after.rewards, paid, atol=1e-5)
    mean = float(torch.cat(expected).mean())
    assert agent.logger.name_to_value["rollout/kl"] == pytest.approx(mean, abs=1e-6)
    error = np.clip((mean - 0.01) / 0.01, -0.2, 0.2)
    assert agent.kl.coef == pytest.approx(0.5 * (1 + 0.1 * error))


def test_explained_variance_is_of_the_returns_that_follow(gpt2: str) -> None:
    agent = make(gpt2, n_envs=16, baseline="value", gamma=0.9)
    torch.nn.init.normal_(next(agent.policy.value_net.parameters()))
    episodes = agent.play()
    assert episodes is not None
    agent.loss(episodes)
    values, returns = [], []
    for row in range(16):
        one = episodes.select([row])
        for step in range(len(one.rewards)):
            discounts = 0.9 ** np.arange(len(one.rewards) - step)
            returns.append(float(discounts @ one.rewards[step:]))
        values += one.values.tolist()
    expected = 1 - np.var(np.subtract(returns, values)) / np.var(returns)
    found = agent.logger.name_to_value["train/explained_variance"]
    assert found == pytest.approx(expected, abs=1e-4)


def test_the_value_head_leaves_the_model_alone(gpt2: str) -> None:
    """It is trained towards the returns, and its loss is not the language model's."""
    agents = [make(gpt2, n_envs=15, baseline="value", vf_coef=coef) for coef in (0.0, 5.0)]
    ours = [gradient(agent, TEXTS) for agent in agents]
    assert torch.equal(ours[0], ours[1])
    episodes = write(agents[1], TEXTS)
    gaps = episodes.values.numpy() - episodes.flat(agents[1].returns(episodes))
    assert np.abs(gaps).min() > 0
    # The derivative of the mean square, by hand; `gradient` is that of the loss with another sign.
    last = agents[1].policy.value_net[-1]
    found = last.bias.grad.item() / last.scale.item()
    assert found == pytest.approx(-5.0 * 2 * gaps.mean(), rel=1e-5)


# ---------------------------------------------------------------------- the agent


@pytest.mark.parametrize(
    ("baseline", "seed"), [("mean", 0), ("mean", 1), ("mean", 2), ("none", 3), ("value", 4)]
)
def test_learns_to_say_good(baseline: Any, seed: int, tmp_path: Path) -> None:
    settings = Settings(
        env="TextGen/GoodBad-v0", baseline=baseline, seed=seed, steps=768, n_envs=32, lr=3e-3,
        eval_episodes=100, threads=1, device="cpu", out=tmp_path,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "plot", lambda *_, **__: None)
        make_agent = partial(reinforce.make_agent, settings=settings)
        folder = common.run("reinforce", settings, make_agent)
    results = json.loads((folder / "run.json").read_text())["results"]
    assert results["steps"] == 768
    assert abs(results["eval_before"]["mean"]) < 0.4
    assert results["eval_after"]["mean"] > 0.9
    header = (folder / "progress.csv").read_text().splitlines()[0]
    assert {"rollout/kl", "episode/reward", "train/policy_gradient_loss"} <= {*header.split(",")}
    assert (folder / "lm" / "model.safetensors").exists()


def test_same_seed_same_weights(gpt2: str) -> None:
    def train(seed: int) -> Tensor:
        venv = make_vec_env(
            "TextGen-v0", 8, seed=9, prompts=["a b", "b"], tokenizer=WORDS, reward=judge,
            max_prompt_tokens=2, max_new_tokens=LENGTH,
        )  # fmt: skip
        agent = Reinforce(venv, seed, Settings(device="cpu"), {"lm": gpt2}).learn(72)
        return flat(agent.policy.lm.parameters(), lambda weight: weight.detach())

    assert torch.equal(train(1), train(1))
    assert not torch.equal(train(1), train(2))


@pytest.mark.filterwarnings("ignore:rich is experimental")
def test_callbacks_and_lengths_of_training(gpt2: str, tmp_path: Path) -> None:
    agent = make(gpt2, n_envs=4)
    heard: list[int] = []

    def listen(locals_: dict[str, Any], _: Any) -> bool:
        heard.append(int(locals_["dones"].sum()))
        return True

    agent.learn(100, callback=listen)
    assert 100 <= agent.num_timesteps < 100 + 4 * LENGTH
    assert sum(heard) % 4 == 0, "one episode of each row, and no others"
    now = agent.num_timesteps
    agent.learn(50, callback=[], reset_num_timesteps=False, progress_bar=True)
    assert now + 50 <= agent.num_timesteps < now + 50 + 4 * LENGTH
    steps = iter(range(5))
    agent.learn(1000, callback=lambda *_: next(steps) < 3)
    assert agent.num_timesteps == 16, "the fourth step was the last"
    evaluation = EvalCallback(make(gpt2, n_envs=2).env, eval_freq=10, log_path=str(tmp_path))
    agent.learn(100, callback=evaluation)
    assert (tmp_path / "evaluations.npz").exists()


def test_saved_policy_loads(gpt2: str, tmp_path: Path) -> None:
    agent = make(gpt2, n_envs=4).learn(60)
    agent.save(str(tmp_path / "model"))
    loaded = LMPolicy.load(str(tmp_path / "model.safetensors"), device="cpu")
    obs = agent.env.reset()
    texts = torch.from_numpy(obs)
    with torch.no_grad():
        probs = [each.get_distribution(texts).distribution.probs for each in (agent.policy, loaded)]
    assert torch.equal(*probs)
    likeliest, _ = agent.predict(obs, deterministic=True)
    assert np.array_equal(likeliest, probs[0].argmax(-1))

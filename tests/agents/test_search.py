"""Agents that choose among texts: a language model as it is, best-of-n, expert iteration."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from agents import best_of_n, expert_iteration
from agents import lm as lm_agent
from agents.expert_iteration import chosen
from agents.running import run as common
from agents.running.lm_agent import LMAgent
from agents.running.supervised import gradient_step
from tests.lm.checkpoints import EOS, WORDS, write_checkpoint
from textgym.errors import SettingsError
from textgym.rollouts import Episodes
from textgym.sb3 import LMPolicy, check_resumable, make_vec_env

torch.set_num_threads(1)

PROMPTS = ["w1", "w2 w3", "w4", "w7 w9"]
KIND: dict[str, Any] = {"tokenizer": WORDS, "max_prompt_tokens": 4}


def even_words(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
    return [sum(word[-1] in "02468" for word in text.split()) / 6 for text in completions]


def numbers(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
    """The number of the word; eos is worth 5."""
    return [5.0 if text == "<eos>" else float(text[1:]) for text in completions]


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_checkpoint(tmp_path_factory.mktemp("lm") / "gpt2")


def make(n_envs: int, seed: int = 0, **others: Any) -> Any:
    arguments = {"prompts": PROMPTS, "reward": even_words, "max_new_tokens": 6, **KIND}
    return make_vec_env("TextGen-v0", n_envs, seed, **{**arguments, **others})


def mean_reward(agent: Any, venv: Any) -> float:
    """Of the first episode of each row."""
    obs, state, starts = venv.reset(), None, np.ones(venv.num_envs, bool)
    first: dict[int, float] = {}
    while len(first) < venv.num_envs:
        actions, state = agent.predict(obs, state, starts)
        obs, _, starts, infos = venv.step(actions)
        for row in np.flatnonzero(starts):
            first.setdefault(int(row), infos[row]["episode"]["r"])
    return float(np.mean(list(first.values())))


# ---------------------------------------------------------------------- a language model


@pytest.mark.parametrize("more", [{"sampling": "greedy"}, {"top_k": 1}, {"temperature": 1e-4}])
def test_greedy_is_the_argmax_of_a_full_forward_pass(more: dict[str, Any], lm: str) -> None:
    venv = make(8)
    agent = lm_agent.make_agent(venv, 0, lm_agent.Settings(lm=lm, device="cpu", **more))
    model = AutoModelForCausalLM.from_pretrained(lm)
    obs = venv.reset()
    for _ in range(14):
        actions, _ = agent.predict(obs)
        for row, action in zip(obs, actions, strict=True):
            text = torch.from_numpy(row[row >= 0]).long()[None]
            with torch.no_grad():
                assert int(action) == int(model(text).logits[0, -1].argmax())
        obs = venv.step(actions)[0]


def test_sampling_has_the_models_frequencies(lm: str) -> None:
    venv = make(1, prompts=["w1"])
    agent = lm_agent.make_agent(venv, 0, lm_agent.Settings(lm=lm, temperature=2.0, device="cpu"))
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(lm)(torch.tensor([[1]])).logits[0, -1]
    expected = 8000 * torch.softmax(logits / 2.0, -1).numpy()
    obs = np.repeat(venv.reset(), 8000, axis=0)
    counts = np.bincount(agent.predict(obs)[0], minlength=len(WORDS))
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected) + 1).all()
    assert agent.learn(1000).num_timesteps == 0


def test_save_and_load(lm: str, tmp_path: Path) -> None:
    venv = make(4)
    settings = lm_agent.Settings(lm=lm, sampling="greedy", device="cpu")
    agent = lm_agent.make_agent(venv, 0, settings)
    agent.save(tmp_path / "model")
    loaded = LMAgent.load(tmp_path / "model", device="cpu")
    assert loaded.greedy
    obs = venv.reset()
    assert np.array_equal(loaded.predict(obs)[0], agent.predict(obs)[0])


# ---------------------------------------------------------------------- best-of-n


@pytest.mark.parametrize("n", [1, 3])
def test_best_of_n_has_the_expected_maximum(n: int, lm: str) -> None:
    """One word: with F the distribution function of its reward, E max = sum of v d(F^n)(v)."""
    rows = 1500
    bandit = {"prompts": ["w1"], "max_new_tokens": 1, "stop_at_eos": False, "reward": numbers}
    venv = make(rows, **bandit)
    settings = best_of_n.Settings(lm=lm, n=n, at_once=700, device="cpu")
    agent = best_of_n.make_agent(venv, 0, settings)
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(lm)(torch.tensor([[1]])).logits[0, -1]
    probs = torch.softmax(logits.double(), -1).numpy()
    values = np.array([5.0 if word == "<eos>" else float(word[1:]) for word in WORDS])
    order = values.argsort()
    power = np.concatenate([[0.0], probs[order].cumsum() ** n])
    mean = (values[order] * np.diff(power)).sum()
    variance = (values[order] ** 2 * np.diff(power)).sum() - mean**2
    # The rows are independent: five standard errors, which chance exceeds once in two million.
    assert abs(mean_reward(agent, venv) - mean) < 5 * np.sqrt(variance / rows)


def test_the_best_candidate_is_the_one_that_is_played(lm: str) -> None:
    """The rewards read a column that no prompt shows, and texts have several lengths."""
    # So many that no two of those that are played are the same.
    rows = [{"prompt": PROMPTS[i % 4], "wanted": "5678"[i % 4], "name": i} for i in range(1000)]
    scored: dict[int, list[tuple[str, float]]] = {}

    def reward(prompts: Any, completions: Any, wanted: Any, name: Any, **_: Any) -> list[float]:
        found = []
        for text, digit, number in zip(completions, wanted, name, strict=True):
            found.append(text.count(digit) + 0.01 * len(text))
            scored.setdefault(number, []).append((text, found[-1]))
        return found

    venv = make(4, prompts=rows, reward=reward)
    settings = best_of_n.Settings(lm=lm, n=5, at_once=7, device="cpu")
    agent = best_of_n.make_agent(venv, 0, settings)
    obs = venv.reset()
    actions, state = agent.predict(obs)
    assert [len(group) for group in scored.values()] == [5] * 4
    best = {name: max(value for _, value in group) for name, group in scored.items()}
    assert len({len(text.split()) for group in scored.values() for text, _ in group}) > 1
    starts = np.zeros(4, bool)
    done = np.zeros(4, bool)
    while not done.all():
        obs, _, starts, infos = venv.step(actions)
        for row in np.flatnonzero(starts & ~done):
            wanted, expected = infos[row]["wanted"], best[infos[row]["name"]]
            assert infos[row]["episode"]["r"] == pytest.approx(expected, abs=1e-5)
            assert infos[row]["response"].count(wanted) == int(expected)
        done |= starts
        actions, state = agent.predict(obs, state, starts)


def test_conversations_are_refused() -> None:
    with pytest.raises(SettingsError, match="conversation"):
        best_of_n.make_agent(make_vec_env("TextGen/Dialogue-v0", 2, 0), 0)


def test_best_of_n_is_saved_without_its_environment(lm: str, tmp_path: Path) -> None:
    venv = make(4)
    agent = best_of_n.make_agent(venv, 0, best_of_n.Settings(lm=lm, n=2, device="cpu"))
    agent.predict(venv.reset())
    agent.save(tmp_path / "model")
    loaded = best_of_n.BestOfN.load(tmp_path / "model", device="cpu")
    with pytest.raises(SettingsError, match="env=venv"):
        loaded.predict(venv.reset())
    loaded = best_of_n.BestOfN.load(tmp_path / "model", env=venv, device="cpu")
    assert loaded.predict(venv.reset())[0].shape == (4,)
    assert loaded.n == 2


def test_best_of_n_through_a_run(tmp_path: Path) -> None:
    settings = best_of_n.Settings(
        env="TextGen/GoodBad-v0", n=6, n_envs=16, eval_episodes=40, threads=1, device="cpu",
        out=tmp_path,
    )  # fmt: skip
    folder = common.run("best_of_n", settings, partial(best_of_n.make_agent, settings=settings))
    results = json.loads((folder / "run.json").read_text())["results"]
    # About 2 (1/2)^6 below 1 in the mean of 40.
    assert results["eval_after"]["mean"] > 0.8
    assert results["eval_split"] == "eval"


# ---------------------------------------------------------------------- expert iteration


def test_what_is_chosen() -> None:
    rewards = np.array([[1.0, 3.0, 2.0, 0.0], [5.0, 5.0, 5.0, 5.0], [0.0, np.nan, 2.0, 1.0]])
    best = chosen(rewards, keep=0.25, threshold=None)
    assert best.tolist() == [[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]
    half = chosen(rewards, keep=0.5, threshold=None)
    assert half.tolist() == [[0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 1, 0]]
    above = chosen(rewards, keep=0.25, threshold=2.0)
    assert above.tolist() == [[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 1, 0]]


def ei(lm: str, seed: int = 0, venv: Any = None, **settings: Any) -> Any:
    settings = {"k": 4, "lr": 2e-3, "device": "cpu", **settings}
    made = expert_iteration.Settings(lm=lm, **settings)
    return expert_iteration.make_agent(venv or make(16, seed), seed, made)


@pytest.mark.parametrize(
    ("more", "seed"),
    [
        ({}, 0),
        ({}, 1),
        ({}, 2),
        ({"threshold": 0.6}, 0),
        ({"threshold": 0.6, "restart": True, "rounds": 4, "n_epochs": 4}, 0),
    ],
    ids=["keep", "keep again", "and again", "threshold", "restart"],
)
def test_the_reward_rises(more: dict[str, Any], seed: int, lm: str) -> None:
    agent = ei(lm, seed, make(32, seed, stop_at_eos=False), batch_size=8, **more)
    before = mean_reward(agent, make(256, 99, stop_at_eos=False))
    agent.learn(1500)
    after = mean_reward(agent, make(256, 99, stop_at_eos=False))
    assert before < 0.7
    assert after > before + 0.1  # Five standard errors of a difference of two means, each 0.2 / 16.


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> list[Episodes]:
    """The minibatches that are learned, in order."""
    seen: list[Episodes] = []

    def spy(policy: Any, texts: Any, norm: float) -> tuple[float, float]:
        seen.append(texts)
        return gradient_step(policy, texts, norm)

    monkeypatch.setattr(expert_iteration, "gradient_step", spy)
    return seen


def test_k_texts_a_prompt_each_written_to_its_end(lm: str, learned: list[Episodes]) -> None:
    agent = ei(lm, threshold=-1.0, n_epochs=1, batch_size=100, lr=0.0)
    agent.learn(1)
    (texts,) = learned
    assert len(texts) == 16
    firsts = np.cumsum([0, *texts.lengths[:-1]])
    starts = [
        [token for token in text if token >= 0]
        for text in texts.sequences.observations(0, len(texts.actions))[firsts].tolist()
    ]
    prompts = {str([WORDS.index(word) for word in prompt.split()]) for prompt in PROMPTS}
    assert {str(start) for start in starts} <= prompts
    counts = [starts.count(start) for start in starts]
    assert all(count % 4 == 0 for count in counts)
    for number, start in enumerate(starts):
        text = texts.select([number])
        own = text.actions.tolist()
        assert len(own) == 6 or own[-1] == EOS
        assert EOS not in own[:-1]
        first = len(start) - 1
        assert text.sequences.positions.tolist() == list(range(first, first + len(own)))


def test_restarting_learns_from_the_first_model(lm: str, learned: list[Episodes]) -> None:
    agent = ei(lm, threshold=0.3, restart=True, n_epochs=1, batch_size=100, lr_schedule="constant")
    agent.learn(200)
    assert len(learned) > 2
    fresh = LMPolicy(agent.observation_space, agent.action_space, lambda _: 2e-3, lm=lm)
    gradient_step(fresh, learned[-1], 1.0)
    weights = zip(agent.policy.lm.parameters(), fresh.lm.parameters(), strict=True)
    assert all(torch.allclose(ours, theirs, atol=1e-6) for ours, theirs in weights)


def test_without_anything_better_nothing_is_learned(lm: str, learned: list[Episodes]) -> None:
    agent = ei(lm, venv=make(8, reward=lambda prompts, completions, **_: [1.0] * len(prompts)))
    agent.learn(64)
    assert agent.num_timesteps >= 64
    assert learned == []


def test_callbacks_count_and_stop(lm: str) -> None:
    steps = []

    def note(local: dict[str, Any], _: Any) -> bool:
        steps.append(int(local["dones"].sum()))
        return len(steps) < 9

    agent = ei(lm).learn(10_000, callback=note)
    assert agent.num_timesteps == 9 * 16
    assert sum(steps[:6]) == 16, "each row's first episode counts, and none twice"


def test_expert_iteration_is_saved(lm: str, tmp_path: Path) -> None:
    venv = make(16)
    agent = ei(lm, venv=venv, restart=True, threshold=0.3).learn(100)
    agent.save(tmp_path / "model")
    loaded = expert_iteration.ExpertIteration.load(tmp_path / "model", env=venv, device="cpu")
    obs = venv.reset()
    expected = agent.predict(obs, deterministic=True)[0]
    assert np.array_equal(loaded.predict(obs, deterministic=True)[0], expected)
    loaded.learn(16, reset_num_timesteps=False)
    assert loaded.num_timesteps > agent.num_timesteps


def test_a_text_alone_is_never_the_best(lm: str) -> None:
    with pytest.raises(SettingsError, match="k=1"):
        ei(lm, k=1)
    assert ei(lm, k=1, threshold=0.5).k == 1


def test_settings_that_are_impossible(lm: str) -> None:
    with pytest.raises(SettingsError, match=r"k=4 .*6"):
        ei(lm, venv=make(6)).learn(1)
    for wrong in ({"k": 0}, {"keep": 0.0}, {"keep": 1.5}, {"batch_size": 0}):
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            ei(lm, **wrong)
    with pytest.raises(SettingsError, match="n=0"):
        best_of_n.make_agent(make(2), 0, best_of_n.Settings(lm=lm, n=0))


def test_what_learns_nothing_cannot_be_resumed(lm: str) -> None:
    for module in (lm_agent, best_of_n):
        agent = module.make_agent(make(8), 0, module.Settings(lm=lm))
        with pytest.raises(SettingsError, match=f"training by {type(agent).__name__}"):
            check_resumable(agent)

"""A closed vocabulary gets a language model of its own."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from stable_baselines3 import PPO
from transformers import AutoModelForCausalLM, AutoTokenizer

from agents import a2c, ppo
from agents.running import run as common
from agents.running.word_model import starting_model
from textgym.lm import LanguageModel
from textgym.sb3 import make_vec_env


def p_good(agent: Any) -> float:
    venv = make_vec_env("TextGen/GoodBad-v0", n_envs=1, seed=0)
    obs, _ = agent.policy.obs_to_tensor(venv.reset())
    with torch.no_grad():
        probabilities = agent.policy.get_distribution(obs).distribution.probs
    return float(probabilities[0, 0])  # Token 0 is "good".


def test_goodbad_is_won_with_the_default_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m agents.ppo --env TextGen/GoodBad-v0`, with a batch that suits one-token texts."""
    settings = ppo.Settings(
        env="TextGen/GoodBad-v0",
        steps=16_384,
        n_envs=16,
        n_steps=16,
        eval_episodes=32,
        threads=1,
        device="cpu",
        out=tmp_path,
    )
    folder = common.run("ppo", settings, partial(ppo.make_agent, settings=settings))
    assert "a small GPT-2 with random weights, made for the environment's 2 words" in (
        capsys.readouterr().out
    )
    assert p_good(PPO.load(folder / "model.zip", device="cpu")) > 0.99
    start = ppo.make_agent(make_vec_env("TextGen/GoodBad-v0", n_envs=4, seed=0), 0, settings)
    assert 0.3 < p_good(start) < 0.7


@pytest.mark.parametrize("module", [ppo, a2c], ids=["ppo", "a2c"])
def test_any_closed_vocabulary(
    module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # The default of `out` is a folder here.
    words = ["the", "cat", "sat", "</s>"]
    venv = make_vec_env("TextGen-v0", n_envs=2, prompts=["the cat"], tokenizer=words)
    agent = module.make_agent(venv, 0)
    folder = agent.policy.lm.name
    assert Path(folder).is_relative_to(tmp_path)
    theirs = AutoTokenizer.from_pretrained(folder)
    assert theirs("the cat sat</s>".replace("<", " <"))["input_ids"] == [0, 1, 2, 3]
    assert theirs.eos_token == "</s>"
    assert AutoModelForCausalLM.from_pretrained(folder).config.vocab_size == 4
    # The agent acts: environment and model agree on the tokens.
    assert agent.predict(venv.reset())[0].shape == (2,)


def test_models_are_made_once_and_by_seed(tmp_path: Path) -> None:
    venv = make_vec_env("TextGen/GoodBad-v0", n_envs=1)
    state = torch.random.get_rng_state()
    first, again, other = (starting_model(venv, None, seed, tmp_path) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first == again != other
    one, two = (LanguageModel.load(name, device="cpu") for name in (first, other))
    assert not torch.equal(next(one.parameters()), next(two.parameters()))
    assert sorted(path.name for path in (tmp_path / "word-models").iterdir()) == sorted(
        [Path(first).name, Path(other).name]
    )


def test_other_environments_start_from_what_was_asked_for(tmp_path: Path) -> None:
    open_vocabulary = make_vec_env("TextGen/Sentiment-v0", n_envs=1)
    closed = make_vec_env("TextGen/GoodBad-v0", n_envs=1)
    assert starting_model(open_vocabulary, None, 0, tmp_path) == "textgym/tiny"
    assert starting_model(closed, "someone/model", 0, tmp_path) == "someone/model"
    assert list(tmp_path.iterdir()) == []

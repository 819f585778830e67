"""PPO among the tokens that are allowed: the masks it can be given, and what it learns in them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3.common.vec_env import VecEnv

from agents import maskable_ppo
from agents.running import run as common
from textgym.errors import ActionError, SettingsError
from textgym.sb3 import make_vec_env
from textgym.wrappers import ActionMasks

torch.set_num_threads(1)

WORDS = ["a", "b", "c", "d", "e", "f", "<eos>"]
ENVIRONMENT: dict[str, Any] = {
    "prompts": ["c", "d e", "f e d"],
    "tokenizer": WORDS,
    "max_prompt_tokens": 3,
    "max_new_tokens": 4,
}


def first_letters(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
    """A quarter for each "a" or "b"."""
    return [sum(word in "ab" for word in text.split()) / 4 for text in completions]


def settings(out: Path, **others: Any) -> maskable_ppo.Settings:
    sizes: dict[str, Any] = {"n_envs": 32, "n_steps": 8, "eval_episodes": 64, "threads": 1}
    free = {"kl_coef": 0.0, "kl_target": None, "lr": 3e-3, "device": "cpu", "out": out}
    environment = {**ENVIRONMENT, "reward": first_letters}
    return maskable_ppo.Settings(
        **{"env": "TextGen-v0", "env_kwargs": environment, **sizes, **free, **others}
    )


def train(chosen: maskable_ppo.Settings) -> tuple[Any, list[dict[str, Any]]]:
    folder = common.run("test", chosen, partial(maskable_ppo.make_agent, settings=chosen))
    results = json.loads((folder / "run.json").read_text())["results"]
    rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    return results, rows


def repeats(text: list[int], size: int) -> bool:
    """Whether a run of so many tokens comes twice, by looking at all of them."""
    runs = [tuple(text[at : at + size]) for at in range(len(text) - size + 1)]
    return len(set(runs)) < len(runs)


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_no_repeats_is_what_it_says(size: int) -> None:
    """Against all texts of a vocabulary of three words and eos, of 400 lengths and contents."""
    words = ["a", "b", "c", "<eos>"]
    envs = gym.make_vec("TextGen-v0", 1, tokenizer=words, prompts=["a"])
    mask = maskable_ppo.no_repeats(envs, size)
    rng = np.random.default_rng(0)
    texts = np.full((400, 8), -1, np.int32)
    for text, length in zip(texts, rng.integers(0, 8, 400), strict=True):
        text[:length] = rng.integers(0, 3, length)
    allowed = mask(texts)
    forbidden = 0
    for text, row in zip(texts, allowed, strict=True):
        written = text[text >= 0].tolist()
        for token in range(3):
            # Earlier repetitions are not due to this token.
            new = tuple([*written, token][-size:])
            runs = [tuple(written[at : at + size]) for at in range(len(written) - size + 1)]
            assert row[token] == (len(new) < size or new not in runs)
            forbidden += not row[token]
        assert row[3]
    assert (forbidden > 0) == (size < 8)


def test_it_learns_the_best_that_is_allowed(tmp_path: Path) -> None:
    """No word may come twice: "a b" is worth 0.5, and "a a a a" would be worth 1.

    A masked token raises, so the evaluations before and after write none.
    """
    results, rows = train(settings(tmp_path, steps=6144, no_repeat_ngram=1))
    assert results["eval_before"]["mean"] < 0.35
    assert 0.45 < results["eval_after"]["mean"] <= 0.5
    for row in rows:
        for when in ("before", "after"):
            text = [WORDS.index(word) for word in f"{row['prompt']} {row[when]}".split()]
            assert not repeats(text, 1)


def test_masks_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, and a function of the user's own in the present folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_masks.py").write_text(
        "import numpy as np\n\n"
        "def only_c_first(texts):\n"
        "    masks = np.ones((len(texts), 7), bool)\n"
        "    masks[(texts >= 0).sum(1) == 1] = np.arange(7) == 2\n"
        "    return masks\n"
    )
    given = settings(
        tmp_path, steps=256, env_kwargs={**ENVIRONMENT, "prompts": ["c"], "reward": first_letters},
        allowed=("a", "c", "d"), banned=("d",), mask="my_masks:only_c_first", eval_episodes=32,
        eval_share=0,
    )  # fmt: skip
    _, rows = train(given)
    for row in rows:
        for when in ("before", "after"):
            assert row[when].split()[0] == "c"
            assert set(row[when].split()) <= {"a", "c"}
    letters = {word for row in rows for word in row["before"].split()[1:]}
    assert letters == {"a", "c"}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"mask": "no_such_module:f"}, "--mask no_such_module:f.*give module:function"),
        ({"mask": "json:no_such_function"}, "no_such_function"),
        ({"mask": ":f"}, "give module:function"),
        ({"banned": ("g",)}, "banned has 'g'"),
        ({"no_repeat_ngram": 0}, "--no-repeat-ngram 0"),
    ],
    ids=str,
)
def test_what_is_wrong_is_told(setting: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=words):
        train(settings(tmp_path, steps=8, **setting))


def test_predict_finds_the_masks_itself(tmp_path: Path) -> None:
    """Those of its environment, unless others are given."""
    venv: VecEnv = make_vec_env(
        "TextGen-v0", 16, seed=0, reward=first_letters, **ENVIRONMENT,
        wrapper=partial(ActionMasks, allowed=["b", "<eos>"]),
    )  # fmt: skip
    agent = maskable_ppo.make_agent(venv, 0, settings(tmp_path))
    obs: Any = venv.reset()
    assert set(agent.predict(obs)[0].tolist()) == {1, 6}
    assert int(agent.predict(obs[0])[0]) in (1, 6)
    others = np.zeros((16, 7), bool)
    others[:, 3] = True
    actions, _ = agent.predict(obs, action_masks=others)
    assert actions.tolist() == [3] * 16
    with pytest.raises(ActionError, match="masked"):
        venv.step(actions)
    # Loaded, it is MaskablePPO, which needs the masks as an argument.
    agent.save(tmp_path / "model")
    loaded = MaskablePPO.load(tmp_path / "model", device="cpu")
    assert len(set(loaded.predict(obs.repeat(20, 0))[0].tolist())) > 2
    assert loaded.predict(obs, action_masks=others)[0].tolist() == [3] * 16


def test_a_loaded_agent_writes_nothing_without_its_masks(tmp_path: Path) -> None:
    arguments = {
        **ENVIRONMENT,
        "reward": first_letters,
        "wrapper": partial(ActionMasks, banned=("a",)),
    }
    venv = make_vec_env("TextGen-v0", 4, **arguments)
    agent = maskable_ppo.make_agent(venv, 0, settings(tmp_path))
    agent.save(tmp_path / "model")
    loaded = maskable_ppo.MaskedWriter.load(tmp_path / "model", device="cpu")
    obs = venv.reset()
    with pytest.raises(SettingsError, match="give action_masks"):
        loaded.predict(obs)
    only_c = np.arange(7) == 2
    assert loaded.predict(obs, action_masks=np.tile(only_c, (4, 1)))[0].tolist() == [2] * 4
    again = maskable_ppo.MaskedWriter.load(tmp_path / "model", env=venv, device="cpu")
    written = again.predict(obs.repeat(50, 0))[0]
    assert 0 not in written
    assert len(set(written.tolist())) > 3
    plain = make_vec_env("TextGen-v0", 4, **{**arguments, "wrapper": None})
    free = maskable_ppo.MaskedWriter.load(tmp_path / "model", env=plain, device="cpu")
    with pytest.raises(SettingsError, match="give action_masks"):
        free.predict(obs)


def test_an_agent_that_was_made_without_masks_needs_none(tmp_path: Path) -> None:
    venv = make_vec_env("TextGen-v0", 4, **ENVIRONMENT, reward=first_letters)
    agent = maskable_ppo.make_agent(venv, 0, settings(tmp_path))
    agent.save(tmp_path / "model")
    loaded = maskable_ppo.MaskedWriter.load(tmp_path / "model", device="cpu")
    assert loaded.predict(venv.reset())[0].shape == (4,)


def test_make_agent_needs_only_an_environment_and_a_seed() -> None:
    venv: VecEnv = make_vec_env("TextGen/Sentiment-v0", n_envs=3, seed=0)
    actions, _ = maskable_ppo.make_agent(venv, 0).predict(venv.reset())
    assert all(venv.action_space.contains(action) for action in actions)

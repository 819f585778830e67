"""The environment's contract: spaces, appended tokens, ends of episodes, and infos."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

import textgym
from textgym.envs import TextGenEnv

SPECS = [spec for spec in gym.registry.values() if str(spec.entry_point).startswith("textgym")]
EOS = 4  # of the five words


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.id)
def test_spaces(spec: Any) -> None:
    env = gym.make(spec).unwrapped
    size = env.tokenizer.vocab_size
    width = env.settings.max_prompt_tokens + env.settings.max_new_tokens
    texts = gym.spaces.Box(-1, size - 1, (width,), np.int32)
    assert env.action_space == gym.spaces.Discrete(size)
    obs, info = env.reset(seed=3)
    assert obs in env.observation_space
    if env.settings.pictures is None:
        assert env.observation_space == texts
    else:
        shape = env.settings.pictures.image_shape
        image = gym.spaces.Box(0, 255, shape, np.uint8)
        assert env.observation_space == gym.spaces.Dict({"tokens": texts, "image": image})
        obs = obs["tokens"]
    assert obs.dtype == np.int32
    assert info["prompt_tokens"] == (obs >= 0).sum()
    assert env.tokenizer.decode(obs[: info["prompt_tokens"]].tolist()) == info["prompt"]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.id)
def test_types_of_a_step(spec: Any) -> None:
    env = gym.make(spec)
    obs, info = env.reset(seed=1)
    assert type(info["prompt"]) is str
    assert type(info["prompt_tokens"]) is int
    terminated = False
    while not terminated:
        before = obs
        obs, reward, terminated, truncated, info = env.step(1)
        assert type(reward) is float
        assert type(terminated) is bool
        assert truncated is False
        assert not np.shares_memory(before, obs)
        assert ("response" in info) is terminated
    assert type(info["response"]) is str
    assert info["finish_reason"] in ("eos", "stop", "length")
    assert all(type(value) is float for value in info["reward_terms"].values())


def test_defaults_without_a_task_are_64_and_64() -> None:
    env = gym.make("TextGen-v0", prompts=["a"]).unwrapped
    assert (env.settings.max_prompt_tokens, env.settings.max_new_tokens) == (64, 64)
    assert gym.make("TextGen-v0").observation_space.shape == (128,)


def test_budgets_are_the_tasks_unless_given() -> None:
    task = textgym.make_task("TextGen/Sentiment-v0")
    width = gym.make("TextGen/Sentiment-v0").observation_space.shape
    assert width == (task.max_prompt_tokens + task.max_new_tokens,)
    env = gym.make("TextGen/Sentiment-v0", max_prompt_tokens=99, max_new_tokens=2)
    assert env.observation_space.shape == (101,)


@given(
    actions=st.lists(st.integers(0, 4), min_size=1, max_size=12),
    prompt=st.lists(st.integers(0, 4), max_size=4),
    budget=st.integers(1, 6),
    stop_at_eos=st.booleans(),
)
def test_append_only(
    words_env: Any, actions: list[int], prompt: list[int], budget: int, stop_at_eos: bool
) -> None:
    env = words_env(max_new_tokens=budget, stop_at_eos=stop_at_eos)
    words = " ".join(env.tokenizer.words[index] for index in prompt)
    obs, info = env.reset(options={"prompt": words})
    text = list(prompt)
    assert obs.tolist() == text + [-1] * (4 + budget - len(text))
    assert (info["prompt"], info["prompt_tokens"]) == (words, len(prompt))
    for action in actions:
        obs, _, terminated, _, info = env.step(action)
        text.append(action)
        assert obs.tolist() == text + [-1] * (4 + budget - len(text))
        written = len(text) - len(prompt)
        assert terminated == (written == budget or (stop_at_eos and action == EOS))
        if terminated:
            return
        assert info == {}


@pytest.mark.parametrize(
    ("arguments", "actions", "reason", "response"),
    [
        ({}, [1, 2, EOS], "eos", "cat sat"),  # Also the last of the budget: eos it is.
        ({}, [EOS], "eos", ""),
        ({}, [1, 2, 3], "length", "cat sat ran"),
        ({"stop_at_eos": False}, [EOS, 1, EOS], "length", "<eos> cat <eos>"),
        ({"stop": ["sat"]}, [1, 2], "stop", "cat "),
        ({"stop": ["sat"]}, [1, 3, 2], "stop", "cat ran "),  # Also the last of the budget.
        ({"stop": ["at s"]}, [1, 2], "stop", "c"),
        ({"stop": ["the"]}, [1, 3, 3], "length", "cat ran ran"),  # In the prompt alone.
        ({"stop": ["sat", "cat s"]}, [1, 2], "stop", ""),  # The earlier one cuts.
        ({"stop": ["<eos>"]}, [1, EOS], "eos", "cat"),
        ({"stop": ["<eos>"], "stop_at_eos": False}, [1, EOS], "stop", "cat "),
        ({"max_new_tokens": 1}, [1], "length", "cat"),
        ({"max_new_tokens": 1}, [EOS], "eos", ""),
    ],
)
def test_ends(
    words_env: Any, play: Any, arguments: Any, actions: list[int], reason: str, response: str
) -> None:
    env = words_env(**arguments)
    env.reset(options={"prompt": "the the"})
    rewards, info = play(env, actions)
    assert (info["finish_reason"], info["response"]) == (reason, response)
    assert rewards == [0.0] * (len(actions) - 1) + [float(len(response))]


def test_the_last_token_stays_in_the_observation(words_env: Any) -> None:
    env = words_env(stop=["sat"])
    env.reset(options={"prompt": "the"})
    assert env.step(EOS)[0].tolist()[:3] == [0, EOS, -1]
    env.reset(options={"prompt": "the"})
    assert env.step(2)[0].tolist()[:3] == [0, 2, -1]


def test_rewards_see_eos_in_completion_ids_but_not_in_completions(
    words_env: Any, play: Any
) -> None:
    seen: list[Any] = []

    def reward(completions: list[str], completion_ids: Any, finish_reason: Any) -> list[float]:
        seen.append((completions, completion_ids, finish_reason))
        return [0.0]

    env = words_env(reward=reward, stop=["ran"])
    env.reset(seed=0)
    play(env, [1, EOS])
    env.reset(seed=0)
    play(env, [1, 3])
    assert seen == [(["cat"], [[1, EOS]], ["eos"]), (["cat "], [[1, 3]], ["stop"])]
    assert type(seen[0][1][0]) is list
    assert type(seen[0][1][0][0]) is int


def test_the_rows_columns_are_in_the_last_info(words_env: Any, play: Any) -> None:
    row = {
        "prompt": "the",
        "reference": "cat",
        "number": 3,
        "nested": {"deep": [1, 2]},
        "none": None,
    }
    env = words_env(prompts=[row])
    _, info = env.reset(seed=0)
    assert info == {"prompt": "the", "prompt_tokens": 1}
    _, info = play(env, [1, EOS])
    assert info == {
        **row,
        "response": "cat",
        "finish_reason": "eos",
        "reward_terms": {"count_letters": 3.0},
    }


def test_changing_an_info_changes_no_later_one(words_env: Any, play: Any) -> None:
    rows = [{"prompt": "the", "reference": ["cat"], "nested": {"deep": [1]}, "array": np.zeros(2)}]
    env = words_env(prompts=rows)
    env.reset(seed=0)
    _, info = play(env, [EOS])
    info["reference"].append("changed")
    info["nested"]["deep"].append("changed")
    info["array"][0] = 9
    env.reset(seed=0)
    _, info = play(env, [EOS])
    assert info["reference"] == ["cat"]
    assert info["nested"] == {"deep": [1]}
    assert info["array"].tolist() == [0, 0]
    assert rows[0]["reference"] == ["cat"], "the caller's own data"


def test_an_empty_prompt(words_env: Any) -> None:
    env = words_env(prompts=[""], max_prompt_tokens=0)
    obs, info = env.reset(seed=0)
    assert obs.tolist() == [-1, -1, -1]
    assert info == {"prompt": "", "prompt_tokens": 0}
    assert env.step(1)[0].tolist() == [1, -1, -1]


def test_a_vocabulary_without_eos_plays_to_the_budget() -> None:
    env = TextGenEnv(
        prompts=["a"], tokenizer=["a", "b"], stop_at_eos=False, max_new_tokens=2, reward="distinct"
    )
    assert env.action_space.n == 2, "no eos is appended"
    env.reset(seed=0)
    env.step(0)
    assert env.step(1)[4]["response"] == "a b"


def test_added_tokens_are_actions() -> None:
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "</s>": 1}, unk_token="a"))
    backend.add_tokens(["extra"])
    env = TextGenEnv(prompts=["a"], tokenizer=backend, reward="distinct", max_new_tokens=2)
    assert env.action_space.n == 3
    env.reset(seed=0)
    env.step(2)
    assert env.step(1)[4]["response"] == "extra"


def test_numpy_actions_of_any_integer_type(words_env: Any) -> None:
    for kind in (int, np.int8, np.uint8, np.int32, np.int64, np.uint64):
        env = words_env()
        env.reset(options={"prompt": "the"})
        assert env.step(kind(2))[0].tolist()[:2] == [0, 2]
    env = words_env()
    env.reset(options={"prompt": "the"})
    assert env.step(np.array([2]))[0].tolist()[:2] == [0, 2], "as SB3's DummyVecEnv may pass it"
    assert env.step(np.array(3))[0].tolist()[:3] == [0, 2, 3]


def test_what_was_written_is_never_tokenized_again() -> None:
    tiny = textgym.load_tokenizer()
    halves = tiny.encode("h") + tiny.encode("e")
    assert len(tiny.encode("he")) == 1, "the vocabulary has a token for both letters"
    env = TextGenEnv(prompts=["x"], reward="distinct", max_new_tokens=2, max_prompt_tokens=1)
    env.reset(seed=0)
    env.step(halves[0])
    obs, *_, info = env.step(halves[1])
    assert obs.tolist()[1:] == halves
    assert info["response"] == "he"

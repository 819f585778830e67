"""Sizes that exceed the memory are refused with the size in the message."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from textgym import load_tokenizer
from textgym.envs import TextGenEnv, TextGenVectorEnv, stopping
from textgym.envs.stopping import MAX_STOP_BYTES, StopStrings
from textgym.errors import PromptError, SettingsError, TokenizerError, UnknownArgumentError, shown
from textgym.tokenization import ASSETS, WordTokenizer
from textgym.tokenization.base import MAX_VOCABULARY

WORDS = ["the", "cat", "sat", "<eos>"]


@pytest.mark.parametrize("argument", ["max_prompt_tokens", "max_new_tokens"])
@pytest.mark.parametrize("value", [2**31, 2**31 - 1, 2**40, 10**5000], ids=shown)
def test_budgets_beyond_any_model(argument: str, value: int) -> None:
    for make in (gym.make, gym.make_vec):
        with pytest.raises(SettingsError, match=f"{argument}=.*at most"):
            make("TextGen-v0", **{argument: value})


def test_a_batch_that_no_machine_holds_names_its_size() -> None:
    # 2^40 tokens, of 18 bytes each.
    with pytest.raises(SettingsError, match=r"would take 18,4\d\d\.\d GiB"):
        gym.make_vec("TextGen-v0", num_envs=2**20, max_prompt_tokens=2**19, max_new_tokens=2**19)
    with pytest.raises(SettingsError, match=r"1,000,000,000 rows .* GiB"):
        gym.make_vec("TextGen-v0", num_envs=10**9)


def test_a_hole_in_the_vocabulary_is_not_an_action_space(tmp_path: Path) -> None:
    state = json.loads((ASSETS / "tiny" / "tokenizer.json").read_text("utf-8"))
    state["model"]["vocab"]["zzz"] = 10**8
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(state), "utf-8")
    with pytest.raises(TokenizerError, match=r"'zzz' the id 100,000,000"):
        gym.make("TextGen-v0", tokenizer=str(file))
    state["model"]["vocab"]["zzz"] = 5000
    file.write_text(json.dumps(state), "utf-8")
    assert gym.make("TextGen-v0", tokenizer=str(file)).action_space.n == 5001


def test_a_list_of_words_that_is_too_long() -> None:
    with pytest.raises(TokenizerError, match=f"{MAX_VOCABULARY - 1:,}"):
        WordTokenizer(["a"] * (MAX_VOCABULARY + 1))


def test_stop_strings_that_are_too_long() -> None:
    for stop in (["x" * (MAX_STOP_BYTES + 1)], [str(number) for number in range(10**5)]):
        with pytest.raises(SettingsError, match=f"{len(stop):,} strings .* {MAX_STOP_BYTES:,}"):
            gym.make("TextGen-v0", stop=stop)


def test_a_stop_string_of_a_hundred_kilobytes_is_found() -> None:
    tokenizer = load_tokenizer()
    stop = "ab " * 33_000
    env = TextGenEnv(prompts=["a"], reward="distinct", stop=[stop, "never"], max_new_tokens=120_000)
    env.reset(seed=0)
    states = np.zeros(1, np.int32)
    stops = env.settings.stops
    ids = tokenizer.encode("xx" + stop)
    for index in ids[:-1]:
        states = stops.advance(states, np.array([index]))
        assert states[0] != stops.final
    assert stops.advance(states, np.array(ids[-1:]))[0] == stops.final


def test_large_and_small_automata_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading bytes, if the table over tokens would be too large, gives the same states."""
    tokenizer = load_tokenizer()
    rng = random.Random(0)
    texts = [tokenizer.decode([rng.randrange(tokenizer.vocab_size)]) for _ in range(300)]
    stops = [text for text in texts if "\ufffd" not in text]
    by_table = StopStrings(stops, tokenizer)
    monkeypatch.setattr(stopping, "MAX_TABLE", 0)
    by_bytes = StopStrings(stops, tokenizer)
    states = np.zeros(64, np.int32)
    for _ in range(20):
        tokens = np.array([rng.randrange(tokenizer.vocab_size) for _ in states], dtype=np.intp)
        after = by_table.advance(states, tokens)
        np.testing.assert_array_equal(by_bytes.advance(states, tokens), after)
        states = np.where(after == by_table.final, 0, after).astype(np.int32)
    assert by_bytes.final == by_table.final


def test_thousands_of_stop_strings_step_quickly() -> None:
    stop = [f"stop number {number}" for number in range(5000)]
    envs = TextGenVectorEnv(4, prompts=["a"], reward="distinct", stop=stop, max_new_tokens=40)
    envs.reset(seed=0)
    ids = envs.tokenizer.encode(" stop number 4321")
    for index in ids:
        _, _, ended, _, infos = envs.step(np.full(4, index))
        if ended.all():
            break
    assert infos["finish_reason"].tolist() == ["stop"] * 4
    assert infos["response"].tolist() == [" "] * 4


@pytest.mark.parametrize("overflow", ["error", "skip"])
def test_an_endless_prompt_is_refused_before_it_is_tokenized(
    overflow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = TextGenEnv(prompts=["the"], reward="distinct", prompt_overflow=overflow)
    env.reset(seed=0)
    monkeypatch.setattr(type(env.tokenizer), "encode", lambda *_: pytest.fail("tokenized"))
    with pytest.raises(PromptError, match="max_prompt_tokens"):
        env.reset(options={"prompt": "a" * 2_000_000})


def test_long_prompts_that_fit_are_tokenized() -> None:
    env = TextGenEnv(
        prompts=["the"], reward="distinct", tokenizer=WORDS, max_prompt_tokens=2, max_new_tokens=1
    )
    _, info = env.reset(options={"prompt": "the " + " " * 100_000 + "cat"})
    assert info["prompt_tokens"] == 2


# ------------------------------------------------------------------ numbers of numpy, and names


def test_numbers_of_numpy_are_numbers() -> None:
    envs = TextGenVectorEnv(
        np.int64(4),  # type: ignore[arg-type]
        prompts=["the cat"],
        tokenizer=WORDS,
        reward={(lambda completions: [1.0] * len(completions)): np.float32(0.5)},
        max_prompt_tokens=np.int64(3),  # type: ignore[arg-type]
        max_new_tokens=np.uint8(2),  # type: ignore[arg-type]
        group_size=np.int32(2),  # type: ignore[arg-type]
        stop_at_eos=np.False_,  # type: ignore[arg-type]
        step_reward_gamma=np.float32(0.5),
        max_episode_steps=np.int64(7),  # type: ignore[arg-type]
    )
    observation, _ = envs.reset(seed=np.int64(3))
    assert observation.shape == (4, 5)
    _, _, ended, _, _ = envs.step(np.full(4, 3))
    assert not ended.any(), "eos is a token like any other"
    _, rewards, ended, _, _ = envs.step(np.full(4, 3))
    assert ended.all()
    assert rewards.tolist() == [0.5] * 4


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("stop_at_eos", np.array([True, False])),
        ("stop_at_eos", "yes"),
        ("dense", 2),
        ("max_new_tokens", np.True_),
        ("max_new_tokens", np.array([1, 2])),
        ("max_new_tokens", 2.0),
        ("max_prompt_tokens", b"1"),
        ("step_reward_gamma", float("nan")),
        ("step_reward_gamma", 10**400),
        ("prompt_overflow", ["left"]),
        ("split", np.array(["train", "eval"])),
        ("level", "2"),
        ("costs", np.zeros(3)),
        ("stop", {"a"}),
    ],
    ids=shown,
)
def test_wrong_values_are_named(argument: str, value: Any) -> None:
    for make in (gym.make, gym.make_vec):
        with pytest.raises(SettingsError, match="split" if argument == "split" else f"{argument}="):
            make("TextGen-v0", **{argument: value})


@pytest.mark.parametrize("options", [3, "the", ["prompt"], ("prompt", "the"), b"x", np.zeros(3)])
def test_options_that_are_not_a_mapping(options: Any) -> None:
    for make in (gym.make, gym.make_vec):
        env = make("TextGen-v0")
        with pytest.raises(SettingsError, match=r"options=.*dictionary"):
            env.reset(options=options)
        env.reset(seed=0)


def test_an_unknown_argument_gets_its_near_match_and_all_names() -> None:
    for make in (gym.make, gym.make_vec):
        with pytest.raises(UnknownArgumentError, match="did you mean 'max_new_tokens'") as raised:
            make("TextGen-v0", max_new_token=3)
        for name in ("prompts", "tokenizer", "prompt_overflow", "step_reward_gamma"):
            assert name in str(raised.value)
        assert "kwargs" not in str(raised.value)
        with pytest.raises(UnknownArgumentError, match="reset"):
            make("TextGen-v0", seed=3)
        with pytest.raises(UnknownArgumentError, match=r"\*\*env_kwargs"):
            make("TextGen-v0", env_kwargs={})


def test_a_first_reset_that_fails_does_not_break_the_environment() -> None:
    """Gymnasium's passive checker would fail in the step after it."""
    env = gym.make(
        "TextGen-v0", prompts=lambda rng: "the cat", tokenizer=WORDS, max_prompt_tokens=1
    )
    with pytest.raises(PromptError):
        env.reset(seed=0)
    env.reset(options={"prompt": "the"})
    for _ in range(3):
        env.step(1)


class _Nameless:
    def __repr__(self) -> str:
        raise RuntimeError


def test_values_in_messages() -> None:
    assert shown("a" * 10**6) == f"'{'a' * 199}..."
    assert shown([1, 2]) == "[1, 2]"
    assert shown(10**5000) == "<a int>"
    assert shown(_Nameless()) == "<a _Nameless>"

"""Errors name the environment, the row and the fix, and change nothing."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import tokenizers

from textgym import TextGymError
from textgym.envs import TextGenEnv, TextGenVectorEnv
from textgym.errors import (
    ActionError,
    DataError,
    PromptError,
    ResetNeededError,
    RewardError,
    SettingsError,
    TaskError,
    TokenizerError,
)

EOS = 4
WORDS = ["the", "cat", "sat", "ran", "<eos>"]


def state(env: Any) -> bytes:
    """Everything that a later step depends on."""
    return pickle.dumps(env.get_state())


def assert_same_episodes(env: Any, before: dict[str, Any]) -> None:
    """The texts and ends are the same; prompts may have been drawn."""
    after = env.get_state()
    for key in ("tokens", "over"):
        assert np.array_equal(after[key], before[key])


# ------------------------------------------------------------------ actions


@pytest.mark.parametrize(
    "action",
    [
        -1,
        5,
        2**40,
        2**70,
        np.uint64(2**63),
        1.0,
        np.float32(1),
        float("nan"),
        True,
        np.True_,
        None,
        "1",
        [1, 2],
        np.array([[1]]),
        np.array([]),
        [[1], [2, 3]],
        {"a": 1},
    ],
    ids=repr,
)
def test_wrong_single_actions(words_env: Any, action: Any) -> None:
    env = words_env()
    env.reset(seed=0)
    env.step(1)
    before = state(env)
    with pytest.raises(ActionError, match="TextGen-v0"):
        env.step(action)
    assert state(env) == before
    env.step(2)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([1, 5, 1], r"row 1 \(prompt .*action 5 .*0 to 4"),
        ([1, 1, -2], r"row 2 \(prompt .*action -2"),
        (np.array([1, 1, 2**63], np.uint64), "row 2"),
        ([1, 1], r"shape \(2,\)"),
        ([1, 1, 1, 1], r"shape \(4,\)"),
        ([[1], [1], [1]], r"shape \(3, 1\)"),
        (1, r"shape \(\)"),
        ([], r"shape \(0,\)"),
        ([[1], [2, 3], [1]], "actions are"),
        (np.ones(3), "float64"),
        (np.full(3, np.nan), "float64"),
        (np.ones(3, bool), "bool"),
        ([None, 1, 1], "object"),
        ([2**70, 1, 1], "object"),
        (["1", "1", "1"], "<U1"),
        (None, r"shape \(\)"),
    ],
    ids=repr,
)
def test_wrong_batch_actions(words_batch: Any, actions: Any, message: str) -> None:
    for mode in ("NextStep", "SameStep", "Disabled"):
        envs = words_batch(3, autoreset_mode=mode)
        envs.reset(seed=0)
        envs.step([1, 2, 3])
        if mode == "NextStep":
            envs.step([EOS, 2, 3])
            envs.step([1, 1, 1])
            envs.reset(seed=0)
        before = state(envs)
        with pytest.raises(ActionError, match=message):
            envs.step(actions)
        assert state(envs) == before
        envs.step([1, 1, 1])


def test_checkers_between_do_not_hide_the_message() -> None:
    env = gym.make("TextGen-v0", prompts=["the"], tokenizer=WORDS)
    env.reset(seed=0)
    env.step(1)
    with pytest.raises(ActionError, match="0 to 4"):
        env.step(99)


# ------------------------------------------------------------------ order of calls


def test_step_before_reset(words_env: Any, words_batch: Any) -> None:
    with pytest.raises(ResetNeededError, match="reset"):
        words_env().step(0)
    with pytest.raises(gym.error.ResetNeeded):
        words_batch().step([0, 0, 0])


def test_step_after_the_end(words_env: Any) -> None:
    env = words_env()
    env.reset(seed=0)
    env.step(EOS)
    before = state(env)
    for _ in range(2):
        with pytest.raises(ResetNeededError, match=r"call reset\(\)"):
            env.step(1)
    assert state(env) == before
    env.reset()
    env.step(1)


# ------------------------------------------------------------------ rewards


def raising(completions: list[str]) -> list[float]:
    if "sat" in completions:
        raise KeyError("broken")
    return [0.0] * len(completions)


def returning(value: Any) -> Callable[..., Any]:
    def reward(completions: list[str]) -> list[Any]:
        return [value if text == "sat" else 0.0 for text in completions]

    return reward


def replaced(value: Any) -> Callable[..., Any]:
    def reward(completions: list[str]) -> Any:
        return value if "sat" in completions else [0.0] * len(completions)

    return reward


BROKEN = {
    "raises": (raising, "KeyError"),
    "nan": (returning(float("nan")), "nan"),
    "inf": (returning(float("-inf")), "inf"),
    "string": (returning("1"), "'1'"),
    "list": (returning([1.0]), "1.0"),
    "complex": (returning(1j), "1j"),
    "too many": (replaced([0.0] * 9), "9"),
    "too few": (replaced([]), "0"),
    "nothing": (replaced(None), "None"),
    "number": (replaced(1.0), "1.0"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("argument", ["reward", "costs"])
@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_broken_rewards_in_the_batch(words_batch: Any, name: str, argument: str, mode: str) -> None:
    function, message = BROKEN[name]
    broken: Any = {"broken": function} if argument == "costs" else function
    envs = words_batch(3, **{argument: broken, "autoreset_mode": mode})
    reference = words_batch(3, autoreset_mode=mode)
    for each in (envs, reference):
        each.reset(seed=1)
        each.step([EOS, 1, 2])  # Under NEXT_STEP, row 0 now waits for its prompt.
    before = state(envs)
    with pytest.raises(RewardError, match=r"TextGen-v0.*" + message) as caught:
        envs.step([1, 1, EOS])  # Row 2 ends after "sat".
    if name in ("raises", "nan", "inf", "string", "list", "complex"):
        assert "row 2" in str(caught.value)
    assert state(envs) == before
    # Other actions then succeed.
    for actions in ([1, 1, 1], [1, 1, 1], [1, EOS, 1]):
        ours, theirs = envs.step(actions), reference.step(actions)
        assert (ours[0] == theirs[0]).all()
        assert (ours[2] == theirs[2]).all()
    envs.reset(seed=2)
    envs.step([1, 1, 1])


@pytest.mark.parametrize("name", BROKEN)
def test_broken_potentials(words_batch: Any, name: str) -> None:
    function, message = BROKEN[name]
    envs = words_batch(3, step_reward=function)
    envs.reset(seed=1)
    before = state(envs)
    with pytest.raises(RewardError, match=r"TextGen-v0, step_reward.*" + message):
        envs.step([1, EOS, 2])  # Row 2 continues after "sat".
    assert state(envs) == before
    envs.step([1, 1, 1])


@pytest.mark.parametrize("name", BROKEN)
def test_broken_rewards_in_the_single_environment(words_env: Any, name: str) -> None:
    function, message = BROKEN[name]
    env = words_env(reward=function)
    env.reset(seed=0)
    env.step(2)
    before = state(env)
    with pytest.raises(RewardError, match=message):
        env.step(EOS)
    assert state(env) == before
    assert not env.step(1)[2]
    env.step(EOS)


def test_a_potential_that_fails_for_a_new_prompt(words_batch: Any) -> None:
    """If the potential of the next prompt raises, no episode changes."""

    def fails(prompts: list[str], completions: list[str]) -> list[float]:
        if broken and "" in completions:
            raise OSError("the server is gone")
        return [0.0] * len(prompts)

    for mode, waits in (("NextStep", 1), ("SameStep", 0)):
        broken = False
        envs = words_batch(2, step_reward=fails, autoreset_mode=mode)
        envs.reset(seed=0)
        for _ in range(waits):
            envs.step([EOS, 1])
        before = envs.get_state()
        broken = True
        with pytest.raises(RewardError, match="the server is gone"):
            envs.step([EOS, 1])
        assert_same_episodes(envs, before)
        broken = False
        envs.step([EOS, 1])


def test_columns_that_a_reward_needs(words_env: Any, play: Any) -> None:
    env = words_env(reward="exact_match")
    env.reset(seed=0)
    with pytest.raises(RewardError, match="reference"):
        play(env, [EOS])


# ------------------------------------------------------------------ prompts in the middle


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_a_bad_prompt_half_way_through(words_batch: Any, mode: str) -> None:
    """If one prompt does not fit, no episode changes, and the environment can be used."""

    def prompts(rng: np.random.Generator) -> str:
        drawn.append("bad" if fail else "the")
        return "the the the the the" if fail else "the"

    drawn: list[str] = []
    fail = False
    envs = words_batch(3, prompts=prompts, autoreset_mode=mode)
    envs.reset(seed=0)
    if mode == "NextStep":
        envs.step([1, EOS, 1])
        actions = [2, 1, EOS]
    else:
        envs.step([1, 1, 1])
        actions = [2, EOS, 2]
    before = envs.get_state()
    fail = True
    with pytest.raises(PromptError, match=r"row 1 .*5 tokens"):
        envs.step(actions)
    assert_same_episodes(envs, before)
    fail = False
    obs, _, terminated, _, _ = envs.step(actions)
    assert obs[0].tolist()[:4] == [0, 1, 2, -1]
    assert obs[1].tolist()[:2] == [0, -1]
    assert terminated.tolist() == (
        [False, False, True] if mode == "NextStep" else [False, True, False]
    )


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (None, "NoneType"),
        (3, "int"),
        ({"x": 1}, "no prompt"),
        ({"prompt": 1}, "prompt is a string"),
        ({"prompt": "the", "final_obs": 1}, "'final_obs'"),
        (ZeroDivisionError("0"), "raised ZeroDivisionError"),
    ],
    ids=repr,
)
def test_prompt_functions_that_go_wrong(words_env: Any, made: Any, message: str) -> None:
    def prompts(rng: np.random.Generator) -> Any:
        if good:
            return "the"
        if isinstance(made, Exception):
            raise made
        return made

    good = True
    env = words_env(prompts=prompts)
    env.reset(seed=0)
    env.step(1)
    good = False
    before = env.get_state()
    with pytest.raises(DataError, match=message):
        env.reset()
    assert_same_episodes(env, before)
    env.step(2)


# ------------------------------------------------------------------ arguments


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"tokenizer": ["a", "a"]}, TokenizerError, "twice"),
        ({"tokenizer": 3}, TokenizerError, "tokenizer=3"),
        ({"reward": "rougee"}, RewardError, "did you mean 'rouge'"),
        ({"reward": {}}, RewardError, "no reward"),
        ({"reward": 3}, RewardError, "reward must be"),
        ({"reward": {"distinct": "1"}}, RewardError, "weight"),
        ({"prompts": "no/such/file.jsonl"}, DataError, "no file"),
        ({"prompts": "Write me a story. " * 300}, DataError, "for one prompt"),
        ({"prompts": []}, DataError, "no prompts"),
        ({"prompts": {"prompt": "x"}}, DataError, "cannot be a dict"),
        ({"prompts": ["a"], "level": 2}, SettingsError, "leave one of the two out"),
        ({"level": 99}, TaskError, "levels are"),
        ({"split": "test"}, SettingsError, "split='test'"),
        ({"split": "test", "prompts": lambda rng: "x"}, SettingsError, "split='test'"),
        ({"split": "eval", "prompts": ["a"]}, DataError, "column 'split'"),
        ({"prompts": [3]}, DataError, "is a int"),
        ({"prompts": lambda rng: 3}, DataError, "is a int"),
        ({"prompts": "reasoning_gym:chainsum"}, TextGymError, "reasoning"),
        ({"tokenizer": "nope.json"}, TokenizerError, "no tokenizer at 'nope.json'"),
        ({"task": "TextGen/Story-v0", "stop": [""]}, SettingsError, "stop=''"),
        ({"task": "TextGen/Story-v0", "prompts": "gone.txt"}, DataError, "no file"),
        ({"task": "TextGen/Sentimnt-v0"}, TaskError, "did you mean 'TextGen/Sentiment-v0'"),
        ({"max_new_tokens": 0}, SettingsError, "max_new_tokens=0"),
        ({"max_new_tokens": 2.0}, SettingsError, "max_new_tokens=2.0"),
        ({"max_prompt_tokens": -1}, SettingsError, "max_prompt_tokens=-1"),
        ({"max_prompt_tokens": True}, SettingsError, "max_prompt_tokens=True"),
        ({"prompt_overflow": "lft"}, SettingsError, "'lft'"),
        ({"stop": "\n"}, SettingsError, "stop="),
        ({"stop": 3}, SettingsError, "stop=3"),
        ({"stop": [""]}, SettingsError, "stop=''"),
        ({"stop": [b"x"]}, SettingsError, "stop=b'x'"),
        ({"stop": ["\ud800"]}, SettingsError, "stop="),
        ({"stop_at_eos": "no"}, SettingsError, "stop_at_eos='no'"),
        ({"render_mode": "rgb"}, SettingsError, "rgb_array"),
    ],
    ids=lambda value: str(value).partition(" at 0x")[0][:40],  # The same in every process.
)
def test_arguments_that_cannot_be(arguments: Any, error: Any, message: str) -> None:
    for make in (TextGenEnv, lambda **kwargs: TextGenVectorEnv(2, **kwargs)):
        with pytest.raises(error, match=message) as caught:
            make(**arguments)
        assert isinstance(caught.value, TextGymError)
        name = arguments.get("task", "TextGen-v0")
        assert str(caught.value).startswith(name), "the environment is named"
        assert str(caught.value).count(f"{name}:") <= 1


def test_every_row_is_looked_at_when_the_environment_is_made(words_batch: Any) -> None:
    with pytest.raises(DataError, match=r"^TextGen-v0: row 1 of the list of prompts is a int"):
        words_batch(prompts=["the", 3])


def test_data_that_goes_wrong_later_names_the_environment_too(words_batch: Any) -> None:
    envs = words_batch(prompts=lambda rng: 3)
    with pytest.raises(DataError, match=r"^TextGen-v0: .*prompt function .* is a int"):
        envs.reset(seed=0)


def test_mistyped_options_are_refused() -> None:
    for make in (gym.make, gym.make_vec):
        with pytest.raises(TypeError, match="max_newtokens"):
            make("TextGen-v0", max_newtokens=3)
    with pytest.raises(SettingsError, match="autoreset_mode"):
        TextGenVectorEnv(2, autoreset_mode="Sometimes")


def test_a_tokenizer_without_eos() -> None:
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    with pytest.raises(TokenizerError, match=r"TextGen-v0.*stop_at_eos=False"):
        TextGenEnv(prompts=["a"], tokenizer=backend)
    TextGenEnv(prompts=["a"], tokenizer=backend, stop_at_eos=False).reset(seed=0)

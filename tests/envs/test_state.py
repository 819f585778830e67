"""An environment continues from a saved state exactly.

The reference is an environment that is deep-copied or continued without interruption:
everything that the restored one returns has to be the same, types, dtypes and infos included.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import hypothesis.strategies as st
import numpy as np
import pytest
import tokenizers
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from tokenizers import models, pre_tokenizers, processors

from textgym.envs import TextGenEnv, TextGenVectorEnv
from textgym.errors import DataError, ResetNeededError, SettingsError
from textgym.storage.json_values import from_plain, to_plain
from textgym.testing.vector import assert_same

WORDS = ["the", "cat", "sat", "ran", "<eos>"]
ROWS = [
    {"prompt": "the cat", "reference": "sat", "tags": ["a", ("b", 1)], "weight": 0.1},
    {"prompt": "the", "reference": "ran", "tags": [], "weight": None},
    {"prompt": "cat ran the", "reference": "", "tags": [{"x": 2}], "weight": float("inf")},
]


def count_words(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [len(text.split()) + 0.1 * text.count("sat") for text in completions]


def random_row(rng: np.random.Generator) -> dict[str, Any]:
    """A row with numpy's own types in it, as they come out of a Generator."""
    size = int(rng.integers(1, 4))
    return {
        "prompt": str(" ".join(rng.choice(WORDS[:4], size))),
        "number": rng.integers(100),
        "share": np.float32(rng.random()),
        "word": rng.choice(WORDS),
        "vector": rng.random(3).astype(np.float32),
        "pair": (1, "x"),
        "sure": np.bool_(rng.random() < 0.5),
        "keys": {7: "no string", ("a", 1): True},
    }


SOURCES: dict[str, dict[str, Any]] = {
    "list": {"prompts": ROWS, "max_prompt_tokens": 4, "max_new_tokens": 3},
    "skip": {
        "prompts": ROWS,
        "max_prompt_tokens": 2,
        "max_new_tokens": 3,
        "prompt_overflow": "skip",
    },
    "callable": {"prompts": random_row, "max_prompt_tokens": 4, "max_new_tokens": 3},
    "shaped": {
        "prompts": ROWS,
        "max_prompt_tokens": 4,
        "max_new_tokens": 4,
        "step_reward": count_words,
        "step_reward_gamma": 0.9,
        "costs": {"length": count_words},
    },
    "stop": {
        "prompts": ROWS,
        "max_prompt_tokens": 4,
        "max_new_tokens": 5,
        "stop": ["sat ran", "the"],
    },
}


def make(kind: str, num_envs: int = 3, **others: Any) -> TextGenVectorEnv:
    return TextGenVectorEnv(
        num_envs, **{"tokenizer": WORDS, "reward": count_words, **SOURCES[kind], **others}
    )


def through_json(state: dict[str, Any]) -> dict[str, Any]:
    """A state after a round trip through a file: JSON and copied arrays."""
    arrays = {key: value for key, value in state.items() if isinstance(value, np.ndarray)}
    rest = {key: value for key, value in state.items() if key not in arrays}
    return {**json.loads(json.dumps(rest)), **{key: value.copy() for key, value in arrays.items()}}


def play(env: Any, seed: int, steps: int) -> list[Any]:
    """The results of random actions that depend only on the seed."""
    rng = np.random.default_rng(seed)
    results = []
    for _ in range(steps):
        over = env.get_state()["over"]
        if env.autoreset_mode is AutoresetMode.DISABLED and over.any():
            results.append(env.reset(options={"reset_mask": over}))
        results.append(env.step(rng.integers(0, env.single_action_space.n, env.num_envs)))
    return results


# ---------------------------------------------------------------------- the batch


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)
@pytest.mark.parametrize("kind", SOURCES)
def test_a_new_environment_goes_on_bit_for_bit(kind: str, mode: AutoresetMode) -> None:
    env = make(kind, autoreset_mode=mode)
    env.reset(seed=5)
    play(env, 0, 7)
    state = env.get_state()
    kept = copy.deepcopy(state)
    other = make(kind, autoreset_mode=mode)
    other.reset(seed=99)
    other.set_state(through_json(state))
    assert_same(play(env, 1, 30), play(other, 1, 30))
    assert_same(state, kept, "the state shares nothing with either environment")
    assert_same(env.get_state(), other.get_state())
    assert_same(env.reset(), other.reset(), "the streams of prompts go on alike")
    assert env.np_random_seed == other.np_random_seed


@pytest.mark.parametrize(
    "arguments",
    [
        {"task": "TextGen/Sentiment-v0"},
        {"task": "TextGen/Story-v0", "split": "eval"},
        {"task": "TextGen/GoodBad-v0"},
        {"task": "TextGen/Sentiment-v0", "group_size": 2, "stop": [" the"]},
        {"max_episode_steps": 3},
    ],
    ids=str,
)
def test_tasks(arguments: dict[str, Any]) -> None:
    env, other = (TextGenVectorEnv(4, autoreset_mode="SameStep", **arguments) for _ in range(2))
    env.reset(seed=1)
    play(env, 0, 70)
    other.set_state(through_json(env.get_state()))
    assert_same(play(env, 1, 150), play(other, 1, 150))


def test_files(tmp_path: Path) -> None:
    """The same data elsewhere is the same environment; other data is another."""
    states = []
    for folder, rows in (("a", ROWS[:2]), ("b", ROWS[:2]), ("c", ROWS[1:])):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "rows.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in rows))
        env = make("list", prompts=path)
        env.reset(seed=0)
        states.append((env, env.get_state()))
    (first, state), (second, _), (third, _) = states
    second.set_state(state)
    assert_same(play(first, 1, 20), play(second, 1, 20))
    with pytest.raises(SettingsError, match="prompts was"):
        third.set_state(state)


@settings(max_examples=40)
@given(data=st.data())
def test_any_schedule_of_calls(data: st.DataObject) -> None:
    """Steps, whole and partial resets in any order; then the same calls for both."""
    kind = data.draw(st.sampled_from(list(SOURCES)))
    mode = data.draw(st.sampled_from(list(AutoresetMode)))
    count = data.draw(st.integers(1, 4))
    env, other = (make(kind, count, autoreset_mode=mode) for _ in range(2))

    def calls(number: int) -> list[Any]:
        kinds = st.one_of(
            st.lists(st.integers(0, len(WORDS) - 1), min_size=count, max_size=count),
            st.sampled_from(["reset", "prompt"]),
            st.lists(st.booleans(), min_size=count, max_size=count).filter(any),
        )
        return data.draw(st.lists(kinds, max_size=number))

    def call(envs: Any, what: Any) -> Any:
        if what == "reset":
            return envs.reset()
        if what == "prompt":
            return envs.reset(options={"prompt": "cat ran"})
        if type(what[0]) is bool:
            return envs.reset(options={"reset_mask": np.array(what)})
        over = envs.get_state()["over"]
        if mode is AutoresetMode.DISABLED and over.any():
            return envs.reset(options={"reset_mask": over})
        return envs.step(np.array(what))

    env.reset(seed=data.draw(st.integers(0, 2**70)))
    for what in calls(12):
        call(env, what)
    other.set_state(through_json(env.get_state()))
    for number, what in enumerate(calls(12)):
        assert_same(call(env, what), call(other, what), f"call {number}")
    assert_same(env.get_state(), other.get_state())


def test_before_the_first_reset() -> None:
    env, other = make("list"), make("list")
    other.reset(seed=3)
    other.set_state(env.get_state())
    with pytest.raises(ResetNeededError):
        other.step(np.zeros(3, dtype=int))
    assert other.np_random_seed == (-1, -1, -1)


def test_half_a_stop_string_is_remembered() -> None:
    """The built-in tokenizer's automaton has seen the first token of a stop string."""
    arguments: dict[str, Any] = {"prompts": ["Hello"], "reward": "distinct", "stop": ["zq"]}
    envs = [TextGenVectorEnv(2, **arguments) for _ in "ab"]
    first, second = envs[0].tokenizer.encode("zq")
    envs[0].reset(seed=0)
    envs[0].step(np.array([first, second]))
    envs[1].set_state(through_json(envs[0].get_state()))
    results = [env.step(np.array([second, second])) for env in envs]
    assert results[1][2].tolist() == [True, False]
    assert_same(results[0], results[1])


def test_restoring_twice_replays() -> None:
    """A state is a point to come back to: it is copied, not consumed."""
    env = make("callable")
    env.reset(seed=0)
    state = env.get_state()
    first = play(env, 1, 20)
    env.set_state(state)
    assert_same(first, play(env, 1, 20))


# ---------------------------------------------------------------------- the single environment


@pytest.mark.parametrize("kind", SOURCES)
def test_single(kind: str) -> None:
    arguments = {"tokenizer": WORDS, "reward": count_words, **SOURCES[kind]}
    env, other = TextGenEnv(**arguments), TextGenEnv(**arguments)
    env.reset(seed=2)
    env.step(0)
    other.set_state(through_json(env.get_state()))
    assert other.np_random_seed == 2
    for action in np.random.default_rng(0).integers(0, 4, 40).tolist():
        if env.get_state()["over"]:
            assert_same(env.reset(), other.reset())
        assert_same(env.step(action), other.step(action))
    assert env.np_random.random() == other.np_random.random()


def test_single_behind_gymnasiums_wrappers() -> None:
    env, other = (gym.make("TextGen/Sentiment-v0") for _ in range(2))
    env.reset(seed=1)
    env.step(5)
    other.reset()
    other.unwrapped.set_state(env.unwrapped.get_state())
    for _ in range(3):
        assert_same(env.step(7), other.step(7))


def test_an_episode_that_is_over_stays_over() -> None:
    env, other = (TextGenEnv(tokenizer=WORDS, prompts=["cat"], reward="distinct") for _ in "ab")
    env.reset(seed=0)
    env.step(WORDS.index("<eos>"))
    other.reset()
    other.set_state(env.get_state())
    with pytest.raises(ResetNeededError):
        other.step(0)


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"num_envs": 4}, "num_envs was 3 and is 4"),
        ({"max_new_tokens": 9}, "max_new_tokens was 3 and is 9"),
        ({"tokenizer": [*WORDS[:4], "dog", "<eos>"]}, "tokenizer was"),
        ({"prompts": ROWS[:2]}, "prompts was"),
        ({"prompts": [ROWS[0], ROWS[2], ROWS[1]]}, "prompts was"),
        ({"prompts": random_row, "prompt_overflow": "left"}, "prompts was 'list.*prompt_overflow"),
        ({"reward": "distinct"}, "reward was"),
        ({"reward": {count_words: 2.0}}, "reward was"),
        ({"stop": ["sat"]}, "stop was"),
        ({"stop_at_eos": False}, "stop_at_eos was True and is False"),
        ({"group_size": 3}, "group_size was 1 and is 3"),
        ({"autoreset_mode": "SameStep"}, "autoreset_mode was 'NextStep' and is 'SameStep'"),
        ({"step_reward": count_words}, "step_reward was"),
        ({"costs": {"a": count_words}}, "costs was"),
        ({"max_episode_steps": 2}, "max_episode_steps was None and is 2"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_state_of_another_environment(others: dict[str, Any], words: str) -> None:
    env = make("list")
    env.reset(seed=0)
    other = make("list", **others)
    other.reset(seed=7)
    before = other.get_state()
    with pytest.raises(SettingsError, match=words):
        other.set_state(env.get_state())
    assert_same(other.get_state(), before, "nothing changes")


def test_special_tokens_around_prompts_differ() -> None:
    """They belong to observations, but not to the vocabulary."""
    envs = []
    for template in (None, "$A <eos>", "the $A <eos>"):
        backend = tokenizers.Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}))
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        if template is not None:
            special = [(word, WORDS.index(word)) for word in ("the", "<eos>")]
            backend.post_processor = processors.TemplateProcessing(template, None, special)
        others = {"tokenizer": backend, "prompts": ["cat"], "max_prompt_tokens": 4}
        envs.append(make("list", **others))
        envs[-1].reset(seed=0)
        twin = make("list", **others)
        twin.set_state(envs[-1].get_state())
    hashes = {env.tokenizer.content_hash() for env in envs}
    assert len(hashes) == 1, "the vocabulary is the same"
    for env in envs:
        for other in envs:
            if other is not env:
                with pytest.raises(SettingsError, match="tokenizer was"):
                    other.set_state(env.get_state())
    with pytest.raises(SettingsError, match=r"prompts between \[\] and \[4\]' and is '"):
        envs[2].set_state(envs[1].get_state())


def test_levels_and_splits_differ() -> None:
    for first, second in (({}, {"split": "eval"}), ({"level": 1}, {"level": 2})):
        env, other = (
            TextGenVectorEnv(2, task="TextGen/Sentiment-v0", **arguments)
            for arguments in (first, second)
        )
        with pytest.raises(SettingsError, match=r"prompts was|split was"):
            other.set_state(env.get_state())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("tokens"), "tokens"),
        (lambda state: state.update(tokens=np.zeros((3, 2), np.int32)), r"tokens.*\(3, 2\)"),
        (lambda state: state.update(length=np.zeros(3)), "length is float64"),
        (lambda state: state.update(over=np.zeros(2, bool)), "over"),
        (lambda state: state["rows"].pop(), "number of rows"),
        (lambda state: state["generators"].__setitem__(0, {"bit_generator": "MT1"}), "damaged"),
        (lambda state: state.update(version=0), "not a state"),
    ],
    ids=["missing", "shape", "dtype", "flags", "rows", "generator", "version"],
)
def test_a_damaged_state(change: Callable[[Any], Any], words: str) -> None:
    env = make("list")
    env.reset(seed=0)
    state, before = env.get_state(), env.get_state()
    change(state)
    with pytest.raises(SettingsError, match=words):
        env.set_state(state)
    assert_same(env.get_state(), before, "nothing changes")
    with pytest.raises(SettingsError, match="not a state"):
        env.set_state(None)  # type: ignore[arg-type]


class Thing:
    pass


@pytest.mark.parametrize(
    "value",
    [Thing(), {"deep": [Thing()]}, np.datetime64("2020"), b"bytes", {1, 2}, np.longdouble(1)],
    ids=lambda value: type(value).__name__,
)
def test_a_column_that_cannot_be_written(value: Any) -> None:
    env = make("list", 2, prompts=lambda rng: {"prompt": "cat", "thing": value})
    env.reset(seed=0)
    with pytest.raises(DataError, match=r"TextGen-v0, row 0: the column 'thing'.*look it up"):
        env.get_state()


def test_a_function_is_not_called_to_take_the_state() -> None:
    """Calling the function might change its next prompt."""
    calls = []

    def counting(rng: np.random.Generator) -> dict[str, Any]:
        calls.append(1)
        return {"prompt": "cat"}

    env = make("list", prompts=counting)
    env.reset(seed=0)
    so_far = len(calls)
    env.set_state(env.get_state())
    assert len(calls) == so_far


# ---------------------------------------------------------------------- values

PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters()),
    st.integers(0, 200).map(np.uint8), st.floats(width=32).map(np.float32), st.text().map(np.str_),
    st.booleans().map(np.bool_),
)  # fmt: skip
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=3) | st.just("$type"), inner, max_size=3),
        st.dictionaries(st.integers() | st.booleans() | st.tuples(st.text()), inner, max_size=2),
        st.lists(st.floats(), max_size=4).map(lambda items: np.array(items, np.float64)),
        st.just(np.arange(6, dtype=np.uint16).reshape(2, 3)),
        st.just(np.array(["ab", "c"])),
    ),
    max_leaves=8,
)


def same(one: Any, other: Any) -> bool:
    """Equality with equal types, where NaN equals NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        equal = np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
        return one.dtype == other.dtype and one.shape == other.shape and equal
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other or (one != one and other != other))


@given(VALUES)
def test_values_survive_json(value: Any) -> None:
    assert same(from_plain(json.loads(json.dumps(to_plain(value, "here")))), value)

"""Seeds: the same prompts everywhere, different ones everywhere else, and no global state."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from textgym.envs import TextGenEnv, TextGenVectorEnv
from textgym.errors import DataError, PromptError, SettingsError

MANY = [f"number {index}" for index in range(10_000)]


def prompts_of(env: gym.Env[Any, Any], seed: int, count: int) -> list[str]:
    return [env.reset(seed=seed)[1]["prompt"]] + [
        env.reset()[1]["prompt"] for _ in range(count - 1)
    ]


def batch_prompts(envs: Any, count: int, **reset: Any) -> list[list[str]]:
    """The prompts of each row, in episodes of one token."""
    found = [list(envs.reset(**reset)[1]["prompt"])]
    while len(found) < count:
        infos = envs.step(np.zeros(envs.num_envs, dtype=int))[4]
        if "prompt_tokens" in infos:
            found.append(list(infos["prompt"]))
    return [list(row) for row in zip(*found, strict=True)]


def small(**arguments: Any) -> dict[str, Any]:
    return {"prompts": MANY, "reward": "distinct", "max_new_tokens": 1, **arguments}


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_row_i_of_a_batch_is_the_single_environment_of_seed_plus_i(mode: str) -> None:
    envs = TextGenVectorEnv(4, autoreset_mode=mode, **small())
    rows = batch_prompts(envs, 5, seed=10)
    assert rows == [prompts_of(TextGenEnv(**small()), 10 + row, 5) for row in range(4)]
    rows = batch_prompts(envs, 5, seed=[3, 1, 2, 3])
    assert rows == [prompts_of(TextGenEnv(**small()), seed, 5) for seed in (3, 1, 2, 3)]


def test_known_prompts_of_known_seeds() -> None:
    """The same on every machine and in every version: change this and you change the benchmark."""
    assert prompts_of(TextGenEnv(**small()), 0, 4) == KNOWN


KNOWN = ["number 1996", "number 9277", "number 5758", "number 5875"]


def test_neighbouring_seeds_share_nothing_beyond_chance() -> None:
    env = TextGenEnv(**small())
    drawn = [set(prompts_of(env, seed, 100)) for seed in range(5)]
    for one in range(5):
        for other in range(one):
            assert len(drawn[one] & drawn[other]) <= 8, "expected is 1 of 100"


def test_tasks_levels_and_splits_do_not_share_random_numbers() -> None:
    draws: list[float] = []

    def rows(rng: np.random.Generator) -> str:
        draws.append(rng.random())
        return "x"

    TextGenEnv(prompts=rows, reward="distinct").reset(seed=7)
    train = draws[-1]
    TextGenEnv(prompts=rows, reward="distinct", split="eval").reset(seed=7)
    assert train != draws[-1]
    first = {
        (env_id, level): prompts_of(gym.make(env_id, level=level), 7, 1)[0]
        for env_id in ("TextGen/Sentiment-v0", "TextGen/Story-v0")
        for level in (1, 2)
    }
    assert len(set(first.values())) == 4


def test_splits_share_no_prompt() -> None:
    for env_id in ("TextGen/Sentiment-v0", "TextGen/Story-v0"):
        train = set(prompts_of(gym.make(env_id, split="train"), 7, 100))
        assert not train & set(prompts_of(gym.make(env_id, split="eval"), 7, 100))


def test_without_a_seed_the_stream_goes_on() -> None:
    env = TextGenEnv(**small())
    assert len(set(prompts_of(env, 1, 20))) > 15
    assert prompts_of(env, 1, 3) == prompts_of(env, 1, 3)


def test_without_any_seed_two_environments_differ() -> None:
    one, two = TextGenEnv(**small()), TextGenEnv(**small())
    assert [one.reset()[1] for _ in range(3)] != [two.reset()[1] for _ in range(3)]
    rows = batch_prompts(TextGenVectorEnv(3, **small()), 3)
    assert len({tuple(row) for row in rows}) == 3


def test_none_in_a_list_goes_on_with_that_rows_stream() -> None:
    envs = TextGenVectorEnv(2, **small())
    envs.reset(seed=0)
    _, infos = envs.reset(seed=[5, None])
    assert infos["prompt"].tolist() == [
        prompts_of(TextGenEnv(**small()), 5, 1)[0],
        prompts_of(TextGenEnv(**small()), 1, 2)[1],
    ]


def test_records_of_seed_and_generator() -> None:
    env = TextGenEnv(**small())
    env.reset(seed=12)
    assert env.np_random_seed == 12
    assert isinstance(env.np_random, np.random.Generator)
    envs = TextGenVectorEnv(2, **small())
    assert envs.np_random_seed == (-1, -1)
    envs.reset(seed=12)
    assert envs.np_random_seed == (12, 13)
    assert len(envs.np_random) == 2


@pytest.mark.parametrize("seed", [-1, 1.5, "1", True, [1], [1, -1, 2], [1, 2, 3, 4]])
def test_seeds_that_cannot_be(words_batch: Any, seed: Any) -> None:
    envs = words_batch()
    with pytest.raises(SettingsError, match="seed="):
        envs.reset(seed=seed)
    if not isinstance(seed, list):
        with pytest.raises(SettingsError, match="seed="):
            TextGenEnv(**small()).reset(seed=seed)
    envs.reset(seed=1)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"promt": "the"}, SettingsError),
        ({"index": 99}, DataError),
        ({"row": {"x": 1}}, DataError),
        ({"prompt": "the dog"}, PromptError),
        ({"prompt": "the the the the the"}, PromptError),
    ],
)
@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize("group_size", [1, 3])
def test_a_failed_reset_leaves_the_prompts_as_they_were(
    words_env: Any, words_batch: Any, options: Any, error: Any, seed: Any, group_size: int
) -> None:
    made = {"prompts": [*"abcdefghij"], "tokenizer": [*"abcdefghij", "the", "<eos>"]}
    pairs: list[Any] = [
        (words_env(**made), words_env(**made)),
        tuple(words_batch(6, group_size=group_size, **made) for _ in "ab"),
    ]
    for env, twin in pairs:
        # The first reset of all may fail too.
        with pytest.raises(error):
            env.reset(seed=seed, options=options)
        env.reset(seed=3)
        twin.reset(seed=3)
        with pytest.raises(error):
            env.reset(seed=seed, options=options)
        assert env.np_random_seed == twin.np_random_seed
        for _ in range(5):
            ours, theirs = env.reset()[1]["prompt"], twin.reset()[1]["prompt"]
            assert np.array_equal(ours, theirs)


def test_a_reset_that_fails_in_a_late_row_leaves_the_early_ones_as_they_were() -> None:
    def prompts(rng: np.random.Generator) -> Any:
        made.append(rng.integers(10**9))
        return 3 if len(made) == fails_at else f"number {made[-1]}"

    made: list[Any] = []
    fails_at = 0
    envs, twin = (TextGenVectorEnv(4, **small(prompts=prompts)) for _ in "ab")
    for each in (envs, twin):
        each.reset(seed=3)
    mask = np.array([True, False, True, True])
    for reset in ({}, {"seed": 8}, {"options": {"reset_mask": mask}}):
        fails_at = len(made) + 3
        with pytest.raises(DataError):
            envs.reset(**reset)
        fails_at = 0
        assert envs.reset()[1]["prompt"].tolist() == twin.reset()[1]["prompt"].tolist()


def test_a_wrong_seed_in_a_list_leaves_all_streams_as_they_were(words_batch: Any) -> None:
    envs, twin = (TextGenVectorEnv(3, **small()) for _ in "ab")
    for each in (envs, twin):
        each.reset(seed=3)
    with pytest.raises(SettingsError, match="seed=-1"):
        envs.reset(seed=[1, 2, -1])
    assert envs.np_random_seed == (3, 4, 5)
    assert envs.reset()[1]["prompt"].tolist() == twin.reset()[1]["prompt"].tolist()


@pytest.mark.parametrize("kind", [tuple, np.array])
def test_seeds_in_tuples_and_arrays(kind: Any) -> None:
    envs, twin = (TextGenVectorEnv(3, **small()) for _ in "ab")
    ours, theirs = envs.reset(seed=kind([5, 1, 9]))[1], twin.reset(seed=[5, 1, 9])[1]
    assert ours["prompt"].tolist() == theirs["prompt"].tolist()
    assert envs.np_random_seed == (5, 1, 9)
    for wrong in (kind([1.0, 2.0, 3.0]), kind([1, 2]), kind([True, False, True])):
        with pytest.raises(SettingsError, match="seed="):
            envs.reset(seed=wrong)


def test_numpy_integers_are_seeds() -> None:
    assert prompts_of(TextGenEnv(**small()), np.int64(4), 3) == (  # type: ignore[arg-type]
        prompts_of(TextGenEnv(**small()), 4, 3)
    )


@pytest.fixture
def global_state() -> Iterator[None]:
    """Fails if the test changes, or depends on, the global random state."""
    random.seed(0)
    np.random.seed(0)
    before = random.getstate(), np.random.get_state()
    yield
    assert random.getstate() == before[0]
    after = np.random.get_state()
    assert (before[1][1] == after[1]).all()  # type: ignore[index]
    assert before[1][2] == after[2]  # type: ignore[index]


@pytest.mark.parametrize(
    "env_id", ["TextGen-v0", "TextGen/GoodBad-v0", "TextGen/Sentiment-v0", "TextGen/Story-v0"]
)
def test_global_random_state_is_never_touched(env_id: str, global_state: None) -> None:
    envs = gym.make_vec(env_id, num_envs=3)
    envs.reset()
    envs.reset(seed=1)
    first = [envs.step(np.zeros(3, dtype=int))[0] for _ in range(5)]
    random.seed(0)
    np.random.seed(0)
    envs.reset(seed=1)
    again = [envs.step(np.zeros(3, dtype=int))[0] for _ in range(5)]
    assert np.array_equal(first, again)


# ------------------------------------------------------------------ groups


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_rows_of_a_group_share_every_prompt(mode: str) -> None:
    envs = TextGenVectorEnv(6, group_size=3, autoreset_mode=mode, **small())
    for reset in ({"seed": 4}, {}, {"seed": [1, 2, 3, 4, 5, 6]}):
        rows = batch_prompts(envs, 4, **reset)
        assert rows[0] == rows[1] == rows[2]
        assert rows[3] == rows[4] == rows[5]
        assert rows[0] != rows[3]


def test_a_group_without_a_seed_shares_its_prompts_too() -> None:
    rows = batch_prompts(TextGenVectorEnv(4, group_size=2, **small()), 3)
    assert rows[0] == rows[1] != rows[2] == rows[3]


def test_a_reset_brings_a_group_together_again() -> None:
    """Rows end at different times, so that some have drawn more prompts than others."""
    envs = TextGenVectorEnv(4, group_size=4, **small(max_new_tokens=3, autoreset_mode="SameStep"))
    envs.reset(seed=0)
    eos = envs.tokenizer.eos_id
    envs.step([eos, 1, 1, eos])
    envs.step([1, eos, 1, eos])
    for _ in range(2):
        assert len(set(envs.reset()[1]["prompt"])) == 1


def test_the_first_of_a_group_is_no_other_environment() -> None:
    grouped = batch_prompts(TextGenVectorEnv(4, group_size=2, **small()), 3, seed=20)
    alone = batch_prompts(TextGenVectorEnv(4, **small()), 3, seed=20)
    assert (grouped[0], grouped[2]) == (alone[0], alone[2])


@pytest.mark.parametrize("group_size", [0, -1, 1.0, True, 4])
def test_group_sizes_that_cannot_be(words_batch: Any, group_size: Any) -> None:
    with pytest.raises(SettingsError, match="group_size"):
        words_batch(6, group_size=group_size)


def test_a_single_environment_has_no_groups(words_env: Any) -> None:
    with pytest.raises(SettingsError, match="make_vec"):
        words_env(group_size=2)

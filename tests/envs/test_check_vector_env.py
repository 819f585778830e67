"""``check_vector_env`` finds each kind of error of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from textgym.envs import TextGenVectorEnv
from textgym.testing import assert_same, check_vector_env

ARGUMENTS: dict[str, Any] = {
    "prompts": [f"the {word}" for word in ("cat", "sat", "ran", "the")],
    "tokenizer": ["the", "cat", "sat", "ran", "<eos>"],
    "max_prompt_tokens": 3,
    "max_new_tokens": 4,
    "costs": {"letters": "distinct"},
}


class Right(TextGenVectorEnv):
    """A correct environment."""


class Float32Rewards(TextGenVectorEnv):
    def step(self, actions: Any) -> Any:
        obs, rewards, *rest = super().step(actions)
        return obs, rewards.astype(np.float32), *rest


class Int64Observations(TextGenVectorEnv):
    def step(self, actions: Any) -> Any:
        obs, *rest = super().step(actions)
        return obs.astype(np.int64), *rest


class WrongReward(TextGenVectorEnv):
    def step(self, actions: Any) -> Any:
        obs, rewards, *rest = super().step(actions)
        return obs, rewards * (1 + 1e-12), *rest


class SharedObservations(TextGenVectorEnv):
    """Returns its internal array, which the next step changes."""

    def reset(self, **arguments: Any) -> Any:
        return self._batch.tokens, super().reset(**arguments)[1]

    def step(self, actions: Any) -> Any:
        _, *rest = super().step(actions)
        return self._batch.tokens, *rest


class SharedRewards(TextGenVectorEnv):
    """Returns the same array of rewards in every step."""

    def step(self, actions: Any) -> Any:
        obs, rewards, *rest = super().step(actions)
        if not hasattr(self, "_kept"):
            self._kept = np.zeros_like(rewards)
        self._kept[:] = rewards
        return obs, self._kept, *rest


class TruncatesAtTheBudget(TextGenVectorEnv):
    def step(self, actions: Any) -> Any:
        obs, rewards, terminated, truncated, infos = super().step(actions)
        return obs, rewards, np.zeros_like(terminated), terminated | truncated, infos


class OtherSeeds(TextGenVectorEnv):
    """All rows get the prompts of the first row."""

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        if isinstance(seed, int):
            seed = [seed] * self.num_envs
        return super().reset(seed=seed, options=options)


class NoMasks(TextGenVectorEnv):
    def step(self, actions: Any) -> Any:
        *rest, infos = super().step(actions)
        return *rest, {key: value for key, value in infos.items() if key[0] != "_"}


class MaskTooWide(TextGenVectorEnv):
    def step(self, actions: Any) -> Any:
        *rest, infos = super().step(actions)
        if "_response" in infos:
            infos["_response"][:] = True
        return *rest, infos


class NoFinalInfo(TextGenVectorEnv):
    def step(self, actions: Any) -> Any:
        *rest, infos = super().step(actions)
        return *rest, {key: value for key, value in infos.items() if "final_info" not in key}


class FinalObsAfterTheReset(TextGenVectorEnv):
    def step(self, actions: Any) -> Any:
        obs, *rest, infos = super().step(actions)
        for row in np.flatnonzero(infos.get("_final_obs", [])):
            infos["final_obs"][row] = obs[row].copy()
        return obs, *rest, infos


class InfoInTheSameStepOnly(TextGenVectorEnv):
    """Accepts a response that differs by a space."""

    def step(self, actions: Any) -> Any:
        *rest, infos = super().step(actions)
        for where in (infos, infos.get("final_info", {})):
            if "response" in where:
                where["response"][where["_response"]] += " "
        return *rest, infos


class TakesTheMask(TextGenVectorEnv):
    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        result = super().reset(seed=seed, options=options)
        if options:
            options.pop("reset_mask", None)
        return result


class ResetsEverything(TextGenVectorEnv):
    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return super().reset(seed=seed, options={} if options else None)


class WrongSpace(TextGenVectorEnv):
    def __init__(self, *args: Any, **arguments: Any) -> None:
        super().__init__(*args, **arguments)
        self.single_action_space = gym.spaces.Discrete(6)


class WrongMetadata(TextGenVectorEnv):
    def __init__(self, *args: Any, **arguments: Any) -> None:
        super().__init__(*args, **arguments)
        self.metadata = {**self.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            self.metadata["autoreset_mode"] = AutoresetMode.SAME_STEP


def check(register: Callable[..., str], batch: type, **options: Any) -> None:
    env_id = register(
        id=f"TextGymTest/{batch.__name__}-v0",
        entry_point="textgym.envs:TextGenEnv",
        vector_entry_point=batch,
    )
    check_vector_env(env_id, num_envs=3, num_steps=30, **{**ARGUMENTS, **options})


def test_a_right_batch_passes(register: Callable[..., str]) -> None:
    check(register, Right)


@pytest.mark.parametrize(
    "batch",
    [
        Float32Rewards,
        Int64Observations,
        WrongReward,
        SharedObservations,
        SharedRewards,
        TruncatesAtTheBudget,
        OtherSeeds,
        NoMasks,
        MaskTooWide,
        NoFinalInfo,
        FinalObsAfterTheReset,
        InfoInTheSameStepOnly,
        TakesTheMask,
        ResetsEverything,
        WrongSpace,
        WrongMetadata,
    ],
)
def test_a_wrong_batch_does_not(register: Callable[..., str], batch: type) -> None:
    with pytest.raises(AssertionError, match=f"TextGymTest/{batch.__name__}-v0, autoreset"):
        check(register, batch)


def test_only_the_modes_that_are_asked_for(register: Callable[..., str]) -> None:
    check(register, NoFinalInfo, autoreset_modes=["NextStep", AutoresetMode.DISABLED])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        (1, np.int64(1)),
        ([1], (1,)),
        ([1], [1, 1]),
        ({"a": 1}, {"b": 1}),
        ({"a": 1}, {"a": 1, "b": 1}),
        (np.zeros(2), np.zeros(2, np.float32)),
        (np.zeros(2), np.zeros((1, 2))),
        (np.array([1, None], object), np.array([1.0, None], object)),
        (np.array([[1], None], object), np.array([[2], None], object)),
        (np.zeros(2), [0.0, 0.0]),
        ("a", "b"),
        (None, 0),
    ],
    ids=repr,
)
def test_assert_same_is_exact(one: Any, other: Any) -> None:
    assert_same(one, one)
    assert_same(other, other)
    for left, right in ((one, other), (other, one)):
        with pytest.raises(AssertionError, match=r"^here"):
            assert_same({"k": left}, {"k": right}, "here")


def test_assert_same_takes_nan_for_equal() -> None:
    assert_same(np.array([1.0, np.nan]), np.array([1.0, np.nan]))

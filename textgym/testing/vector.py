"""A check that a native batch equals Gymnasium's ``SyncVectorEnv`` of the single environment.

Gymnasium has a checker for single environments only. A native batch has to be indistinguishable
from a loop over single environments: observations, rewards, flags and infos are compared bit for
bit, dtypes and masks included.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv


def check_vector_env(
    env_id: str,
    *,
    num_envs: int = 5,
    num_steps: int = 200,
    seed: int = 0,
    autoreset_modes: Iterable[AutoresetMode | str] = tuple(AutoresetMode),
    **env_kwargs: Any,
) -> None:
    """Run a registered id's native batch and ``SyncVectorEnv``, and compare everything.

    Actions are random and the same for both; every third one is eos where the environment has an
    eos token, so that rows end at different times. Under ``AutoresetMode.DISABLED`` ended rows are
    reset by mask.

    Args:
        env_id: A registered id with a ``vector_entry_point``.
        num_envs: Number of rows of both.
        num_steps: Steps in each autoreset mode.
        seed: Seed of the environments and of the actions.
        autoreset_modes: The modes to check.
        env_kwargs: Further arguments of both.

    Raises:
        AssertionError: If anything differs; the message says where.
    """
    for mode in map(AutoresetMode, autoreset_modes):
        batch = gym.make_vec(
            env_id,
            num_envs=num_envs,
            vectorization_mode="vector_entry_point",
            autoreset_mode=mode,
            **env_kwargs,
        )
        loop = SyncVectorEnv(
            [lambda: gym.make(env_id, **env_kwargs)] * num_envs, autoreset_mode=mode
        )
        where = f"{env_id}, autoreset {mode.value}"
        try:
            _check_spaces(batch, loop, where)
            _check_episodes(batch, loop, num_steps, seed, where)
        finally:
            batch.close()
            loop.close()


def _check_spaces(batch: Any, loop: Any, where: str) -> None:
    for name in (
        "observation_space",
        "action_space",
        "single_observation_space",
        "single_action_space",
    ):
        ours, theirs = getattr(batch, name), getattr(loop, name)
        assert ours == theirs, f"{where}: {name} is {ours}, but should be {theirs}"
    mode = batch.metadata["autoreset_mode"]
    assert mode is loop.metadata["autoreset_mode"], f"{where}: metadata says {mode}"


def _check_episodes(batch: Any, loop: Any, num_steps: int, seed: int, where: str) -> None:
    mode = loop.metadata["autoreset_mode"]
    actions = np.random.default_rng(seed)
    eos = getattr(getattr(batch.unwrapped, "tokenizer", None), "eos_id", None)
    ours, theirs = batch.reset(seed=seed), loop.reset(seed=seed)
    assert_same(ours, theirs, f"{where}, reset")
    kept: Any = ours
    as_it_was = copy.deepcopy(ours)
    over = np.zeros(batch.num_envs, dtype=np.bool_)
    for step in range(num_steps):
        if mode is AutoresetMode.DISABLED and over.any():
            options = {"reset_mask": over.copy()}
            ours, theirs = batch.reset(options=options), loop.reset(options=dict(options))
            assert "reset_mask" in options, f"{where}: reset took reset_mask out of the options"
            assert_same(ours, theirs, f"{where}, reset by mask before step {step}")
        chosen = actions.integers(0, batch.single_action_space.n, batch.num_envs)
        if eos is not None:
            chosen[actions.random(batch.num_envs) < 1 / 3] = eos
        ours, theirs = batch.step(chosen), loop.step(chosen)
        assert_same(ours, theirs, f"{where}, step {step}")
        assert_same(kept, as_it_was, f"{where}, step {step}: what an earlier call returned changed")
        kept, as_it_was = ours, copy.deepcopy(ours)
        over = ours[2] | ours[3]


def assert_same(ours: Any, theirs: Any, where: str = "") -> None:
    """Assert that two nested values are equal, types, dtypes and shapes included.

    Raises:
        AssertionError: If they differ; the message says where in the nesting.
    """
    assert type(ours) is type(theirs), f"{where}: {type(ours)} instead of {type(theirs)}"
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), (
            f"{where}: keys {sorted(ours)} instead of {sorted(theirs)}"
        )
        for key in ours:
            assert_same(ours[key], theirs[key], f"{where}[{key!r}]")
    elif isinstance(ours, (list, tuple)):
        assert len(ours) == len(theirs), f"{where}: length {len(ours)} instead of {len(theirs)}"
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(one, other, f"{where}[{number}]")
    elif isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype, f"{where}: {ours.dtype} instead of {theirs.dtype}"
        assert ours.shape == theirs.shape, f"{where}: {ours.shape} instead of {theirs.shape}"
        if ours.dtype == object:
            assert_same(list(ours.flat), list(theirs.flat), where)
        else:
            assert np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f"), (
                f"{where}: {ours} instead of {theirs}"
            )
    else:
        assert ours == theirs, f"{where}: {ours!r} instead of {theirs!r}"

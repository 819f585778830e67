"""Agents that choose a whole text when an episode starts, and then write it token by token.

They read the row that an episode started from (its reference, the columns of its reward) from the
environment: ``venv.rows``. They act in the environment that they were made with, until `use_env`
gives them another; :func:`agents.running.evaluation.evaluate` calls it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from textgym.data.observations import split_observation
from textgym.data.rows import Row
from textgym.envs import TextGenVectorEnv
from textgym.errors import SettingsError

Plans = list[list[int]]
"""The tokens of each row that are still to be written."""


def batch_of(venv: VecEnv) -> TextGenVectorEnv:
    """The batch of texts in an environment of `textgym.sb3.make_vec_env`.

    Raises:
        SettingsError: If it is not an environment of texts, or its actions are not tokens.
    """
    envs = getattr(venv.unwrapped, "envs", None)
    batch = getattr(envs, "unwrapped", None)
    if not isinstance(batch, TextGenVectorEnv) or venv.action_space != batch.single_action_space:
        raise SettingsError(
            "this agent writes tokens; make the environment with textgym.sb3.make_vec_env, "
            "without a wrapper that has other actions"
        )
    return batch


class Planner(ABC):
    """Plans a text when an episode starts, and writes it.

    Args:
        venv: The environment to act in.
    """

    def __init__(self, venv: VecEnv) -> None:
        self.envs = batch_of(venv)

    def use_env(self, venv: VecEnv) -> None:
        """Act in another environment from now on, which differs in seed, size or split alone."""
        self.envs = batch_of(venv)

    @abstractmethod
    def plan(self, rows: list[Row]) -> Plans:
        """The tokens to write after each row's prompt."""

    def predict(
        self,
        observation: Any,
        state: Plans | None = None,
        episode_start: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[np.int64], Plans]:
        """The next token of each row, and the rest of the plans.

        Args:
            observation: The latest observation of the environment, ``[N, L]``.
            state: The plans that the last call returned; None if all episodes start.
            episode_start: ``[N]``, the rows whose episodes start.

        Raises:
            SettingsError: If the observation is not the environment's, or a plan ends before its
                episode does.
        """
        tokens, _ = split_observation(observation)
        starts = np.ones(len(tokens), np.bool_) if state is None else episode_start
        plans = [[] for _ in tokens] if state is None else [list(plan) for plan in state]
        new = [] if starts is None else np.flatnonzero(starts).tolist()
        if new:
            if not np.array_equal(self.envs.get_state()["tokens"], tokens):
                raise SettingsError(
                    "these observations are of no environment that this agent knows; give it the "
                    "environment (make_agent(venv, seed), or use_env(venv)), and its latest "
                    "observations, of all rows"
                )
            rows = self.envs.rows
            for row, plan in zip(new, self.plan([rows[row] for row in new]), strict=True):
                plans[row] = plan
        over = [row for row, plan in enumerate(plans) if not plan]
        if over:
            raise SettingsError(
                f"row {over[0]}: the text is complete, but its episode continues: nothing "
                "ends texts here before their budget; use stop_at_eos=True or stop=[...], and pass "
                "the state that predict returned to the next call"
            )
        return np.array([plan[0] for plan in plans], np.int64), [plan[1:] for plan in plans]

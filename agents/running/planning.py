"""Agents that decide on a whole text when an episode starts, and then write it token by token.

They have to know the row that an episode started from: its reference, or what its reward reads. An
observation has the prompt alone. So they keep in mind the environments that they may be asked
about, and look the rows up there with the public ``get_state``; a run's evaluation environments
come to their knowledge by `PlanSettings.wrap`.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from agents.running.run import RunSettings
from textgym.data.observations import split_observation
from textgym.data.rows import Row
from textgym.envs import TextGenVectorEnv
from textgym.errors import SettingsError
from textgym.storage.json_values import from_plain

Batches = list["weakref.ref[TextGenVectorEnv]"]
Plans = list[list[int]]
"""The tokens that are left to be written in each row."""


@dataclass
class PlanSettings(RunSettings):
    """Settings of a run whose agent has to know the rows of its environments."""

    def __post_init__(self) -> None:
        self.batches: Batches = []

    def wrap(self, envs: VectorEnv[Any, Any, Any]) -> VectorEnv[Any, Any, Any]:
        """Keep the environment in mind; it is not changed."""
        if isinstance(envs.unwrapped, TextGenVectorEnv):
            self.batches.append(weakref.ref(envs.unwrapped))
        return envs


def batch_of(venv: VecEnv) -> TextGenVectorEnv:
    """The batch of texts in an environment of `textgym.sb3.make_vec_env`.

    Raises:
        SettingsError: If there is none, or its actions are not tokens.
    """
    envs = getattr(venv.unwrapped, "envs", None)
    batch = getattr(envs, "unwrapped", None)
    if not isinstance(batch, TextGenVectorEnv) or venv.action_space != batch.single_action_space:
        raise SettingsError(
            "this agent writes tokens; make the environment with textgym.sb3.make_vec_env, "
            "without a wrapper that has other actions"
        )
    return batch


def rows_behind(observation: Any, batches: Iterable[TextGenVectorEnv]) -> list[Row]:
    """The rows that the episodes under way started from.

    Args:
        observation: What one of the environments shows now, ``[N, L]``.
        batches: The environments that it may be of.

    Raises:
        SettingsError: If it is of none of them.
    """
    tokens, images = split_observation(observation)
    for batch in batches:
        if batch.num_envs != len(tokens):
            continue
        state = batch.get_state()
        rows = [
            {column: from_plain(value) for column, value in row.items()} for row in state["rows"]
        ]
        if np.array_equal(state["tokens"], tokens) and _same_pictures(batch, rows, images):
            return rows
    raise SettingsError(
        "these observations are of no environment that this agent knows, or not what it shows now; "
        "make the agent with the environment (make_agent(venv, seed)), and hand predict its latest "
        "observations, of all rows"
    )


def _same_pictures(batch: TextGenVectorEnv, rows: list[Row], images: Any) -> bool:
    task = batch.settings.pictures
    if task is None or images is None:
        return True
    return all(
        np.array_equal(task.image(row), image) for row, image in zip(rows, images, strict=True)
    )


class Planner(ABC):
    """Plans a text when an episode starts, and writes it.

    Args:
        venv: The environment that is known from the start.
        batches: Others that become known in the course of a run.
    """

    def __init__(self, venv: VecEnv, batches: Batches | None = None) -> None:
        self._own = batch_of(venv)
        self._batches = batches if batches is not None else []

    @abstractmethod
    def plan(self, rows: list[Row]) -> Plans:
        """The tokens to write after each row's prompt."""

    def predict(
        self,
        observation: Any,
        state: Plans | None = None,
        episode_start: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[np.int64], Plans]:
        """The next token of each row, and what is left of the plans.

        Args:
            observation: What the environment shows now, ``[N, L]``.
            state: What the last call returned; None if all episodes start.
            episode_start: ``[N]``, the rows whose episodes start.

        Raises:
            SettingsError: If a plan is at its end and the episode is not.
        """
        tokens, _ = split_observation(observation)
        starts = np.ones(len(tokens), np.bool_) if state is None else episode_start
        plans = [[] for _ in tokens] if state is None else [list(plan) for plan in state]
        new = [] if starts is None else np.flatnonzero(starts).tolist()
        if new:
            rows = rows_behind(observation, [*self._known(), self._own])
            for row, plan in zip(new, self.plan([rows[row] for row in new]), strict=True):
                plans[row] = plan
        over = [row for row, plan in enumerate(plans) if not plan]
        if over:
            raise SettingsError(
                f"row {over[0]}: the text is written to its end, and its episode goes on: nothing "
                "ends texts here before their budget; use stop_at_eos=True or stop=[...], and hand "
                "the state that predict returned to the next call"
            )
        return np.array([plan[0] for plan in plans], np.int64), [plan[1:] for plan in plans]

    def _known(self) -> list[TextGenVectorEnv]:
        """The environments of the run that still exist, the latest first."""
        known = [(reference, reference()) for reference in self._batches]
        self._batches[:] = [reference for reference, batch in known if batch is not None]
        return [batch for _, batch in reversed(known) if batch is not None]

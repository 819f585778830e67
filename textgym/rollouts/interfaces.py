"""The parts of an environment, an agent and a policy that a rollout uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor


class VecEnv(Protocol):
    """The part of Stable-Baselines3's ``VecEnv`` that is used here.

    A row starts its next episode in the step that ends the last one, whose final observation is
    then ``info["terminal_observation"]``; the info of the start is in ``reset_infos``.
    """

    num_envs: int
    observation_space: spaces.Space[Any]

    @property
    def unwrapped(self) -> Any:
        """The innermost environment, which has ``reset_infos``."""

    def reset(self) -> Any:
        """Start new episodes in all rows; returns observations ``[N, ...]``."""

    def step(self, actions: NDArray[Any]) -> Any:
        """Observations ``[N, ...]``, rewards ``[N]``, dones ``[N]`` and one info per row."""

    def get_attr(self, attr_name: str) -> list[Any]:
        """An attribute of the environment, once per row."""


class Agent(Protocol):
    """An agent that chooses actions, as algorithms of Stable-Baselines3 do."""

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], Any]:
        """One action per row, and the agent's own state for the next call."""


Policy: TypeAlias = Callable[[Any, bool], tuple[Tensor, Tensor, Tensor]]
"""From observations (tensors) and ``deterministic`` to actions ``[N]``, values ``[N, 1]`` and
log-probabilities ``[N]``, as Stable-Baselines3's ``ActorCriticPolicy``."""

"""The machinery around agents that compare the responses to one prompt: GRPO and RLOO.

It has no part of their algorithms, only the KL reference, checkpoints, saved agents and logs.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from agents.running.lm_agent import LMAgent, initial_model
from textgym.errors import SettingsError
from textgym.lm.kl import KLPenalty
from textgym.rollouts import Episodes
from textgym.sb3 import LMPolicy

Floats = NDArray[np.float64]


class GroupAgent(LMAgent):
    """The base of GRPO and RLOO. The policy's value head is not trained.

    Args:
        policy: :class:`textgym.sb3.LMPolicy`.
        env: Environment of ``make_vec_env(..., group_size=G)``; None if it is only to predict.
        learning_rate: Learning rate, or a schedule of it.
        group_size: Neighbouring rows that share their prompts, G.
        n_episodes: Episodes of each row in a rollout, E.
        kl_coef: Coefficient of the KL divergence from the initial model; 0: no reference model.
        kl_target: Mean KL per token that the coefficient adapts to; None keeps it fixed.
        reference_dtype: Dtype of the weights of the initial model for the KL.
        max_grad_norm: Gradients are scaled down to this norm.
        rollout_buffer_kwargs: Only for agents saved by releases up to 0.1.0, where it held
            `group_size`, `n_episodes` and the penalty.
        **others: See :class:`agents.running.lm_agent.LMAgent`.

    Attributes:
        kl: The penalty; None without one.
        kl_coef: Its current coefficient.
        max_tokens: Longest response in tokens.

    Raises:
        SettingsError: If groups of this size are impossible, or the observations are not texts.
    """

    learns = True

    def __init__(
        self,
        policy: type[LMPolicy] = LMPolicy,
        env: VecEnv | None = None,
        learning_rate: float | Schedule = 5e-4,
        *,
        group_size: int = 8,
        n_episodes: int = 1,
        kl_coef: float = 0.0,
        kl_target: float | None = None,
        reference_dtype: str = "auto",
        max_grad_norm: float = 1.0,
        rollout_buffer_kwargs: dict[str, Any] | None = None,
        **others: Any,
    ) -> None:
        self.group_size = group_size
        self.n_episodes = n_episodes
        self.kl_coef = kl_coef
        self.kl_target = kl_target
        self.reference_dtype = reference_dtype
        self.max_grad_norm = max_grad_norm
        self.rollout_buffer_kwargs = rollout_buffer_kwargs or {}
        self.max_tokens = 1
        self.kl: KLPenalty | None = None
        super().__init__(policy, env, learning_rate, **others)

    def _setup_model(self) -> None:
        for name in ("group_size", "n_episodes", "kl_coef", "kl_target"):
            setattr(self, name, self.rollout_buffer_kwargs.get(name, getattr(self, name)))
        self.rollout_buffer_kwargs = {}
        name = type(self).__name__
        if self.n_episodes < 1:
            raise SettingsError(f"n_episodes={self.n_episodes} has to be at least 1")
        if self.env is not None:  # None for a loaded agent that only predicts.
            if self.group_size < 2 or self.env.num_envs % self.group_size:
                raise SettingsError(
                    f"group_size={self.group_size} has to be at least 2, because responses to "
                    f"the same prompt are compared, and to divide n_envs={self.env.num_envs}, the "
                    "number of rows"
                )
            if not self.env.has_attr("settings"):
                raise SettingsError(f"{name} compares texts; use textgym.sb3.make_vec_env")
            self.max_tokens = self.env.get_attr("settings")[0].max_new_tokens
        super()._setup_model()
        if not isinstance(self.policy, LMPolicy):
            raise SettingsError(f"{name} trains textgym.sb3.LMPolicy, not {type(self.policy)}")
        self.policy.value_net.requires_grad_(False)
        if self.kl_coef:
            self.kl = KLPenalty(
                self.kl_coef, self.kl_target, initial_model(self.policy), self.device,
                self.reference_dtype,
            )  # fmt: skip

    def grouped(self, values: Floats) -> Floats:
        """Values ``[E * N]`` per episode by groups, ``[E * N / G, G]``."""
        return values.reshape(-1, self.group_size)

    def log_ratios(self, episodes: Episodes) -> Tensor:
        """``log pi - log ref`` of each token, float32 ``[n]``; the coefficient adapts to them.

        ``rollout/kl`` and ``rollout/kl_coef`` are logged. Without a reference they are zeros.
        """
        if self.kl is None:
            return torch.zeros(len(episodes.actions))
        ratios = episodes.log_ratios(self.kl, self.policy.sampler, self.policy.lm)
        self.logger.record("rollout/kl_coef", self.kl.coef)
        self.logger.record("rollout/kl", self.kl.adapt(ratios.numpy()))
        self.kl_coef = self.kl.coef
        return ratios

    def descend(self, loss: Tensor) -> None:
        """Take one step of the optimizer."""
        self.policy.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        self.policy.optimizer.step()

    def log_rollout(self, iteration: int, episodes: Episodes, steps: int) -> None:
        """Write the log of a rollout, with the columns of SB3's on-policy algorithms.

        Args:
            iteration: The number of rollouts since `learn` was called.
            episodes: The rollout.
            steps: Environment steps of the rollout, in all rows.
        """
        record = self.logger.record
        record("rollout/writing", len(episodes.actions) / steps)
        if self.ep_info_buffer:
            for column, key in (("ep_rew_mean", "r"), ("ep_len_mean", "l")):
                values = [info[key] for info in self.ep_info_buffer]
                record(f"rollout/{column}", float(np.mean(values)))
        seconds = max((time.time_ns() - self.start_time) / 1e9, sys.float_info.epsilon)
        since = self.num_timesteps - self._num_timesteps_at_start
        record("time/iterations", iteration, exclude="tensorboard")
        record("time/fps", int(since / seconds))
        record("time/time_elapsed", int(seconds), exclude="tensorboard")
        record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(self.num_timesteps)

    def describe(self) -> dict[str, Any]:
        """The settings that another agent must share to continue this training."""
        kl: dict[str, Any] | None = None
        if self.kl is not None:
            kl = {"target": self.kl.target, "reference": self.kl.fingerprint}
            if self.kl.target is None:
                kl["coef"] = self.kl.coef
        return {"group_size": self.group_size, "n_episodes": self.n_episodes, "kl": kl}

    def get_state(self) -> dict[str, Any]:
        """The KL coefficient, for checkpoints."""
        return {"kl_coef": self.kl_coef}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state of `get_state`."""
        self.kl_coef = float(state["kl_coef"])
        if self.kl is not None:
            self.kl.coef = self.kl_coef

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "kl"]

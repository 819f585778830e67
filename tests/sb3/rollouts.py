"""Algorithms on small checkpoints, and the rollouts that they collect."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback

from textgym.sb3 import LMPolicy, LMRolloutBuffer

COLUMNS = ("actions", "values", "log_probs", "advantages", "returns")


def make_model(
    algorithm: Any,
    env: Any,
    lm: str,
    buffer: Any = LMRolloutBuffer,
    policy: Any = None,
    **kwargs: Any,
):
    settings = {"n_steps": 5, "device": "cpu", "seed": 0, "learning_rate": 1e-3} | kwargs
    if algorithm is PPO:
        settings = {"batch_size": 30, "n_epochs": 2} | settings
    model = algorithm(
        LMPolicy,
        env,
        policy_kwargs={"lm": lm, **(policy or {})},
        rollout_buffer_class=buffer,
        **settings,
    )
    # Values that are not all zero.
    torch.manual_seed(5)
    torch.nn.init.normal_(model.policy.value_net[-1].weight, std=0.1)
    return model


def begin(model: Any, callback: BaseCallback | None = None, reset: bool = True) -> BaseCallback:
    """What SB3's ``learn`` does before the first rollout; the callback for `rollout`.

    Args:
        model: An on-policy algorithm.
        callback: A callback of the training.
        reset: Count from 0, and reset the environment.
    """
    _, found = model._setup_learn(10**6, callback, reset_num_timesteps=reset)
    return found


def rollout(model: Any, callback: BaseCallback) -> bool:
    """Fill the buffer once; whether no callback stopped the training."""
    return model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)


def collect(model: Any, rollouts: int = 1) -> Any:
    """Fill the buffer; with several rollouts, episodes cross their borders."""
    callback = begin(model)
    for _ in range(rollouts):
        rollout(model, callback)
    return model.rollout_buffer


def after_rollout(model: Any) -> tuple[torch.Tensor, np.ndarray]:
    """Values ``[N, 1]`` of the next observations, and whether episodes begin there ``[N]``."""
    with torch.no_grad():
        values = model.policy.predict_values(torch.as_tensor(model._last_obs))
    return values, model._last_episode_starts


def stock_twin(buffer: LMRolloutBuffer) -> RolloutBuffer:
    """SB3's own buffer with the same rollout in it."""
    twin = RolloutBuffer(
        buffer.buffer_size, buffer.observation_space, buffer.action_space, "cpu",
        buffer.gae_lambda, buffer.gamma, buffer.n_envs,
    )  # fmt: skip
    twin.observations = buffer.observations.copy()
    for name in (*COLUMNS, "rewards", "episode_starts"):
        setattr(twin, name, getattr(buffer, name).copy())
    twin.pos, twin.full = buffer.pos, True
    return twin


class Record(BaseCallback):
    """The values of a logging callback."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, float]] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.seen.append(dict(self.model.rollout_buffer.stats))

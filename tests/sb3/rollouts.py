"""Algorithms on small checkpoints, and the rollouts that they collect."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
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


class Everything(BaseCallback):
    """Takes down each decision when it is made, and what its episode earned from there on."""

    def __init__(self) -> None:
        super().__init__()
        self.episodes: list[list[tuple[tuple[int, ...], int, float, float, float]]] = []
        self.open: dict[int, list[tuple[tuple[int, ...], int, float, float, float]]] = {}

    def _on_step(self) -> bool:
        seen = self.locals
        texts = seen["obs_tensor"].tolist()
        for row, text in enumerate(texts):
            self.open.setdefault(row, []).append(
                (
                    tuple(text),
                    int(seen["actions"][row]),
                    float(seen["rewards"][row]),
                    float(seen["values"][row]),
                    float(seen["log_probs"][row]),
                )
            )
            if seen["dones"][row]:
                self.episodes.append(self.open.pop(row))
        return True


def expected(episodes: Any, gamma: float, lam: float) -> list[tuple[Any, ...]]:
    """Each decision of whole episodes with its advantage and return, by the formula."""
    found = []
    for episode in episodes:
        for t, (text, action, _, value, log_prob) in enumerate(episode):
            advantage = 0.0
            for k, (_, _, reward, at, _) in enumerate(episode[t:]):
                following = episode[t + k + 1][3] if t + k + 1 < len(episode) else 0.0
                advantage += (gamma * lam) ** k * (reward + gamma * following - at)
            found.append((text, action, value, log_prob, advantage, advantage + value))
    return sorted(found)


def yielded(model: Any, batch_size: int | None = 7) -> list[tuple[Any, ...]]:
    """The decisions that a rollout yields, in the form of `expected`."""
    found: list[tuple[Any, ...]] = []
    for batch in model.rollout_buffer.get(batch_size):
        tokens, at, positions = batch.observations[:3]
        texts = torch.full((len(at), model.observation_space.shape[0]), -1, dtype=tokens.dtype)
        texts[:, : tokens.shape[1]] = tokens[at]
        texts[torch.arange(texts.shape[1]) > positions[:, None]] = -1
        columns = [batch.old_values, batch.old_log_prob, batch.advantages, batch.returns]
        words = batch.actions[:, 0].tolist()
        numbers = (column.tolist() for column in columns)
        found += zip(map(tuple, texts.tolist()), words, *numbers, strict=True)
    return found


def assert_yields(model: Any, decisions: list[tuple[Any, ...]]) -> None:
    """Check that a rollout yields these decisions, in the form of `expected`, and no others."""
    for ours, theirs in zip(sorted(yielded(model)), decisions, strict=True):
        assert ours[:2] == theirs[:2]
        assert ours[2:] == pytest.approx(theirs[2:], rel=1e-3, abs=1e-4)

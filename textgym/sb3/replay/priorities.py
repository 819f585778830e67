"""TD errors for prioritized replay."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.type_aliases import DictReplayBufferSamples
from stable_baselines3.dqn import DQN
from torch import Tensor

from textgym.sb3.replay.buffer import Scorer


def td_errors(agent: Any) -> Scorer:
    """TD errors of an agent, for :attr:`LMReplayBuffer.scorer`.

    ::

        agent.replay_buffer.scorer = td_errors(agent)

    It runs two forward passes on each sampled batch. (The algorithms compute the same errors in
    their update, but do not expose them.)

    Args:
        agent: A ``DQN`` or ``QRDQN``. The value of QR-DQN is the mean of its quantiles.
    """
    if isinstance(agent, DQN):
        return lambda samples: _errors(samples, agent.q_net, agent.q_net_target)

    def mean_of(net: Any) -> Any:
        return lambda observations: net(observations).mean(1)

    return lambda samples: _errors(
        samples, mean_of(agent.quantile_net), mean_of(agent.quantile_net_target)
    )


def _errors(samples: DictReplayBufferSamples, net: Any, target_net: Any) -> Tensor:
    after = target_net(samples.next_observations).amax(1, keepdim=True)
    assert samples.discounts is not None
    targets = samples.rewards + (1 - samples.dones) * samples.discounts * after
    errors: Tensor = targets - net(samples.observations).gather(1, samples.actions)
    return errors[:, 0]

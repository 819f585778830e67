"""The policy of :mod:`textgym.sb3.topk.policy` for QR-DQN of sb3-contrib."""

from __future__ import annotations

from typing import Any, cast

import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from textgym.errors import require
from textgym.sb3.compatibility import FOR_PROPOSALS, refuse_arguments
from textgym.sb3.topk.features import TopKFeatures
from textgym.sb3.topk.policy import (
    CandidateHead,
    check_temperature,
    choose,
    constructor_parameters,
    entropy,
)
from textgym.tokenization import TINY

require("sb3_contrib", "contrib")
from sb3_contrib.qrdqn.policies import QRDQNPolicy  # noqa: E402


class TopKQuantilePolicy(QRDQNPolicy):
    """:class:`textgym.sb3.TopKPolicy` with quantiles of each value.

    QR-DQN (Dabney et al. 2018, https://arxiv.org/abs/1710.10044) runs unmodified with it.

    Args:
        observation_space: As in :class:`TopKPolicy`, like all others but `n_quantiles`.
        action_space: See `observation_space`.
        lr_schedule: See `observation_space`.
        lm: See `observation_space`.
        size: See `observation_space`.
        temperature: See `observation_space`; the value of a candidate is the mean of its quantiles.
        n_quantiles: Number of quantiles.
        optimizer_class: See `observation_space`.
        optimizer_kwargs: See `observation_space`.
        **others: See `observation_space`.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        lm: str = TINY,
        size: int = 64,
        temperature: float = 0.05,
        n_quantiles: int = 20,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        **others: Any,
    ) -> None:
        refuse_arguments(TopKQuantilePolicy, others, FOR_PROPOSALS)
        self.temperature = check_temperature(temperature)
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            n_quantiles=n_quantiles,
            net_arch=[],
            features_extractor_class=TopKFeatures,
            features_extractor_kwargs={"lm": lm, "size": size},
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
        )

    def make_quantile_net(self) -> Any:
        """A quantile network with one head for all candidates."""
        net = super().make_quantile_net()
        features = cast(TopKFeatures, net.features_extractor)
        head = CandidateHead(features.k, features.size, self.n_quantiles)
        net.quantile_net = nn.Sequential(head)
        return net.to(self.device)

    def _predict(self, obs: Any, deterministic: bool = True) -> Tensor:
        values = self.quantile_net(obs).mean(1)
        return choose(values, obs, self.temperature, deterministic)

    @torch.no_grad()
    def choice_entropy(self, observation: dict[str, NDArray[Any]]) -> float:
        """Mean entropy of the choice after some observations, in nats."""
        obs: Any = self.obs_to_tensor(observation)[0]
        return float(entropy(self.quantile_net(obs).mean(1), obs, self.temperature).mean())

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**constructor_parameters(self), "n_quantiles": self.n_quantiles}

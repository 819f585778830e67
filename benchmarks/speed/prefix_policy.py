"""The plain way to make a language model a policy: read the whole padded text for every token.

RL4LMs and TextRL do this. Here it has none of their overheads: one forward pass a step serves
policy and value, and only the last position of a text gets logits.
"""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn
from torch.distributions import Categorical
from transformers import AutoModelForCausalLM

from textgym.lm.loading.files import no_progress_bars


class PrefixPolicy(ActorCriticPolicy):
    """Actor and critic on a stock transformers model, without a cache.

    Args:
        observation_space: Token ids ``[L]``, -1 where nothing is written.
        action_space: One action a token.
        lr_schedule: Learning rate.
        lm: Path of the model.
        **kwargs: For SB3's policy.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        lm: str,
        **kwargs: Any,
    ) -> None:
        self.lm_name = lm
        super().__init__(observation_space, action_space, lr_schedule, net_arch=[], **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        with no_progress_bars():
            self.model: Any = AutoModelForCausalLM.from_pretrained(
                self.lm_name, dtype=torch.float32
            )
        self.model.train(False)
        self.value_net = nn.Linear(self.model.config.hidden_size, 1)
        self.optimizer = self.optimizer_class(
            self.parameters(),
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Act: actions ``[B]``, values ``[B, 1]`` and log-probabilities ``[B]``."""
        hidden = self._last_hidden(obs)
        distribution = self._distribution(hidden)
        actions = distribution.logits.argmax(-1) if deterministic else distribution.sample()
        return actions, self.value_net(hidden.float()), distribution.log_prob(actions)

    def evaluate_actions(  # type: ignore[override]
        self, obs: Tensor, actions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values ``[n, 1]``, log-probabilities ``[n]`` and entropies ``[n]`` of given actions."""
        hidden = self._last_hidden(obs)
        distribution = self._distribution(hidden)
        log_probs = distribution.log_prob(actions.flatten())
        return self.value_net(hidden.float()), log_probs, distribution.entropy()

    def predict_values(self, obs: Tensor) -> Tensor:  # type: ignore[override]
        """Value ``[B, 1]`` of each observation."""
        values: Tensor = self.value_net(self._last_hidden(obs).float())
        return values

    def _last_hidden(self, obs: Tensor) -> Tensor:
        """Hidden state ``[B, d]`` at the last token of each text."""
        mask = obs >= 0
        output = self.model.base_model(
            input_ids=obs.clamp(min=0).long(), attention_mask=mask.long(), use_cache=False
        )
        last = mask.sum(-1) - 1
        hidden: Tensor = output.last_hidden_state[torch.arange(len(obs), device=obs.device), last]
        return hidden

    def _distribution(self, hidden: Tensor) -> Any:
        return Categorical(logits=self.model.lm_head(hidden).float(), validate_args=False)

"""Settings that agents share which train a language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agents.running.run import RunSettings
from agents.running.validation import above, at_least, within
from textgym.sb3 import LMRolloutBuffer


@dataclass
class TrainingSettings(RunSettings):
    """Settings of an agent that trains a language model."""

    lm: str | None = None
    """Language model to train, a folder or hub name; the environment uses its tokenizer too.
    Default: textgym/tiny, or for a closed vocabulary a small new model of its words."""
    lr: float = 5e-4
    """Learning rate of Adam."""

    def __post_init__(self) -> None:
        """Refuse impossible numbers."""
        super().__post_init__()
        at_least(0, lr=self.lr)


@dataclass
class PolicyGradientSettings(TrainingSettings):
    """Settings of an agent that follows the gradient of the reward, and stays near a reference."""

    kl_coef: float = 0.02
    """Weight of the KL penalty, in reward a nat; the first one if --kl-target is given.
    With 0 there is none, and no reference model."""
    kl_target: float | None = 0.3
    """Adapt the weight so that the KL stays near so many nats a token. None keeps it."""

    def __post_init__(self) -> None:
        """Refuse impossible numbers."""
        super().__post_init__()
        at_least(0, kl_coef=self.kl_coef)
        above(0, kl_target=self.kl_target)

    def penalty(self, lm: str) -> dict[str, Any]:
        """The KL penalty, as arguments of a rollout buffer.

        Args:
            lm: The language model to train, from which the divergence is measured.
        """
        if self.kl_coef == 0:
            return {"kl_coef": 0.0, "kl_target": None, "reference": None}
        return {"kl_coef": self.kl_coef, "kl_target": self.kl_target, "reference": lm}


@dataclass
class ActorCriticSettings(PolicyGradientSettings):
    """Settings of an agent that learns from rollouts of so many steps, with a value function."""

    n_steps: int = 32
    """Tokens per row and rollout: a rollout has n_steps * n_envs tokens."""
    gamma: float = 1.0
    """Discount. A text is judged as a whole, so its first token counts as much as its last."""
    gae_lambda: float = 0.97
    """Trade-off of the advantage estimate: 1 is Monte Carlo, 0 trusts the value function."""
    whole_episodes: bool = True
    """Learn from a text when it is over, and from all of it, also what earlier rollouts wrote.
    Without: from what each rollout has of it, with the value function's guess for the rest."""

    def __post_init__(self) -> None:
        """Refuse impossible numbers."""
        super().__post_init__()
        at_least(1, n_steps=self.n_steps)
        within(0, 1, gamma=self.gamma, gae_lambda=self.gae_lambda)

    def rollouts(self, lm: str) -> dict[str, Any]:
        """Arguments that the on-policy algorithms of Stable-Baselines3 have in common.

        Args:
            lm: The language model to train, from which the KL divergence is measured.
        """
        return {
            "learning_rate": self.lr,
            "n_steps": self.n_steps,
            "gamma": self.gamma,
            "gae_lambda": self.gae_lambda,
            "rollout_buffer_class": LMRolloutBuffer,
            "rollout_buffer_kwargs": {**self.penalty(lm), "whole_episodes": self.whole_episodes},
            "device": self.device,
        }

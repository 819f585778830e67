"""Settings that agents share which train a language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agents.running.run import RunSettings
from agents.running.validation import above, at_least


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

"""PPO that measures the KL to the initial model, also without a penalty on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agents import ppo


@dataclass
class Measured(ppo.Settings):
    """PPO's settings, with a reference model for any weight of the penalty."""

    def penalty(self, lm: str) -> dict[str, Any]:
        """The KL penalty; with a weight of 0 it only measures."""
        target = self.kl_target if self.kl_coef else None
        return {"kl_coef": self.kl_coef, "kl_target": target, "reference": lm}

"""PPO whose distance from the initial model is measured, also where nothing is paid for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agents import ppo


@dataclass
class Measured(ppo.Settings):
    """PPO's settings, with a reference model whatever its weight."""

    def penalty(self, lm: str) -> dict[str, Any]:
        """The KL penalty; with a weight of 0 it only measures."""
        target = self.kl_target if self.kl_coef else None
        return {"kl_coef": self.kl_coef, "kl_target": target, "reference": lm}

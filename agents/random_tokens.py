"""Uniformly random tokens: the lowest baseline, measured by the same code as every agent.

    python -m agents.random_tokens --env TextGen/Sentiment-v0

It is also the shortest agent here: copy this file to start one without Stable-Baselines3.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from agents.running.command_line import command_line
from agents.running.run import RunSettings as Settings
from agents.running.run import run
from textgym.storage.files import write_json

if TYPE_CHECKING:
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.vec_env import VecEnv


class RandomTokens:
    """Every token of the vocabulary is equally likely, whatever the text so far.

    Args:
        venv: Any vector environment with a `Discrete` action space.
        seed: Seed of the tokens.
    """

    learns = False

    def __init__(self, venv: VecEnv, seed: int) -> None:
        if not isinstance(venv.action_space, spaces.Discrete):
            raise TypeError(f"RandomTokens needs Discrete actions, not {venv.action_space}")
        self.vocab_size = int(venv.action_space.n)
        self.seed = seed
        self._rng = np.random.default_rng(seed)

    def learn(self, total_timesteps: int, callback: BaseCallback | None = None) -> RandomTokens:
        """Do nothing: there is nothing to learn, and no environment step is taken."""
        return self

    def predict(
        self,
        observation: NDArray[np.int32],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.int64], None]:
        """Draw one token for each of the N rows, int64 `[N]`.

        `deterministic` changes nothing: a uniform distribution has no likeliest token.
        """
        return self._rng.integers(self.vocab_size, size=len(observation)), None

    def save(self, path: str) -> None:
        """Write vocabulary size and seed, to ``path`` with the ending .json."""
        known = {"vocab_size": self.vocab_size, "seed": self.seed}
        write_json(Path(path).with_suffix(".json"), known, indent=None)


def make_agent(venv: VecEnv, seed: int) -> RandomTokens:
    """Build the agent."""
    return RandomTokens(venv, seed)


def main(settings: Settings) -> None:
    """Evaluate; there is nothing to train."""
    run("random_tokens", settings, make_agent)


if __name__ == "__main__":
    command_line("agents.random_tokens", Settings(), __doc__, main)

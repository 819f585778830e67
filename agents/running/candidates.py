"""Texts of a policy for people to compare: several for each of some prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from agents.running.environments import EnvSettings, make_env
from textgym.rollouts import collect
from textgym.rollouts.interfaces import Policy

_NOT_OF_THE_ROW = frozenset(
    {
        "prompt", "prompt_tokens", "response", "finish_reason", "reward_terms", "cost",
        "cost_terms", "episode", "terminal_observation", "TimeLimit.truncated",
    }
)  # fmt: skip
"""Entries of the info of an episode that are not columns of the row that it started from."""


@dataclass(frozen=True)
class Group:
    """Texts of one policy for one prompt.

    Attributes:
        seed: The seed that draws the prompt.
        prompt: The prompt.
        row: The other columns of the prompt's row.
        texts: The texts.
        scores: The reward of each text in the environment of the evaluation.
    """

    seed: int
    prompt: str
    row: dict[str, Any]
    texts: tuple[str, ...]
    scores: tuple[float, ...]

    def state(self) -> dict[str, Any]:
        """The group as values of a checkpoint."""
        return asdict(self)

    @staticmethod
    def of_state(state: dict[str, Any]) -> Group:
        """The inverse of `state`."""
        return Group(**state)


class Writer:
    """Lets a policy write texts in an environment of its own, apart from the one that trains it.

    So all texts of a group are complete, and written by the same weights. In the environment of a
    training, the episodes that end in a rollout are mostly short ones.

    Args:
        settings: The settings of the environment.
        prompts: Number of prompts of a call.
        group_size: Texts for each prompt.

    Attributes:
        venv: The environment.

    Raises:
        SettingsError: If the environment cannot be made from the settings.
    """

    def __init__(self, settings: EnvSettings, prompts: int, group_size: int = 1) -> None:
        self._size = group_size
        rows = prompts * group_size
        self.venv: VecEnv = make_env(settings, rows, 0, "train", group_size=group_size)

    def write(self, policy: Policy, seeds: Sequence[int]) -> list[Group]:
        """Write to prompts of the training split.

        Args:
            policy: The policy.
            seeds: The seeds that draw the prompts, one for each.
        """
        venv: Any = self.venv  # SB3's type of a seed is one number.
        venv.seed([seed for seed in seeds for _ in range(self._size)])
        episodes = collect(venv, policy, group_size=self._size)
        return [
            self._group(seed, episodes.infos[place * self._size : (place + 1) * self._size])
            for place, seed in enumerate(seeds)
        ]

    def close(self) -> None:
        """Close the environment."""
        self.venv.close()

    def _group(self, seed: int, infos: Sequence[dict[str, Any]]) -> Group:
        row = {
            # Infos of a batch are arrays, whose entries are not plain numbers.
            key: value.item() if isinstance(value, np.generic) else value
            for key, value in infos[0].items()
            if key not in _NOT_OF_THE_ROW
        }
        texts = tuple(str(info["response"]) for info in infos)
        scores = tuple(float(info["episode"]["r"]) for info in infos)
        return Group(seed, str(infos[0]["prompt"]), row, texts, scores)


def flat(groups: Sequence[Group]) -> tuple[list[str], list[str]]:
    """The prompts and the texts of groups, one prompt for each text."""
    prompts = [group.prompt for group in groups for _ in group.texts]
    return prompts, [text for group in groups for text in group.texts]

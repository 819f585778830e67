"""A wrapper that keeps only the numbers of infos, for libraries that turn them into tensors."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from textgym.errors import SettingsError, shown


class NumericInfos(VectorWrapper, gym.utils.RecordConstructorArgs):
    """Remove all values that are not numbers (prompts, responses, ...) from a batch's infos.

    Gymnasium's ``NumpyToTorch`` (and any other ``ArrayConversion``) turns every value of ``info``
    into a tensor, which strings do not support. ``final_obs`` becomes one array, with zeros where
    no episode ended. The removed values of the last call are in :attr:`texts`.

    Args:
        env: A vector environment.
        keep: The names to keep, with their masks; None keeps all numbers. For torchrl, which does
            not read dictionaries, use ``["final_obs"]``.

    Attributes:
        texts: The values removed from the last ``info``.
        autoreset_mode: The environment's autoreset mode, which torchrl reads.

    Raises:
        SettingsError: If `env` is not a batch, or `keep` is not a list of names.

    Example:
        >>> import gymnasium as gym
        >>> import textgym
        >>> from textgym.wrappers import NumericInfos
        >>> envs = NumericInfos(gym.make_vec("TextGen/Story-v0", num_envs=2))
        >>> _, infos = envs.reset(seed=0)
        >>> sorted(infos), sorted(envs.texts)
        (['_prompt_tokens', 'prompt_tokens'], ['_prompt', 'prompt'])
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], keep: Collection[str] | None = None) -> None:
        if not isinstance(env, VectorEnv):
            raise SettingsError(
                f"NumericInfos wraps a batch, not {shown(env)}; make it with gymnasium.make_vec"
            )
        named = isinstance(keep, Collection) and all(isinstance(name, str) for name in keep)
        if keep is not None and (isinstance(keep, str) or not named):
            raise SettingsError(
                f"keep={shown(keep)} has to be a list of names of infos, as in ['final_obs'], or "
                "None for all"
            )
        gym.utils.RecordConstructorArgs.__init__(self, keep=keep)
        VectorWrapper.__init__(self, env)
        self.keep = None if keep is None else tuple(keep)
        self.texts: dict[str, Any] = {}
        self.autoreset_mode = env.metadata.get("autoreset_mode")

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset, with numbers in ``info``."""
        obs, infos = self.env.reset(seed=seed, options=options)
        return obs, self._numbers(infos)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step, with numbers in ``info``."""
        obs, rewards, terminated, truncated, infos = self.env.step(actions)
        return obs, rewards, terminated, truncated, self._numbers(infos)

    def _numbers(self, infos: dict[str, Any]) -> dict[str, Any]:
        if "final_obs" in infos and infos["final_obs"].dtype == object:
            infos = {**infos, "final_obs": _stacked(infos["final_obs"])}
        numbers, self.texts = _split(infos)
        if self.keep is None:
            return numbers
        names = {*self.keep, *(f"_{name}" for name in self.keep)}
        return {name: value for name, value in numbers.items() if name in names}


def _split(infos: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Numbers, and all other values, each with their masks."""
    numbers: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for name, value in infos.items():
        # A column of the row may be a dictionary with keys that are not strings.
        if isinstance(name, str) and name.startswith("_") and name[1:] in infos:
            continue
        if isinstance(value, dict):
            inner, texts = _split(value)
            parts = [(numbers, inner), (others, texts)]
        else:
            numeric = isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
            parts = [(numbers if numeric else others, value)]
        for part, selected in parts:
            if isinstance(selected, dict) and not selected:
                continue
            part[name] = selected
            if f"_{name}" in infos:
                part[f"_{name}"] = infos[f"_{name}"]
    return numbers, others


def _stacked(rows: Any) -> Any:
    """An array of arrays (or of dictionaries of them) and None, as one array."""
    some = next((row for row in rows if row is not None), None)
    if isinstance(some, dict):
        return {key: _stacked([None if row is None else row[key] for row in rows]) for key in some}
    if some is None:
        return np.zeros((len(rows), 0))
    empty = np.zeros_like(some)
    return np.stack([empty if row is None else row for row in rows])

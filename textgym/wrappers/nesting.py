"""Nested wrappers: the kind to make around an environment, and attribute lookup."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
from gymnasium.vector import VectorEnv, VectorWrapper


def new_of_kind(cls: type[Any], env: Any, name: type[Any], kinds: tuple[type, type]) -> Any:
    """A new wrapper of the kind (single or batch) of an environment.

    Args:
        cls: The class that is called.
        env: The environment; None when unpickling, where the class is one of the two kinds.
        name: The common base class of both kinds.
        kinds: The wrapper of a single environment, and the wrapper of a batch.
    """
    if cls is name:
        cls = kinds[isinstance(env, VectorEnv)]
    return object.__new__(cls)


def layers(env: Any) -> Iterator[Any]:
    """The wrappers of an environment of either kind, from the outermost, and the environment."""
    while isinstance(env, (gym.Wrapper, VectorWrapper)):
        yield env
        env = env.env
    yield env


def attribute(env: Any, name: str) -> Any:
    """An attribute of the outermost layer that has it; vector wrappers do not forward attributes.

    Raises:
        AttributeError: If no layer has it.
    """
    for layer in layers(env):
        if hasattr(layer, name):
            return getattr(layer, name)
    raise AttributeError(f"{env} has no attribute {name!r}")

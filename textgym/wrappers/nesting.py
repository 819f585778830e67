"""Wrappers in layers: which kind to make around an environment, and who of them knows a thing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
from gymnasium.vector import VectorEnv, VectorWrapper


def new_of_kind(cls: type[Any], env: Any, name: type[Any], kinds: tuple[type, type]) -> Any:
    """What ``__new__`` of a class with two kinds of wrappers returns.

    Args:
        cls: The class that is called.
        env: The environment; None when unpickled, but then the class is one of the two.
        name: The class that stands for both kinds.
        kinds: The wrapper of a single environment, and that of a batch.
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
    """An attribute of the outermost layer that has it: vector wrappers hand none on.

    Raises:
        AttributeError: If none has it.
    """
    for layer in layers(env):
        if hasattr(layer, name):
            return getattr(layer, name)
    raise AttributeError(f"{env} has no attribute {name!r}")

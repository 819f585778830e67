"""Checks of settings and of episodes.

Errors name the flag of a setting. None is always accepted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from textgym.errors import SettingsError

GROUPS = ("lora", "sampling")
"""Beginnings of the names of settings whose flags have a dot after them."""


def at_least(low: float, **settings: float | None) -> None:
    """Check that settings are numbers of at least `low`.

    Raises:
        SettingsError: If one is below it, or NaN.
    """
    for name, value in settings.items():
        if value is not None and not value >= low:
            raise SettingsError(f"{flag(name)} {value}: it has to be at least {low}")


def above(low: float, **settings: float | None) -> None:
    """Check that settings are numbers above `low`.

    Raises:
        SettingsError: If one is not.
    """
    for name, value in settings.items():
        if value is not None and not value > low:
            raise SettingsError(f"{flag(name)} {value}: it has to be above {low}")


def within(low: float, high: float, **settings: float | None) -> None:
    """Check that settings are numbers from `low` to `high`.

    Raises:
        SettingsError: If one is outside of the interval.
    """
    for name, value in settings.items():
        if value is not None and not low <= value <= high:
            raise SettingsError(f"{flag(name)} {value}: it has to be from {low} to {high}")


def cut_off(infos: Iterable[Mapping[str, Any]], agent: str) -> None:
    """Check that no episode was truncated: its text was not scored, so its reward is not known.

    Args:
        infos: The infos of the episodes' last steps.
        agent: The algorithm that learns from whole texts, for the message.

    Raises:
        SettingsError: If a step limit has truncated one.
    """
    if any(info.get("TimeLimit.truncated", False) for info in infos):
        raise SettingsError(
            f"a step limit has cut a text off before it was scored, and {agent} learns from whole "
            "texts; make the environment without max_episode_steps (texts that reach the budget "
            "max_new_tokens are scored), or use agents.ppo"
        )


def unknown_device(device: str) -> None:
    """Check that torch can use a device; Stable-Baselines3 would silently use the CPU instead.

    Raises:
        SettingsError: If torch cannot use it.
    """
    if device == "auto":
        return
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(
            f"--device {device}: {str(error).splitlines()[0]}; give auto, cpu, or a device that "
            f"torch {torch.__version__} can use here"
        ) from None


def flag(name: str) -> str:
    """The flag of a setting: ``lora_r`` is ``--lora.r``."""
    for group in GROUPS:
        if name.startswith(f"{group}_"):
            name = f"{group}.{name.removeprefix(f'{group}_')}"
    return f"--{name.replace('_', '-')}"

"""What agents refuse: numbers that settings must not have, and episodes without a verdict.

Numbers are told by the names of their flags. None is no number, and passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from textgym.errors import SettingsError


def at_least(low: float, **settings: float | None) -> None:
    """Refuse settings below a limit, and those that are not a number.

    Raises:
        SettingsError: If there is one.
    """
    for name, value in settings.items():
        if value is not None and not value >= low:
            raise SettingsError(f"{_flag(name)} {value}: it has to be at least {low}")


def above(low: float, **settings: float | None) -> None:
    """Refuse settings that are not above a limit.

    Raises:
        SettingsError: If there is one.
    """
    for name, value in settings.items():
        if value is not None and not value > low:
            raise SettingsError(f"{_flag(name)} {value}: it has to be above {low}")


def within(low: float, high: float, **settings: float | None) -> None:
    """Refuse settings outside of an interval.

    Raises:
        SettingsError: If there is one.
    """
    for name, value in settings.items():
        if value is not None and not low <= value <= high:
            raise SettingsError(f"{_flag(name)} {value}: it has to be from {low} to {high}")


def cut_off(infos: Iterable[Mapping[str, Any]], agent: str) -> None:
    """Refuse ended episodes whose texts were not judged: a reward of 0 would be none of theirs.

    Args:
        infos: What the environment told with the last step of each.
        agent: Whose learning takes whole texts.

    Raises:
        SettingsError: If a step limit of the user's own has cut one off.
    """
    if any(info.get("TimeLimit.truncated", False) for info in infos):
        raise SettingsError(
            f"a step limit has cut a text off before it was judged, and {agent} learns from whole "
            "texts; make the environment without max_episode_steps (the budget max_new_tokens "
            "ends texts, and they are judged), or use agents.ppo"
        )


def unknown_device(device: str) -> None:
    """Refuse a device that is not there; Stable-Baselines3 would take the CPU without a word.

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


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"

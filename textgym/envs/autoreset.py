"""The names of Gymnasium's autoreset modes."""

from __future__ import annotations

from gymnasium.vector import AutoresetMode

from textgym.errors import SettingsError, shown


def known_mode(name: str, mode: str | AutoresetMode) -> AutoresetMode:
    """The mode that is meant.

    Args:
        name: The environment's, for the error.
        mode: A mode, or its name in any spelling.

    Raises:
        SettingsError: If there is none of this name.
    """
    if isinstance(mode, AutoresetMode):
        return mode
    for known in AutoresetMode:
        if isinstance(mode, str) and mode.replace("_", "").lower() == known.value.lower():
            return known
    raise SettingsError(
        f"{name}: autoreset_mode={shown(mode)} is unknown; use one of "
        f"{[known.value for known in AutoresetMode]}"
    )

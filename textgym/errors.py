"""The exceptions of textgym, whose messages name the cause and the fix.

All exceptions derive from :class:`TextGymError`, and from the built-in class that a caller would
expect (``ValueError``, ...).
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium


class TextGymError(Exception):
    """Base class of all errors of textgym."""


class ActionError(TextGymError, ValueError):
    """An action is out of range, or has the wrong dtype or shape."""


class PromptError(TextGymError, ValueError):
    """A prompt does not fit into the environment, or cannot be tokenized."""


class TokenizerError(TextGymError, ValueError):
    """A tokenizer cannot be loaded, or lacks a token that the environment needs."""


class DataError(TextGymError, ValueError):
    """Prompt data cannot be read, or has the wrong form."""


class SplitError(DataError):
    """Prompt data lacks the requested split."""


class DataWarning(UserWarning):
    """Rows of prompt data were left out or changed."""


class TaskError(TextGymError, ValueError):
    """A task is unknown, misconfigured, or breaks the task contract."""


class RewardError(TextGymError, RuntimeError):
    """A reward function is unknown, raised, or returned an invalid value."""


class FeedbackError(TextGymError, ValueError):
    """A judgement or an item to judge is invalid, or belongs to another person."""


class SettingsError(TextGymError, ValueError):
    """An argument of an environment, a policy or a buffer has an invalid value."""


class UnknownArgumentError(SettingsError, TypeError):
    """An environment does not have an argument with this name."""

    def __init__(self, message: str) -> None:
        # Gymnasium raises a constructor's TypeError again with all arguments appended.
        super().__init__(message.partition(" was raised from the environment creator for ")[0])


class ModelError(TextGymError, ValueError):
    """A language model cannot be loaded, or does not match the environment."""


class StorageError(TextGymError, OSError):
    """A file cannot be written or read, or is damaged."""

    def __str__(self) -> str:
        # If errno is set, OSError would print its own message.
        return str(self.args[0]) if self.args else ""


class ResetNeededError(TextGymError, gymnasium.error.ResetNeeded):
    """``step`` was called before ``reset``, or after the end of an episode."""


class MissingDependencyError(TextGymError, ImportError):
    """An optional dependency is not installed; the message names its extra."""


def require(module: str, extra: str) -> Any:
    """Import an optional dependency.

    Args:
        module: Dotted name of the module, e.g. ``"sacrebleu"``.
        extra: The extra of textgym that installs it, e.g. ``"metrics"``.

    Returns:
        The imported module.

    Raises:
        MissingDependencyError: If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"this needs the package {module.partition('.')[0]!r}, which could not be imported "
            f"({error}); install it with: pip install 'textgym[{extra}]'"
        ) from error


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Prefix the message of a :class:`TextGymError` with a name, unless it has it.

    Args:
        where: The name, usually the environment's id.
    """
    try:
        yield
    except TextGymError as error:
        if str(error).startswith(where):
            raise
        raise type(error)(f"{where}: {error}") from error


def near_matches(name: object, known: Iterable[str]) -> str:
    """A suggestion for a mistyped name: ``"; did you mean 'rouge'?"``, or ``""``."""
    if not isinstance(name, str) or len(name) > 200:
        return ""
    matches = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(map(repr, matches))}?" if matches else ""


def shown(value: object, length: int = 200) -> str:
    """The ``repr`` of a value for an error message, truncated.

    If ``repr`` fails (for an integer of more than 4300 digits, say), the type is named instead.
    """
    try:
        if isinstance(value, (str, bytes)) and len(value) > length:
            value = value[:length]
        text = repr(value)
    except Exception:
        text = f"<a {type(value).__name__}>"
    return text if len(text) <= length else f"{text[:length]}..."

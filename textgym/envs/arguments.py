"""The arguments of environments, and checks of their values.

Numpy's numbers and booleans are accepted like Python's.
"""

from __future__ import annotations

import inspect
import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import wraps
from math import prod
from numbers import Real
from typing import Any, Concatenate, Literal, ParamSpec, TypeAlias, TypeVar

import numpy as np
from gymnasium.vector import AutoresetMode

from textgym.envs.prompts.chat import Chat
from textgym.errors import SettingsError, UnknownArgumentError, near_matches, shown
from textgym.rewards.combine import RewardSpec
from textgym.tasks.sources.lists import OnBadRow
from textgym.tasks.sources.loading import PromptSpec
from textgym.tokenization import TokenizerSpec

PromptOverflow: TypeAlias = Literal["error", "left", "right", "skip"]

Env = TypeVar("Env")
Given = TypeVar("Given", bound="Arguments")
P = ParamSpec("P")

MAX_BUDGET = 2**24
"""Maximal number of prompt tokens or new tokens."""

MAX_ROWS = 2**31 - 1
"""Maximal number of rows of a batch."""

# The text and the observation (int32), and the bounds of the space, which Gymnasium stores as
# arrays (two int32, two bool).
_BYTES_PER_TOKEN = 18
# A row's Python objects, such as its generator and its prompt.
_BYTES_PER_ROW = 4096
# Assumed if the operating system does not report the size of the memory.
_UNKNOWN_MEMORY = 2**40


@dataclass(frozen=True, kw_only=True, eq=False)
class Arguments:
    """Names and defaults of the arguments of both environments.

    They are documented at :class:`textgym.envs.TextGenEnv`.
    """

    task: str | None = None
    prompts: PromptSpec | None = None
    reward: RewardSpec | None = None
    tokenizer: TokenizerSpec = None
    max_prompt_tokens: int | None = None
    max_new_tokens: int | None = None
    stop: Sequence[str] | None = None
    prompt_overflow: PromptOverflow = "error"
    on_bad_row: OnBadRow = "error"
    chat: Chat = "auto"
    stop_at_eos: bool | None = None
    split: str = "train"
    eval_share: float | None = None
    level: int | None = None
    group_size: int = 1
    dense: bool = False
    step_reward: RewardSpec | None = None
    step_reward_gamma: float = 1.0
    costs: Mapping[str, Any] | None = None
    render_mode: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchArguments(Arguments):
    """Arguments of the batch, documented at :class:`textgym.envs.TextGenVectorEnv`."""

    num_envs: int = field(default=1, kw_only=False)
    autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP
    max_episode_steps: int | None = None


def takes(
    kind: Callable[P, Given],
) -> Callable[[Callable[[Env, Given], None]], Callable[Concatenate[Env, P], None]]:
    """A decorator that gives a constructor the fields of a dataclass as its parameters.

    The constructor has the signature of the dataclass, for type checkers and at run time, and
    refuses unknown arguments with near matches.

    Args:
        kind: The dataclass, :class:`Arguments` or :class:`BatchArguments`.
    """
    parameters = inspect.signature(kind).parameters
    named = [each.name for each in parameters.values() if each.kind is each.KEYWORD_ONLY]

    def decorate(init: Callable[[Env, Given], None]) -> Callable[Concatenate[Env, P], None]:
        @wraps(init)
        def constructor(self: Env, /, *args: P.args, **kwargs: P.kwargs) -> None:
            unknown = [name for name in kwargs if name not in parameters]
            refuse_unknown(kwargs.get("task"), unknown, named)
            init(self, kind(*args, **kwargs))

        self_parameter = next(iter(inspect.signature(init).parameters.values()))
        signature = inspect.Signature([self_parameter, *parameters.values()])
        constructor.__signature__ = signature  # type: ignore[attr-defined]
        return constructor

    return decorate


def refuse_unknown(task: object, unknown: Sequence[str], known: Iterable[str]) -> None:
    """Refuse keyword arguments that an environment does not have.

    Args:
        task: The environment's id, for the error; None is ``TextGen-v0``.
        unknown: Names of the unknown arguments.
        known: Names of the environment's arguments.

    Raises:
        UnknownArgumentError: If there are unknown ones.
    """
    if not unknown:
        return
    name = task if isinstance(task, str) else "TextGen-v0"
    first = unknown[0]
    advice = _ADVICE.get(first) or near_matches(first, known) or ";"
    raise UnknownArgumentError(
        f"{name}: unknown argument {shown(first)}{advice} the arguments are {', '.join(known)}"
    )


# For arguments of other libraries and functions.
_ADVICE = {
    "seed": "; pass it to reset(seed=...), or to textgym.sb3.make_vec_env;",
    "env_kwargs": "; pass the arguments themselves (**env_kwargs);",
    "n_envs": "; use gymnasium.make_vec(id, num_envs=...);",
    "num_envs": "; batches are made by gymnasium.make_vec(id, num_envs=...);",
    "autoreset_mode": "; batches are made by gymnasium.make_vec(id, num_envs=...);",
    "max_length": "; use max_prompt_tokens and max_new_tokens;",
}


def whole(
    name: str,
    argument: str,
    value: Any,
    least: int | None = 0,
    most: int | None = None,
    why: str = "",
) -> int:
    """An integer within bounds.

    Args:
        name: The environment's name, for the error.
        argument: The argument's name, for the error.
        value: The value.
        least: The lower bound; None for none.
        most: The upper bound; None for none.
        why: Appended to the error for a number that is too large.

    Raises:
        SettingsError: If it is not such an integer; booleans are not integers.
    """
    number = _integer(value)
    if number is None or (least is not None and number < least):
        bound = "" if least is None else f", {least} or more"
        raise SettingsError(f"{name}: {argument}={shown(value)} has to be an integer{bound}")
    if most is not None and number > most:
        raise SettingsError(f"{name}: {argument}={shown(value)} has to be at most {most}{why}")
    return number


def flag(name: str, argument: str, value: Any) -> bool:
    """True or False, possibly given as 1 or 0.

    Raises:
        SettingsError: If it is another value.
    """
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    number = _integer(value)
    if number in (0, 1):
        return bool(number)
    raise SettingsError(f"{name}: {argument}={shown(value)} has to be True or False")


def fraction(name: str, argument: str, value: Any) -> float:
    """A number from 0 to 1.

    Raises:
        SettingsError: If it is another value; booleans are not numbers.
    """
    with suppress(OverflowError):  # 10**400
        if not isinstance(value, bool) and isinstance(value, Real) and 0 <= float(value) <= 1:
            return float(value)
    raise SettingsError(f"{name}: {argument}={shown(value)} has to be a number from 0 to 1")


def choice(name: str, argument: str, value: Any, known: Mapping[str, str] | Iterable[str]) -> str:
    """One of several names.

    Args:
        name: The environment's name, for the error.
        argument: The argument's name, for the error.
        value: The value.
        known: The names, or a mapping from names to descriptions.

    Raises:
        SettingsError: If it is another value.
    """
    names = list(known)
    if isinstance(value, str) and value in names:
        return str(value)
    meant = near_matches(value, names) if isinstance(value, str) else ""
    if isinstance(known, Mapping):
        listed = ", ".join(f"{each!r} ({description})" for each, description in known.items())
    else:
        listed = ", ".join(map(repr, names))
    raise SettingsError(f"{name}: {argument}={shown(value)} is unknown{meant}; use {listed}")


def _integer(value: Any) -> int | None:
    """The value as an int, if it is an integer of Python, numpy or torch, but not a boolean."""
    if isinstance(value, (bool, np.bool_)) or getattr(value, "dtype", None) == np.bool_:
        return None
    try:
        return operator.index(value)
    except Exception:  # TypeError, or an error of another array library.
        return None


def known_mode(name: str, mode: str | AutoresetMode) -> AutoresetMode:
    """An autoreset mode.

    Args:
        name: The environment's name, for the error.
        mode: A mode, or its name, ignoring case and underscores.

    Raises:
        SettingsError: If it is unknown.
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


def check_memory(
    name: str, rows: int, width: int, image_shape: tuple[int, ...] | None = None
) -> None:
    """Refuse a batch that does not fit in memory.

    Args:
        name: The environment's name, for the error.
        rows: Number of rows N.
        width: Length L of an observation in tokens.
        image_shape: Shape of the pictures, if any.

    Raises:
        SettingsError: If it needs more than the physical memory.
    """
    pixels = 4 * prod(image_shape) if image_shape is not None else 0  # Two copies, and the bounds.
    needed = rows * (_BYTES_PER_TOKEN * width + pixels + _BYTES_PER_ROW)
    if needed > (available := _memory()):
        raise SettingsError(
            f"{name}: {rows:,} rows of {width:,} tokens (num_envs x (max_prompt_tokens + "
            f"max_new_tokens)) would take {needed / 2**30:,.1f} GiB, and this machine has "
            f"{available / 2**30:,.1f} GiB; use fewer rows or smaller budgets"
        )


def _memory() -> int:
    """Physical memory in bytes."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return _UNKNOWN_MEMORY

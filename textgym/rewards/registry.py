"""The registry of rewards: names such as ``"bleu"``, and factories that make reward functions.

The files that define rewards register them, see :mod:`textgym.rewards`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar, overload

from textgym.errors import RewardError, TextGymError
from textgym.registry import REWARDS
from textgym.rewards.values import excerpt, plain_number

RewardFunction = Callable[..., Sequence[float | None]]
"""``(prompts, completions, **columns) -> one number per text``, as in TRL.

``prompts`` and ``completions`` are lists of N strings, each column is a list of N values. The
result has N numbers; ``None`` means that the reward does not apply to that text, whose sum is then
that of its other terms. The function may be asynchronous. Parameters are matched by name, see
:mod:`textgym.rewards.signature`; :func:`textgym.rewards.messages` passes messages instead of
strings.
"""

RewardFactory = Callable[..., RewardFunction]
_Factory = TypeVar("_Factory", bound=RewardFactory)

# Options with these annotations are checked. Annotations are strings in all files of this package.
_CHECKED_TYPES: dict[str, tuple[type, str]] = {
    "str": (str, "a string"),
    "bool": (bool, "True or False"),
}


@overload
def register_reward(name: str, factory: None = None) -> Callable[[_Factory], _Factory]: ...
@overload
def register_reward(name: str, factory: _Factory) -> _Factory: ...
@overload
def register_reward(name: str, factory: str) -> str: ...
def register_reward(name: str, factory: Any = None) -> Any:
    """Register a reward under a name, so that ``reward="NAME"`` works in every environment.

    Use it as a call or as a decorator of a factory (a class with ``__call__`` is one)::

        @register_reward("shouting")
        class Shouting:
            def __call__(self, prompts, completions, **columns):
                return [float(text.isupper()) for text in completions]

    Args:
        name: The name; also the name of the term in ``info["reward_terms"]``.
        factory: Called as ``factory(**kwargs)``; returns a reward function. A string
            ``"module:Name"`` is imported when the reward is first made.

    Returns:
        The factory; without ``factory``, a decorator.

    Raises:
        RewardError: If the name is empty or already registered, or if ``factory`` is itself a
            reward function.
    """
    if factory is None:
        return lambda decorated: register_reward(name, decorated)
    if not isinstance(name, str) or not name:
        raise RewardError(f"a reward's name must be a non-empty string, not {name!r}")
    if not isinstance(factory, str):
        if not callable(factory):
            raise RewardError(
                f"the factory of the reward {name!r} must be callable, not {factory!r}"
            )
        if "completions" in _parameters(factory):
            raise RewardError(
                f"register_reward({name!r}, ...) takes a factory, and {factory!r} is itself a "
                "reward function; register `lambda: function`, or a class with __call__"
            )
    REWARDS.add(name, factory)
    return factory


def make_reward(name: str, **kwargs: Any) -> RewardFunction:
    """Make a registered reward function.

    Args:
        name: A name from :func:`registered_rewards`.
        **kwargs: The options of the reward, e.g. ``make_reward("rouge", variant="rouge2")``.

    Returns:
        The reward function.

    Raises:
        RewardError: If the name is unknown (the message suggests near matches), or an option is
            unknown or invalid.
        MissingDependencyError: If the reward needs a library that is not installed.
    """
    factory: RewardFactory = REWARDS.get(name)
    signature = inspect.signature(factory)
    try:
        signature.bind(**kwargs)
    except TypeError as error:
        options = signature.replace(return_annotation=inspect.Signature.empty)
        raise RewardError(f"the reward {name!r} takes the options {options}: {error}") from error
    kwargs = {option: plain_number(value) for option, value in kwargs.items()}
    for option, value in kwargs.items():
        annotation = str(getattr(signature.parameters.get(option), "annotation", ""))
        kind, description = _CHECKED_TYPES.get(annotation, (object, ""))
        if not isinstance(value, kind):
            raise RewardError(f"{name}: {option} must be {description}, not {excerpt(value)}")
    try:
        reward = factory(**kwargs)
    except TextGymError:
        raise
    except (TypeError, ValueError, ArithmeticError, AttributeError, RecursionError) as error:
        given = ", ".join(f"{option}={excerpt(value)}" for option, value in kwargs.items())
        raise RewardError(
            f"the reward {name!r} cannot be made with {given or 'its defaults'}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not callable(reward):
        raise RewardError(f"the factory of the reward {name!r} returned {reward!r}, not a function")
    return reward


def reward_name(reward: Any, default: str | None = None) -> str:
    """Return the name of a reward: its ``name``, its ``__name__``, or the name of its class.

    Args:
        reward: A registered name, or a reward function. A `functools.partial` has the name of the
            function that it calls.
        default: The name of a function without one; None uses the name of its class.
    """
    if isinstance(reward, str):
        return reward
    function = reward.func if isinstance(reward, partial) else reward
    name = getattr(function, "name", None) or getattr(function, "__name__", None)
    return name if isinstance(name, str) else default or type(function).__name__


def registered_rewards() -> list[str]:
    """Return the names of all registered rewards, sorted."""
    return REWARDS.names()


def _parameters(function: Any) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)
    except ValueError:  # some functions written in C have no signature
        return []

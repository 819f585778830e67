"""Names of tasks and of rewards: what each name refers to, imported when it is first asked for.

A name refers to an object, or to an address ``"module:Name"``, which costs nothing until it is
used. :mod:`textgym.tasks.registry` and :mod:`textgym.rewards.registry` say what may be registered.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from textgym.errors import (
    MissingDependencyError,
    RewardError,
    TaskError,
    TextGymError,
    near_matches,
    shown,
)

T = TypeVar("T")


class Registry(Generic[T]):
    """Things of one kind by name.

    Args:
        kind: The kind, for error messages: ``"task"``.
        error: The exception that is raised.
        advice: How a name is added, for error messages.
    """

    def __init__(self, kind: str, error: type[TextGymError], advice: str) -> None:
        self._kind = kind
        self._error = error
        self._advice = advice
        self._items: dict[str, T | str] = {}

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._items

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._items)

    def add(self, name: str, item: T | str) -> None:
        """Register something under a name.

        The same definition may be registered again (a notebook cell is run twice); the newer one
        counts.

        Args:
            name: The name.
            item: The thing itself, or its address ``"module:Name"``.

        Raises:
            TextGymError: The registry's own kind of error, if the address is not one, or the name
                refers to something else.
        """
        if isinstance(item, str):
            module, colon, attribute = item.partition(":")
            if not (module and colon and attribute):
                raise self._error(f"cannot register {name!r}: {item!r} does not read 'module:Name'")
        taken = self._items.get(name)
        if taken is not None and address(taken) != address(item):
            raise self._error(
                f"cannot register {address(item)} as {name!r}: the {self._kind} {name!r} is "
                f"already registered as {address(taken)}; choose another name"
            )
        self._items[name] = item

    def remove(self, name: str) -> None:
        """Forget a name.

        Raises:
            TextGymError: The registry's own kind of error, if there is no such name.
        """
        self.check(name)
        del self._items[name]

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Undo, at the end of the block, whatever is registered or removed within it: for tests."""
        before = dict(self._items)
        try:
            yield
        finally:
            self._items = before

    def get(self, name: str) -> T:
        """The thing itself, imported if need be.

        Raises:
            TextGymError: The registry's own kind of error, if there is no such name (near matches
                are named), or its address cannot be imported.
            MissingDependencyError: If a library that it needs is not installed.
        """
        self.check(name)
        item = self._items[name]
        if not isinstance(item, str):
            return item
        module, _, attribute = item.partition(":")
        try:
            found: T = getattr(importlib.import_module(module), attribute)
        except MissingDependencyError:
            raise
        except (ImportError, AttributeError) as error:
            raise self._error(
                f"the {self._kind} {name!r} is registered as {item!r}: {error}"
            ) from error
        # The thing itself replaces its address: the next call need not look it up.
        self._items[name] = found
        return found

    def check(self, name: object) -> None:
        """Refuse a name that is not registered.

        Raises:
            TextGymError: The registry's own kind of error, with near matches.
        """
        if name not in self:
            near = near_matches(name, self._items) if isinstance(name, str) else ""
            raise self._error(
                f"there is no {self._kind} {shown(name)}{near}; registered: "
                f"{', '.join(self.names())}; {self._advice}"
            )


def address(item: Any) -> Any:
    """Equal for two registrations of the same definition; an object without a name is itself."""
    if isinstance(item, str):
        return item
    name = getattr(item, "__qualname__", None)
    return item if name is None else f"{item.__module__}:{name}"


TASKS: Registry[Any] = Registry("task", TaskError, "add your own with textgym.register_task")
"""Task classes by id."""

REWARDS: Registry[Any] = Registry(
    "reward", RewardError, "add your own with textgym.register_reward"
)
"""Factories of reward functions by name."""

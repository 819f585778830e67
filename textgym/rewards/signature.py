"""How a reward function wants to be called: which of the available inputs it takes, by which name.

Functions written for TRL come in many forms: ``f(completions, **kwargs)``,
``f(prompts, completions, answer)``, ``f(completions, reference, **kwargs)``. All of them are called
by keyword, as TRL does, and a function without ``**kwargs`` gets only what it names.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from textgym.errors import RewardError
from textgym.rewards.registry import RewardFunction

_Kind = inspect.Parameter


@dataclass(frozen=True)
class Call:
    """One reward function and the form in which it takes its inputs.

    It does not look at what the function returns: ``RewardSum`` does.
    """

    function: RewardFunction
    by_position: bool  # the texts have other names there than "prompts" and "completions"
    names: tuple[str, ...] | None  # the inputs that it can take; None: everything, by **kwargs
    required: tuple[str, ...]
    taken: frozenset[str] = frozenset()  # its own names of the texts that it gets by position

    @classmethod
    def of(cls, function: RewardFunction) -> Call:
        """Read the signature of a reward function.

        Raises:
            RewardError: If it is a class or a coroutine function.
        """
        if inspect.isclass(function):
            raise RewardError(f"{function!r} is a class; pass an instance of it")
        if any(map(inspect.iscoroutinefunction, (function, type(function).__call__))):
            raise RewardError(
                f"{function!r} is asynchronous; wrap it in a plain function that runs it, "
                "e.g. with asyncio.run"
            )
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except ValueError:  # some functions written in C tell nothing about themselves
            return cls(function, by_position=True, names=None, required=())

        takes_all = any(p.kind is _Kind.VAR_KEYWORD for p in parameters)
        named = [
            p for p in parameters if p.kind in (_Kind.POSITIONAL_OR_KEYWORD, _Kind.KEYWORD_ONLY)
        ]
        keywords = {p.name for p in named}
        positional = [
            p for p in parameters if p.kind in (_Kind.POSITIONAL_ONLY, _Kind.POSITIONAL_OR_KEYWORD)
        ]
        by_position = not keywords & {"prompts", "completions"} and (
            len(positional) >= 2 or any(p.kind is _Kind.VAR_POSITIONAL for p in parameters)
        )
        taken: frozenset[str] = frozenset()
        if by_position:
            taken = frozenset(p.name for p in positional[:2])
            named = [p for p in named if p.name not in taken]
        return cls(
            function,
            by_position,
            None if takes_all else tuple(p.name for p in named),
            tuple(p.name for p in named if p.default is _Kind.empty),
            taken,
        )

    def __call__(
        self, prompts: list[str], completions: list[str], columns: Mapping[str, list[Any]]
    ) -> Any:
        """Call the function with the inputs that it takes.

        Args:
            prompts: N prompts.
            completions: N completions.
            columns: The other columns, N values each.

        Returns:
            Whatever the function returns.

        Raises:
            RewardError: If it requires a column that is not there.
        """
        texts: tuple[list[str], ...] = ()
        given: dict[str, Any]
        if self.by_position:
            texts = (prompts, completions)
            # A column may have the name that the function gives the texts, say "completion".
            given = {name: values for name, values in columns.items() if name not in self.taken}
        else:
            given = {**columns, "prompts": prompts, "completions": completions}
        for name in self.required:
            if name not in given:
                raise RewardError(missing_column(name, columns))
        if self.names is not None:
            given = {name: given[name] for name in self.names if name in given}
        return self.function(*texts, **given)


def missing_column(name: str, columns: Mapping[str, Any]) -> str:
    """Say that a column is missing, which ones there are, and what to do."""
    there = ", ".join(map(repr, columns)) or "none"
    return (
        f"needs the column {name!r}, which the rows do not have (they have: {there}); "
        f"give every row of prompts= a {name!r}"
    )

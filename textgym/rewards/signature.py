"""The signature of a reward function: which inputs it takes, and under which names.

Functions written for TRL come in many forms: ``f(completions, **kwargs)``,
``f(prompts, completions, answer)``, ``f(completions, reference, **kwargs)``. Parameters are matched
with the available inputs by **name**:

1. ``prompts`` and ``completions`` are the texts.
2. ``prompt`` and ``completion`` are the texts too, unless a parameter has the plural name (TRL
   does not pass columns of these names).
3. The name of a column gets the column.
4. A parameter with a default keeps it.
5. ``response``, ``responses``, ``text`` or ``texts`` gets the completions, if nothing else does.
6. A single required parameter gets the completions, whatever its name.

TRL's trainer also passes ``trainer_state``, ``log_extra`` and ``log_metric``. An environment has no
such things, so where they have no default they are None and functions without effect.

A function with a parameter that none of these rules matches is rejected, and so is one that takes
columns but nothing that the policy wrote. ``**kwargs`` gets every other input.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from textgym.data.messages import as_completions, as_prompts, asks_for_messages
from textgym.errors import RewardError, near_matches
from textgym.rewards.event_loop import Awaited
from textgym.rewards.registry import RewardFunction

_Kind = inspect.Parameter
_BY_POSITION = (_Kind.POSITIONAL_ONLY, _Kind.POSITIONAL_OR_KEYWORD)

_TEXTS = ("prompts", "completions")
_SINGULAR = {"prompt": "prompts", "completion": "completions"}
_SYNONYMS = ("response", "responses", "text", "texts")
WRITTEN = ("completion_ids", "finish_reason", "turns", "replies", "environments")
"""Columns that the environment adds from the episode; all others come from the rows."""


def _no_op(*_: Any, **__: Any) -> None:
    """Replace TRL's logging functions."""


_TRAINER_INPUTS: dict[str, Any] = {
    "trainer_state": None,
    "log_extra": _no_op,
    "log_metric": _no_op,
}


class _Plan(NamedTuple):
    """Which input each parameter gets, for rows with certain columns."""

    by_position: tuple[str, ...]  # inputs, in order
    by_name: tuple[tuple[str, str], ...]  # pairs of a parameter and an input
    messages: frozenset[str]  # the inputs of `_TEXTS` that are passed as lists of messages


@dataclass(frozen=True)
class Call:
    """A reward function together with its signature.

    The returned values are not checked here but in ``RewardSum``.

    Attributes:
        function: The function.
        is_async: Whether it is asynchronous. Calling waits for its result.
    """

    function: RewardFunction
    is_async: bool
    _parameters: tuple[inspect.Parameter, ...]
    _takes_all: bool
    _all_messages: bool
    _plans: dict[tuple[str, ...], _Plan] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, function: RewardFunction, messages: bool = False) -> Call:
        """Read the signature of a reward function.

        Args:
            function: The function, or any callable object.
            messages: Whether it takes lists of messages instead of strings. TRL's own functions
                always do, and so do parameters that are annotated as a list of lists.

        Raises:
            RewardError: If it is a class, its signature cannot be read, or it only takes ``*args``.
        """
        call = getattr(function, "reward_call", None)  # a wrapper has read the signature already
        if isinstance(call, Call):
            return call
        if inspect.isclass(function):
            raise RewardError(f"{function!r} is a class; pass an instance, {function.__name__}()")
        try:
            parameters = _signature(function)
        except (ValueError, TypeError) as error:  # some functions written in C have none
            raise RewardError(
                f"the signature of {function!r} cannot be read ({error}); wrap it in a function "
                "with named parameters, such as lambda completions: ..."
            ) from None
        kinds = {parameter.kind for parameter in parameters}
        if kinds == {_Kind.VAR_POSITIONAL}:
            raise RewardError(
                f"{function!r} takes only *{parameters[0].name}, and inputs are passed by name; "
                "name its parameters, as in (prompts, completions, **columns)"
            )
        return cls(
            function,
            any(map(inspect.iscoroutinefunction, (function, type(function).__call__))),
            tuple(one for one in parameters if one.kind not in
                  (_Kind.VAR_POSITIONAL, _Kind.VAR_KEYWORD)),
            _Kind.VAR_KEYWORD in kinds,
            messages or _is_from_trl(function),
        )  # fmt: skip

    def bind(self, columns: Iterable[str]) -> None:
        """Check that the function can be called for rows with these columns.

        Raises:
            RewardError: If a required column is missing, or a parameter matches no input. The
                message is a predicate: the caller puts the reward's name in front of it.
        """
        self._plan(tuple(columns))

    def __call__(
        self, prompts: list[Any], completions: list[Any], columns: Mapping[str, Any]
    ) -> Any:
        """Call the function with the inputs that it takes.

        Args:
            prompts: N prompts.
            completions: N completions.
            columns: The other columns, N values each.

        Returns:
            The function's return value, awaited if the function is asynchronous.

        Raises:
            RewardError: As :meth:`bind`.
        """
        result = self._invoke(prompts, completions, columns)
        return Awaited(result).result() if inspect.isawaitable(result) else result

    def start(
        self, prompts: list[Any], completions: list[Any], columns: Mapping[str, Any]
    ) -> Awaited:
        """Start an asynchronous function without waiting for it."""
        return Awaited(self._invoke(prompts, completions, columns))

    def _invoke(
        self, prompts: list[Any], completions: list[Any], columns: Mapping[str, Any]
    ) -> Any:
        plan = self._plan(tuple(columns))
        if "prompts" in plan.messages:
            prompts = as_prompts(prompts, columns.get("messages"))
        if "completions" in plan.messages:
            completions = as_completions(completions)
        inputs = {**columns, "prompts": prompts, "completions": completions}
        given = {name: _input(inputs, source) for name, source in plan.by_name}
        if self._takes_all:
            given = {**inputs, **given}
            for parameter in self._parameters[: len(plan.by_position)]:
                given.pop(parameter.name, None)
        return self.function(*(_input(inputs, source) for source in plan.by_position), **given)

    def _plan(self, columns: tuple[str, ...]) -> _Plan:
        plan = self._plans.get(columns)
        if plan is None:
            if len(self._plans) > 64:  # rows with ever new columns
                self._plans.clear()
            plan = self._plans[columns] = self._make_plan(columns)
        return plan

    def _make_plan(self, columns: tuple[str, ...]) -> _Plan:
        names = [one.name for one in self._parameters]
        known = {*columns, *_TEXTS}
        known |= {
            one.name
            for one in self._parameters
            if one.name in _TRAINER_INPUTS and _is_required(one)
        }
        sources = {name: name for name in names if name in known}
        for single, many in _SINGULAR.items():
            if single in names and many not in names:
                sources[single] = many
        unmatched = [
            one for one in self._parameters if one.name not in sources and _is_required(one)
        ]
        if "completions" not in sources.values():
            meant = [one for one in unmatched if one.name in _SYNONYMS]
            if len(meant) == 1:
                sources[meant[0].name] = "completions"
                unmatched.remove(meant[0])
        if "completions" not in sources.values():
            required = list(filter(_is_required, self._parameters))
            if len(required) == 1 and unmatched == required and _may_be_texts(unmatched[0]):
                sources[unmatched.pop().name] = "completions"
        self._check(unmatched, sources, columns)
        positional: list[str] = []
        for one in self._parameters:
            if one.kind is not _Kind.POSITIONAL_ONLY or one.name not in sources:
                break
            positional.append(sources.pop(one.name))
        for one in self._parameters:
            if one.kind is _Kind.POSITIONAL_ONLY:  # it follows one that keeps its default
                sources.pop(one.name, None)
        messages = frozenset(_TEXTS if self._all_messages else self._annotated(sources, positional))
        return _Plan(tuple(positional), tuple(sources.items()), messages)

    def _annotated(self, sources: Mapping[str, str], positional: list[str]) -> set[str]:
        """Return the texts whose parameters are annotated as lists of messages."""
        names = [one.name for one in self._parameters]
        of = {**dict(zip(names, positional, strict=False)), **sources}
        annotations = {
            of[one.name]: one.annotation for one in self._parameters if of.get(one.name) in _TEXTS
        }
        wanted = {role for role, annotation in annotations.items() if asks_for_messages(annotation)}
        # Prompts without an annotation have the form of the completions.
        if wanted == {"completions"} and annotations.get("prompts", _Kind.empty) is _Kind.empty:
            wanted.add("prompts")
        return wanted

    def _check(
        self,
        unmatched: list[inspect.Parameter],
        sources: Mapping[str, str],
        columns: tuple[str, ...],
    ) -> None:
        """Raise an error if an input is missing or ambiguous."""
        judged = "completions" in sources.values() or self._takes_all
        if unmatched and judged:
            raise RewardError(missing_column(unmatched[0].name, dict.fromkeys(columns)))
        own = [name for name, source in sources.items() if source in columns]
        if unmatched:
            names = " and ".join(repr(one.name) for one in unmatched)
            raise RewardError(
                f"takes {names}, which could be the completions or a missing column "
                f"({_present(columns)}); {self._example(unmatched, sources)}, or give every row a "
                f"{unmatched[0].name!r}"
            )
        if not sources and not self._takes_all:
            raise RewardError(f"takes nothing that the policy wrote; {self._example([], {})}")
        if own and not judged and not any(name in WRITTEN for name in own):
            names = " and ".join(map(repr, own))
            raise RewardError(
                f"takes only {names} from the rows, and nothing that the policy wrote; "
                f"{self._example([], sources)}"
            )

    def _example(self, unmatched: list[inspect.Parameter], sources: Mapping[str, str]) -> str:
        """Suggest a signature that would work."""
        left = [one.name for one in unmatched]
        names = []
        if len(left) > 1 or "prompts" in sources.values():
            names.append("prompts")
        names.append("completions")
        names += [name for name, source in sources.items() if source not in _TEXTS]
        names += left[2:]
        return f"write its signature as ({', '.join(names)})"


def missing_column(name: str, columns: Mapping[str, Any]) -> str:
    """Return the message for a missing column: the columns that exist, and the fix."""
    known = [column for column in columns if column not in _TRAINER_INPUTS]
    near = near_matches(str(name), (column for column in known if column not in WRITTEN))
    return (
        f"needs the column {name!r}, which the rows do not have ({_present(known)})"
        f"{near or ';'} give every row of prompts= a {name!r}"
    )


def _present(columns: Iterable[str]) -> str:
    names = [column for column in columns if column not in _TRAINER_INPUTS]
    return f"they have: {', '.join(map(repr, names)) or 'none'}"


def _signature(function: Any) -> list[inspect.Parameter]:
    try:
        signature = inspect.signature(function, eval_str=True)
    except (NameError, AttributeError, SyntaxError):  # an annotation with undefined names
        signature = inspect.signature(function)
    return list(signature.parameters.values())


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is _Kind.empty


def _may_be_texts(parameter: inspect.Parameter) -> bool:
    return parameter.kind in _BY_POSITION and parameter.name not in (*WRITTEN, "messages")


def _input(inputs: Mapping[str, Any], source: str) -> Any:
    return inputs[source] if source in inputs else _TRAINER_INPUTS[source]


def _is_from_trl(function: Any) -> bool:
    """Whether this is one of TRL's reward functions, which take messages."""
    while isinstance(function, partial):
        function = function.func
    own = getattr(function, "__module__", None) or ""
    return own == "trl.rewards" or str(own).startswith("trl.rewards.")

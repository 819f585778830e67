"""How a reward function wants to be called: which of the available inputs it takes, by which name.

Functions written for TRL come in many forms: ``f(completions, **kwargs)``,
``f(prompts, completions, answer)``, ``f(completions, reference, **kwargs)``. Every parameter gets
its input by its **name**:

1. ``prompts`` and ``completions`` are the texts.
2. ``prompt`` and ``completion`` are the texts too, where no parameter has the name of rule 1 (TRL
   does not pass on columns of these names).
3. A name that is a column gets the column.
4. A parameter with a default keeps it.
5. One of ``response``, ``responses``, ``text`` and ``texts`` is the completions, if no other is.
6. A single parameter, other ones having defaults, is the completions, whatever its name.

``trainer_state``, ``log_extra`` and ``log_metric`` are what TRL's trainer has and an environment
has not: where they have no default they are None, and functions that do nothing.

What is left over is refused, and so is a function that takes columns but nothing of what was
written: it would train on the wrong thing. ``**kwargs`` gets all that has no parameter of its own.
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
"""Columns that come from what was written, not from the rows."""


def _nothing(*_: Any, **__: Any) -> None:
    """Stands for TRL's functions that log."""


_TRAINERS: dict[str, Any] = {"trainer_state": None, "log_extra": _nothing, "log_metric": _nothing}


class _Plan(NamedTuple):
    """Which input every parameter gets, for rows with certain columns."""

    by_position: tuple[str, ...]  # inputs, in order
    by_name: tuple[tuple[str, str], ...]  # parameters and inputs
    messages: frozenset[str]  # those of the texts that are to be lists of messages


@dataclass(frozen=True)
class Call:
    """One reward function and the form in which it takes its inputs.

    It does not look at what the function returns: ``RewardSum`` does.

    Attributes:
        function: The function.
        is_async: Whether it is asynchronous. A call waits for its result.
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
            function: The function, or any object that can be called.
            messages: Whether it wants lists of messages in place of texts. TRL's own functions do,
                and a parameter does that is annotated as a list of lists.

        Raises:
            RewardError: If it is a class, its signature cannot be read, or nothing can be passed to
                it by name.
        """
        call = getattr(function, "reward_call", None)  # of a wrapper, which has read it already
        if isinstance(call, Call):
            return call
        if inspect.isclass(function):
            raise RewardError(f"{function!r} is a class; pass an instance of it")
        try:
            parameters = _signature(function)
        except (ValueError, TypeError) as error:  # some functions written in C tell nothing
            raise RewardError(
                f"the signature of {function!r} cannot be read ({error}); wrap it in a function "
                "with the names that it takes: lambda completions: ..."
            ) from None
        kinds = {parameter.kind for parameter in parameters}
        if kinds == {_Kind.VAR_POSITIONAL}:
            raise RewardError(
                f"{function!r} takes only *{parameters[0].name}; what it would get by position is "
                "not clear: name what it takes, as in (prompts, completions, **columns)"
            )
        return cls(
            function,
            any(map(inspect.iscoroutinefunction, (function, type(function).__call__))),
            tuple(one for one in parameters if one.kind not in
                  (_Kind.VAR_POSITIONAL, _Kind.VAR_KEYWORD)),
            _Kind.VAR_KEYWORD in kinds,
            messages or _is_trls(function),
        )  # fmt: skip

    def bind(self, columns: Iterable[str]) -> None:
        """Check that the function can be called for rows with these columns.

        Raises:
            RewardError: If it requires a column that is not there, or it is not clear what one of
                its parameters is to get; the message is the second half of a sentence.
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
            Whatever the function returns; of an asynchronous one what it returns in the end.

        Raises:
            RewardError: As :meth:`bind`.
        """
        result = self._begun(prompts, completions, columns)
        return Awaited(result).result() if inspect.isawaitable(result) else result

    def start(
        self, prompts: list[Any], completions: list[Any], columns: Mapping[str, Any]
    ) -> Awaited:
        """Start an asynchronous function, and return at once."""
        return Awaited(self._begun(prompts, completions, columns))

    def _begun(self, prompts: list[Any], completions: list[Any], columns: Mapping[str, Any]) -> Any:
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
            if len(self._plans) > 64:  # of rows whose columns differ
                self._plans.clear()
            plan = self._plans[columns] = self._planned(columns)
        return plan

    def _planned(self, columns: tuple[str, ...]) -> _Plan:
        names = [one.name for one in self._parameters]
        known = {*columns, *_TEXTS}
        known |= {
            one.name for one in self._parameters if one.name in _TRAINERS and _is_required(one)
        }
        sources = {name: name for name in names if name in known}
        for single, many in _SINGULAR.items():
            if single in names and many not in names:
                sources[single] = many
        open_ = [one for one in self._parameters if one.name not in sources and _is_required(one)]
        if "completions" not in sources.values():
            meant = [one for one in open_ if one.name in _SYNONYMS]
            if len(meant) == 1:
                sources[meant[0].name] = "completions"
                open_.remove(meant[0])
        if "completions" not in sources.values():
            required = list(filter(_is_required, self._parameters))
            if len(required) == 1 and open_ == required and _may_be_texts(open_[0]):
                sources[open_.pop().name] = "completions"
        self._refuse(open_, sources, columns)
        positional: list[str] = []
        for one in self._parameters:
            if one.kind is not _Kind.POSITIONAL_ONLY or one.name not in sources:
                break
            positional.append(sources.pop(one.name))
        for one in self._parameters:
            if one.kind is _Kind.POSITIONAL_ONLY:  # behind one that keeps its default
                sources.pop(one.name, None)
        messages = frozenset(_TEXTS if self._all_messages else self._annotated(sources, positional))
        return _Plan(tuple(positional), tuple(sources.items()), messages)

    def _annotated(self, sources: Mapping[str, str], positional: list[str]) -> set[str]:
        """The texts that parameters ask for as messages."""
        names = [one.name for one in self._parameters]
        of = {**dict(zip(names, positional, strict=False)), **sources}
        said = {
            of[one.name]: one.annotation for one in self._parameters if of.get(one.name) in _TEXTS
        }
        wanted = {role for role, annotation in said.items() if asks_for_messages(annotation)}
        # Prompts without an annotation come as the completions do.
        if wanted == {"completions"} and said.get("prompts", _Kind.empty) is _Kind.empty:
            wanted.add("prompts")
        return wanted

    def _refuse(
        self, open_: list[inspect.Parameter], sources: Mapping[str, str], columns: tuple[str, ...]
    ) -> None:
        """Raise an error where an input is missing or in doubt."""
        judged = "completions" in sources.values() or self._takes_all
        if open_ and judged:
            raise RewardError(missing_column(open_[0].name, dict.fromkeys(columns)))
        own = [name for name, source in sources.items() if source in columns]
        if open_:
            names = " and ".join(repr(one.name) for one in open_)
            raise RewardError(
                f"takes {names}, and it is not clear whether that is the texts or a column "
                f"({_there(columns)}); {self._example(open_, sources)}, or give every row a "
                f"{open_[0].name!r}"
            )
        if not sources and not self._takes_all:
            raise RewardError(f"takes nothing of what the policy wrote; {self._example([], {})}")
        if own and not judged and not any(name in WRITTEN for name in own):
            names = " and ".join(map(repr, own))
            raise RewardError(
                f"takes only {names}, which the rows have, and nothing of what the policy wrote; "
                f"{self._example([], sources)}"
            )

    def _example(self, open_: list[inspect.Parameter], sources: Mapping[str, str]) -> str:
        """The signature that would work."""
        left = [one.name for one in open_]
        names = []
        if len(left) > 1 or "prompts" in sources.values():
            names.append("prompts")
        names.append("completions")
        names += [name for name, source in sources.items() if source not in _TEXTS]
        names += left[2:]
        return f"name what it takes: ({', '.join(names)})"


def missing_column(name: str, columns: Mapping[str, Any]) -> str:
    """Say that a column is missing, which ones there are, and what to do."""
    known = [column for column in columns if column not in _TRAINERS]
    near = near_matches(str(name), (column for column in known if column not in WRITTEN))
    return (
        f"needs the column {name!r}, which the rows do not have ({_there(known)})"
        f"{near or ';'} give every row of prompts= a {name!r}"
    )


def _there(columns: Iterable[str]) -> str:
    names = [column for column in columns if column not in _TRAINERS]
    return f"they have: {', '.join(map(repr, names)) or 'none'}"


def _signature(function: Any) -> list[inspect.Parameter]:
    try:
        signature = inspect.signature(function, eval_str=True)
    except (NameError, AttributeError, SyntaxError):  # an annotation of names that are not there
        signature = inspect.signature(function)
    return list(signature.parameters.values())


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is _Kind.empty


def _may_be_texts(parameter: inspect.Parameter) -> bool:
    return parameter.kind in _BY_POSITION and parameter.name not in (*WRITTEN, "messages")


def _input(inputs: Mapping[str, Any], source: str) -> Any:
    return inputs[source] if source in inputs else _TRAINERS[source]


def _is_trls(function: Any) -> bool:
    """Whether this is one of TRL's reward functions, which read messages."""
    while isinstance(function, partial):
        function = function.func
    own = getattr(function, "__module__", None) or ""
    return own == "trl.rewards" or str(own).startswith("trl.rewards.")

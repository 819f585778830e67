"""Reward functions, named or not, combined with weights into the reward of an environment."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import isfinite
from numbers import Real
from typing import Any

import numpy as np

from textgym.errors import MissingDependencyError, RewardError, TaskError, TextGymError
from textgym.rewards.checks import Rows, checked_values, explain, row_number
from textgym.rewards.registry import RewardFunction, make_reward
from textgym.rewards.signature import Call

RewardSpec = str | RewardFunction | Mapping[str | RewardFunction, float]

# A term's name if the caller gives one, what makes its function, and its weight.
_Entry = tuple[str | None, str | RewardFunction, float]


class RewardSum:
    """The weighted sum of reward functions, checked.

    It calls each function once for the whole batch, and turns everything that is not a reward into
    a :class:`RewardError` that names the environment, the term, the row and the fix. Functions with
    a method ``start_scoring``, which wait for another machine, are started first and asked for
    their values last: they wait together, while the others are computed
    (:mod:`textgym.rewards.concurrent`).

    It pickles as its specification, so named rewards and importable functions travel to worker
    processes. ``copy.deepcopy`` returns the same object: a reward may hold a model, and Gymnasium
    copies the arguments of every environment.

    Args:
        spec: A registered name, a reward function, or a dict of either to its weight. A weight of
            0 reports the term without rewarding it.
        where: What to name in errors, usually the environment's id.

    Attributes:
        terms: The terms' names in order: the registered name, the function's ``name`` or
            ``__name__``; the second of one name gets ``_2``.

    Raises:
        RewardError: If the specification is empty, names an unknown reward, or holds something
            that is no reward or no weight.
        MissingDependencyError: If a named reward needs a library that is not installed.
    """

    def __init__(self, spec: RewardSpec, where: str) -> None:
        weighted = spec.items() if isinstance(spec, Mapping) else [(spec, 1.0)]
        self._build([(None, source, weight) for source, weight in weighted], where)

    @classmethod
    def named(cls, rewards: Mapping[str, str | RewardFunction], where: str) -> RewardSum:
        """Make the plain sum of rewards whose terms have the names that the caller gives them.

        Args:
            rewards: For each term's name a registered name or a reward function; its weight is 1.
            where: What to name in errors.

        Returns:
            The sum.

        Raises:
            RewardError: As the constructor does.
            MissingDependencyError: As the constructor does.
        """
        return cls._rebuilt([(name, reward, 1.0) for name, reward in rewards.items()], where)

    @classmethod
    def _rebuilt(cls, entries: list[_Entry], where: str) -> RewardSum:
        self = cls.__new__(cls)
        self._build(entries, where)
        return self

    def _build(self, entries: list[_Entry], where: str) -> None:
        if not entries:
            raise RewardError(f"{where}: there is no reward in {{}}; name one, e.g. reward='wer'")
        self._entries = entries
        self._where = where
        self.terms: list[str] = []
        self._terms: list[tuple[str, Call, float]] = []
        self._starts: dict[str, Call] = {}  # of the terms that can begin before they are waited for
        for given_name, source, weight in entries:
            call = self._call_of(source)
            name = self._name_of(source) if given_name is None else given_name
            self.terms.append(name)
            self._terms.append((name, call, self._checked_weight(name, weight)))
            start = getattr(call.function, "start_scoring", None)
            if start is not None:
                self._starts[name] = Call.of(start)
        # Sorting keeps the order otherwise.
        self._order = sorted(self._terms, key=lambda term: term[0] in self._starts)

    def __call__(
        self,
        prompts: list[str],
        completions: list[str],
        columns: Mapping[str, list[Any]],
        rows: Rows = None,
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Reward N texts.

        Args:
            prompts: N prompts.
            completions: N completions.
            columns: The rows' other columns, N values each.
            rows: The N row numbers to name in errors; their positions if left out.

        Returns:
            The weighted sum, float64 ``[N]``, and each term before weighting, float64 ``[N]``
            (0 where the reward does not apply).

        Raises:
            RewardError: If a function raises, returns another number of values than N, or something
                that is not a finite number or None.
        """
        # Batches are small, mostly: Python's floats cost less than arrays until the very end.
        count = len(completions)
        terms: dict[str, np.ndarray] = {}
        total = [0.0] * count
        values: dict[str, list[float]] = {}
        pending: dict[str, Any] = {}
        try:
            if count:
                for name, call in self._starts.items():
                    pending[name] = call(prompts, completions, columns)
            for name, call, _ in self._order:
                if not count:
                    result: Any = []
                elif name in pending:
                    result = pending[name].result()
                else:
                    result = call(prompts, completions, columns)
                values[name] = checked_values(result, completions, rows)
        except RewardError as error:  # it says the cause and the fix already
            at = getattr(error, "at", None)  # and which texts failed, where it knows
            said = error if at is None else at(rows)
            raise RewardError(f"{self._where}: reward {name!r} {said}") from error
        except TaskError as error:
            raise RewardError(f"{self._where}: reward {name!r}: {error}") from error
        except Exception as error:
            reason = explain(error, call, prompts, completions, columns, rows)
            raise RewardError(f"{self._where}: reward {name!r} {reason}") from error
        finally:  # where a term failed, or Ctrl-C: what is over already stays as it is
            for one in pending.values():
                one.cancel()
        for name, _, weight in self._terms:
            terms[name] = np.array(values[name], np.float64)
            total = [a + weight * b for a, b in zip(total, values[name], strict=True)]
        if not all(map(isfinite, total)):  # finite rewards and weights whose product overflows
            index = list(map(isfinite, total)).index(False)
            raise RewardError(
                f"{self._where}: the weighted sum of the rewards is {total[index]} for row "
                f"{row_number(index, rows)}; use smaller weights or rewards"
            )
        return np.array(total, np.float64), terms

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the specification: the other process makes named rewards of its own."""
        return RewardSum._rebuilt, (self._entries, self._where)

    def __deepcopy__(self, memo: dict[int, Any]) -> RewardSum:
        """Return the same object: it may hold a model, and has no state that changes."""
        return self

    def __repr__(self) -> str:
        """Show the terms and their weights."""
        terms = ", ".join(f"{name}: {weight:g}" for name, _, weight in self._terms)
        return f"RewardSum({{{terms}}}, where={self._where!r})"

    def _call_of(self, key: Any) -> Call:
        try:
            if isinstance(key, str):
                return Call.of(make_reward(key))
            if callable(key):
                return Call.of(key)
        except MissingDependencyError as error:
            raise MissingDependencyError(f"{self._where}: reward {key!r}: {error}") from error
        except TextGymError as error:
            raise RewardError(f"{self._where}: {error}") from error
        raise RewardError(
            f"{self._where}: reward must be a name, a function (prompts, completions, **columns), "
            f"or a dict of either to its weight, not {type(key).__name__} {key!r}"
        )

    def _name_of(self, key: Any) -> str:
        if isinstance(key, str):
            name = key
        else:
            # A partial has no name of its own; what it calls has.
            named = key.func if isinstance(key, partial) else key
            given = getattr(named, "name", None) or getattr(named, "__name__", None)
            name = given if isinstance(given, str) else type(named).__name__
        unique, copies = name, 1
        while unique in self.terms:
            copies += 1
            unique = f"{name}_{copies}"
        return unique

    def _checked_weight(self, name: str, weight: Any) -> float:
        is_number = isinstance(weight, Real) and weight is not True and weight is not False
        if is_number and isfinite(weight):
            return float(weight)
        raise RewardError(
            f"{self._where}: the weight of reward {name!r} must be a finite number, not {weight!r}"
        )

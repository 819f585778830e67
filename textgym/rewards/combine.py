"""The reward of an environment: a weighted sum of reward functions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from math import isfinite, nan
from typing import Any

import numpy as np

from textgym.errors import MissingDependencyError, RewardError, TaskError, TextGymError, shown
from textgym.rewards.registry import RewardFunction, make_reward, reward_name
from textgym.rewards.signature import Call
from textgym.rewards.validation import Rows, checked_values, explain, row_number
from textgym.rewards.values import excerpt, finite_number

RewardSpec = str | RewardFunction | Mapping[str | RewardFunction, float]

# The name of the term (None: derived), its reward, and its weight.
_Entry = tuple[str | None, str | RewardFunction, float]


class RewardSum:
    """The weighted sum of reward functions, with checked values.

    Each function is called once for the whole batch. An exception or an invalid value becomes a
    :class:`RewardError` that names the environment, the term, the row and the fix. Asynchronous
    functions, and functions with a method ``start_scoring``, are started first and awaited last, so
    that they wait concurrently while the others are computed
    (:mod:`textgym.rewards.remote.background`, :mod:`textgym.rewards.event_loop`).

    A term that is None is left out of that text's sum. If every term is None the sum is 0, with one
    warning per `RewardSum`, because such texts should not be trained on (TRL removes them from its
    groups).

    It is pickled as its specification, so named rewards and importable functions reach worker
    processes. ``copy.deepcopy`` returns the same object: a reward may hold a model, and Gymnasium
    copies the arguments of every environment.

    Args:
        spec: A registered name, a reward function, or a dict from either to its weight. A weight of
            0 reports the term without rewarding it.
        where: Prefix of errors, usually the id of the environment.
        warn: Whether to warn if no term applies to a text.
        reported: Further functions by name, which are reported with weight 0.

    Attributes:
        terms: The names of the terms in order: the registered name, or the function's ``name`` or
            ``__name__``. A repeated name gets the suffix ``_2``, ``_3``, ...

    Raises:
        RewardError: If the specification is empty, or a reward or a weight in it is invalid.
        MissingDependencyError: If a named reward needs a library that is not installed.
    """

    def __init__(
        self,
        spec: RewardSpec,
        where: str,
        warn: bool = True,
        reported: Mapping[str, RewardFunction] | None = None,
    ) -> None:
        weighted = spec.items() if isinstance(spec, Mapping) else [(spec, 1.0)]
        entries: list[_Entry] = [(None, source, weight) for source, weight in weighted]
        if entries and reported:
            entries += [(name, function, 0.0) for name, function in reported.items()]
        self._build(entries, where, warn)

    @classmethod
    def named(
        cls, rewards: Mapping[str, str | RewardFunction], where: str, warn: bool = True
    ) -> RewardSum:
        """Make an unweighted sum with given names of the terms.

        Args:
            rewards: A registered name or a reward function for each name of a term.
            where: As for the constructor, like `warn` and the exceptions.
            warn: As for the constructor.

        Returns:
            The sum.
        """
        return cls._rebuilt([(name, reward, 1.0) for name, reward in rewards.items()], where, warn)

    @classmethod
    def _rebuilt(cls, entries: list[_Entry], where: str, warn: bool) -> RewardSum:
        self = cls.__new__(cls)
        self._build(entries, where, warn)
        return self

    def _build(self, entries: list[_Entry], where: str, warn: bool) -> None:
        if not entries:
            raise RewardError(f"{where}: reward={{}} has no rewards; name one, e.g. reward='wer'")
        self._entries = entries
        self._where = where
        self._warn = warn
        self.terms: list[str] = []
        self._terms: list[tuple[str, Call, float]] = []
        # For terms that wait: the call (for errors), and the function that starts it.
        self._starts: dict[str, tuple[Call, Callable[..., Any]]] = {}
        for given_name, source, weight in entries:
            call = self._call_of(source)
            name = self._name_of(source) if given_name is None else given_name
            self.terms.append(name)
            self._terms.append((name, call, self._checked_weight(name, weight)))
            start = getattr(call.function, "start_scoring", None)
            if start is not None:
                started = Call.of(start)
                self._starts[name] = started, started
            elif call.is_async:
                self._starts[name] = call, call.start
        # The sort is stable.
        self._order = sorted(self._terms, key=lambda term: term[0] in self._starts)

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each term, by its name."""
        return {name: weight for name, _, weight in self._terms}

    @property
    def functions(self) -> dict[str, RewardFunction]:
        """The reward function of each term, by its name."""
        return {name: call.function for name, call, _ in self._terms}

    def check_columns(self, columns: Iterable[str]) -> None:
        """Check that every function can be called for rows with these columns.

        Rewards that take ``**columns`` raise at their first call instead.

        Args:
            columns: All columns, including those that the environment adds.

        Raises:
            RewardError: If a function needs a column that is missing, or has a parameter that
                matches no input.
        """
        known = tuple(columns)
        for name, call, _ in self._terms:
            try:
                call.bind(known)
            except RewardError as error:
                raise RewardError(f"{self._where}: reward {name!r} {error}") from error

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
            rows: The N row numbers for errors; default: positions in the batch.

        Returns:
            The weighted sum, float64 ``[N]``, and each term before weighting, float64 ``[N]``
            (NaN where the reward does not apply).

        Raises:
            RewardError: If a function raises, does not return N values, or returns a value that is
                neither a finite number nor None.
        """
        # Most batches are small, where Python floats are faster than arrays.
        count = len(completions)
        terms: dict[str, np.ndarray] = {}
        total = [0.0] * count
        values: dict[str, list[float | None]] = {}
        pending: dict[str, Any] = {}
        try:
            if count:
                for name, (started, start) in self._starts.items():
                    call = started
                    pending[name] = start(prompts, completions, columns)
            for name, call, _ in self._order:
                if not count:
                    result: Any = []
                elif name in pending:
                    result = pending[name].result()
                else:
                    result = call(prompts, completions, columns)
                values[name] = checked_values(result, completions, rows)
        except RewardError as error:  # its message names the cause and the fix
            at = getattr(error, "at", None)  # RemoteError knows which texts failed
            message = error if at is None else at(rows)
            raise RewardError(f"{self._where}: reward {name!r} {message}") from error
        except TaskError as error:
            raise RewardError(f"{self._where}: reward {name!r}: {error}") from error
        except Exception as error:
            reason = explain(error, call, prompts, completions, columns, rows)
            raise RewardError(f"{self._where}: reward {name!r} {reason}") from error
        finally:  # after a failure or Ctrl-C; no effect on calls that are done
            for one in pending.values():
                one.cancel()
        for name, _, weight in self._terms:
            some = values[name]
            terms[name] = np.array([nan if b is None else b for b in some], np.float64)
            total = [a if b is None else a + weight * b for a, b in zip(total, some, strict=True)]
        if self._warn:
            self._warn_if_none_applies(list(values.values()), prompts, completions, rows)
        if not all(map(isfinite, total)):  # the product of a reward and a weight may overflow
            index = list(map(isfinite, total)).index(False)
            raise RewardError(
                f"{self._where}: the weighted sum of the rewards is {total[index]} for row "
                f"{row_number(index, rows)}; use smaller weights or rewards"
            )
        return np.array(total, np.float64), terms

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the specification: the other process makes named rewards again."""
        return RewardSum._rebuilt, (self._entries, self._where, self._warn)

    def __deepcopy__(self, memo: dict[int, Any]) -> RewardSum:
        """Return the same object: it may hold a model, and is never changed."""
        return self

    def __repr__(self) -> str:
        """Show the terms and their weights."""
        terms = ", ".join(f"{name}: {weight:g}" for name, _, weight in self._terms)
        return f"RewardSum({{{terms}}}, where={self._where!r})"

    def _warn_if_none_applies(
        self,
        values: list[list[float | None]],
        prompts: list[str],
        completions: list[str],
        rows: Rows,
    ) -> None:
        """Warn once about a text to which no reward applies."""
        if all(None not in some for some in values):
            return
        for index, text in enumerate(completions):
            if all(some[index] is None for some in values):
                self._warn = False
                warnings.warn(
                    f"{self._where}: no reward applies to row {row_number(index, rows)} (every "
                    f"term is None; prompt {prompts[index]!r:.80}, completion {text!r:.80}); such "
                    "texts get 0. Fill in the columns of such rows, leave the rows out, or add a "
                    "reward that applies to all",
                    stacklevel=3,
                )
                return

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
            f"or a dict from either to its weight, not {type(key).__name__} {shown(key)}"
        )

    def _name_of(self, key: Any) -> str:
        name = reward_name(key)
        unique, copies = name, 1
        while unique in self.terms:
            copies += 1
            unique = f"{name}_{copies}"
        return unique

    def _checked_weight(self, name: str, weight: Any) -> float:
        number = finite_number(weight)
        if number is None:
            raise RewardError(
                f"{self._where}: the weight of reward {name!r} must be a finite number, not "
                f"{excerpt(weight)}"
            )
        return number

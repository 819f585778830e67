"""The course of logged values over a training, and warnings in plain words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LOGGED = (
    "episode/reward",
    "episode/length",
    "episode/finish_length",
    "train/explained_variance",
    "diagnostics/",
    "reward_shares/",
)
"""Names, and beginnings of names, of the values whose course is kept."""

_POINTS = 256
# Rows of the log are averaged until they are of this many episodes.
_EPISODES = 64

Values = Mapping[str, float]


@dataclass(frozen=True)
class Rule:
    """A condition on logged values that is worth a warning.

    Attributes:
        name: A short name.
        needs: The values that it reads, by name or (with a slash at the end) by the beginning of
            their names; rows without one of them do not count.
        finding: From a row and the first value of each name to a sentence, or None.
        in_a_row: The number of rows in a row for which it has to hold.
        skip: The number of rows at the beginning that do not count.
    """

    name: str
    needs: tuple[str, ...]
    finding: Callable[[Values, Values], str | None]
    in_a_row: int = 3
    skip: int = 0


def _independent(row: Values, first: Values) -> str | None:
    """Below 5 % of the maximum."""
    nats, most = row["diagnostics/mutual_information"], row["diagnostics/mutual_information_max"]
    if nats >= 0.05 * most:
        return None
    return (
        f"responses hardly depend on the prompt (mutual information {max(nats, 0.0):.2f} of at "
        f"most {most:.2f} nats)"
    )


def _tied(row: Values, first: Values) -> str | None:
    """More than 90 %."""
    share = row["diagnostics/groups_without_variance"]
    if share <= 0.9:
        return None
    return (
        f"{share:.0%} of the groups of responses to one prompt have returns without variance: "
        "there is hardly anything to learn from them"
    )


def _worse_than_mean(row: Values, first: Values) -> str | None:
    """Below 0, after the first five rows."""
    explained = row["train/explained_variance"]
    if explained >= 0:
        return None
    return f"explained variance {explained:.2f}, below 0: the value function is worse than the mean"


def _no_exploration(row: Values, first: Values) -> str | None:
    """Below 0.05 nats per token, and below 5 % of the first value."""
    nats, before = row["diagnostics/entropy"], first["diagnostics/entropy"]
    if nats >= 0.05 or nats >= 0.05 * before:
        return None
    return (
        f"the entropy of the policy is {max(nats, 0.0):.3f} nats per token ({before:.2f} in the "
        "beginning): it hardly explores any more"
    )


def _drifted(row: Values, first: Values) -> str | None:
    """More than doubled, or less than half."""
    ratio = row["diagnostics/length_ratio"]
    if 0.5 <= ratio <= 2:
        return None
    return (
        f"the length of responses drifts: {row['episode/length']:.0f} tokens on average, "
        f"{ratio:.1f} times as many as in the beginning"
    )


def _cut_off(row: Values, first: Values) -> str | None:
    """More than 90 %, and 30 percentage points more than at first."""
    share, before = row["episode/finish_length"], first["episode/finish_length"]
    if share <= 0.9 or share <= before + 0.3:
        return None
    return (
        f"{share:.0%} of the responses reach the token budget ({before:.0%} in the beginning): "
        "they are cut off"
    )


def _dominated(row: Values, first: Values) -> str | None:
    """One term above 95 %."""
    prefix = "reward_shares/"
    shares = {name.removeprefix(prefix): v for name, v in row.items() if name.startswith(prefix)}
    name = max(shares, key=lambda each: shares[each])
    if shares[name] <= 0.95:
        return None
    return (
        f"the reward term {name!r} explains {shares[name]:.0%} of the variance of the reward: the "
        "other terms hardly count"
    )


RULES: Sequence[Rule] = (
    Rule(
        "prompt ignored",
        ("diagnostics/mutual_information", "diagnostics/mutual_information_max"),
        _independent,
        in_a_row=2,
    ),
    Rule("groups tied", ("diagnostics/groups_without_variance",), _tied),
    Rule("value function", ("train/explained_variance",), _worse_than_mean, in_a_row=5, skip=5),
    Rule("entropy", ("diagnostics/entropy",), _no_exploration),
    Rule("length", ("diagnostics/length_ratio", "episode/length"), _drifted),
    Rule("budget", ("episode/finish_length",), _cut_off),
    Rule("dominant term", ("reward_shares/",), _dominated),
)
"""The warnings. The docstring of each function has its threshold."""


class Watch:
    """Keeps the course of logged values, and warns once for each rule.

    Args:
        warn: Called with a step and a sentence.
        rules: The rules.

    Rows of the log are averaged until they are of 64 episodes (``episode/count``): rules, and the
    values kept, are about these means.

    Attributes:
        warnings: The ``(step, sentence)`` of each warning so far.
    """

    def __init__(self, warn: Callable[[int, str], None], rules: Sequence[Rule] = RULES) -> None:
        self._warn = warn
        self._rules = rules
        self.clear()

    def clear(self) -> None:
        """Forget everything, for another training."""
        self._courses: dict[str, list[tuple[int, float]]] = {}
        self.warnings: list[tuple[int, str]] = []
        self._first: dict[str, float] = {}
        # For each rule, the rows so far and the rows in a row for which it holds.
        self._seen: dict[str, list[int]] = {}
        self._warned: set[str] = set()
        self._clear_row()

    def _clear_row(self) -> None:
        # Of the rows that are averaged: their steps, episodes, and the sum and weight of each name.
        self._step, self._episodes = 0, 0.0
        self._sums: dict[str, list[float]] = {}
        # Steps and values at the end of the training, which are not written yet.
        self._unwritten: tuple[int, Values] = (0, {})

    def finish(self, step: int, values: Mapping[str, Any]) -> None:
        """Take the values at the end of the training that are not written to the log yet.

        They are the last points of the courses. They are not part of the state: if the training is
        continued, they are written then.

        Args:
            step: As for `add`.
            values: As for `add`.
        """
        self._unwritten = (step, _watched(values))

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Add a row of the log.

        Args:
            step: Environment steps so far.
            values: All values of the row, by name.
        """
        self._unwritten = (0, {})
        row = _watched(values)
        if not row:
            return
        count = float(values.get("episode/count", _EPISODES))
        for name, value in row.items():
            sums = self._sums.setdefault(name, [0.0, 0.0])
            sums[0] += count * value
            sums[1] += count
        self._step = step
        self._episodes += count
        if self._episodes >= _EPISODES:
            step, means = self._step, self._means()
            self._clear_row()
            self._add_means(step, means)

    def _means(self) -> dict[str, float]:
        return {name: total / weight for name, (total, weight) in self._sums.items()}

    def _add_means(self, step: int, row: Values) -> None:
        for name, value in row.items():
            self._first.setdefault(name, value)
            points = self._courses.setdefault(name, [])
            points.append((step, value))
            if len(points) > _POINTS:
                pairs = zip(points[::2], points[1::2], strict=False)
                last = points[-1:] if len(points) % 2 else []
                points[:] = [(late, (a + b) / 2) for (_, a), (late, b) in pairs] + last
        for rule in self._rules:
            known = all(
                name in row or (name.endswith("/") and any(each.startswith(name) for each in row))
                for name in rule.needs
            )
            if known and rule.name not in self._warned:
                self._apply(rule, step, row)

    def courses(self) -> dict[str, list[tuple[int, float]]]:
        """For each name the ``(step, value)`` of each mean, at most 256.

        In a longer training, two neighbours at a time become their mean.
        """
        found = {name: list(points) for name, points in self._courses.items()}
        step, last = self._unwritten
        ends = [(self._step, self._means().items()), (step, last.items())]
        for step, values in ends:
            for name, value in values:
                found.setdefault(name, []).append((step, value))
        return found

    def _apply(self, rule: Rule, step: int, row: Values) -> None:
        counts = self._seen.setdefault(rule.name, [0, 0])
        counts[0] += 1
        sentence = rule.finding(row, self._first) if counts[0] > rule.skip else None
        counts[1] = 0 if sentence is None else counts[1] + 1
        if sentence is not None and counts[1] >= rule.in_a_row:
            self._warned.add(rule.name)
            self.warnings.append((step, sentence))
            self._warn(step, sentence)

    def get_state(self) -> dict[str, Any]:
        """The state, as values of JSON."""
        return {
            "courses": {
                name: [list(point) for point in points] for name, points in self._courses.items()
            },
            "row": [self._step, self._episodes, {n: list(sums) for n, sums in self._sums.items()}],
            "warnings": [list(warning) for warning in self.warnings],
            "first": dict(self._first),
            "seen": {name: list(counts) for name, counts in self._seen.items()},
            "warned": sorted(self._warned),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore a state of `get_state`."""
        self._courses = {
            name: [(int(step), float(value)) for step, value in points]
            for name, points in state["courses"].items()
        }
        self._step, self._episodes, sums = state["row"]
        self._sums = {name: list(each) for name, each in sums.items()}
        self.warnings = [(int(step), str(text)) for step, text in state["warnings"]]
        self._first = dict(state["first"])
        self._seen = {name: list(counts) for name, counts in state["seen"].items()}
        self._warned = set(state["warned"])


def _watched(values: Mapping[str, Any]) -> dict[str, float]:
    """The values of a row whose course is kept; NaN is not a value."""
    row = {
        name: float(value)
        for name, value in values.items()
        if name.startswith(LOGGED) and math.isfinite(value)
    }
    if "episode/length" in row:  # A finish reason is not logged before it has occurred.
        row.setdefault("episode/finish_length", 0.0)
    return row

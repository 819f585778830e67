"""Rewards made of rewards: gates, products, bounds, scales, and normalisation.

A weighted sum is what every environment makes of ``reward={...}``; these are the other ways. Each
is a reward function itself, so they nest, and each takes registered names or functions of any
signature that an environment takes::

    from textgym.rewards.combinators import Clip, Gate, Product

    reward = Gate("exact_match", Product("bleu", "distinct"))
    env = gymnasium.make("TextGen-v0", prompts=rows, reward={reward: 1.0, Clip("wer", -1): 0.1})

A combinator's ``name``, and so its term in ``info["reward_terms"]``, tells what it is made of:
``"gate(exact_match, product(bleu, distinct))"``. What an inner reward must not return (NaN, another
number of values) is an error that names it. ``None`` (the reward does not apply) is kept: each
class says what it makes of it.

``copy.deepcopy`` returns the same object, as for everything that may hold a model; Gymnasium copies
the arguments of environments.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from textgym.errors import RewardError
from textgym.rewards.nested import Inner, Values, per_text
from textgym.rewards.registry import RewardFunction
from textgym.rewards.values import excerpt, finite_number


class Combinator(ABC):
    """What all combinators share.

    Args:
        rewards: The inner rewards.

    Attributes:
        name: What it is made of, such as ``"product(bleu, length)"``.
    """

    def __init__(self, *rewards: str | RewardFunction) -> None:
        kind = type(self).__name__
        self._inner = [Inner(reward, kind) for reward in rewards]
        self.name = f"{kind.lower()}({', '.join(inner.name for inner in self._inner)})"

    @abstractmethod
    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> Values:
        """Return N rewards."""

    def _options(self) -> dict[str, Any]:
        """The constructor's arguments other than the rewards."""
        return {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the specification: the other process makes named rewards of its own."""
        return partial(type(self), **self._options()), tuple(self._sources())

    def __deepcopy__(self, memo: dict[int, Any]) -> Combinator:
        """Return the same object: it may hold a model."""
        return self

    def __repr__(self) -> str:
        """Show the constructor's call."""
        given = [*map(repr, self._sources())]
        given += [f"{name}={value!r}" for name, value in self._options().items()]
        return f"{type(self).__name__}({', '.join(given)})"

    def _sources(self) -> list[str | RewardFunction]:
        return [inner.source for inner in self._inner]


class Gate(Combinator):
    """A reward that counts only where another one, the condition, is high enough.

    The reward is asked only about the texts that pass: a cheap condition spares a dear reward.
    Where the condition is None, so is the result; the reward's None stays None.

    Range: the reward's, and ``otherwise``.
    Needs: what the two need.
    Cost: the condition's for every text, the reward's for those that pass.
    Gaming: as the reward is gamed, once the condition is met. Where the reward can be less than
    ``otherwise``, failing the condition pays.

    Args:
        condition: A registered name, or a reward function.
        reward: Likewise.
        threshold: The least value of the condition with which a text passes.
        otherwise: What the others get.

    Raises:
        RewardError: If a reward is unknown, or a number is not finite.
    """

    def __init__(
        self,
        condition: str | RewardFunction,
        reward: str | RewardFunction,
        threshold: float = 0.5,
        otherwise: float = 0.0,
    ) -> None:
        super().__init__(condition, reward)
        self.threshold = _finite("Gate", "threshold", threshold)
        self.otherwise = _finite("Gate", "otherwise", otherwise)

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> Values:
        """Return N rewards; None where the condition, or a reward that counts, is None."""
        condition, reward = self._inner
        count = len(completions)
        conditions = condition(prompts, completions, columns)
        result: Values = [None if value is None else self.otherwise for value in conditions]
        passing = [
            at for at, value in enumerate(conditions) if value is not None
            and value >= self.threshold
        ]  # fmt: skip
        some = {
            name: [values[at] for at in passing] if per_text(values, count) else values
            for name, values in columns.items()
        }
        passed = [completions[at] for at in passing]
        judged = reward([prompts[at] for at in passing], passed, some)
        for at, value in zip(passing, judged, strict=True):
            result[at] = value
        return result

    def _options(self) -> dict[str, Any]:
        return {"threshold": self.threshold, "otherwise": self.otherwise}


class _OfSeveral(Combinator):
    """A combinator of any number of rewards."""

    def __init__(self, *rewards: str | RewardFunction) -> None:
        if not rewards:
            raise RewardError(f"{type(self).__name__}: give at least one reward")
        super().__init__(*rewards)

    def _columns_of_values(
        self, prompts: Sequence[Any], completions: Sequence[Any], columns: Mapping[str, Any]
    ) -> list[tuple[float | None, ...]]:
        """For each text what every reward says."""
        judged = [inner(prompts, completions, columns) for inner in self._inner]
        return list(zip(*judged, strict=True))


class Product(_OfSeveral):
    """The product of rewards: all of them have to be high. None if any is None.

    Range: for rewards in [0, 1], [0, 1].
    Needs: what the rewards need.
    Cost: the sum of theirs.
    Gaming: two rewards below 0 have a product above it: use rewards from 0, or `Clip` them. A
    single 0 hides the others from the agent; the weighted sum does not.

    Args:
        rewards: Registered names, or reward functions; at least one.
        geometric: Take the n-th root, the geometric mean: on the scale of the rewards, whatever
            their number. Rewards below 0 are then an error.

    Raises:
        RewardError: If a reward is unknown, or there is none.
    """

    def __init__(self, *rewards: str | RewardFunction, geometric: bool = False) -> None:
        super().__init__(*rewards)
        self.geometric = geometric

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> Values:
        """Return N rewards; None where one of them is."""
        rows = self._columns_of_values(prompts, completions, columns)
        return [self._of(row, completions[at]) for at, row in enumerate(rows)]

    def _of(self, row: tuple[float | None, ...], completion: Any) -> float | None:
        values = [value for value in row if value is not None]
        if len(values) < len(row):
            return None
        if not self.geometric:
            return math.prod(values)
        if min(values) < 0:
            inner = self._inner[values.index(min(values))]
            raise RewardError(
                f"has the inner reward {inner.name!r}, which gives {min(values)} (completion "
                f"{completion!r:.80}); a geometric mean has no rewards below 0: Clip or Scale it"
            )
        # Root by root: the product itself may overflow.
        return float(math.prod(value ** (1 / len(values)) for value in values))

    def _options(self) -> dict[str, Any]:
        return {"geometric": self.geometric}


class Max(_OfSeveral):
    """The largest of some rewards, of those that apply; None if none does.

    Range: the union of theirs.
    Needs: what the rewards need.
    Cost: the sum of theirs.
    Gaming: whichever is gamed most easily.

    Args:
        rewards: Registered names, or reward functions; at least one.

    Raises:
        RewardError: If a reward is unknown, or there is none.
    """

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> Values:
        """Return N rewards."""
        rows = self._columns_of_values(prompts, completions, columns)
        return [max((value for value in row if value is not None), default=None) for row in rows]


class Min(_OfSeveral):
    """The smallest of some rewards, of those that apply; None if none does.

    Range: the union of theirs.
    Needs: what the rewards need.
    Cost: the sum of theirs.
    Gaming: all of them have to be gamed at once. Only the worst one is felt at a time.

    Args:
        rewards: Registered names, or reward functions; at least one.

    Raises:
        RewardError: If a reward is unknown, or there is none.
    """

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> Values:
        """Return N rewards."""
        rows = self._columns_of_values(prompts, completions, columns)
        return [min((value for value in row if value is not None), default=None) for row in rows]


class Clip(Combinator):
    """A reward within bounds. None stays None.

    Range: [low, high].
    Needs: what the reward needs.
    Cost: the reward's.
    Gaming: beyond a bound nothing is felt: texts there may get as bad as they like.

    Args:
        reward: A registered name, or a reward function.
        low: The lower bound; None for none.
        high: The upper bound; None for none.

    Raises:
        RewardError: If the reward is unknown, or there is no bound, or low is above high.
    """

    def __init__(
        self, reward: str | RewardFunction, low: float | None = None, high: float | None = None
    ) -> None:
        super().__init__(reward)
        if low is None and high is None:
            raise RewardError("Clip: there is no bound; give low=, high=, or both")
        self.low = None if low is None else _finite("Clip", "low", low)
        self.high = None if high is None else _finite("Clip", "high", high)
        if self.low is not None and self.high is not None and self.low > self.high:
            raise RewardError(f"Clip: low={low!r} is above high={high!r}; exchange them")

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> Values:
        """Return N rewards."""
        return [
            value if value is None else clipped(value, self.low, self.high)
            for value in self._inner[0](prompts, completions, columns)
        ]

    def _options(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high}


class Scale(Combinator):
    """``factor * reward + offset``. None stays None.

    Range: the reward's, scaled; a factor below 0 turns it around.
    Needs: what the reward needs.
    Cost: the reward's.
    Gaming: the reward's. An offset above 0 pays for any text, and so for many short episodes.

    Args:
        reward: A registered name, or a reward function.
        factor: The factor.
        offset: What is added then.

    Raises:
        RewardError: If the reward is unknown, or a number is not finite.
    """

    def __init__(
        self, reward: str | RewardFunction, factor: float = 1.0, offset: float = 0.0
    ) -> None:
        super().__init__(reward)
        self.factor = _finite("Scale", "factor", factor)
        self.offset = _finite("Scale", "offset", offset)

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> Values:
        """Return N rewards."""
        return [
            value if value is None else self.factor * value + self.offset
            for value in self._inner[0](prompts, completions, columns)
        ]

    def _options(self) -> dict[str, Any]:
        return {"factor": self.factor, "offset": self.offset}


def clipped(value: float, low: float | None, high: float | None) -> float:
    """A value within bounds, of which None is none."""
    if low is not None and value < low:
        return low
    return high if high is not None and value > high else value


def _finite(kind: str, name: str, value: Any) -> float:
    number = finite_number(value)
    if number is None:
        raise RewardError(f"{kind}: {name} must be a finite number, not {excerpt(value)}")
    return number

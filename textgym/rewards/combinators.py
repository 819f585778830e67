"""Combinators of rewards: gates, products, minima and maxima, bounds and scales.

``reward={...}`` is a weighted sum; these are the other ways to combine rewards. A combinator is a
reward function itself, so combinators nest. It takes registered names, and functions with any
signature that an environment accepts::

    from textgym.rewards.combinators import Clip, Gate, Product

    reward = Gate("exact_match", Product("bleu", "distinct"))
    env = gymnasium.make("TextGen-v0", prompts=rows, reward={reward: 1.0, Clip("wer", -1): 0.1})

The ``name`` of a combinator, which is its term in ``info["reward_terms"]``, lists its parts:
``"gate(exact_match, product(bleu, distinct))"``. Invalid values of an inner reward (NaN, the wrong
number of values) raise an error that names it. Each class documents its treatment of ``None`` (the
reward does not apply).

``copy.deepcopy`` returns the same object, because it may hold a model and Gymnasium copies the
arguments of environments.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any

from textgym.errors import RewardError
from textgym.rewards.nested import InnerReward, Values, per_text
from textgym.rewards.registry import RewardFunction
from textgym.rewards.values import excerpt, finite_number


class Combinator(ABC):
    """Base class of combinators.

    Args:
        rewards: The inner rewards.

    Attributes:
        name: Its kind and its parts, such as ``"product(bleu, length)"``.
    """

    def __init__(self, *rewards: str | RewardFunction) -> None:
        kind = type(self).__name__
        self._inner = [InnerReward(reward, kind) for reward in rewards]
        self.name = f"{kind.lower()}({', '.join(inner.name for inner in self._inner)})"

    @abstractmethod
    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> Values:
        """Return N rewards."""

    def _options(self) -> dict[str, Any]:
        """Return the constructor's arguments other than the rewards."""
        return {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the specification: the other process makes named rewards again."""
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

    The reward is called only for texts that pass, so a cheap condition saves an expensive reward.
    The result is None where the condition is None, or the reward of a text that passes.

    Range: the range of the reward, and ``otherwise``.
    Needs: what both rewards need.
    Cost: the condition for every text, the reward for those that pass.
    Gaming: like the reward, once the condition is met. If the reward can be less than
    ``otherwise``, failing the condition pays.

    Args:
        condition: A registered name, or a reward function.
        reward: A registered name, or a reward function.
        threshold: Texts pass if the condition is at least this.
        otherwise: The reward of texts that do not pass.

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
        """Return N rewards."""
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


class _Variadic(Combinator):
    """A combinator of one or more rewards."""

    def __init__(self, *rewards: str | RewardFunction) -> None:
        if not rewards:
            raise RewardError(f"{type(self).__name__}: give at least one reward")
        super().__init__(*rewards)

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> Values:
        """Return N rewards."""
        judged = [inner(prompts, completions, columns) for inner in self._inner]
        rows = zip(*judged, strict=True)
        return [self._combine(*pair) for pair in zip(rows, completions, strict=True)]

    @abstractmethod
    def _combine(self, values: tuple[float | None, ...], completion: Any) -> float | None:
        """Return the reward of a text from those of the inner rewards."""


class Product(_Variadic):
    """The product of rewards, which is high only if all of them are. None if any is None.

    Range: [0, 1] for rewards in [0, 1].
    Needs: what the rewards need.
    Cost: the sum of their costs.
    Gaming: the product of two negative rewards is positive: use non-negative rewards, or `Clip`
    them. A single 0 hides the other rewards from the agent, unlike in a weighted sum.

    Args:
        rewards: Registered names, or reward functions; at least one.
        geometric: Whether to return the geometric mean, which has the scale of the rewards whatever
            their number. Negative rewards are then an error.

    Raises:
        RewardError: If a reward is unknown, or none is given.
    """

    def __init__(self, *rewards: str | RewardFunction, geometric: bool = False) -> None:
        super().__init__(*rewards)
        self.geometric = geometric

    def _combine(self, values: tuple[float | None, ...], completion: Any) -> float | None:
        factors = [value for value in values if value is not None]
        if len(factors) < len(values):
            return None
        if not self.geometric:
            return math.prod(factors)
        if min(factors) < 0:
            inner = self._inner[factors.index(min(factors))]
            raise RewardError(
                f"has the inner reward {inner.name!r}, which returned {min(factors)} (completion "
                f"{completion!r:.80}); geometric=True needs rewards >= 0: Clip or Scale it"
            )
        # The product of the roots, because the product itself may overflow.
        return float(math.prod(value ** (1 / len(factors)) for value in factors))

    def _options(self) -> dict[str, Any]:
        return {"geometric": self.geometric}


class Max(_Variadic):
    """The largest of the rewards that apply, or None.

    Range: the union of their ranges.
    Needs: what the rewards need.
    Cost: the sum of their costs.
    Gaming: like the reward that is easiest to game.

    Args:
        rewards: Registered names, or reward functions; at least one.

    Raises:
        RewardError: If a reward is unknown, or none is given.
    """

    def _combine(self, values: tuple[float | None, ...], completion: Any) -> float | None:
        return max((value for value in values if value is not None), default=None)


class Min(_Variadic):
    """The smallest of the rewards that apply, or None.

    Range: the union of their ranges.
    Needs: what the rewards need.
    Cost: the sum of their costs.
    Gaming: all of them have to be gamed at once. The agent sees only the lowest one.

    Args:
        rewards: Registered names, or reward functions; at least one.

    Raises:
        RewardError: If a reward is unknown, or none is given.
    """

    def _combine(self, values: tuple[float | None, ...], completion: Any) -> float | None:
        return min((value for value in values if value is not None), default=None)


class Clip(Combinator):
    """A reward clipped to bounds. None stays None.

    Range: [low, high].
    Needs: what the reward needs.
    Cost: the cost of the reward.
    Gaming: beyond a bound the agent sees no difference, so texts there may get arbitrarily bad.

    Args:
        reward: A registered name, or a reward function.
        low: The lower bound; None leaves it open.
        high: The upper bound; None leaves it open.

    Raises:
        RewardError: If the reward is unknown, both bounds are None, or low is above high.
    """

    def __init__(
        self, reward: str | RewardFunction, low: float | None = None, high: float | None = None
    ) -> None:
        super().__init__(reward)
        if low is None and high is None:
            raise RewardError("Clip: low and high are both None; give at least one")
        self.low = None if low is None else _finite("Clip", "low", low)
        self.high = None if high is None else _finite("Clip", "high", high)
        if self.low is not None and self.high is not None and self.low > self.high:
            raise RewardError(f"Clip: low={low!r} is above high={high!r}")

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

    Range: the range of the reward, scaled; a negative factor reverses it.
    Needs: what the reward needs.
    Cost: the cost of the reward.
    Gaming: like the reward. A positive offset pays for any text, and thus for short episodes.

    Args:
        reward: A registered name, or a reward function.
        factor: The factor.
        offset: Added after scaling.

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
    """Return a value clipped to bounds; None leaves a bound open."""
    if low is not None and value < low:
        return low
    return high if high is not None and value > high else value


def _finite(kind: str, name: str, value: Any) -> float:
    number = finite_number(value)
    if number is None:
        raise RewardError(f"{kind}: {name} must be a finite number, not {excerpt(value)}")
    return number

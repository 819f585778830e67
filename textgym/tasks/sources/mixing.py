"""Weighted mixtures of several sources of prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from textgym.data.rows import Row
from textgym.errors import DataError, SettingsError
from textgym.rewards.combine import RewardSpec, RewardSum
from textgym.tasks.sources.base import FiniteSource, Source, natural_index
from textgym.tokenization import Tokenizer

COLUMN = "mixed_from"
"""The column with the name of a row's source."""


@dataclass(frozen=True)
class Mixture:
    """A weighted mixture of ``prompts=``, made by :func:`mix`."""

    sources: tuple[Any, ...]
    weights: tuple[float, ...]


def mix(
    sources: Sequence[Any] | Mapping[str, float], weights: Sequence[float] | None = None
) -> Mixture:
    """Mix several sources of prompts by weights.

    Each episode draws a source by the weights, and a row of that source. The column ``mixed_from``
    of a row is the name of its source. By default each row is judged by its source's own reward: a
    reasoning-gym data set by its scorer, a task by its score, rows with a reference by similarity.

    Args:
        sources: A list of values that ``prompts=`` accepts; or a dictionary from paths, ids and
            other strings to their weights, which ``prompts=`` also accepts directly.
        weights: A positive number for each source of a list; None for equal weights.

    Returns:
        A value for ``prompts=``.

    Raises:
        SettingsError: If `sources` is empty, or the weights do not fit them.

    Example:
        >>> import gymnasium, textgym
        >>> prompts = textgym.mix([["Hello."], ["Good day.", "Good night."]], weights=[1, 3])
        >>> env = gymnasium.make("TextGen-v0", prompts=prompts, reward="distinct")
        >>> _, info = env.reset(seed=1)
        >>> info["prompt"]
        'Good day.'
    """
    if isinstance(sources, Mapping):
        if weights is not None:
            raise SettingsError("mix(): a dictionary already has the weights; leave weights out")
        parts: list[Any] = list(sources)
        shares: list[Any] = list(sources.values())
    elif isinstance(sources, (list, tuple)):
        parts = list(sources)
        shares = [1.0] * len(parts) if weights is None else list(weights)
    else:
        parts = []
    if not parts:
        raise SettingsError(
            f"mix(): sources={sources!r:.80} has to be a list of sources of prompts, or a "
            "dictionary from their names to weights"
        )
    if len(shares) != len(parts):
        raise SettingsError(f"mix(): {len(shares)} weights for {len(parts)} sources")
    for part, weight in zip(parts, shares, strict=True):
        if not _is_number(weight) or not isfinite(weight) or weight <= 0:
            raise SettingsError(
                f"mix(): the weight {weight!r} of {part!r:.60} has to be a number above 0"
            )
    return Mixture(tuple(parts), tuple(float(weight) for weight in shares))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def is_weighted(spec: Any) -> bool:
    """Whether a ``prompts=`` is a dictionary of sources to weights."""
    return (
        isinstance(spec, Mapping)
        and len(spec) > 0
        and all(isinstance(name, str) and _is_number(weight) for name, weight in spec.items())
    )


class MixedSource(Source):
    """Rows of several sources, drawn by weights.

    Args:
        sources: The sources.
        weights: Their positive weights.

    Raises:
        DataError: If a row already has a column ``mixed_from``.
    """

    seed_key = "mix"

    def __init__(self, sources: Sequence[Source], weights: Sequence[float]) -> None:
        self._sources = list(sources)
        names = [source.name for source in sources]
        self._names = [
            f"{name} ({number})" if names.count(name) > 1 else name
            for number, name in enumerate(names)
        ]
        self.name = f"a mix of {', '.join(names)}"
        self.repeatable = all(source.repeatable for source in sources)
        shares = np.array(weights, dtype=np.float64)
        self._bounds = (shares / shares.sum()).cumsum()
        for source in sources:
            if source.repeatable and COLUMN in source.item(0):
                raise DataError(
                    f"{source.name} has a column {COLUMN!r}, a name that is reserved for "
                    "mixtures; rename the column"
                )

    @property
    def size(self) -> int | None:  # type: ignore[override]
        """Number of rows; None if a source is endless."""
        sizes = [source.size for source in self._sources]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    def draw(self, rng: np.random.Generator) -> Row:
        """Draw a source by the weights, and a row of it."""
        at = int(np.searchsorted(self._bounds[:-1], rng.random(), side="right"))
        return {**self._sources[at].draw(rng), COLUMN: self._names[at]}

    def item(self, index: int) -> Row:
        """Return the row at an index: source after source, or alternating if one is endless."""
        if self.size is None:
            inner, at = divmod(natural_index(self, index), len(self._sources))
            size = self._sources[at].size
            row = self._sources[at].item(inner if size is None else inner % size)
            return {**row, COLUMN: self._names[at]}
        rest = natural_index(self, index)
        for source, name in zip(self._sources, self._names, strict=True):
            if rest < (source.size or 0):
                return {**source.item(rest), COLUMN: name}
            rest -= source.size or 0
        raise DataError(f"{self.name} has rows 0 to {self.size - 1}, but not {index}")

    def prompt_budget(self, tokenizer: Tokenizer) -> int | None:
        """The largest default of the sources."""
        asked = [source.prompt_budget(tokenizer) for source in self._sources]
        return max((budget for budget in asked if budget is not None), default=None)

    def default_reward(self) -> RewardSpec:
        """Each source's own reward for its rows."""
        return MixedReward(
            {
                name: (
                    # The enclosing sum warns about rows to which no reward applies.
                    RewardSum(source.default_reward(), source.name, warn=False),
                    frozenset(source.item(0) if source.repeatable else ()),
                )
                for name, source in zip(self._names, self._sources, strict=True)
            }
        )

    def lists(self) -> list[FiniteSource]:
        """The finite sources of all sources."""
        return [rows for source in self._sources for rows in source.lists()]


class MixedReward:
    """The rewards of several sources, each applied to the rows of its source.

    Args:
        rewards: By source name, the reward and the known columns of its rows.
    """

    name = "score"

    def __init__(self, rewards: Mapping[str, tuple[RewardSum, frozenset[str]]]) -> None:
        self._rewards = dict(rewards)

    def __call__(
        self, prompts: list[str], completions: list[str], **columns: list[Any]
    ) -> list[float | None]:
        """The rewards, computed in one call per source; None for a row without a source."""
        found: list[float | None] = [None] * len(prompts)
        owners = columns.get(COLUMN, [])
        for owner in dict.fromkeys(owners):
            if owner not in self._rewards:  # a prompt given by the user
                continue
            reward, known = self._rewards[owner]
            at = [place for place, whose in enumerate(owners) if whose == owner]
            mine = {name: [column[place] for place in at] for name, column in columns.items()}
            # In a batch, columns that only rows of other sources have are None.
            mine = {
                name: values
                for name, values in mine.items()
                if name in known or any(value is not None for value in values)
            }
            totals, terms = reward(
                [prompts[place] for place in at], [completions[place] for place in at], mine
            )
            applies = (~np.isnan(np.stack(list(terms.values())))).any(axis=0).tolist()
            for place, value, counts in zip(at, totals.tolist(), applies, strict=True):
                found[place] = value if counts else None
        return found

"""The decisions of episodes that the next rollout continues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from textgym.lm.sampling.kept_sets import KeptSets
from textgym.rollouts.fragments import Ints

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Unfinished:
    """The decisions of unfinished episodes of N rows; the longest of them has C so far.

    Attributes:
        there: ``[C, N]``, where there are decisions: the last ones of each column.
        columns: Their values, ``[C, N]`` by name.
        kept: The sets that top-k and top-p kept, C * N; where there is no decision, any set.
        tokens: ``[F, L]`` int32, the texts that ``columns["_fragment"]`` counts.
        images: ``[F, 3, H, W]`` uint8, the pictures before them, if there are any.
    """

    there: Bools
    columns: Mapping[str, NDArray[Any]]
    kept: KeptSets | None
    tokens: NDArray[np.int32]
    images: NDArray[np.uint8] | None

    @staticmethod
    def of(
        unfinished: Bools,
        columns: Mapping[str, NDArray[Any]],
        kept: KeptSets | None,
        tokens: NDArray[np.int32],
        images: NDArray[np.uint8] | None,
    ) -> Unfinished | None:
        """Choose them; None if all episodes are over.

        Args:
            unfinished: ``[T, N]``, where they are: the last ones of each column.
            columns: The values of all decisions, ``[T, N]`` by name.
            kept: Their sets, if they were recorded.
            tokens: All texts.
            images: All pictures.
        """
        longest = int(unfinished.sum(0).max(initial=0))
        if not longest:
            return None
        there = unfinished[-longest:]
        chosen = {name: column[-longest:].copy() for name, column in columns.items()}
        used, numbers = np.unique(chosen["_fragment"][there], return_inverse=True)
        chosen["_fragment"][:] = 0
        chosen["_fragment"][there] = numbers
        if kept is not None:
            # Columns that are shorter have any set before their first decision.
            kept = kept.take(torch.arange(unfinished.size - there.size, unfinished.size))
        return Unfinished(
            there, chosen, kept, tokens[used].copy(), None if images is None else images[used]
        )

    @property
    def current(self) -> Ints:
        """``[N]``, the text that each row continues; -1 for none."""
        last: Ints = np.where(self.there[-1], self.columns["_fragment"][-1], -1)
        return last

    def advantages(
        self,
        advantage: NDArray[np.float32],
        value: NDArray[np.float32],
        gamma: float,
        gae_lambda: float,
    ) -> NDArray[np.float32]:
        """Generalised advantage estimates ``[C, N]``, undefined where `there` is False.

        Args:
            advantage: ``[N]``, the advantages of the decisions that follow.
            value: ``[N]``, their values.
            gamma: Discount.
            gae_lambda: Lambda of the estimate.
        """
        rewards, values = self.columns["rewards"], self.columns["values"]
        found = np.zeros_like(values)
        for step in reversed(range(len(values))):
            delta = rewards[step] + gamma * value - values[step]
            advantage = delta + gamma * gae_lambda * advantage
            found[step], value = advantage, values[step]
        return found

    def state(self) -> dict[str, Any]:
        """All of it as dictionaries and arrays, as a checkpoint holds it."""
        return {
            "there": self.there,
            "columns": dict(self.columns),
            "kept": None if self.kept is None else self.kept.state(),
            "tokens": self.tokens,
            "images": self.images,
        }

    @staticmethod
    def of_state(state: Mapping[str, Any]) -> Unfinished:
        """The inverse."""
        kept = state["kept"]
        return Unfinished(
            np.asarray(state["there"]),
            {name: np.asarray(column) for name, column in state["columns"].items()},
            None if kept is None else KeptSets(**kept),
            np.asarray(state["tokens"]),
            None if state["images"] is None else np.asarray(state["images"]),
        )


def finished(starts: Bools, dones: Bools) -> Bools:
    """Which decisions of a rollout are of episodes that ended in it, ``[T, N]``.

    Args:
        starts: ``[T, N]``, whether a decision was the first of an episode.
        dones: ``[N]``, whether the last ones of the rollout ended an episode.
    """
    # An episode has ended where another one begins later on.
    ends = np.concatenate([starts[1:], dones[None]])
    later: Bools = np.logical_or.accumulate(ends[::-1])[::-1]
    return later

"""A sum tree: draw from many weights, and change some of them, in logarithmic time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class SumTree:
    """Weights at the leaves of a binary tree whose nodes hold the sums below them.

    Args:
        size: Number of weights; all are 0 at first.

    Attributes:
        nodes: float64 ``[2 * leaves]``: the root is node 1, the children of node i are 2i and
            2i + 1, and the leaves are the last half.
    """

    def __init__(self, size: int) -> None:
        self._leaves = 1 << max(size - 1, 0).bit_length()
        self._depth = self._leaves.bit_length() - 1
        self.nodes = np.zeros(2 * self._leaves)

    @property
    def total(self) -> float:
        """Sum of all weights."""
        return float(self.nodes[1])

    @property
    def weights(self) -> NDArray[np.float64]:
        """The weights, and zeros up to a power of 2 of them."""
        return self.nodes[self._leaves :]

    def set(self, leaves: NDArray[Any], weights: NDArray[Any] | float) -> None:
        """Set some weights; of a leaf that is named twice, one of the two is kept.

        Args:
            leaves: Their indices, ``[n]``.
            weights: Numbers from 0, ``[n]``.
        """
        nodes = leaves + self._leaves
        self.nodes[nodes] = weights
        for _ in range(self._depth):
            nodes = np.unique(nodes >> 1)
            # Summed anew and not by differences: rounding errors do not add up over time.
            self.nodes[nodes] = self.nodes[2 * nodes] + self.nodes[2 * nodes + 1]

    def find(self, targets: NDArray[np.float64]) -> NDArray[np.intp]:
        """The leaves at which the running sum of the weights first exceeds some targets.

        Args:
            targets: ``[n]``, from 0 to below :attr:`total`.

        Returns:
            ``[n]``; never a leaf of weight 0.
        """
        nodes = np.ones(len(targets), dtype=np.intp)
        left_over = targets.astype(np.float64)
        for _ in range(self._depth):
            left = 2 * nodes
            below = self.nodes[left]
            # By rounding, a target may lie beyond what is there: an empty side is never entered.
            right = (left_over >= below) & (self.nodes[left + 1] > 0)
            left_over -= np.where(right, below, 0.0)
            nodes = left + right
        return nodes - self._leaves

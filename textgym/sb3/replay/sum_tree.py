"""A sum tree: weighted sampling and updates of weights in logarithmic time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class SumTree:
    """A binary tree with weights at its leaves, and the sum of its children at each node.

    Args:
        size: Number of weights; all are initially 0.

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
        """The weights, padded with zeros to a power of 2."""
        return self.nodes[self._leaves :]

    def set(self, leaves: NDArray[Any], weights: NDArray[Any] | float) -> None:
        """Set some weights; with repeated leaves, one of their weights is used.

        Args:
            leaves: Indices ``[n]``.
            weights: Non-negative numbers ``[n]``.
        """
        nodes = leaves + self._leaves
        self.nodes[nodes] = weights
        for _ in range(self._depth):
            nodes = np.unique(nodes >> 1)
            # Sums instead of differences, so that rounding errors do not accumulate.
            self.nodes[nodes] = self.nodes[2 * nodes] + self.nodes[2 * nodes + 1]

    def find(self, targets: NDArray[np.float64]) -> NDArray[np.intp]:
        """The first leaves whose cumulative sum of weights exceeds the targets.

        Args:
            targets: ``[n]``, at least 0 and below :attr:`total`.

        Returns:
            ``[n]``; never a leaf of weight 0.
        """
        nodes = np.ones(len(targets), dtype=np.intp)
        left_over = targets.astype(np.float64)
        for _ in range(self._depth):
            left = 2 * nodes
            below = self.nodes[left]
            # Rounding may put a target above the sum: never enter an empty subtree.
            right = (left_over >= below) & (self.nodes[left + 1] > 0)
            left_over -= np.where(right, below, 0.0)
            nodes = left + right
        return nodes - self._leaves

"""The texts of a rollout, each token stored once.

Observations of an episode are prefixes of one another, so the longest one contains them all. A
*fragment* is the part of an episode that lies in one rollout; in a rollout of whole episodes, a
fragment is an episode.
"""

from __future__ import annotations

import heapq
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]


class FragmentStore:
    """Takes observations step by step, and stores one text per fragment.

    Args:
        rows: Number of environments N.
        width: Longest text L.
        image_shape: ``(3, H, W)`` of the picture before each text, if there is one.

    Attributes:
        tokens: ``[F, L]`` int32, the longest observation of each fragment, padded with -1.
        images: ``[F, 3, H, W]`` uint8, the picture of each; None for environments without pictures.
        current: ``[N]``, the fragment that each row is adding to; -1 for none.
    """

    def __init__(self, rows: int, width: int, image_shape: tuple[int, ...] | None = None) -> None:
        self._store = np.full((2 * rows, width), -1, dtype=np.int32)
        self._images: NDArray[np.uint8] | None = None
        if image_shape is not None:
            self._images = np.zeros((2 * rows, *image_shape), dtype=np.uint8)
        self.current: Ints = np.full(rows, -1, dtype=np.int64)
        self._count = 0

    @property
    def tokens(self) -> NDArray[np.int32]:
        """The fragments' texts ``[F, L]``."""
        return self._store[: self._count]

    @property
    def images(self) -> NDArray[np.uint8] | None:
        """The fragments' pictures ``[F, 3, H, W]``."""
        return None if self._images is None else self._images[: self._count]

    def clear(self) -> None:
        """Remove all fragments."""
        self._count = 0
        self.current[:] = -1

    def start_with(
        self,
        tokens: NDArray[np.int32],
        images: NDArray[np.uint8] | None,
        current: Ints,
    ) -> None:
        """Replace all fragments by some that were saved.

        Args:
            tokens: Their texts ``[F, L]``.
            images: Their pictures ``[F, 3, H, W]``, if there are any.
            current: ``[N]``, the fragment that each row continues; -1 for none.
        """
        self.clear()
        self._make_room(len(tokens))
        self._count = len(tokens)
        self.tokens[:] = tokens
        if self._images is not None and images is not None:
            self._images[: self._count] = images
        self.current[:] = current

    def keep(self, fragments: Ints) -> None:
        """Remove all fragments but these (in rising order), which are numbered from 0 again."""
        numbers = np.full(self._count + 1, -1, dtype=np.int64)  # The last one is for "none".
        numbers[fragments] = np.arange(len(fragments))
        images = None if self.images is None else self.images[fragments]
        self.start_with(self.tokens[fragments], images, numbers[self.current])

    def add(
        self,
        observations: NDArray[np.int32],
        starts: NDArray[np.bool_],
        images: NDArray[np.uint8] | None = None,
    ) -> tuple[Ints, Ints]:
        """Add one step.

        A row continues its fragment if its text only grew; otherwise it starts a new one. So
        environments that rewrite their text are stored correctly too, only less compactly.

        Args:
            observations: ``[N, L]``.
            starts: ``[N]``, True where an episode begins.
            images: ``[N, 3, H, W]``, if there are pictures.

        Returns:
            The fragment of each row and the length of its observation, both ``[N]``.
        """
        before = self._store[self.current]
        grew = ((before == observations) | (before < 0)).all(1)
        new = starts | ~grew | (self.current < 0)
        if self._images is not None and images is not None:
            new |= (self._images[self.current] != images).any((1, 2, 3))
        if new.any():
            self._open(new)
        self._store[self.current] = observations
        if self._images is not None and images is not None:
            self._images[self.current] = images
        return self.current.copy(), (observations >= 0).sum(1)

    def _open(self, new: NDArray[np.bool_]) -> None:
        stop = self._count + int(new.sum())
        self._make_room(stop)
        self.current[new] = np.arange(self._count, stop)
        self._count = stop

    def _make_room(self, count: int) -> None:
        if count <= len(self._store):
            return
        room = max(count, 2 * len(self._store))
        more = np.full((room, self._store.shape[1]), -1, np.int32)
        more[: self._count] = self.tokens
        self._store = more
        if self._images is not None:
            pictures = np.zeros((room, *self._images.shape[1:]), np.uint8)
            pictures[: self._count] = self._images[: self._count]
            self._images = pictures


def deal(counts: Ints, batches: int) -> list[Ints]:
    """Deal fragments out to batches, at random (numpy's global generator) and balanced in size.

    Args:
        counts: ``[F]``, the size of each fragment; those of size 0 are left out.
        batches: Number of batches; fewer if there are fewer fragments.

    Returns:
        The fragments of each batch.
    """
    order = np.random.permutation(np.flatnonzero(counts))
    # The longest first, each to the smallest batch, so that sizes even out.
    order = order[np.argsort(-counts[order], kind="stable")]
    heap = [(0, at) for at in range(min(batches, len(order)))]
    dealt: list[list[int]] = [[] for _ in heap]
    for fragment in order.tolist():
        size, at = heap[0]
        dealt[at].append(fragment)
        heapq.heapreplace(heap, (size + int(counts[fragment]), at))
    return [np.array(dealt[at]) for at in np.random.permutation(len(dealt))]

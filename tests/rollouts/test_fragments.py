from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from textgym.rollouts.fragments import FragmentStore

WIDTH = 6


def play(seed: int, steps: int, rows: int, rewrite: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Texts that grow by one or more tokens, start anew, and sometimes are rewritten."""
    rng = np.random.default_rng(seed)
    texts = np.full((rows, WIDTH), -1, dtype=np.int32)
    history = []
    for step in range(steps):
        starts = rng.random(rows) < 0.3 if step else np.ones(rows, dtype=bool)
        for row in range(rows):
            if starts[row] or rng.random() < rewrite:
                length = rng.integers(0, WIDTH)
                texts[row] = -1
                texts[row, :length] = rng.integers(0, 3, length)
            else:
                length = int((texts[row] >= 0).sum())
                more = rng.integers(0, WIDTH - length + 1)
                texts[row, length : length + more] = rng.integers(0, 3, more)
        history.append((texts.copy(), starts))
    return history


@given(
    st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 5), st.sampled_from([0.0, 0.3])
)
def test_every_observation_comes_back(seed, steps, rows, rewrite):
    store = FragmentStore(rows, WIDTH)
    for _ in range(2):  # A cleared store holds nothing of the rollout before.
        store.clear()
        history = play(seed, steps, rows, rewrite)
        places = [store.add(texts.copy(), starts) for texts, starts in history]
        opened = np.zeros(rows, dtype=int)
        for (texts, starts), (fragments, lengths) in zip(history, places, strict=True):
            found = np.where(np.arange(WIDTH) < lengths[:, None], store.tokens[fragments], -1)
            assert np.array_equal(found, texts)
            opened += starts
        if not rewrite:
            assert len(store.tokens) == opened.sum()


def test_the_observations_may_be_written_over():
    store = FragmentStore(1, 3)
    texts = np.array([[1, -1, -1]], dtype=np.int32)
    store.add(texts, np.array([True]))
    texts[:] = 7
    assert store.tokens.tolist() == [[1, -1, -1]]

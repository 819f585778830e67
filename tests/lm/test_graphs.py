"""Recorded steps, with a recording that works on a CPU: what is replayed reads the static tensors.

A CUDA graph repeats kernels on the memory that they were recorded with. The stand-in repeats the
Python call, whose tensors are the same ones, and copies into the first result.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.lm.checkpoints import WORDS
from textgym.lm import MemoDecoder, last_hidden
from textgym.lm.attention import AttentionSlots
from textgym.lm.graphs import StepGraphs

WIDTH = 20


class Recording:
    made = 0

    def __init__(self, call, result):
        self.call, self.result = call, result

    def replay(self):
        self.result.copy_(self.call())


def record(call):
    Recording.made += 1
    result = torch.full_like(call(), torch.nan)
    return Recording(call, result), result


@pytest.fixture
def recorded(monkeypatch):
    """Slots that decode through recorded steps."""
    Recording.made = 0
    plain = AttentionSlots.__init__

    def init(self, *args):
        plain(self, *args)
        self._graphs = StepGraphs(self._step, record)

    monkeypatch.setattr(AttentionSlots, "__init__", init)
    monkeypatch.setattr("textgym.lm.attention._LIVE_STEP", 8)


@pytest.mark.parametrize("kind", ["gpt2", "grouped", "sliding", "alternating"])
@pytest.mark.usefixtures("recorded")
def test_recorded_steps_agree_with_the_uncached_model(load, kind):
    lm = load(kind)
    decoder = MemoDecoder(lm, WIDTH)
    Recording.made = 0
    rng = np.random.default_rng(0)
    texts = np.full((5, WIDTH), -1, dtype=np.int64)
    lengths = np.array([1, 3, 2, 6, 4])
    for row, length in enumerate(lengths):
        texts[row, :length] = rng.integers(0, len(WORDS), length)
    for _ in range(30):
        observations = torch.from_numpy(texts.copy())
        with torch.no_grad():
            expected = last_hidden(lm, observations)
        torch.testing.assert_close(decoder(observations), expected, atol=1e-4, rtol=1e-4)
        for row in range(5):
            if lengths[row] == WIDTH or rng.random() < 0.05:
                texts[row] = -1
                lengths[row] = 2
                texts[row, :2] = rng.integers(0, len(WORDS), 2)
            else:
                texts[row, lengths[row]] = rng.integers(0, len(WORDS))
                lengths[row] += 1
    # One for each multiple of 8 positions, and one for the full width of 20.
    assert Recording.made <= 3


@pytest.mark.usefixtures("recorded")
def test_recorded_steps_see_changed_and_replaced_weights(load):
    lm = load("gpt2")
    decoder = MemoDecoder(lm, WIDTH)
    texts = torch.tensor([[1, 2, 3] + [-1] * (WIDTH - 3)] * 4)
    decoder(texts)
    for change in (lambda p: p.data.mul_(1.1), lambda p: setattr(p, "data", p.data * 0.9)):
        for parameter in lm.body.parameters():
            change(parameter)
        for at in (3, 4):
            texts[:, at] = 5
            with torch.no_grad():
                expected = last_hidden(lm, texts)
            torch.testing.assert_close(decoder(texts), expected, atol=1e-4, rtol=1e-4)

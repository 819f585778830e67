"""Recorded steps, with a recording that works on a CPU: what is replayed reads the static tensors.

A CUDA graph repeats kernels on the memory that they were recorded with. The stand-in repeats the
Python call, whose tensors are the same ones, and copies into the first result.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.lm.checkpoints import WORDS
from textgym.lm import MemoDecoder, last_hidden
from textgym.lm.decoding.attention import AttentionSlots
from textgym.lm.decoding.graphs import StepGraphs

WIDTH = 20

# What a host has to wait for: reading a value, or shapes that depend on values.
WAITS = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten.equal.default,
}


class NoWaiting(TorchDispatchMode):
    """Refuses what could not be recorded on a GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        indices = args[1] if func is torch.ops.aten.index.Tensor else ()
        boolean = any(index is not None and index.dtype == torch.bool for index in indices)
        assert func not in WAITS, func
        assert not boolean, "boolean indexing"
        return func(*args, **(kwargs or {}))


class Recording:
    made = 0

    def __init__(self, call, result):
        self.call, self.result = call, result

    def replay(self):
        self.result.copy_(self.call())


def record(call, device):
    assert device.type == "cpu"
    Recording.made += 1
    result = torch.full_like(call(), torch.nan)
    with NoWaiting():
        call()
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
    monkeypatch.setattr("textgym.lm.decoding.attention._LIVE_STEP", 8)


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


def step(lm):
    """One step of slots at uneven lengths."""
    tokens, positions = torch.tensor([1, 2, 3]), torch.tensor([0, 4, 2])
    with torch.no_grad():
        AttentionSlots(lm, 3, WIDTH).decode(tokens, positions, torch.ones(3, dtype=torch.bool), 5)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "grouped", "qwen", "sliding", "alternating"])
@pytest.mark.usefixtures("recorded")
def test_a_step_waits_for_nothing(load, kind):
    step(load(kind))
    assert Recording.made == 1


@pytest.mark.usefixtures("recorded")
def test_what_waits_is_found(load):
    """As rotary embeddings do that change with the length: those are not recorded."""
    lm = load("llama")
    lm.body.rotary_emb.register_forward_hook(
        lambda module, args, out: bool(out[0].max() > 3) or None
    )
    with pytest.raises(AssertionError, match="_local_scalar_dense"):
        step(lm)

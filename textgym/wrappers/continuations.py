"""Several continuations of each text, sampled from a language model side by side.

Each text stands in k rows of one batch, and all rows are decoded together, so m tokens cost m
passes, whatever k. Random numbers come from outside: the same numbers give the same texts.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textgym.wrappers.proposals import FrozenLM, Proposals, as_array


def sample_continuations(
    frozen: FrozenLM,
    texts: NDArray[np.int32],
    room: NDArray[np.intp],
    uniform: NDArray[np.float64],
    temperature: float,
    eos: int | None,
) -> Proposals:
    """Sample k continuations of up to m tokens for each of B texts.

    Args:
        frozen: The language model.
        texts: ``[B, L]``, -1 where nothing is written.
        room: ``[B]``, how many tokens each text may still get; 0 for one that is over.
        uniform: Numbers in [0, 1), ``[B, k, m]``: one for each token.
        temperature: Logits are divided by it; 1 is the model's own distribution.
        eos: A token after which a continuation ends, or None.

    Returns:
        The observations of :class:`textgym.wrappers.SegmentActions`, likeliest continuation first.
    """
    rows, k, m = uniform.shape
    written = np.repeat(texts, k, axis=0)
    numbers = uniform.reshape(rows * k, m)
    left = np.repeat(room, k)
    ends = (written >= 0).sum(1)
    tokens = np.full((rows * k, m), -1, np.int32)
    sums = np.zeros(rows * k, np.float32)
    hidden = frozen.hidden(written)
    before = as_array(hidden).reshape(rows, k, -1)[:, 0].copy()
    alive = np.ones(rows * k, np.bool_)
    for step in range(m):
        alive &= step < left
        if not alive.any():
            break
        at = np.flatnonzero(alive)
        log_probs = frozen.log_probs(hidden[torch.from_numpy(at).to(hidden.device)])
        chosen = _drawn(log_probs / temperature, numbers[at, step])
        sums[at] += as_array(log_probs.gather(1, chosen[:, None]))[:, 0]
        ids = chosen.cpu().numpy()
        tokens[at, step] = written[at, ends[at] + step] = ids
        if eos is not None:
            alive[at[ids == eos]] = False
        hidden = frozen.hidden(written)
    order = np.argsort(-sums.reshape(rows, k), axis=1, kind="stable")
    each = np.arange(rows)[:, None]
    return {
        "hidden": before,
        "candidates": tokens.reshape(rows, k, m)[each, order],
        "logprobs": np.minimum(sums.reshape(rows, k)[each, order], 0.0),
        "outcomes": as_array(hidden).reshape(rows, k, -1)[each, order],
    }


def _drawn(logits: Tensor, uniform: NDArray[np.float64]) -> Tensor:
    """One token a row, by inversion of the cumulative distribution."""
    cumulative = torch.softmax(logits.double(), -1).cumsum(-1)
    targets = torch.from_numpy(uniform).to(cumulative.device)[:, None] * cumulative[:, -1:]
    # The first entry above the target is never one of probability 0: it would equal its
    # predecessor. Rounding may leave no entry above it.
    last = torch.nextafter(cumulative[:, -1:], torch.zeros_like(targets))
    return torch.searchsorted(cumulative, torch.minimum(targets, last), right=True)[:, 0]

"""Gradients of a large batch in the memory of a small one.

Trainers accumulate gradients over micro-batches, which needs their own training loop: the loss
is computed for each part. With Stable-Baselines3's unmodified algorithms the loss is of the whole
batch. So each micro-batch runs without storing its activations, the loss is computed from the
results of all, and the backward pass runs each micro-batch again (Chen et al. 2016, "Training Deep
Nets with Sublinear Memory Cost", https://arxiv.org/abs/1604.06174). The gradients are those of the
whole batch; the price is the second forward pass, about a third more time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from textgym.lm.scoring import SequenceBatch

Evaluate: TypeAlias = Callable[[SequenceBatch, Tensor], tuple[Tensor, Tensor, Tensor]]
"""From decisions and their actions ``[n]`` to three results with ``n`` rows each."""


def in_micro_batches(
    evaluate: Evaluate, batch: SequenceBatch, actions: Tensor, size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Evaluate a batch in micro-batches; the results and their gradients are those of the batch.

    Args:
        evaluate: The evaluation of some decisions, independent of the others, without randomness.
        batch: The texts and decisions.
        actions: ``[n]``, the action of each decision.
        size: Texts in a micro-batch.
    """
    used = torch.zeros(len(batch.tokens), dtype=torch.long, device=batch.rows.device)
    used.scatter_reduce_(0, batch.rows, batch.positions + 1, "amax")
    # Texts of similar lengths share a micro-batch, so that there is little padding.
    order = used.argsort(descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    part_of = rank[batch.rows] // size
    places, parts = [], []
    for number, texts in enumerate(torch.split(order, size)):
        decisions = (part_of == number).nonzero()[:, 0]
        if len(decisions):
            part = batch.take(texts, decisions)
            places.append(decisions)
            parts.append(
                checkpoint(
                    evaluate,
                    part,
                    actions[decisions],
                    use_reentrant=False,
                    preserve_rng_state=False,
                )
            )
    back = torch.cat(places).argsort()
    first, second, third = (torch.cat(found)[back] for found in zip(*parts, strict=True))
    return first, second, third

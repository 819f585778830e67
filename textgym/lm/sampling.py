"""Sampling tokens together with their log-probabilities.

What this module does not do: top-k or top-p. Probabilities are those of the full softmax, so that
an update that scores the same tokens finds the same numbers (the PPO ratio starts at 1).
"""

from __future__ import annotations

import torch
from torch import Tensor

# Width of a block of the vocabulary: about the square root of common vocabulary sizes.
_BLOCK = 128


def sample_tokens(logits: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor]:
    """Draw one token a row, by inversion of the cumulative distribution.

    The exponentials are summed in blocks; the running sum is taken over the blocks and then only
    within the block that is hit, so the vocabulary is passed over once.

    Args:
        logits: Float32 ``[B, V]``; ``-inf`` marks impossible tokens, which are never drawn.
        deterministic: Take the likeliest token instead.

    Returns:
        Tokens ``[B]`` (int64) and their log-probabilities ``[B]`` (float32).
    """
    rows, size = logits.shape
    blocks = -(-size // _BLOCK)
    largest = logits.amax(-1, keepdim=True)
    weights = logits.new_empty(rows, blocks * _BLOCK)
    torch.sub(logits, largest, out=weights[:, :size]).exp_()
    weights[:, size:] = 0.0
    in_blocks = weights.view(rows, blocks, _BLOCK)
    sums = in_blocks.sum(-1)
    cumulative = sums.cumsum(-1)
    total = cumulative[:, -1:]
    if deterministic:
        tokens = logits.argmax(-1)
    else:
        target = torch.rand(rows, 1, device=logits.device) * total
        block = _first_above(cumulative, target)
        before = cumulative.gather(1, block) - sums.gather(1, block)
        inside = in_blocks[torch.arange(rows, device=logits.device), block[:, 0]].cumsum(-1)
        tokens = (block * _BLOCK + _first_above(inside, target - before))[:, 0]
    chosen = logits.gather(1, tokens[:, None])
    return tokens, (chosen - largest - total.log())[:, 0]


def _first_above(cumulative: Tensor, target: Tensor) -> Tensor:
    """Index ``[B, 1]`` of the first entry above ``target``; never one of weight 0.

    An entry of weight 0 equals the one before it, so it is never the *first* above. Rounding may
    leave the target at or above the last entry, so it is kept below it.
    """
    last = cumulative[:, -1:]
    below = torch.nextafter(last, torch.zeros_like(last))
    target = torch.minimum(target.clamp(min=0.0), below)
    return torch.searchsorted(cumulative, target, right=True)

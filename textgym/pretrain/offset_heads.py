"""Attention heads that begin by looking at the token before, or a few places before.

To look up a value by its key, a model has to find the key in its prompt again and then read what
stands next to it. It does so with a pair of heads (Olsson et al. 2022, "In-context Learning and
Induction Heads"): one brings to each token what preceded it, and one in a later layer searches for
it. Neither is of use without the other, so both appear late: textgym/tiny had seen 20 million
tokens without a sign of them. When it was given the first kind, it learned the second from two
million tokens more (docs/tiny.md). Initial weights that have the structure of trained ones are
called *mimetic* (Trockman and Kolter 2023, https://arxiv.org/abs/2305.09828).

The score of a rotary head depends on the distance of two tokens alone if query and key are the same
for all tokens. The first coordinate of the embeddings is made constant for this; the query is the
key, rotated by the offset. Only fast rotations are used, as slow ones do not tell neighbours apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from textgym.errors import SettingsError

_CONSTANT = 8.0
"""The constant coordinate, in standard deviations of the others."""

_PAIRS = 10
"""Pairs of coordinates that are used: the fastest ones."""

_SCORE = 36.0
"""Dot product of query and key at the offset is this times the number of pairs."""

_WRITES = 2.0
"""Size of what a head adds to the hidden state, relative to the embedding of the token it reads."""


@torch.no_grad()
def attend_to_offsets(model: LlamaForCausalLM, offsets: Sequence[int], seed: int = 0) -> None:
    """Make the first heads of the first layer attend to earlier tokens, and copy them.

    The weights of these heads and the first coordinate of the embeddings are replaced.

    Args:
        model: A Llama without grouped heads.
        offsets: For each head, how many places before.
        seed: Of the random directions that the heads read and write.

    Raises:
        SettingsError: If there are more offsets than heads, or an offset is negative.
    """
    heads = model.config.num_attention_heads
    if len(offsets) > heads or min(offsets) < 0:
        raise SettingsError(
            f"--offsets {' '.join(map(str, offsets))}: at most {heads} (--heads), each 0 or more"
        )
    width = model.config.hidden_size
    size = width // heads
    pairs = min(_PAIRS, size // 2)
    generator = torch.Generator().manual_seed(seed)
    embeddings = cast(Tensor, model.get_input_embeddings().weight)
    spread = float(embeddings.std())
    embeddings[:, 0] = _CONSTANT * spread
    layer = model.model.layers[0]
    attention = layer.self_attn
    constant = float(layer.input_layernorm(embeddings)[:, 0].mean())
    speeds = model.model.rotary_emb.inv_freq[:pairs].float()
    for head, offset in enumerate(offsets):
        rows = slice(head * size, (head + 1) * size)
        # Coordinates i and i + size / 2 are a pair.
        query, key = torch.zeros(2, size)
        key[:pairs] = 1.0
        query[:pairs] = torch.cos(speeds * offset)
        query[size // 2 : size // 2 + pairs] = -torch.sin(speeds * offset)
        for projection, values in ((attention.q_proj, query), (attention.k_proj, key)):
            projection.weight[rows] = 0.0
            projection.weight[rows, 0] = values * _SCORE**0.5 / constant
        read, write = (
            torch.linalg.qr(torch.randn(width, size, generator=generator))[0] for _ in range(2)
        )
        read[0] = 0.0
        attention.v_proj.weight[rows] = read.T
        attention.o_proj.weight[:, rows] = _WRITES * spread * write

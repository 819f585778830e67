"""Heads that attend to earlier tokens: what they look at, and what they copy."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from textgym.errors import SettingsError
from textgym.pretrain.offset_heads import attend_to_offsets


def model(heads=4, layers=2):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=500,
        hidden_size=64 * heads,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=384,
        attn_implementation="eager",
    )
    return LlamaForCausalLM(config).eval()


@pytest.mark.parametrize("length", [20, 300])
def test_each_head_attends_to_its_offset(length):
    lm = model()
    offsets = (1, 2, 0)
    attend_to_offsets(lm, offsets)
    with torch.no_grad():
        seen = lm(torch.randint(500, (2, length)), output_attentions=True).attentions[0]
    for head, offset in enumerate(offsets):
        assert seen[:, head].diagonal(-offset, 1, 2).mean() > 0.9
    assert seen[:, 3, -1].max() < 0.5  # The other head has random weights.


def test_a_head_writes_what_it_reads():
    """Which token precedes can be read off the attention's output: the same vector for each."""
    lm = model()
    attend_to_offsets(lm, (1,))
    kept = []
    attention = lm.model.layers[0].self_attn
    attention.o_proj.weight.data[:, 64:] = 0.0  # The other heads are silent.
    attention.register_forward_hook(lambda *given: kept.append(given[-1][0]))
    tokens = torch.randint(5, (1, 200))
    with torch.no_grad():
        lm(tokens)
    before, written = tokens[0, :-1], kept[0][0, 1:]
    means = torch.stack([written[before == token].mean(0) for token in range(5)])
    nearest = torch.cdist(written, means).argmin(1)
    assert (nearest == before).float().mean() > 0.95


def test_impossible_offsets():
    with pytest.raises(SettingsError, match="--offsets"):
        attend_to_offsets(model(heads=1), (1, 2))
    with pytest.raises(SettingsError, match="--offsets"):
        attend_to_offsets(model(), (-1,))

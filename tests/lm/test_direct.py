"""The written-out forward passes against transformers' own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from tests.lm.checkpoints import WORDS
from textgym.lm import LanguageModel, MemoDecoder, last_hidden
from textgym.lm.decoding import attention, direct
from textgym.lm.decoding.attention import AttentionSlots
from textgym.lm.decoding.direct import direct_pass
from textgym.lm.engine import prepare_training

WRITTEN_OUT = ["gpt2", "llama", "grouped", "qwen", "sliding"]
ROWS, WIDTH = 5, 14


@pytest.fixture(params=WRITTEN_OUT)
def lm(request, load):
    return load(request.param)


def run(lm: LanguageModel) -> list[torch.Tensor]:
    """A prefill, two steps at even and at uneven lengths, and an extension."""
    slots = AttentionSlots(lm, ROWS, WIDTH)
    generator = torch.Generator().manual_seed(0)
    texts = torch.randint(0, len(WORDS), (ROWS, WIDTH), generator=generator)
    rows = torch.arange(ROWS)
    every = torch.ones(ROWS, dtype=torch.bool)
    with torch.no_grad():
        found = [slots.fill(rows, texts[:, :7], np.array([7, 3, 1, 5, 7]))]
        found += [slots.decode(texts[:, 7], torch.full((ROWS,), 7), every, 8)]
        uneven = torch.tensor([8, 3, 1, 5, 7])
        found += [slots.decode(texts[rows, uneven], uneven, every, 9)]
        some = torch.tensor([3, 0])
        starts, lengths = np.array([6, 9]), np.array([13, 11])
        found += [slots.extend(some, texts[some, :13], starts, lengths)]
    return found


def both_ways(lm: LanguageModel) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Results of the direct pass, and of transformers' own."""
    assert direct_pass(lm.body) is not None
    found = run(lm)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "direct_pass", lambda body: None)
        return zip(found, run(lm), strict=True)


def test_equals_transformers_own(lm):
    for found, expected in both_ways(lm):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_equals_transformers_own_in_mixed_precision(lm):
    prepare_training(lm, dtype="bfloat16")
    for found, expected in both_ways(lm):
        assert found.dtype == expected.dtype
        error = (found.float() - expected.float()).abs().max() / expected.float().abs().max()
        assert error < 0.05


def test_equals_transformers_own_in_float64(lm):
    lm.to(torch.float64)
    for found, expected in both_ways(lm):
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)


def test_equals_transformers_own_with_an_adapter(load):
    pytest.importorskip("peft")
    lm = load("llama")
    prepare_training(lm, lora={"r": 2, "target_modules": ["q_proj", "up_proj"]})
    with torch.no_grad():
        for name, weight in lm.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    for found, expected in both_ways(lm):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def layers_of(lm: LanguageModel) -> nn.ModuleList:
    return next(child for child in lm.body.children() if isinstance(child, nn.ModuleList))


@pytest.mark.parametrize("part", ["layer", "attention", "mlp", "norm"])
def test_a_hook_is_not_passed_by(lm, part):
    """Steering a model by hooks changes what is decoded as it changes what is trained."""
    decoder = MemoDecoder(lm, WIDTH)
    texts = torch.randint(0, len(WORDS), (ROWS, WIDTH), generator=torch.manual_seed(1))
    texts[:, 6:] = -1
    layer = layers_of(lm)[0]
    children = dict(layer.named_children())
    found = {
        "layer": layer,
        "attention": children.get("attn", children.get("self_attn")),
        "mlp": children["mlp"],
        "norm": children.get("ln_2", children.get("post_attention_layernorm")),
    }

    def steer(module, inputs, output):
        first = output[0] if isinstance(output, tuple) else output
        # Not the same for all features: a layer norm would take it away.
        first = first + torch.linspace(-1, 1, first.shape[-1])
        return (first, *output[1:]) if isinstance(output, tuple) else first

    with torch.no_grad():
        before = decoder(texts)
        handle = found[part].register_forward_hook(steer)
        torch.testing.assert_close(decoder(texts), last_hidden(lm, texts), atol=1e-4, rtol=1e-4)
        assert not torch.allclose(decoder(texts), before, atol=1e-2)
        handle.remove()
        torch.testing.assert_close(decoder(texts), before, atol=1e-5, rtol=1e-5)


def test_classes_that_are_not_known_are_left_to_transformers(load):
    class Odd(nn.Module):
        pass

    lm = load("llama")
    assert direct_pass(lm.body) is not None
    assert direct_pass(load("alternating").body) is None
    assert direct_pass(Odd()) is None

    decoder = MemoDecoder(lm, WIDTH)

    class Halved(type(lm.body.layers[0].mlp)):
        """Hangs together in a way that nobody here knows."""

        def forward(self, x):
            return super().forward(x) / 2

    class Wrap(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return -self.inner(x)

    texts = torch.randint(0, len(WORDS), (ROWS, WIDTH), generator=torch.manual_seed(1))
    mlp = lm.body.layers[0].mlp
    for foreign in (Wrap(mlp), Halved(mlp.config)):
        before = decoder(texts)
        lm.body.layers[0].mlp = foreign
        assert direct_pass(lm.body) is None
        with torch.no_grad():
            expected = last_hidden(lm, texts)
        torch.testing.assert_close(decoder(texts), expected, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(expected, before, atol=1e-3)


def test_hooks_on_all_modules_are_called(load):
    lm = load("gpt2")
    decoder = MemoDecoder(lm, WIDTH)
    seen = set()

    def note(module, inputs, output):
        seen.add(type(module).__name__)

    with nn.modules.module.register_module_forward_hook(note):
        decoder(torch.tensor([[1, 2, 3]]))
    assert {"GPT2Block", "GPT2Attention", "GPT2MLP", "Conv1D"} <= seen


def test_transposed_weights_are_those_of_the_model(lm, monkeypatch):
    """After some steps the matrices are copied in another layout; the copies follow the weights."""
    monkeypatch.setattr(direct, "_STEPS_BEFORE_TRANSPOSING", 2)
    decoder = MemoDecoder(lm, WIDTH)
    texts = torch.randint(0, len(WORDS), (ROWS, WIDTH), generator=torch.manual_seed(1))
    for change in (0.0, 0.1, 0.2):
        with torch.no_grad():
            for weight in lm.parameters():
                weight.add_(change * torch.randn(weight.shape))
            for length in range(3, 10):
                shown = texts.clone()
                shown[:, length:] = -1
                found, expected = decoder(shown), last_hidden(lm, shown)
                torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)

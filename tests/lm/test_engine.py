"""One set of weights that generates and trains: precision, adapter, checkpointing, compilation."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from tests.lm.checkpoints import EOS, WORDS
from textgym.errors import ModelError, SettingsError
from textgym.lm import LanguageModel, MemoDecoder, last_hidden
from textgym.lm.decoding import attention
from textgym.lm.engine import prepare_training
from textgym.lm.lora import adapter_off, has_adapter

TEXTS = torch.tensor([[1, 2, 3, 4, 5, -1], [6, 7, -1, -1, -1, -1], [3, 1, 4, 1, 5, 9]])


def loss_of(lm: LanguageModel) -> torch.Tensor:
    return lm.logits(last_hidden(lm, TEXTS)).log_softmax(-1)[:, 2].sum()


def gradients(lm: LanguageModel) -> dict[str, torch.Tensor]:
    lm.zero_grad()
    loss_of(lm).backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in lm.named_parameters()
        if parameter.grad is not None
    }


def disturb_adapter(lm: LanguageModel, seed: int = 1) -> None:
    """An adapter starts at zero; this is one that has learned something."""
    torch.manual_seed(seed)
    for name, parameter in lm.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "alternating"])
def test_checkpointing_changes_no_gradient(load, kind):
    expected = gradients(load(kind))
    lm = load(kind)
    prepare_training(lm, gradient_checkpointing=True)
    assert lm.checkpointed
    kept = []
    pack = torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.numel()) or t, lambda t: t
    )
    with pack:
        loss_of(lm)
    fewer = sum(kept)
    kept.clear()
    with pack:
        loss_of(load(kind))
    assert fewer < 0.5 * sum(kept)
    found = gradients(lm)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, msg=name)


def test_checkpointing_and_decoding_share_the_model(load):
    lm = load("gpt2")
    prepare_training(lm, gradient_checkpointing=True)
    decoder = MemoDecoder(lm, 6)
    for length in range(1, 7):
        texts = torch.where(torch.arange(6) < length, TEXTS, -1)
        gradients(lm)
        torch.testing.assert_close(decoder(texts), last_hidden(lm, texts).detach())


def test_a_failed_pass_leaves_no_layer_in_training(load, monkeypatch):
    lm = load("gpt2")
    prepare_training(lm, gradient_checkpointing=True)
    with monkeypatch.context() as patch:
        patch.setattr(lm.body.h[1].mlp, "forward", None)
        with pytest.raises(TypeError):
            lm.hidden(TEXTS)
    assert not any(layer.training for layer in lm.checkpointed)


def test_no_dropout_in_checkpointed_layers(load):
    lm = load("gpt2")
    for module in lm.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    prepare_training(lm, gradient_checkpointing=True)
    assert torch.equal(loss_of(lm.train()), loss_of(lm.train()))


def test_compiled_training_is_the_same(load):
    expected = gradients(load("gpt2"))
    lm = load("gpt2")
    prepare_training(lm, compile="eager")
    # The engine settings are not saved.
    assert lm.state_dict().keys() == load("gpt2").state_dict().keys()
    found = gradients(lm)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, msg=name)


def test_mixed_precision_keeps_float32_weights(load, monkeypatch):
    caches = []
    make = attention.SlotCache
    monkeypatch.setattr(attention, "SlotCache", lambda *a: caches.append(make(*a)) or caches[-1])
    lm = load("llama")
    with torch.no_grad():
        exact = last_hidden(lm, TEXTS)
    prepare_training(lm, dtype="bfloat16")
    assert lm.compute_dtype == torch.bfloat16
    assert lm.model.dtype == torch.float32
    decoder = MemoDecoder(lm, 6)
    rough = decoder(TEXTS)
    assert 0 < (rough - exact).abs().max() < 0.1 * exact.abs().max()
    assert {layer.keys.dtype for cache in caches for layer in cache.layers} == {torch.bfloat16}
    assert all(gradient.dtype == torch.float32 for gradient in gradients(lm).values())


def test_precision_is_automatic(load):
    lm = load("gpt2")
    prepare_training(lm)
    assert lm.compute_dtype == torch.float32
    with pytest.raises(SettingsError, match="dtype='float33'"):
        prepare_training(lm, dtype="float33")
    with pytest.raises(SettingsError, match="dtype='int8'"):
        prepare_training(lm, dtype="int8")
    with pytest.raises(SettingsError, match="dtype='float16'"):
        prepare_training(lm, dtype="float16")


def test_only_the_adapter_trains(load):
    lm = load("llama")
    prepare_training(lm, lora={"r": 2})
    assert has_adapter(lm.model)
    trained = [name for name, parameter in lm.named_parameters() if parameter.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    assert gradients(lm).keys() == set(trained)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_with_the_adapter_off_it_is_the_model_of_before(load, kind):
    lm = load(kind)
    with torch.no_grad():
        before = last_hidden(lm, TEXTS)
        prepare_training(lm, lora={"r": 2})
        disturb_adapter(lm)
        after = last_hidden(lm, TEXTS)
        assert not torch.allclose(before, after, atol=0.1)
        with adapter_off(lm.model):
            assert torch.equal(last_hidden(lm, TEXTS), before)
        assert torch.equal(last_hidden(lm, TEXTS), after)
    # What trains is as it was.
    assert all("lora_" in name for name in gradients(lm))


def test_a_change_of_the_adapter_reaches_the_cache(load):
    lm = load("gpt2")
    prepare_training(lm, lora={"r": 2})
    decoder = MemoDecoder(lm, 6)
    decoder(TEXTS)
    disturb_adapter(lm)
    with torch.no_grad():
        torch.testing.assert_close(decoder(TEXTS), last_hidden(lm, TEXTS))


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_an_adapter_is_saved_merged(load, kind, tmp_path):
    lm = load(kind)
    prepare_training(lm, lora={"r": 2})
    disturb_adapter(lm)
    lm.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = lm.logits(lm.hidden(TEXTS[2:]))
        plain = AutoModelForCausalLM.from_pretrained(tmp_path)
        torch.testing.assert_close(plain(TEXTS[2:]).logits, expected, atol=1e-4, rtol=1e-4)
    assert plain.state_dict().keys() == load(kind).model.state_dict().keys()
    assert LanguageModel.load(str(tmp_path)).vocab_size == len(WORDS)
    # Saving leaves the model as it was.
    assert all("lora_" in name for name in gradients(lm))


def test_wrong_settings_of_an_adapter(load):
    with pytest.raises(SettingsError, match=r"no setting 'rank'.*peft.LoraConfig"):
        prepare_training(load("gpt2"), lora={"rank": 2})
    for settings, said in (
        ({"bias": "all"}, "bias='all'"),
        ({"modules_to_save": ["ln_f"]}, "modules_to_save"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
        ({"lora_dropout": 0.1}, "lora_dropout"),
    ):
        lm = load("gpt2")
        with pytest.raises(SettingsError, match=said):
            prepare_training(lm, lora={"r": 2, **settings})
        assert not has_adapter(lm.model)
    with pytest.raises(ModelError, match="target_modules"):
        prepare_training(load("gpt2"), lora={"target_modules": ["nowhere"]})


def test_checkpointing_of_an_encoder_decoder(load):
    texts = torch.tensor([[1, 2, EOS, 4, 5, -1], [6, EOS, -1, -1, -1, -1], [3, 1, 4, 1, 5, EOS]])

    def gradients_of(lm: LanguageModel) -> list[torch.Tensor]:
        lm.logits(last_hidden(lm, texts)).log_softmax(-1)[:, 2].sum().backward()
        return [p.grad for p in lm.parameters() if p.grad is not None]

    expected = gradients_of(load("t5"))
    lm = load("t5")
    prepare_training(lm, gradient_checkpointing=True)
    for one, other in zip(gradients_of(lm), expected, strict=True):
        torch.testing.assert_close(one, other)
    with pytest.raises(ModelError, match="compile="):
        prepare_training(load("t5"), compile=True)

"""Recurrent models: their states in slots are those of transformers' own cache."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    FalconMambaConfig,
    JambaConfig,
    Lfm2Config,
    RwkvConfig,
    xLSTMConfig,
)

from tests.lm.checkpoints import EOS, WORDS
from tests.lm.test_decoding import (
    WIDTH,
    Counter,
    Schedule,
    assert_agrees,
    texts_of,
)
from textgym.errors import ModelError
from textgym.lm import LanguageModel, MemoDecoder, last_hidden
from textgym.lm.decoding.recurrent import StateSlots
from textgym.lm.decoding.slots import make_slots
from textgym.tokenization import load_tokenizer

KINDS = ["mamba", "mamba2", "lstm"]


@pytest.fixture(params=KINDS)
def lm(request, load):
    return load(request.param)


def with_config(config) -> LanguageModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    return LanguageModel(model, load_tokenizer(WORDS), config.model_type)


def small(**more):
    return {
        "vocab_size": len(WORDS),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "bos_token_id": EOS,
        "eos_token_id": EOS,
        **more,
    }


def test_states_are_those_of_transformers(lm):
    """Token by token through transformers' own cache, one row at a time."""
    decoder = MemoDecoder(lm, WIDTH)
    texts = texts_of(5, 9, 7)
    with torch.no_grad():
        for last in (3, 4, 6):
            decoder(torch.from_numpy(np.where(np.arange(WIDTH) < last, texts, -1)))
        found = decoder(torch.from_numpy(texts))
        name = "past_key_values" if lm.model.config.model_type == "textgym_lstm" else "cache_params"
        for row, length in enumerate((5, 9, 7)):
            cache = DynamicCache(config=lm.model.config)
            for token in texts[row, :length]:
                step = lm.body(
                    input_ids=torch.tensor([[int(token)]]), use_cache=True, **{name: cache}
                )
            torch.testing.assert_close(
                found[row], step.last_hidden_state[0, 0], atol=1e-5, rtol=1e-4
            )
    assert isinstance(make_slots(lm, 2, 6), StateSlots)


def test_only_what_is_missing_is_run(lm):
    decoder = MemoDecoder(lm, WIDTH)
    counter = Counter(lm)
    # Padding would enter the states: texts of one length are read together.
    decoder(torch.from_numpy(texts_of(3, 5, 3, 2)))
    assert counter.take() == [(1, 2), (2, 3), (1, 5)]
    decoder(torch.from_numpy(texts_of(4, 6, 4, 3)))
    assert counter.take() == [(4, 1)]
    decoder(torch.from_numpy(texts_of(4, 6, 4, 3)))
    assert counter.take() == []
    # A row that lost a token cannot continue from its state.
    decoder(torch.from_numpy(texts_of(5, 6, 5, 2)))
    assert counter.take() == [(2, 1), (1, 2)]
    # Two rows get several tokens, one of them more than the other.
    decoder(torch.from_numpy(texts_of(8, 6, 7, 2)))
    assert counter.take() == [(2, 1), (2, 1), (1, 1)]


def test_rows_that_wait_keep_their_states(lm):
    decoder = MemoDecoder(lm, WIDTH)
    for lengths in [(3, 4, 5), (4, 4, 5), (5, 5, 5), (5, 6, 5), (6, 7, 6), (6, 7, 7), (7, 8, 8)]:
        assert_agrees(decoder, texts_of(*lengths))


def test_what_is_forgotten_begins_at_zero(lm):
    decoder = MemoDecoder(lm, WIDTH)
    assert_agrees(decoder, texts_of(5, 6))
    decoder.invalidate()
    assert_agrees(decoder, texts_of(1, 1))


def test_a_state_that_is_rewound_would_be_seen(load, monkeypatch):
    """The tests above fail with slots that continue from the wrong state."""
    decoder = MemoDecoder(load("mamba"), WIDTH)
    monkeypatch.setattr(StateSlots, "can_extend", lambda self, known, lengths: lengths > 0)
    assert_agrees(decoder, texts_of(6, 7))
    with pytest.raises(AssertionError):
        assert_agrees(decoder, texts_of(5, 6))


def test_states_that_are_not_kept_are_found_out(load, monkeypatch):
    fill = StateSlots.fill

    def forgetful(self, *arguments):
        hidden = fill(self, *arguments)
        for layer in self._memory.layers:
            layer.recurrent_states[0].zero_()
        return hidden

    monkeypatch.setattr(StateSlots, "fill", forgetful)
    with pytest.raises(ModelError, match=r"MambaForCausalLM.*cache=False"):
        MemoDecoder(load("mamba"), WIDTH)


def test_falcon_mamba_is_one_of_them():
    schedule = Schedule(with_config(FalconMambaConfig(state_size=4, **small())), 0)
    for move in ("grow", "some restart", "grow several", "shrink", "grow", "permute", "grow"):
        schedule.play(move, 6)


HYBRIDS = {
    "jamba": JambaConfig(
        intermediate_size=16, num_attention_heads=2, num_key_value_heads=2, num_experts=1,
        attn_layer_period=2, attn_layer_offset=1, mamba_d_state=4, **small(),
    ),
    "lfm2": Lfm2Config(
        intermediate_size=16, num_attention_heads=2, num_key_value_heads=2,
        layer_types=["conv", "full_attention"], **small(),
    ),
    "rwkv": RwkvConfig(attention_hidden_size=16, **small()),
    "xlstm": xLSTMConfig(num_heads=2, **small()),
}  # fmt: skip


@pytest.mark.parametrize("name", HYBRIDS)
def test_others_are_refused_by_name_and_run_without_the_cache(name):
    lm = with_config(HYBRIDS[name])
    with pytest.raises(ModelError, match=rf"{name}.*cache=False"):
        MemoDecoder(lm, WIDTH)
    texts = torch.from_numpy(texts_of(3, 5))
    with torch.no_grad():
        alone = lm.hidden(texts[:1, :3].long())[0, -1]
        torch.testing.assert_close(last_hidden(lm, texts)[0], alone, atol=1e-5, rtol=1e-4)

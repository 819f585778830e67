"""The LSTM language model: torch's cell is the truth; transformers saves, loads and generates."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM

from tests.lm.checkpoints import EOS, WORDS, write_tokenizer
from textgym.lm import LanguageModel
from textgym.lm.lstm import LSTMConfig, LSTMForCausalLM
from textgym.tokenization import load_tokenizer


def make(**settings) -> LSTMForCausalLM:
    torch.manual_seed(0)
    defaults = {"vocab_size": len(WORDS), "hidden_size": 12, "num_layers": 2, "eos_token_id": EOS}
    return LSTMForCausalLM(LSTMConfig(**{**defaults, **settings})).eval()


TOKENS = torch.tensor([[1, 2, 3, 4, 5, 6], [7, 7, 1, 0, 2, 22]])


def by_cells(model: LSTMForCausalLM, tokens: torch.Tensor) -> torch.Tensor:
    """Logits from torch's LSTM cell, one token and one layer at a time."""
    size = model.config.hidden_size
    states = [torch.zeros(2, len(tokens), size) for _ in model.model.layers]
    logits = []
    for at in range(tokens.shape[1]):
        hidden = model.get_input_embeddings()(tokens[:, at])
        for number, layer in enumerate(model.model.layers):
            cell = torch.nn.LSTMCell(size, size)
            weights = {name.removesuffix("_l0"): value for name, value in layer.named_parameters()}
            cell.load_state_dict(weights)
            states[number] = torch.stack(cell(hidden, tuple(states[number])))
            hidden = states[number][0]
        logits.append(model.get_output_embeddings()(hidden))
    return torch.stack(logits, 1)


@pytest.mark.parametrize("layers", [1, 3])
def test_it_is_torchs_cell(layers):
    model = make(num_layers=layers)
    with torch.no_grad():
        expected = by_cells(model, TOKENS)
        torch.testing.assert_close(model(TOKENS).logits, expected, atol=1e-6, rtol=1e-5)
        cache = model(TOKENS[:, :2], use_cache=True).past_key_values
        rest = model(TOKENS[:, 2:], past_key_values=cache, logits_to_keep=2)
        torch.testing.assert_close(rest.logits, expected[:, -2:], atol=1e-6, rtol=1e-5)


def test_new_weights():
    model = make(initializer_range=0.3, hidden_size=64)
    (bias,) = {tuple(layer.bias_ih_l0.tolist()) for layer in model.model.layers}
    assert bias == (0.0,) * 64 + (1.0,) * 64 + (0.0,) * 128, "it remembers at first"
    assert model.get_input_embeddings().weight.std().item() == pytest.approx(0.3, rel=0.1)


@pytest.mark.parametrize("tied", [False, True])
def test_plain_transformers_loads_it(tmp_path, tied):
    model = make(tie_word_embeddings=tied)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    model.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    assert not list(tmp_path.glob("*.bin"))
    again = AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=False).eval()
    assert type(again) is LSTMForCausalLM
    assert (again.lm_head.weight is again.model.embeddings.weight) == tied
    assert torch.equal(again(TOKENS).logits, model(TOKENS).logits)
    config = AutoConfig.from_pretrained(tmp_path)
    assert (config.model_type, config.num_layers, config.num_hidden_layers) == (
        "textgym_lstm",
        2,
        2,
    )

    lm = LanguageModel.load(str(tmp_path), device="cpu")
    torch.testing.assert_close(lm.logits(lm.hidden(TOKENS)), model(TOKENS).logits)
    assert (lm.context_length, lm.hidden_size, lm.start_id) == (None, 12, EOS)
    lm.check_fits(10**6, len(WORDS))


def test_loss_and_gradients():
    model = make()
    output = model(TOKENS, labels=TOKENS)
    expected = functional.cross_entropy(by_cells(model, TOKENS)[:, :-1].flatten(0, 1),
                                        TOKENS[:, 1:].flatten())  # fmt: skip
    torch.testing.assert_close(output.loss, expected)
    output.loss.backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_dropout_is_for_training_alone():
    model = make(dropout=0.5)
    assert torch.equal(model(TOKENS).logits, model(TOKENS).logits)
    model.train()
    assert not torch.equal(model(TOKENS).logits, model(TOKENS).logits)
    lm = LanguageModel(model, load_tokenizer(WORDS), "lstm")
    lm.train(True)
    assert torch.equal(lm.hidden(TOKENS), lm.hidden(TOKENS))


@torch.no_grad()
def test_generation():
    model = make(hidden_size=24, initializer_range=0.5)
    expected = TOKENS[:, :3]
    for _ in range(5):
        best = by_cells(model, expected)[:, -1].argmax(-1)
        expected = torch.cat([expected, best[:, None]], 1)
    settings = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    assert torch.equal(model.generate(TOKENS[:, :3], **settings), expected)

    def score(texts: torch.Tensor) -> torch.Tensor:
        log_probs = model(texts).logits[:, 2:-1].log_softmax(-1)
        return log_probs.gather(2, texts[:, 3:, None]).sum((1, 2))

    beams = model.generate(TOKENS[:, :3], num_beams=6, **settings)
    assert (score(beams) >= score(expected) - 1e-5).all()


def test_padding_on_the_left_is_refused():
    model = make()
    model(TOKENS, attention_mask=torch.tensor([[1] * 6, [1] * 4 + [0] * 2]))
    with pytest.raises(ValueError, match="pad on the right"):
        model(TOKENS, attention_mask=torch.tensor([[1] * 6, [0] * 2 + [1] * 4]))

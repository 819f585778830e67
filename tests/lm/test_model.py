from __future__ import annotations

import pytest
import tokenizers
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertLMHeadModel,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

from tests.lm.checkpoints import (
    CONTEXT,
    EOS,
    WORDS,
    config_of,
    write_checkpoint,
    write_tokenizer,
)
from textgym.errors import ModelError, TokenizerError
from textgym.lm import LanguageModel
from textgym.lm.loading import files as loading
from textgym.lm.scoring import last_hidden
from textgym.tokenization import load_tokenizer

KINDS = ["gpt2", "llama", "grouped", "alternating", "mamba", "mamba2", "lstm"]


@pytest.mark.parametrize("kind", KINDS)
def test_body_and_head_are_the_model(checkpoint, load, kind):
    lm = load(kind)
    reference = AutoModelForCausalLM.from_pretrained(checkpoint(kind)).eval()
    tokens = torch.randint(0, len(WORDS), (3, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(
            lm.logits(lm.hidden(tokens)), reference(tokens).logits, atol=1e-5, rtol=1e-5
        )
    context = None if kind in ("mamba", "mamba2", "lstm") else CONTEXT
    assert (lm.vocab_size, lm.context_length, lm.start_id) == (len(WORDS), context, EOS)


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_saves_plain_transformers_loads(load, kind, tmp_path):
    lm = load(kind)
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter.add_(0.01)
    lm.save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokens = tokenizer("w1 w2 w3 <eos>", return_tensors="pt").input_ids
    assert tokens.tolist() == [[1, 2, 3, EOS]]
    assert tokenizer.eos_token_id == EOS
    with torch.no_grad():
        torch.testing.assert_close(
            lm.logits(lm.hidden(tokens)), model(tokens).logits, atol=1e-5, rtol=1e-5
        )
    again = LanguageModel.load(str(tmp_path))
    assert all(torch.equal(a, b) for a, b in zip(lm.parameters(), again.parameters(), strict=True))
    assert again.tokenizer.content_hash() == lm.tokenizer.content_hash()


def test_training_mode_leaves_dropout_off(load):
    lm = load("gpt2")
    lm.model.config.resid_pdrop = 0.5
    lm.train(True)
    tokens = torch.arange(6)[None]
    assert not any(module.training for module in lm.model.modules())
    assert torch.equal(lm.hidden(tokens), lm.hidden(tokens))


def test_padded_vocabulary_is_cut_off(tmp_path):
    path = write_checkpoint(tmp_path, "llama", vocab_size=40)
    lm = LanguageModel.load(path)
    hidden = torch.randn(4, lm.hidden_size)
    whole = lm.model.get_output_embeddings()(hidden)
    assert lm.logits(hidden).shape == (4, len(WORDS))
    torch.testing.assert_close(lm.logits(hidden), whole[:, : len(WORDS)])


def test_vocabulary_too_small_for_the_tokenizer(tmp_path):
    with pytest.raises(ModelError, match=r"20 logits.*23 tokens"):
        LanguageModel.load(write_checkpoint(tmp_path, vocab_size=20))


def test_missing_folder(tmp_path):
    for name in (str(tmp_path / "nothing"), "./nothing", "~/nothing/at/all"):
        with pytest.raises(ModelError, match="no model folder"):
            LanguageModel.load(name)


def test_a_folder_without_a_checkpoint(tmp_path):
    with pytest.raises(ModelError, match=r"no config\.json"):
        LanguageModel.load(str(tmp_path))


def test_pickled_weights_are_refused(tmp_path):
    model = GPT2LMHeadModel(config_of("gpt2"))
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    write_tokenizer(tmp_path)
    with pytest.raises(ModelError, match=r"no \*\.safetensors"):
        LanguageModel.load(str(tmp_path))


def test_missing_tokenizer(tmp_path):
    GPT2LMHeadModel(config_of("gpt2")).save_pretrained(tmp_path)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        LanguageModel.load(str(tmp_path))


def test_missing_built_in_model(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "TINY_DIR", tmp_path)
    with pytest.raises(ModelError, match=r"missing from this installation.*textgym\.lm\.train"):
        LanguageModel.load()


def test_live_module_is_refused():
    with pytest.raises(ModelError, match="save_pretrained"):
        LanguageModel.load(GPT2LMHeadModel(config_of("gpt2")))


def test_a_model_that_looks_ahead_is_refused():
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=CONTEXT, initializer_range=0.5,
    )  # fmt: skip
    with pytest.raises(ModelError, match="BertLMHeadModel"):
        LanguageModel(BertLMHeadModel(config), load_tokenizer(WORDS), "bert")


def test_logits_that_are_more_than_a_head_are_refused():
    class Biased(GPT2LMHeadModel):
        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            output.logits = output.logits + torch.arange(len(WORDS)) / 10
            return output

    with pytest.raises(ModelError, match="Biased"):
        LanguageModel(Biased(config_of("gpt2")), load_tokenizer(WORDS), "biased")


def test_fit_to_an_environment(load):
    lm = load("gpt2")
    lm.check_fits(CONTEXT, len(WORDS), load_tokenizer(WORDS).content_hash())
    with pytest.raises(ModelError, match=r"32 tokens.*33"):
        lm.check_fits(CONTEXT + 1, len(WORDS))
    with pytest.raises(ModelError, match=r"24 actions.*23 tokens"):
        lm.check_fits(CONTEXT, len(WORDS) + 1)
    other = load_tokenizer([*reversed(WORDS[:-1]), "<eos>"])
    with pytest.raises(ModelError, match="tokenizer="):
        lm.check_fits(CONTEXT, len(WORDS), other.content_hash())
    # The same words, but another one ends a text: the message has to say so.
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: at for at, word in enumerate(WORDS)})
    )
    ends = load_tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="w1"))
    assert (ends.vocab_size, ends.eos_id) == (len(WORDS), WORDS.index("w1"))
    with pytest.raises(ModelError, match=r"'<eos>'.*eos_token"):
        lm.check_fits(CONTEXT, len(WORDS), ends.content_hash())


def test_empty_text_is_the_start_token(load):
    lm = load("grouped")
    texts = torch.tensor([[-1, -1, -1], [4, 5, -1]])
    expected = lm.hidden(torch.tensor([[EOS]]))[0, 0]
    torch.testing.assert_close(last_hidden(lm, texts)[0], expected)


def test_empty_text_without_a_start_token(load):
    lm = load("gpt2")
    lm.start_id = None
    with pytest.raises(ModelError, match="neither a bos nor an eos"):
        last_hidden(lm, torch.tensor([[-1, -1]]))

"""Encoder-decoders: one array of tokens is read as transformers reads prompt and response apart."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BartConfig,
    BlenderbotConfig,
    LEDConfig,
    LongT5Config,
    M2M100Config,
    MarianConfig,
    MBartConfig,
    MT5Config,
    PegasusConfig,
    PLBartConfig,
    T5Config,
    UMT5Config,
)

from tests.lm.checkpoints import BOS, CONTEXT, ENCODER_DECODERS, EOS, WORDS, config_of
from tests.lm.test_decoding import WIDTH, Schedule, assert_agrees
from textgym.errors import ModelError
from textgym.lm import LanguageModel, MemoDecoder, SequenceBatch, last_hidden
from textgym.lm.decoding.encoder_decoder import EncoderDecoderSlots
from textgym.lm.decoding.slots import make_slots
from textgym.lm.loading.split_check import check_split
from textgym.lm.scoring import sequence_hidden
from textgym.tokenization import load_tokenizer

PROMPTS = [[3, 1, 4, 1, EOS], [5, EOS], [9, 2, 6, EOS]]
RESPONSES = [[5, 3, 5], [8, 9, 7, 9, 3], [EOS, 2, 3, 8, 4, 6]]


def padded(texts: list[list[int]], width: int = WIDTH, fill: int = -1) -> torch.Tensor:
    return torch.tensor([text + [fill] * (width - len(text)) for text in texts])


def texts_after(count: int) -> torch.Tensor:
    """The prompts with the first tokens of their responses."""
    pairs = zip(PROMPTS, RESPONSES, strict=True)
    return padded([prompt + response[:count] for prompt, response in pairs])


@pytest.fixture(params=ENCODER_DECODERS)
def lm(request, load):
    return load(request.param)


class Calls:
    """Counts the rows that an encoder reads, and the passes of a decoder."""

    def __init__(self, lm: LanguageModel) -> None:
        self.encoded: list[tuple[int, ...]] = []
        self.decoded: list[tuple[int, ...]] = []
        for module, seen in (
            (lm.seq2seq.encoder, self.encoded),
            (lm.seq2seq.decoder, self.decoded),
        ):
            module.register_forward_pre_hook(
                lambda module, args, kwargs, seen=seen: seen.append(
                    tuple(kwargs["input_ids"].shape)
                ),
                with_kwargs=True,
            )

    def take(self) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
        taken = list(self.encoded), list(self.decoded)
        self.encoded.clear()
        self.decoded.clear()
        return taken


@pytest.mark.parametrize("kind", ENCODER_DECODERS)
@pytest.mark.parametrize("fill", [-1, 0, 7, EOS])
@torch.no_grad()
def test_logits_are_those_of_the_model(checkpoint, load, kind, fill):
    lm = load(kind)
    model = AutoModelForSeq2SeqLM.from_pretrained(checkpoint(kind)).eval()
    assert lm.seq2seq.prefix == [model.config.decoder_start_token_id]
    pairs = list(zip(PROMPTS, RESPONSES, strict=True))
    logits = lm.logits(lm.hidden(padded([a + b for a, b in pairs], fill=fill)))
    for row, (prompt, response) in enumerate(pairs):
        expected = model(
            input_ids=torch.tensor([prompt]),
            decoder_input_ids=torch.tensor([[*lm.seq2seq.prefix, *response]]),
        ).logits[0]
        end = len(prompt) - 1
        found = logits[row, end : end + len(response) + 1]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        # Nobody can mistake these for the states of a decoder that has not begun.
        assert logits[row, :end].isnan().all()
    assert lm.hidden_size == 32
    assert lm.context_length == (CONTEXT if kind == "bart" else None)


def test_what_bart_adds_to_its_logits(load):
    lm = load("bart")
    text = padded(PROMPTS)
    before = lm.logits(last_hidden(lm, text))
    lm.model.final_logits_bias += torch.arange(len(WORDS)) / 10
    after = lm.logits(last_hidden(lm, text))
    torch.testing.assert_close(after - before, (torch.arange(len(WORDS)) / 10).expand_as(after))
    check_split(lm)


def test_the_encoder_runs_once_a_prompt(lm):
    decoder = MemoDecoder(lm, WIDTH)
    calls = Calls(lm)
    decoder(texts_after(0))
    assert calls.take() == ([(3, 5)], [(3, 1)])
    for count in (1, 2, 3):
        decoder(texts_after(count))
        assert calls.take() == ([], [(3, 1)])
    # The first response is at its end, the others continue; then a new prompt in one row.
    decoder(texts_after(4))
    assert calls.take() == ([], [(3, 1)])
    texts = texts_after(5)
    texts[1] = padded([[4, 4, EOS, 1]])
    decoder(texts)
    assert calls.take() == ([(1, 3)], [(3, 1), (1, 2)])
    # Several tokens at once; taking some back.
    texts[1] = padded([[4, 4, EOS, 1, 2, 3]])
    decoder(texts)
    assert calls.take() == ([], [(1, 2)])
    decoder(texts_after(0)[:2])
    calls.take()
    for count in (2, 0, 1):
        decoder(texts_after(count)[:2])
    assert calls.take() == ([], [(2, 2), (2, 1), (2, 1)])
    assert isinstance(make_slots(lm, 3, WIDTH), EncoderDecoderSlots)


def test_rows_at_the_end_of_their_prompts(lm):
    """The last token of such a text is eos, but the decoder reads its start token there."""
    decoder = MemoDecoder(lm, WIDTH)
    assert_agrees(decoder, texts_after(0).numpy())
    texts = texts_after(1)
    texts[0] = padded([PROMPTS[0]])
    assert_agrees(decoder, texts.numpy())
    for count in (1, 2, 0, 1):
        assert_agrees(decoder, texts_after(count).numpy())


def test_a_prompt_that_goes_on_where_another_one_ended(lm):
    decoder = MemoDecoder(lm, WIDTH)
    for prompts in (
        [[5, EOS], [3, 4, EOS]],
        [[5, 4, EOS], [3, EOS]],
        [[5, 4, 1, EOS], [3, EOS, 2]],
    ):
        assert_agrees(decoder, padded(prompts).numpy())


@pytest.mark.parametrize("forced", [None, BOS])
@pytest.mark.parametrize("kind", ENCODER_DECODERS)
@torch.no_grad()
def test_generation_agrees(checkpoint, kind, forced, tmp_path):
    """Greedy decoding through the memo writes what transformers' generate writes."""
    model = AutoModelForSeq2SeqLM.from_pretrained(checkpoint(kind)).eval()
    model.generation_config.forced_bos_token_id = forced
    model.generation_config.eos_token_id = None
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(checkpoint(kind)).save_pretrained(tmp_path)
    prompts = padded(PROMPTS, 5)
    expected = model.generate(
        prompts.clamp(min=0), attention_mask=(prompts >= 0).long(), do_sample=False,
        max_new_tokens=6 + (forced is not None), pad_token_id=0,
    )  # fmt: skip
    lm = LanguageModel.load(str(tmp_path), device="cpu")
    start = model.config.decoder_start_token_id
    assert lm.seq2seq.prefix == ([start] if forced is None else [start, forced])
    decoder = MemoDecoder(lm, WIDTH)
    texts = padded(PROMPTS)
    lengths = torch.tensor([len(prompt) for prompt in PROMPTS])
    for at in range(6):
        best = lm.logits(decoder(texts)).argmax(-1)
        texts[torch.arange(3), lengths + at] = best
    for row, length in enumerate(lengths.tolist()):
        written = texts[row, length : length + 6].tolist()
        assert lm.seq2seq.prefix + written == expected[row].tolist()


def test_prompts_that_do_not_end(lm):
    decoder = MemoDecoder(lm, WIDTH)
    broken = padded([[1, 2, EOS], [1, 2]])
    for run in (decoder, lambda texts: last_hidden(lm, texts)):
        run(broken[:1])
        for texts in (broken, padded([[1, EOS], []])):
            with pytest.raises(ModelError, match=r"no eos token \(22\).*tokenizer='"):
                run(texts)
    # A decision before the end of the prompt, in a longer text.
    batch = SequenceBatch(padded([[1, 2, 3, EOS, 4]]), torch.tensor([0]), torch.tensor([1]))
    with pytest.raises(ModelError, match="no eos token"):
        sequence_hidden(lm, batch)
    batch = SequenceBatch(batch.tokens, torch.tensor([0, 0]), torch.tensor([1, 4]))
    assert sequence_hidden(lm, batch).isnan().any(1).tolist() == [True, False]


def test_padding_does_not_end_a_prompt():
    """Even if padding is replaced by the id of eos."""
    config = config_of("t5")
    config.eos_token_id = 0
    torch.manual_seed(0)
    model = AutoModelForSeq2SeqLM.from_config(config)
    words = ["<eos>", *(f"w{at}" for at in range(22))]
    lm = LanguageModel(model, load_tokenizer(words), "t5")
    with pytest.raises(ModelError, match=r"no eos token \(0\)"):
        last_hidden(lm, padded([[1, 2, 3]]))
    assert_agrees(MemoDecoder(lm, WIDTH), padded([[1, 2, 0, 3], [0], [4, 0]]).numpy())


@torch.no_grad()
def test_each_side_has_its_limit(load):
    lm = load("bart")
    lm.check_fits(2 * CONTEXT, len(WORDS))
    with pytest.raises(ModelError, match=r"64 tokens.*65"):
        lm.check_fits(2 * CONTEXT + 1, len(WORDS))
    width = 2 * CONTEXT + 2
    decoder = MemoDecoder(lm, width)
    prompt, response = [1] * (CONTEXT - 1) + [EOS], [2] * (CONTEXT - 1)
    texts = padded([prompt + response, [EOS, *response], prompt, [EOS]], width)
    assert_agrees(decoder, texts[:, : 2 * CONTEXT - 1].numpy())
    decoder(texts[:, :width])
    grown = texts.clone()
    grown[1, CONTEXT] = grown[2, CONTEXT] = grown[3, 1] = 3
    for run in (decoder, lambda texts: last_hidden(lm, texts)):
        with pytest.raises(ModelError, match=r"32 tokens.*response"):
            run(grown)
        with pytest.raises(ModelError, match=r"32 tokens.*prompt"):
            run(padded([[1, *prompt], prompt], width))
    # One row may be at the end of its prompt, another one at the end of its response.
    grown[1, CONTEXT] = -1
    assert_agrees(decoder, grown.numpy())


def test_positions_are_only_lent(lm):
    """A pass of the slots leaves the model as it was: for copies, for pickle, after an error."""
    decoder = MemoDecoder(lm, WIDTH)
    decoder(texts_after(1))
    for module in lm.model.modules():
        assert not {"compute_bias", "forward"} & set(vars(module))
    layers = next(c for c in lm.seq2seq.decoder.children() if isinstance(c, torch.nn.ModuleList))
    hook = layers[1].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        decoder(texts_after(2))
    hook.remove()
    for module in lm.model.modules():
        assert not {"compute_bias", "forward"} & set(vars(module))
    assert_agrees(decoder, texts_after(2).numpy())
    twin = copy.deepcopy(lm)
    assert twin.seq2seq.decoder is not lm.seq2seq.decoder
    assert twin.seq2seq.decoder is twin.model.get_decoder()
    pickle.dumps(lm.model)


def test_what_it_saves_plain_transformers_loads(lm, tmp_path):
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter.add_(0.01)
    lm.save_pretrained(tmp_path)
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, use_safetensors=True).eval()
    prompt = AutoTokenizer.from_pretrained(tmp_path)("w1 w2", return_tensors="pt").input_ids
    assert prompt[0, -1] == EOS
    expected = model(input_ids=prompt, decoder_input_ids=torch.tensor([lm.seq2seq.prefix])).logits
    torch.testing.assert_close(lm.logits(last_hidden(lm, prompt)), expected[:, -1])
    again = LanguageModel.load(str(tmp_path), device="cpu")
    torch.testing.assert_close(again.hidden(prompt)[:, -1], lm.hidden(prompt)[:, -1])


COMMON = {"vocab_size": len(WORDS), "eos_token_id": EOS, "decoder_start_token_id": 0}
T5_LIKE = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_decoder_layers": 2,
           "num_heads": 2, "relative_attention_num_buckets": 6,
           "relative_attention_max_distance": 8, **COMMON}  # fmt: skip
BART_LIKE = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2,
             "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16,
             "pad_token_id": 1, "init_std": 0.3, "max_position_embeddings": 32,
             **COMMON}  # fmt: skip
RELATIVES = {
    "t5 1.1": T5Config(feed_forward_proj="gated-gelu", tie_word_embeddings=False, **T5_LIKE),
    "mt5": MT5Config(**T5_LIKE),
    "umt5": UMT5Config(**T5_LIKE),
    "longt5": LongT5Config(local_radius=4, **T5_LIKE),
    "bart scaled": BartConfig(scale_embedding=True, **BART_LIKE),
    "mbart": MBartConfig(**BART_LIKE),
    "plbart": PLBartConfig(**BART_LIKE),
    "pegasus": PegasusConfig(**BART_LIKE),
    "marian": MarianConfig(**BART_LIKE),
    "blenderbot": BlenderbotConfig(**BART_LIKE),
}
REFUSED = {
    "led": LEDConfig(attention_window=4, max_encoder_position_embeddings=32, **BART_LIKE),
    "m2m_100": M2M100Config(**BART_LIKE),
}


def with_config(config) -> LanguageModel:
    torch.manual_seed(0)
    model = AutoModelForSeq2SeqLM.from_config(config).eval()
    return LanguageModel(model, load_tokenizer(WORDS), config.model_type)


@pytest.mark.parametrize("name", RELATIVES)
def test_relatives(name):
    schedule = Schedule(with_config(RELATIVES[name]), 0)
    for move in ("grow", "some restart", "grow several", "shrink", "grow"):
        schedule.play(move, 6)


@pytest.mark.parametrize("name", REFUSED)
def test_others_are_refused_by_name(name):
    lm = with_config(REFUSED[name])
    last_hidden(lm, padded(PROMPTS))
    with pytest.raises(ModelError, match=rf"{name}.*position.*cache=False"):
        MemoDecoder(lm, WIDTH)


def test_without_a_start_or_an_end():
    config = config_of("t5")
    config.decoder_start_token_id = None
    with pytest.raises(ModelError, match="decoder has no start token"):
        with_config(config)
    model = AutoModelForSeq2SeqLM.from_config(config_of("t5"))
    words = load_tokenizer(WORDS[:-1], add_eos=False)
    with pytest.raises(ModelError, match="tokenizer has no eos token"):
        LanguageModel(model, words, "t5")


@pytest.mark.parametrize("kind", ENCODER_DECODERS)
def test_first_called_in_inference_mode(load, kind):
    decoder = MemoDecoder(load(kind), WIDTH)
    with torch.inference_mode():
        decoder(texts_after(1))
    assert_agrees(decoder, texts_after(2).numpy())
    assert_agrees(decoder, texts_after(0).numpy())

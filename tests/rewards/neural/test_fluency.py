from __future__ import annotations

import math
import pickle
from pathlib import Path

import pytest
import tokenizers
import torch
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    PreTrainedTokenizerFast,
)

from tests.lm.checkpoints import write_checkpoint
from tests.rewards.neural.checkpoints import CONTEXT, EOS, WORDS, write
from textgym.errors import RewardError
from textgym.lm import LanguageModel
from textgym.rewards import RewardSum
from textgym.rewards.neural.fluency import Fluency, perplexity
from textgym.tokenization import TINY, TINY_DIR

PROMPTS = ["The cat", "Once upon a time", "", "A film review:\n"]
TEXTS = [" sat on the mat.", " there was a king", "Hello!", " It was good, very good. 猫"]


class Truth:
    """Transformers' own loss."""

    def __init__(self, folder: str) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def loss(self, before: list[int], after: list[int]) -> float:
        tokens = torch.tensor([before + after])
        labels = torch.tensor([[-100] * len(before) + after])
        with torch.no_grad():
            return float(self.model(input_ids=tokens, labels=labels).loss)


@pytest.fixture(scope="module")
def tiny() -> Truth:
    return Truth(str(TINY_DIR))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("gpt2"), "gpt2", "lm")


@pytest.mark.parametrize("condition", ["prompt", "nothing"])
def test_it_is_transformers_loss(tiny: Truth, condition: str) -> None:
    reward = Fluency(condition=condition, device="cpu")
    total = Fluency(condition=condition, normalize="total", device="cpu")
    for prompt, text in zip(PROMPTS, TEXTS, strict=True):
        before = tiny.ids(prompt) if condition == "prompt" else []
        after = tiny.ids(text)
        # The model's start token replaces an empty prompt.
        loss = tiny.loss(before or [0], after)
        assert reward([prompt], [text]) == [pytest.approx(-loss, abs=1e-5)]
        assert total([prompt], [text]) == [pytest.approx(-loss * len(after), abs=1e-4)]


@pytest.mark.parametrize("batch_tokens", [1, 20, 10_000])
def test_a_batch_is_its_texts(batch_tokens: int) -> None:
    reward = Fluency(device="cpu", cache_size=0, batch_tokens=batch_tokens)
    alone = [reward([p], [t])[0] for p, t in zip(PROMPTS, TEXTS, strict=True)]
    assert reward(PROMPTS, TEXTS) == pytest.approx(alone, abs=1e-5)
    # Again, shuffled and repeated.
    order = [2, 0, 0, 3, 1, 2]
    again = reward([PROMPTS[i] for i in order], [TEXTS[i] for i in order])
    assert again == pytest.approx([alone[i] for i in order], abs=1e-5)


def test_logits_are_computed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Fluency(device="cpu")(PROMPTS, TEXTS)
    monkeypatch.setattr("textgym.rewards.neural.fluency.MAX_LOGITS", 3 * 1443)
    assert Fluency(device="cpu")(PROMPTS, TEXTS) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("prompt_words", [0, 1, 5, 12, 15, 16, 17, 40])
@pytest.mark.parametrize("words", [1, 2, 8, 15, 16, 17, 33])
def test_long_texts_slide(small: str, prompt_words: int, words: int) -> None:
    """Score every token of the completion in a separate window."""
    truth = Truth(small)
    prompt = [WORDS[i * 7 % len(WORDS)] for i in range(prompt_words)]
    said = [WORDS[(i * i + 3) % len(WORDS)] for i in range(words)]
    value = Fluency(small, normalize="total", device="cpu")([" ".join(prompt)], [" ".join(said)])[0]
    tokens = (truth.ids(" ".join(prompt)) or [EOS]) + truth.ids(" ".join(said))
    # Where a window ends: it scores half a context, the first one as much as fits.
    expected, at = 0.0, len(tokens) - words
    while at < len(tokens):
        stop = min(len(tokens), max(at + CONTEXT // 2, CONTEXT + 1))
        for target in range(at, stop):
            context = tokens[max(0, stop - 1 - CONTEXT) : target]
            assert CONTEXT // 2 <= len(context) <= CONTEXT or len(context) == target
            with torch.no_grad():
                logits = truth.model(torch.tensor([context])).logits[0, -1]
            expected += float(logits.log_softmax(-1)[tokens[target]])
        at = stop
    assert value == pytest.approx(expected, abs=1e-4)


def test_a_model_without_a_start_token_skips_what_follows_nothing(tmp_path: Path) -> None:
    config = GPT2Config(
        vocab_size=2, n_embd=16, n_layer=1, n_head=2, n_positions=8, bos_token_id=None,
        eos_token_id=None, initializer_range=0.5,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    backend = tokenizers.Tokenizer(WordLevel({"good": 0, "bad": 1}))
    backend.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(tmp_path)
    reward = Fluency(str(tmp_path), device="cpu", empty=-9.0)
    loss = Truth(str(tmp_path)).loss([0], [1, 1])
    assert reward([""], ["good bad bad"]) == [pytest.approx(-loss, abs=1e-5)]
    assert reward([""], ["good"]) == [-9.0]
    assert reward(["bad"], ["good"])[0] != -9.0


def test_empty_completions() -> None:
    assert Fluency(device="cpu")(["a", "b"], ["", " cat"])[0] is None
    assert Fluency(device="cpu", empty=-5.0)(["a"], [""]) == [-5.0]
    assert Fluency(device="cpu")([], []) == []
    # In a sum, None is 0: documented, and why there is an option.
    total, _ = RewardSum(Fluency(device="cpu", empty=-5.0), "env")(["a"], [""], {})
    assert total.tolist() == [-5.0]


def test_sense_is_likelier_than_its_words_in_another_order() -> None:
    # In words that the built-in model has read.
    sense, nonsense = "The room was clean and the staff", "staff the and clean was room The"
    good, bad = Fluency(condition="nothing", device="cpu")(["", ""], [sense, nonsense])
    assert bad < good - 1 < 0


def test_any_text_is_finite() -> None:
    texts = ["\ud800", "\x00", "猫" * 300, " " * 50, "\n", "<|endoftext|>"]
    values = Fluency(device="cpu")([""] * len(texts), texts)
    assert all(value <= 0 and math.isfinite(value) for value in values)


def test_a_pickle_scores_the_same() -> None:
    reward = Fluency(normalize="total", device="cpu")
    values = reward(PROMPTS, TEXTS)
    assert pickle.loads(pickle.dumps(reward))(PROMPTS, TEXTS) == values


@pytest.mark.parametrize("option", [{"normalize": "word"}, {"condition": "reference"}])
def test_wrong_options(option: dict) -> None:
    with pytest.raises(RewardError, match=f"^fluency: {next(iter(option))} must be one of"):
        Fluency(**option)


def test_encoder_decoders_are_refused(tmp_path: Path) -> None:
    reward = Fluency(write_checkpoint(tmp_path, "t5"), device="cpu")
    with pytest.raises(RewardError, match="encoder-decoder"):
        reward(["w1"], ["w2"])


@pytest.mark.parametrize("kind", ["llama", "mamba", "lstm"])
def test_other_architectures(tmp_path: Path, kind: str) -> None:
    folder = write_checkpoint(tmp_path, kind)
    lm = LanguageModel.load(folder, device="cpu")
    prompts, texts = ["w1 w2", "w3", ""], ["w4 w5 w6", "w7", "w8 w9 w1 w2 w3"]
    values = Fluency(folder, device="cpu")(prompts, texts)
    for prompt, text, value in zip(prompts, texts, values, strict=True):
        before = lm.tokenizer.encode(prompt) or [lm.start_id]
        after = lm.tokenizer.encode(text)
        with torch.no_grad():
            logits = lm.model(input_ids=torch.tensor([before + after])).logits[0].log_softmax(-1)
        said = [float(logits[len(before) - 1 + at, token]) for at, token in enumerate(after)]
        assert value == pytest.approx(sum(said) / len(said), abs=1e-5)


# -- perplexity ------------------------------------------------------------------------------------


def test_perplexity_weighs_tokens(tiny: Truth) -> None:
    lm = LanguageModel.load(TINY, device="cpu")
    for prompts in (None, PROMPTS):
        total, count = 0.0, 0
        for at, text in enumerate(TEXTS):
            before, after = tiny.ids(prompts[at] if prompts else "") or [0], tiny.ids(text)
            total += tiny.loss(before, after) * len(after)
            count += len(after)
        expected = pytest.approx(math.exp(total / count), rel=1e-5)
        assert perplexity(TEXTS, lm, prompts) == expected
        assert perplexity([*TEXTS, ""], lm, prompts and [*prompts, "x"], batch_tokens=7) == expected
    if not torch.cuda.is_available():
        assert perplexity(TEXTS) == perplexity(TEXTS, lm)


def test_perplexity_of_a_uniform_model(small: str) -> None:
    lm = LanguageModel.load(small, device="cpu")
    with torch.no_grad():
        for weight in lm.model.parameters():
            weight.zero_()
    assert perplexity(["the cat sat", "on"], lm) == pytest.approx(lm.vocab_size, rel=1e-5)


def test_perplexity_needs_tokens() -> None:
    for texts in ([], ["", ""]):
        with pytest.raises(RewardError, match="no token to score"):
            perplexity(texts)

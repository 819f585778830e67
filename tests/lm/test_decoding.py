"""The cache is a memo: whatever is asked, in whatever order, the answer is the uncached one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, DynamicCache

from tests.lm.checkpoints import EOS, WORDS
from textgym.errors import ActionError, ModelError
from textgym.lm import LanguageModel, MemoDecoder, SlotCache, last_hidden
from textgym.lm.decoding.attention import AttentionSlots, attention_kinds
from textgym.lm.decoding.slots import make_slots

ATTENTION = ["gpt2", "llama", "grouped", "qwen", "sliding", "alternating"]
# What these run is tested in test_recurrent.py, test_lstm.py and test_encoder_decoder.py.
KINDS = [*ATTENTION, "mamba", "mamba2", "lstm", "t5", "bart"]
WIDTH = 14


@pytest.fixture(params=KINDS)
def lm(request, load):
    return load(request.param)


@pytest.fixture(params=ATTENTION)
def attention_lm(request, load):
    return load(request.param)


def assert_agrees(decoder: MemoDecoder, texts: np.ndarray) -> None:
    lm = decoder.lm
    observations = torch.from_numpy(texts.copy())
    with torch.no_grad():
        expected = last_hidden(lm, observations)
        found = decoder(observations)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(lm.logits(found), lm.logits(expected), atol=1e-4, rtol=1e-4)


class Schedule:
    """A random life of a batch of texts, and of the weights."""

    def __init__(self, lm: LanguageModel, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.lm, self.decoder = lm, MemoDecoder(lm, WIDTH)
        self.batches = {rows: np.full((rows, WIDTH), -1, np.int32) for rows in (1, 3, 6, 8, 9)}
        for rows in self.batches:
            self.restart(rows, np.ones(rows, dtype=bool))

    def restart(self, rows: int, mask: np.ndarray) -> None:
        texts = self.batches[rows]
        for row in np.flatnonzero(mask):
            length = self.rng.integers(0, WIDTH + 1)
            texts[row] = -1
            texts[row, :length] = self.rng.integers(0, len(WORDS), length)
        self.close(rows)

    def close(self, rows: int) -> None:
        """Prompts of an encoder-decoder end with eos."""
        if self.lm.seq2seq is not None:
            for text in self.batches[rows]:
                if not (text == EOS).any():
                    length = max(int((text >= 0).sum()), 1)
                    text[self.rng.integers(0, length)] = EOS

    def grow(self, rows: int, most: int) -> None:
        texts = self.batches[rows]
        for row in range(rows):
            length = int((texts[row] >= 0).sum())
            more = min(int(self.rng.integers(1, most + 1)), WIDTH - length)
            texts[row, length : length + more] = self.rng.integers(0, len(WORDS), more)

    def shrink(self, rows: int) -> None:
        for text in self.batches[rows]:
            text[self.rng.integers(0, WIDTH) :] = -1

    def edit(self, rows: int) -> None:
        """Another prefix under the same continuation."""
        for text in self.batches[rows]:
            length = int((text >= 0).sum())
            if length:
                text[self.rng.integers(0, length)] = self.rng.integers(0, len(WORDS))

    def permute(self, rows: int) -> None:
        self.batches[rows] = self.batches[rows][self.rng.permutation(rows)]

    def change_weights(self, how: str) -> None:
        parameters = list(self.decoder.lm.body.parameters())
        parameter = parameters[self.rng.integers(len(parameters))]
        noise = 0.1 * torch.randn(parameter.shape)
        if how == "in place":
            with torch.no_grad():
                parameter.add_(noise)
        elif how == "data":
            parameter.data.add_(noise)
        elif how == "element":
            # Through .data it would be seen some calls later: see test_weights.py.
            with torch.no_grad():
                flat = parameter.view(-1)
                flat[self.rng.integers(len(flat))] += 0.5
        else:
            state = self.decoder.lm.state_dict()
            self.decoder.lm.load_state_dict({key: 0.99 * value for key, value in state.items()})

    def play(self, move: str, rows: int) -> None:
        if move == "grow":
            self.grow(rows, 1)
        elif move == "grow several":
            self.grow(rows, 4)
        elif move == "some restart":
            self.grow(rows, 1)
            self.restart(rows, self.rng.random(rows) < 0.3)
        elif move == "all restart":
            self.restart(rows, np.ones(rows, dtype=bool))
        elif move in ("shrink", "edit", "permute"):
            getattr(self, move)(rows)
        elif move in ("in place", "data", "element", "load"):
            self.change_weights(move)
        elif move == "invalidate":
            self.decoder.invalidate()
        self.close(rows)
        assert_agrees(self.decoder, self.batches[rows])


MOVES = [
    "grow",
    "grow several",
    "some restart",
    "all restart",
    "repeat",
    "shrink",
    "edit",
    "permute",
    "in place",
    "data",
    "element",
    "load",
    "invalidate",
]
# Mostly what rollouts do, now and then anything.
SCHEDULES = st.lists(
    st.tuples(
        st.one_of(st.sampled_from(MOVES[:3]), st.sampled_from(MOVES)),
        st.sampled_from([8, 8, 8, 1, 3, 6, 9]),
    ),
    min_size=5,
    max_size=20,
)


@given(SCHEDULES, st.integers(0, 2**32 - 1))
@settings(
    deadline=None, max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@pytest.mark.parametrize("kind", KINDS)
def test_any_schedule_agrees_with_the_uncached_model(load, kind, moves, seed):
    torch.manual_seed(seed)
    schedule = Schedule(load(kind), seed)
    for move, rows in moves:
        schedule.play(move, rows)


class Counter:
    """Counts the tokens and the passes that a model runs."""

    def __init__(self, lm: LanguageModel) -> None:
        self.shapes: list[tuple[int, int]] = []
        lm.body.register_forward_pre_hook(self.hook, with_kwargs=True)

    def hook(self, module, args, kwargs):
        self.shapes.append(tuple(kwargs["input_ids"].shape))

    def take(self) -> list[tuple[int, int]]:
        shapes, self.shapes = self.shapes, []
        return shapes


def texts_of(*lengths: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    texts = rng.integers(0, len(WORDS), (len(lengths), WIDTH)).astype(np.int32)
    # Encoder-decoders need prompts that end; others do not mind.
    texts[np.arange(len(lengths)), np.arange(len(lengths)) % 2] = EOS
    texts[np.arange(WIDTH) >= np.array(lengths)[:, None]] = -1
    return texts


def test_only_what_is_missing_is_run(attention_lm):
    lm = attention_lm
    decoder = MemoDecoder(lm, WIDTH)
    counter = Counter(lm)
    decoder(torch.from_numpy(texts_of(3, 5, 4, 2)))
    assert counter.take() == [(4, 5)]
    decoder(torch.from_numpy(texts_of(4, 6, 5, 3)))
    assert counter.take() == [(4, 1)]
    decoder(torch.from_numpy(texts_of(4, 6, 5, 3)))
    assert counter.take() == []
    grown = texts_of(5, 7, 6, 6)
    grown[3] = [5, 6, 7] + [-1] * (WIDTH - 3)
    decoder(torch.from_numpy(grown))
    assert counter.take() == [(4, 1), (1, 3)]
    decoder(torch.from_numpy(texts_of(9, 7, 6, 3)[:1]))
    assert counter.take() == [(1, 9)]
    # The other batch size had its own memo.
    decoder(torch.from_numpy(grown))
    assert counter.take() == []
    # Several tokens at once, as the environment's turn in a dialogue adds them.
    grown[0, 5:8] = 1
    decoder(torch.from_numpy(grown))
    assert counter.take() == [(1, 3)]


def test_old_batch_sizes_are_forgotten(attention_lm):
    lm = attention_lm
    decoder = MemoDecoder(lm, WIDTH)
    counter = Counter(lm)
    for rows in (1, 2, 3, 4):
        decoder(torch.from_numpy(texts_of(*[4] * rows)))
    counter.take()
    decoder(torch.from_numpy(texts_of(4, 4, 4, 4)))
    assert counter.take() == []
    decoder(torch.from_numpy(texts_of(4)))
    assert counter.take() == [(1, 4)]


def test_the_answer_is_the_callers(lm):
    decoder = MemoDecoder(lm, WIDTH)
    texts = torch.from_numpy(texts_of(3, 5))
    first = decoder(texts)
    expected = first.clone()
    first.zero_()
    assert torch.equal(decoder(texts), expected)


def test_inference_mode_and_no_grad_mix(lm):
    decoder = MemoDecoder(lm, WIDTH)
    with torch.inference_mode():
        decoder(torch.from_numpy(texts_of(3, 5)))
    assert_agrees(decoder, texts_of(4, 6))
    with torch.inference_mode():
        decoder(torch.from_numpy(texts_of(5, 7)))
    assert_agrees(decoder, texts_of(6, 8))


def test_an_error_leaves_no_half_truth(lm, monkeypatch):
    """The first layer has written its keys of the new texts when the second one fails."""
    decoder = MemoDecoder(lm, WIDTH)
    assert_agrees(decoder, texts_of(6, 5))
    others = texts_of(6, 5)
    others[others >= 0] = 3
    others[:, 1] = EOS
    body = lm.body if lm.seq2seq is None else lm.seq2seq.decoder
    layers = next(child for child in body.children() if isinstance(child, torch.nn.ModuleList))
    with monkeypatch.context() as patch:

        def fail(*args, **kwargs):
            raise RuntimeError("out of memory")

        patch.setattr(layers[1], "forward", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            decoder(torch.from_numpy(others))
    assert_agrees(decoder, texts_of(7, 6))


def test_broken_texts_are_refused(lm):
    decoder = MemoDecoder(lm, WIDTH)
    texts = texts_of(3, 5)
    texts[0, 1] = -1
    with pytest.raises(ActionError, match="observations"):
        decoder(torch.from_numpy(texts))
    texts = texts_of(3, 5)
    texts[0, 1] = len(WORDS)
    with pytest.raises(ActionError, match="observations"):
        decoder(torch.from_numpy(texts))


def test_dtype_change_starts_over(lm):
    decoder = MemoDecoder(lm, WIDTH)
    decoder(torch.from_numpy(texts_of(3, 5)))
    lm.to(torch.float64)
    assert decoder(torch.from_numpy(texts_of(4, 6))).dtype == torch.float64


def test_slot_cache_equals_the_cache_of_transformers(load):
    """Token by token through transformers' own DynamicCache, one row at a time."""
    lm = load("grouped")
    texts = texts_of(5, 9, 7)
    decoder = MemoDecoder(lm, WIDTH)
    with torch.no_grad():
        for last in range(1, 5):
            decoder(torch.from_numpy(np.where(np.arange(WIDTH) < last, texts, -1)))
        found = decoder(torch.from_numpy(texts))
        for row, length in enumerate((5, 9, 7)):
            cache = DynamicCache(config=lm.model.config)
            for token in texts[row, :length]:
                step = lm.model.model(
                    input_ids=torch.tensor([[int(token)]]), past_key_values=cache, use_cache=True
                )
            torch.testing.assert_close(
                found[row], step.last_hidden_state[0, 0], atol=1e-5, rtol=1e-4
            )
    assert isinstance(make_slots(lm, 2, 6), AttentionSlots)


def test_rope_that_changes_with_the_length_is_refused(load):
    lm = load("llama")
    lm.model.config.rope_parameters = {
        "rope_type": "dynamic",
        "rope_theta": 1e4,
        "factor": 2.0,
        "original_max_position_embeddings": 8,
    }
    attention_kinds(lm, 8)
    with pytest.raises(ModelError, match="beyond 8 tokens"):
        attention_kinds(lm, 9)


def test_a_cache_that_is_not_honoured_is_found_out(load, monkeypatch):
    """The last line of defence compares results, whatever the configuration claims."""
    lm = load("gpt2")
    monkeypatch.setattr(SlotCache, "store", lambda self, memory, states: states)
    with pytest.raises(ModelError, match=r"GPT2LMHeadModel.*cache=False"):
        MemoDecoder(lm, WIDTH)


def test_fewer_rows_than_a_share_are_gathered(load, monkeypatch):
    """Both ways of feeding one token give the same."""
    lm = load("gpt2")
    counter = Counter(lm)
    decoder = MemoDecoder(lm, WIDTH)
    texts = texts_of(*[4] * 9)
    assert_agrees(decoder, texts)
    counter.take()
    texts[2, 4] = 7
    with torch.no_grad():
        expected = last_hidden(lm, torch.from_numpy(texts))
        counter.take()
        found = decoder(torch.from_numpy(texts))
    assert counter.take() == [(1, 1)]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["gpt2", "sliding", "alternating", "mamba", "mamba2", "lstm"])
def test_plain_generation_agrees(checkpoint, load, kind):
    """Greedy decoding through the memo writes what transformers' generate writes."""
    lm = load(kind)
    model = AutoModelForCausalLM.from_pretrained(checkpoint(kind)).eval()
    prompt = torch.tensor([[1, 2, 3], [4, 5, 6]])
    expected = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=8,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=EOS,
    )
    decoder = MemoDecoder(lm, WIDTH)
    texts = torch.full((2, WIDTH), -1)
    texts[:, :3] = prompt
    for at in range(3, 11):
        texts[:, at] = lm.logits(decoder(texts)).argmax(-1)
    assert texts[:, :11].tolist() == expected.tolist()

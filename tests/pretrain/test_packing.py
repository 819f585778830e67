"""Packed batches: every document as if it were alone in its row."""

from itertools import repeat

import numpy as np
import pytest
import torch

from textgym.errors import SettingsError
from textgym.pretrain.documents import HARD, Document, Proportions, draw_documents
from textgym.pretrain.learner import Learner, make_model, weighted_mean
from textgym.pretrain.packing import PROMPT_WEIGHT, encode, pack
from textgym.pretrain.recall import recall_lesson
from textgym.pretrain.settings import TrainSettings
from textgym.tasks import make_task
from textgym.tokenization import load_tokenizer

TOKENIZER = load_tokenizer()
PREFIX = 9


@pytest.fixture(scope="module")
def batch():
    return pack(draw_documents([7], Proportions(0.5, 0.1, HARD, 3.0)), TOKENIZER, 4, 256, PREFIX)


@pytest.fixture(scope="module")
def learner():
    torch.manual_seed(0)
    return Learner(make_model(TOKENIZER, TrainSettings(layers=2, width=32, heads=2))).eval()


def spans(batch):
    """Row, start and end of each document."""
    for row, numbers in enumerate(batch.documents.tolist()):
        for number in range(1, max(numbers) + 1):
            where = [at for at, one in enumerate(numbers) if one == number]
            assert where == list(range(where[0], where[-1] + 1))
            yield row, where[0], where[-1] + 1


def test_rows_are_nearly_full(batch):
    assert (batch.documents > 0).float().mean() > 0.9


def test_targets_are_the_next_tokens_of_the_same_document(batch):
    prefixed = {(row, at) for row, at in batch.places.flatten(1).T.tolist()}
    for row, start, end in spans(batch):
        while (row, start) in prefixed:
            assert batch.weights[row, start] == 0
            assert batch.positions[row, start] == 0
            start += 1
        assert batch.positions[row, start:end].tolist() == list(range(end - start))
        assert batch.targets[row, start : end - 1].equal(batch.tokens[row, start + 1 : end])
        assert batch.tokens[row, end - 1] == TOKENIZER.eos_id
        assert batch.weights[row, end - 1] == 0
        weights = batch.weights[row, start : end - 1].tolist()
        assert set(weights) <= {float(np.float32(PROMPT_WEIGHT)), 1.0}


def test_prompt_and_completion_are_tokenized_apart():
    rng = np.random.default_rng(0)
    talk = make_task("TextGen/Dialogue-v0", level=2).turns_document(rng)
    prompt = talk[0][: talk[0].index("\nAgent:") + len("\nAgent:")]
    for first in (False, True):
        ids, weights, _ = encode(Document(prompt, talk), TOKENIZER, first)
        count = weights.index(1.0)
        assert ids[0] == TOKENIZER.eos_id or not first
        assert ids[first:count] == TOKENIZER.encode(prompt)
        ends = [at for at, index in enumerate(ids) if index == TOKENIZER.eos_id][first:]
        starts = [int(first), *(end + 1 for end in ends)]
        pieces = zip(starts, ends, strict=False)
        assert [TOKENIZER.decode(ids[start:end]) for start, end in pieces] == talk


def test_of_a_lesson_the_answers_are_learned():
    rng = np.random.default_rng(0)
    first, *others = recall_lesson(rng, 4)
    lesson = Document(first.prompt, [first.prompt + first.answer], more=others)
    ids, weights, _ = encode(lesson, TOKENIZER, False)
    learned = [index for index, weight in zip(ids, weights, strict=True) if weight == 1.0]
    answers = "".join(answer for _, answer in (first, *others))
    assert TOKENIZER.decode(learned) == answers + TOKENIZER.decode([TOKENIZER.eos_id])
    text = "".join(question + answer for question, answer in (first, *others))
    assert TOKENIZER.decode(ids[:-1]) == text


def test_losses_of_a_packed_document_are_those_of_the_document_alone(batch, learner):
    """Pictures included. The unpacked loss is computed by transformers without a mask of ours."""
    with torch.no_grad():
        packed = learner(batch)
        seen = iter(learner.pictures(batch.images))
        starts = batch.places[:, :, 0].T.tolist()
        pictures = {tuple(place): next(seen) for place in starts}
        assert pictures
        for row, start, end in spans(batch):
            image = pictures.get((row, start))
            begin = start if image is None else start + PREFIX
            words = learner.model.get_input_embeddings()(batch.tokens[row, begin:end])
            positions = torch.arange(end - begin)
            if image is not None:
                words = torch.cat([image, words])
                positions = torch.cat([torch.zeros(PREFIX, dtype=torch.long), positions])
            logits = learner.model(
                inputs_embeds=words[None],
                position_ids=positions[None],
                attention_mask=torch.ones(1, len(words)),
            ).logits[0]
            losses = torch.nn.functional.cross_entropy(
                logits[begin - start : -1], batch.targets[row, begin : end - 1], reduction="none"
            )
            torch.testing.assert_close(packed[row, begin : end - 1], losses, rtol=1e-4, atol=1e-4)


def test_the_loss_is_a_weighted_mean(batch, learner):
    with torch.no_grad():
        losses = learner(batch)
    above = sum(
        float(a * b) for a, b in zip(losses.flatten(), batch.weights.flatten(), strict=True)
    )
    mean = weighted_mean(losses, batch.weights).item()
    assert mean == pytest.approx(above / float(batch.weights.sum()), rel=1e-4)


def test_a_document_longer_than_a_row_is_refused():
    text = Document("", ["one two three " * 40])
    with pytest.raises(SettingsError, match="row_length"):
        pack(repeat(text), TOKENIZER, 2, 32)

"""A picture as prefix embeddings: what the model is fed, with the cache and without."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lm.checkpoints import WORDS
from textgym.errors import ModelError
from textgym.lm import LanguageModel, MemoDecoder, last_hidden
from textgym.lm.pictures import PICTURES_FILE, PictureEncoder
from textgym.lm.scoring import SequenceBatch, sequence_hidden

SHAPE = (3, 12, 16)
WIDTH = 10
KINDS = ["gpt2", "llama", "grouped", "qwen", "sliding", "alternating"]


def pictures(rng, count):
    return torch.from_numpy(rng.integers(0, 256, (count, *SHAPE), dtype=np.uint8))


def texts(rng, count, shortest=0):
    rows = np.full((count, WIDTH), -1, np.int32)
    for row in rows:
        length = rng.integers(shortest, WIDTH + 1)
        row[:length] = rng.integers(0, len(WORDS), length)
    return torch.from_numpy(rows)


def seeing(lm, seed=0, scale=1.0):
    torch.manual_seed(seed)
    encoder = PictureEncoder(SHAPE, lm.hidden_size, grid=1)
    torch.nn.init.normal_(encoder.embed.weight, std=scale)
    lm.attach_pictures(encoder)
    return lm


@pytest.fixture(params=KINDS)
def lm(request, load):
    return seeing(load(request.param))


def by_hand(lm, image, ids):
    """The body's answer to embeddings put together here, one text at a time."""
    seen = lm.pictures(image[None])
    words = lm.model.get_input_embeddings()(torch.tensor([ids]))
    places = [0] * seen.shape[1] + list(range(len(ids)))
    fed = torch.cat([seen, words], 1)
    output = lm.body(
        inputs_embeds=fed,
        position_ids=torch.tensor([places]),
        attention_mask=torch.ones(1, fed.shape[1]),
        use_cache=False,
    )
    return output.last_hidden_state[0, -1]


def test_a_text_follows_its_picture(lm):
    rng = np.random.default_rng(0)
    images, tokens = pictures(rng, 5), texts(rng, 5, shortest=1)
    with torch.no_grad():
        found = last_hidden(lm, tokens, images)
        for row in range(5):
            ids = tokens[row][tokens[row] >= 0].tolist()
            torch.testing.assert_close(
                found[row], by_hand(lm, images[row], ids), atol=1e-5, rtol=1e-5
            )
        other = last_hidden(lm, tokens, images.roll(1, 0))
        assert (found - other).abs().amax() > 1e-4, "the picture is looked at"
        assert (found - last_hidden(lm, tokens)).abs().amax() > 1e-4


def test_an_empty_text_behind_a_picture_is_the_start_token(lm):
    rng = np.random.default_rng(1)
    images = pictures(rng, 3)
    empty = torch.full((3, WIDTH), -1)
    with torch.no_grad():
        found = last_hidden(lm, empty, images)
        for row in range(3):
            expected = by_hand(lm, images[row], [lm.start_id])
            torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=1e-5)


def test_decisions_of_one_sequence_share_its_picture(lm):
    rng = np.random.default_rng(2)
    images, tokens = pictures(rng, 3), texts(rng, 3, shortest=4)
    rows = torch.tensor([2, 0, 1, 0, 2])
    ends = torch.tensor([1, 0, 3, 2, -1])
    batch = SequenceBatch(tokens, rows, ends, None, images)
    with torch.no_grad():
        found = sequence_hidden(lm, batch)
        for at in range(5):
            ids = tokens[rows[at]][: ends[at] + 1].tolist() or [lm.start_id]
            expected = by_hand(lm, images[rows[at]], ids)
            torch.testing.assert_close(found[at], expected, atol=1e-5, rtol=1e-5)


@given(seed=st.integers(0, 2**31))
@settings(max_examples=6)
def test_the_cache_is_a_memo_with_pictures_too(lm, seed):
    rng = np.random.default_rng(seed)
    decoder = MemoDecoder(lm, WIDTH, SHAPE)
    batches = {rows: [texts(rng, rows), pictures(rng, rows)] for rows in (1, 5, 8)}
    for step in range(30):
        rows = int(rng.choice([1, 5, 8, 8, 8]))
        tokens, images = batches[rows]
        for row in range(rows):
            length = int((tokens[row] >= 0).sum())
            luck = rng.random()
            if luck < 0.1:  # Another picture before the same text.
                images[row] = pictures(rng, 1)[0]
            elif luck < 0.25 or length == WIDTH:
                images[row], tokens[row] = pictures(rng, 1)[0], texts(rng, 1)[0]
            elif luck < 0.35:  # Another text behind the same picture.
                tokens[row] = texts(rng, 1)[0]
            elif luck < 0.95:
                more = 1 if rng.random() < 0.7 else int(rng.integers(1, WIDTH - length + 1))
                fresh = rng.integers(0, len(WORDS), more).astype(np.int32)
                tokens[row, length : length + more] = torch.from_numpy(fresh)
        if step == 15:
            with torch.no_grad():
                lm.pictures.offset.add_(0.3)
        with torch.no_grad():
            expected = last_hidden(lm, tokens, images)
            torch.testing.assert_close(decoder(tokens, images), expected, atol=1e-4, rtol=1e-4)


def test_gradients_reach_the_encoder(lm):
    rng = np.random.default_rng(3)
    last_hidden(lm, texts(rng, 4, shortest=1), pictures(rng, 4)).square().sum().backward()
    assert all(float(weight.grad.abs().sum()) > 0 for weight in lm.pictures.parameters())


def test_the_encoder_is_saved_with_the_checkpoint(load, tmp_path):
    lm = seeing(load("gpt2"), seed=4)
    lm.save_pretrained(tmp_path)
    assert (tmp_path / PICTURES_FILE).exists()
    again = seeing(LanguageModel.load(str(tmp_path), device="cpu"), seed=5)
    rng = np.random.default_rng(4)
    tokens, images = texts(rng, 3, shortest=1), pictures(rng, 3)
    with torch.no_grad():
        expected = last_hidden(lm, tokens, images)
        torch.testing.assert_close(last_hidden(again, tokens, images), expected)
    other = LanguageModel.load(str(tmp_path), device="cpu")
    with pytest.raises(ModelError, match="another picture encoder"):
        other.attach_pictures(PictureEncoder(SHAPE, other.hidden_size, grid=3))


@pytest.mark.parametrize("kind", ["t5", "lstm", "mamba"])
def test_architectures_without_prefixes_say_so(load, kind):
    lm = load(kind)
    with pytest.raises(ModelError, match="cannot read a picture"):
        lm.attach_pictures(PictureEncoder(SHAPE, lm.hidden_size))


def test_pictures_smaller_than_the_grid_are_refused():
    with pytest.raises(ModelError, match="grid=4"):
        PictureEncoder((3, 12, 16), 8, grid=4)

"""Training of the built-in model: deterministic, resumable, and loadable by plain transformers."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from textgym.errors import SettingsError
from textgym.pretrain import train as training
from textgym.pretrain.train import (
    Document,
    TrainSettings,
    by_length,
    documents,
    encode_batch,
    learning_rate_at,
    loss_of,
    train,
)
from textgym.registry import TASKS
from textgym.tasks import make_task
from textgym.tokenization import load_tokenizer

SMALL = {
    "steps": 6,
    "batch_size": 4,
    "warmup": 2,
    "vocab_size": 400,
    "layers": 1,
    "width": 32,
    "heads": 2,
    "context": 1024,  # So few tokens make long texts.
    "tokenizer_documents": 50,
    "save_every": 3,
    "card_samples": 2,
    "threads": 1,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    return out, train(TrainSettings(out=str(out), **SMALL))


@pytest.fixture
def no_card(monkeypatch):
    """Most of a short training's time: each task is played for it, several times."""
    monkeypatch.setattr(training, "write_card", lambda *_, **__: None)


def test_checkpoint_loads_with_plain_transformers(finished):
    _, folder = finished
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "The room was clean."
    ids = tokenizer(text, return_tensors="pt").input_ids
    assert tokenizer.decode(ids[0]) == text
    assert ids[0].tolist() == load_tokenizer(folder).encode(text)
    assert torch.isfinite(model(ids).logits).all()
    assert tokenizer.eos_token_id == model.config.eos_token_id


def test_card_names_the_settings_and_every_task(finished):
    _, folder = finished
    card = (folder / "README.md").read_text()
    assert "--steps 6" in card
    for task in training.training_tasks("eval"):
        assert f"| {task} |" in card


def test_a_registered_task_changes_no_document():
    class Own(type(make_task("TextGen/QA-v0"))):
        id = "TextGen/Own-v0"

    before = training.documents(1, 0, 0, 8)
    with TASKS.restored():
        TASKS.add(Own.id, Own)
        assert training.documents(1, 0, 0, 8) == before


@pytest.mark.usefixtures("no_card")
def test_killed_training_goes_on_as_if_nothing_had_happened(finished, tmp_path, monkeypatch):
    whole, _ = finished
    settings = TrainSettings(out=str(tmp_path / "killed"), **SMALL)
    draw = training.documents

    def killed_in_step_4(stream, seed, step, count, split="train"):
        if step == 4:  # Only batches of the training have a number.
            raise KeyboardInterrupt
        return draw(stream, seed, step, count, split)

    monkeypatch.setattr(training, "documents", killed_in_step_4)
    with pytest.raises(KeyboardInterrupt):
        train(settings)
    monkeypatch.setattr(training, "documents", draw)
    torch.manual_seed(123)  # What happened to the global generator in between does not matter.
    train(settings)
    one, other = (
        load_file(folder / "training.safetensors") for folder in (whole, tmp_path / "killed")
    )
    assert one.keys() == other.keys()
    assert any(name.startswith("optimizer.exp_avg_sq.") for name in one)
    assert any(name.startswith("optimizer.momentum_buffer.") for name in one)
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_other_settings_are_refused_in_the_same_folder(finished):
    out, _ = finished
    with pytest.raises(SettingsError, match="width"):
        train(TrainSettings(out=str(out), **{**SMALL, "width": 64}))


@pytest.mark.usefixtures("no_card")
def test_sharpness_multiplies_the_logits(finished, tmp_path):
    """The folder of a finished training accepts another sharpness."""
    out, _ = finished
    ids = torch.tensor([[5, 6, 7]])
    found = []
    for sharpness in (1.0, 2.0):
        copied = tmp_path / str(sharpness)
        shutil.copytree(out, copied)
        folder = train(TrainSettings(out=str(copied), sharpness=sharpness, **SMALL))
        found.append(AutoModelForCausalLM.from_pretrained(folder, dtype="float32")(ids).logits)
    torch.testing.assert_close(found[1], 2 * found[0], rtol=0.01, atol=1e-4)  # bfloat16


@pytest.mark.parametrize("sharpness", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_sharpness_is_refused_before_the_training(sharpness, tmp_path):
    with pytest.raises(SettingsError, match="above 0 and finite"):
        train(TrainSettings(out=str(tmp_path / "never"), sharpness=sharpness, **SMALL))
    assert not (tmp_path / "never").exists()


@pytest.mark.usefixtures("no_card")
def test_training_lowers_the_loss(tmp_path):
    settings = TrainSettings(out=str(tmp_path), **{**SMALL, "steps": 60, "batch_size": 8})
    train(settings)
    tokenizer = load_tokenizer(tmp_path / "tokenizer.json")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype="float32")
    uniform = np.log(tokenizer.vocab_size)
    assert training.validation_loss(model, tokenizer, settings.context) < 0.85 * uniform


def test_documents_are_a_function_of_seed_and_step():
    assert documents(1, 0, 5, 3) == documents(1, 0, 5, 3)
    assert documents(1, 0, 5, 3) != documents(1, 0, 6, 3)
    assert documents(1, 0, 5, 3) != documents(1, 1, 5, 3)


def test_batches_begin_at_position_0_and_end_with_eos():
    tokenizer = load_tokenizer()
    rng = np.random.default_rng(0)
    talk = Document("", make_task("TextGen/Dialogue-v0").turns_document(rng))
    texts = [*documents(1, 0, 0, 9), talk, talk]
    batch = encode_batch(texts, tokenizer, context=1024)
    for number, ((prompt, pieces), row, weights) in enumerate(zip(texts, *batch, strict=True)):
        ids = row[row >= 0].tolist()
        told = number % 8 == 0, len(tokenizer.encode(prompt)), len(ids)
        assert weights[: told[0] + told[1]].tolist() == pytest.approx([0.1] * (told[0] + told[1]))
        assert (weights[told[0] + told[1] : len(ids)] == 1).all()
        assert (weights[len(ids) :] == 0).all()
        begins_with_eos = number % 8 == 0
        assert (ids[0] == tokenizer.eos_id) == begins_with_eos
        assert ids[-1] == tokenizer.eos_id
        ends = [at for at, index in enumerate(ids) if index == tokenizer.eos_id][begins_with_eos:]
        starts = [int(begins_with_eos), *(end + 1 for end in ends)]
        spans = zip(starts, ends, strict=False)
        assert [tokenizer.decode(ids[start:end]) for start, end in spans] == pieces
        assert (row[len(ids) :] == -100).all()
    with pytest.raises(SettingsError, match="context"):
        encode_batch(texts, tokenizer, context=8)


def test_parts_of_a_batch_add_up_to_its_loss():
    tokenizer = load_tokenizer()
    batch = encode_batch(documents(1, 0, 0, 10), tokenizer, context=1024)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=tokenizer.vocab_size, n_positions=1024, n_embd=8, n_layer=1, n_head=1
    )
    model = GPT2LMHeadModel(config).eval()
    parts = list(by_length(batch))
    assert sum(len(part.tokens) for part, _ in parts) == 10
    total = sum(loss_of(model, part).item() * share for part, share in parts)
    assert total == pytest.approx(loss_of(model, batch).item(), rel=1e-5)


def test_the_loss_is_a_weighted_mean_over_tokens():
    tokenizer = load_tokenizer()
    batch = encode_batch(documents(1, 0, 1, 5), tokenizer, context=1024)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=tokenizer.vocab_size, n_positions=1024, n_embd=8, n_layer=1, n_head=1
    )
    model = GPT2LMHeadModel(config).eval()
    above, below = 0.0, 0.0
    for row, weights in zip(*batch, strict=True):
        ids = row[row >= 0]
        with torch.no_grad():
            scores = model(input_ids=ids[None]).logits[0].log_softmax(-1)
        for at in range(1, len(ids)):
            above -= float(scores[at - 1, ids[at]] * weights[at])
            below += float(weights[at])
    assert loss_of(model, batch).item() == pytest.approx(above / below, rel=1e-5)


def test_a_documents_prompt_is_its_tasks():
    for prompt, pieces in documents(1, 0, 2, 40):
        assert pieces[0].startswith(prompt)
        assert len(prompt) > 10


def test_learning_rate_rises_then_falls():
    settings = TrainSettings(steps=100, warmup=10, learning_rate=1.0)
    rates = [learning_rate_at(step, settings) for step in range(100)]
    assert rates[9] == pytest.approx(1.0)
    assert rates[:10] == sorted(rates[:10])
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[-1] == pytest.approx(0.05, abs=0.01)


def test_settings_of_the_built_in_model_are_in_its_card():
    from textgym.tokenization import TINY_DIR

    config = json.loads((TINY_DIR / "config.json").read_text())
    card = (TINY_DIR / "README.md").read_text()
    assert f"--width {config['hidden_size']}" in card
    assert f"--layers {config['num_hidden_layers']}" in card
    weights = load_file(TINY_DIR / "model.safetensors")
    assert 1e6 <= sum(tensor.numel() for tensor in weights.values()) <= 4e6

"""Training of the built-in model: deterministic, resumable, and loadable by plain transformers."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from textgym.errors import SettingsError
from textgym.pretrain import train as training
from textgym.pretrain.learner import Learner
from textgym.pretrain.settings import TrainSettings, learning_rate_at, proportions_at
from textgym.pretrain.train import train, validation_loss
from textgym.tokenization import load_tokenizer

SMALL = {
    "steps": 6,
    "batch_size": 2,
    "warmup": 2,
    "vocab_size": 400,
    "layers": 1,
    "width": 32,
    "heads": 2,
    "row_length": 1024,  # So few tokens make long texts.
    "context": 1024,
    "tokenizer_documents": 50,
    "save_every": 3,
    "card_prompts": 2,
    "compile": False,
    "bfloat16": False,
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


@pytest.mark.usefixtures("no_card")
def test_killed_training_goes_on_as_if_nothing_had_happened(finished, tmp_path, monkeypatch):
    whole, _ = finished
    settings = TrainSettings(out=str(tmp_path / "killed"), **SMALL)
    rate = training.learning_rate_at

    def killed_in_step_4(step, settings):
        if step == 4:
            raise KeyboardInterrupt
        return rate(step, settings)

    monkeypatch.setattr(training, "learning_rate_at", killed_in_step_4)
    with pytest.raises(KeyboardInterrupt):
        train(settings)
    monkeypatch.setattr(training, "learning_rate_at", rate)
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


def test_settings_of_the_built_in_model_are_in_its_card():
    from textgym.tokenization import TINY_DIR

    config = json.loads((TINY_DIR / "config.json").read_text())
    card = " ".join((TINY_DIR / "README.md").read_text("utf-8").split())
    assert f"({config['num_hidden_layers']} layers, width {config['hidden_size']}" in card
    weights = load_file(TINY_DIR / "model.safetensors")
    count = sum(tensor.numel() for tensor in weights.values())
    assert f"Llama of {count:,} parameters" in card
    assert count <= 6e6


@pytest.mark.usefixtures("no_card")
def test_another_training_can_reuse_the_first_part(finished, tmp_path):
    """It is the same as a whole training with the other second part."""
    whole, _ = finished
    found = []
    for name, first_part in (("reused", str(whole)), ("whole", "")):
        settings = {**SMALL, "finish": "clean", "first_part": first_part}
        train(TrainSettings(out=str(tmp_path / name), **settings))
        found.append(load_file(tmp_path / name / "training.safetensors"))
    mediocre = load_file(whole / "training.safetensors")
    for name in found[0]:
        assert torch.equal(found[0][name], found[1][name]), name
    name = "model.model.model.embed_tokens.weight"
    assert not torch.equal(found[0][name], mediocre[name])
    nowhere = {**SMALL, "first_part": str(tmp_path)}
    with pytest.raises(SettingsError, match="first_part"):
        train(TrainSettings(out=str(tmp_path / "none"), **nowhere))


def test_the_log_covers_the_whole_training(finished):
    out, _ = finished
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 4, 6]
    assert all(0 < line["loss"] < 10 for line in lines)
    assert [line["cpu_seconds"] for line in lines] == sorted(line["cpu_seconds"] for line in lines)


@pytest.mark.usefixtures("no_card")
def test_training_lowers_the_loss(tmp_path):
    settings = TrainSettings(out=str(tmp_path), **{**SMALL, "steps": 30})
    train(settings)
    tokenizer = load_tokenizer(tmp_path / "tokenizer.json")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype="float32")
    learner = Learner(model)
    assert validation_loss(learner, tokenizer, settings) < 0.85 * np.log(tokenizer.vocab_size)


def test_learning_rate_rises_stays_and_falls():
    settings = TrainSettings(steps=100, warmup=10, learning_rate=1.0, constant=75)
    rates = [learning_rate_at(step, settings) for step in range(101)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert rates[9:76] == [1.0] * 67
    assert rates[75:] == pytest.approx(np.linspace(1, 0, 26))


def test_documents_are_clean_first_and_mediocre_then():
    settings = TrainSettings(
        steps=100, constant=20, finish_share=0.25, recall=0.2, recall_later=0.12
    )
    found = [proportions_at(step, settings) for step in range(100)]
    assert [one.clean for one in found] == [1.0] * 75 + [0.0] * 25
    assert [one.recall for one in found] == pytest.approx([0.2] * 20 + [0.12] * 55 + [0.04] * 25)

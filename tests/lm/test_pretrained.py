"""A checkpoint becomes a model with all its weights, or is refused by the name of what is wrong."""

from __future__ import annotations

import errno
import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GPT2ForSequenceClassification,
)

from tests.lm.checkpoints import config_of, write_checkpoint, write_tokenizer
from textgym.errors import ModelError, RewardError, StorageError, TextGymError
from textgym.lm import LanguageModel
from textgym.rewards.neural.classifier import RewardModel
from textgym.rewards.neural.similarity import SemanticSimilarity
from textgym.rewards.preferences.model import PreferenceModel
from textgym.storage.digest import verify

WEIGHTS = "model.safetensors"
KINDS = ["gpt2", "llama", "grouped", "alternating", "mamba", "lstm", "t5", "bart"]


@pytest.fixture
def copy(checkpoint: Callable[[str], str], tmp_path: Path) -> Callable[[str], Path]:
    """A checkpoint of one's own, to break."""
    return lambda kind="gpt2": Path(shutil.copytree(checkpoint(kind), tmp_path / kind))


def change(folder: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(folder / WEIGHTS)
    edit(weights)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


@pytest.mark.parametrize("kind", KINDS)
def test_each_missing_weight_is_named(kind: str, copy: Callable[[str], Path]) -> None:
    """Of what is stored; a tied weight is stored once, and named by what it is tied to."""
    folder = copy(kind)
    lm = LanguageModel.load(str(folder))
    tied = {source: target for target, source in lm.model.all_tied_weights_keys.items()}
    whole = load_file(folder / WEIGHTS)
    # A buffer of zeros that BART can do without, as transformers says.
    stored = sorted(set(whole) - {"final_logits_bias"})
    for name in [stored[0], stored[len(stored) // 2], stored[-1]]:
        change(folder, lambda weights, name=name: weights.pop(name))
        with pytest.raises(ModelError, match="the checkpoint lacks") as caught:
            LanguageModel.load(str(folder))
        named = str(caught.value)
        assert repr(name) in named or repr(tied.get(name)) in named
        save_file(whole, folder / WEIGHTS, metadata={"format": "pt"})


@pytest.mark.parametrize("kind", ["gpt2", "llama", "t5"])
def test_reshaped_weights_are_named(kind: str, copy: Callable[[str], Path]) -> None:
    folder = copy(kind)
    name = next(key for key, one in load_file(folder / WEIGHTS).items() if one.dim() == 2)

    def cut(weights: dict[str, torch.Tensor]) -> None:
        weights[name] = weights[name][:-1].clone()

    change(folder, cut)
    with pytest.raises(ModelError, match=rf"config\.json: '{name}' has shape"):
        LanguageModel.load(str(folder))


def test_a_config_of_another_size_is_refused(copy: Callable[[str], Path]) -> None:
    folder = copy("llama")
    config = json.loads((folder / "config.json").read_text())
    for changed, words in (
        ({"num_hidden_layers": 1}, r"more layers than its config\.json.*'model\.layers\.1\."),
        ({"num_hidden_layers": 3}, r"lacks 'model\.layers\.2\..*and \d+ more"),
        ({"intermediate_size": 40}, r"mlp\.\w+\.weight' has shape"),
    ):
        (folder / "config.json").write_text(json.dumps({**config, **changed}))
        with pytest.raises(ModelError, match=words):
            LanguageModel.load(str(folder))


def test_unexpected_weights_are_reported_once(copy: Callable[[str], Path]) -> None:
    folder = copy("grouped")
    change(folder, lambda weights: weights.update({"v_head.weight": torch.zeros(1, 32)}))
    with pytest.warns(UserWarning, match="does not use: 'v_head.weight'") as caught:
        LanguageModel.load(str(folder))
    assert len(caught) == 1


def test_a_head_that_a_task_does_not_need(copy: Callable[[str], Path], tmp_path: Path) -> None:
    """The weights of the language model's head are left over, and nothing is said."""
    folder = copy("llama")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SemanticSimilarity(str(folder))(["a"], ["w1"], reference=["w2"])
    with pytest.raises(RewardError, match=r"lacks 'score\.weight'"):
        RewardModel(str(folder))(["w1"], ["w2"])


@pytest.mark.parametrize("labels", [1, 5])
def test_a_classifier_becomes_a_reward_model(labels: int, tmp_path: Path) -> None:
    """A head for one label is trained further; one for several is replaced."""
    config = config_of("gpt2")
    config.num_labels = labels
    with torch.random.fork_rng():
        torch.manual_seed(0)
        GPT2ForSequenceClassification(config).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    stored = load_file(tmp_path / WEIGHTS)
    model = PreferenceModel.load(str(tmp_path), "cpu").model
    found = model.state_dict()
    assert model.config.num_labels == 1
    assert found["score.weight"].shape == (1, 32)
    assert bool((found["score.weight"] == 0).all()) == (labels == 5)
    for name in stored.keys() - {"score.weight"}:
        assert torch.equal(found[name], stored[name]), name
    model.save_pretrained(tmp_path / "again")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "again")
    tokens = torch.tensor([[1, 2, 3]])
    assert torch.equal(again(tokens).logits, model(tokens).logits)
    change(tmp_path, lambda weights: weights.update({"score.weight": torch.zeros(3, 32)}))
    with pytest.raises(ModelError, match=r"'score\.weight' has shape \[3, 32\]"):
        PreferenceModel.load(str(tmp_path), "cpu")


# ---------------------------------------------------------------------- files


def shard(folder: Path) -> dict[str, Any]:
    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / WEIGHTS).unlink()  # It would be preferred.
    model.save_pretrained(folder, max_shard_size="20KB")
    index: dict[str, Any] = json.loads((folder / f"{WEIGHTS}.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    return index


def test_only_plain_names_of_safetensors_files_in_an_index(copy: Callable[[str], Path]) -> None:
    folder = copy("llama")
    index = shard(folder)
    LanguageModel.load(str(folder))
    first = next(iter(index["weight_map"]))
    real = folder / index["weight_map"][first]
    shutil.copy(real, folder.parent / "outside.safetensors")
    (folder / "inner").mkdir()
    shutil.copy(real, folder / "inner" / "x.safetensors")
    for bad in (
        "../outside.safetensors", str(folder.parent / "outside.safetensors"), "/etc/x",
        "inner/x.safetensors", r"..\outside.safetensors", "pytorch_model.bin", "x.pt", "", 3, None,
        ".safetensors",
    ):  # fmt: skip
        weights = {**index["weight_map"], first: bad}
        (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({**index, "weight_map": weights}))
        with pytest.raises(ModelError, match=r"\*\.safetensors"):
            LanguageModel.load(str(folder))
    weights = {**index["weight_map"], first: "gone.safetensors"}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({**index, "weight_map": weights}))
    with pytest.raises(ModelError, match=r"no file gone\.safetensors"):
        LanguageModel.load(str(folder))
    for text in ("", "[]", '{"weight_map": []}', '{"weight_map": {}}', "[" * 10_000):
        (folder / f"{WEIGHTS}.index.json").write_text(text)
        with pytest.raises(ModelError, match=r"index\.json"):
            LanguageModel.load(str(folder))


def test_weights_that_a_config_names_elsewhere(copy: Callable[[str], Path]) -> None:
    folder = copy("gpt2")
    config = json.loads((folder / "config.json").read_text())
    for bad in ("../x.safetensors", "adapter_model.bin", 3):
        text = json.dumps({**config, "transformers_weights": bad})
        (folder / "config.json").write_text(text)
        with pytest.raises(ModelError, match="transformers_weights"):
            LanguageModel.load(str(folder))


@pytest.mark.parametrize("name", ["config.json", WEIGHTS, "tokenizer.json"])
def test_damaged_files_end_in_an_error_of_ours(name: str, copy: Callable[[str], Path]) -> None:
    folder = copy("gpt2")
    path = folder / name
    data = path.read_bytes()
    for damaged in (
        b"",
        b"null",
        b"[]",
        b"3",
        b"\xff\xfe",
        b"{}",
        data[:20],
        data[: len(data) // 2],
    ):
        path.write_bytes(damaged)
        with pytest.raises(TextGymError):
            LanguageModel.load(str(folder))
    path.unlink()
    path.mkdir()
    with pytest.raises(TextGymError):
        LanguageModel.load(str(folder))


def test_a_flipped_bit_of_what_was_saved_is_refused(
    load: Callable[[str], LanguageModel], tmp_path: Path
) -> None:
    load("gpt2").save_pretrained(tmp_path)
    assert verify(tmp_path / WEIGHTS)
    LanguageModel.load(str(tmp_path))
    data = bytearray((tmp_path / WEIGHTS).read_bytes())
    for at in (len(data) - 1, len(data) // 2, 40):
        data[at] ^= 4
        (tmp_path / WEIGHTS).write_bytes(data)
        with pytest.raises(ModelError, match=r"model\.safetensors is damaged"):
            LanguageModel.load(str(tmp_path))
        data[at] ^= 4


def test_a_checkpoint_takes_the_place_of_another(
    load: Callable[[str], LanguageModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards of the old one go; and a disk that is full leaves the old one whole."""
    write_checkpoint(tmp_path, "llama")
    shard(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    lm = load("gpt2")
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(StorageError, match=os.strerror(errno.ENOSPC)):
            lm.save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    lm.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.safetensors*")) == [WEIGHTS]
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert LanguageModel.load(str(tmp_path)).model.config.model_type == "gpt2"

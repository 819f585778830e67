from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from stable_baselines3 import PPO
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from tests.lm.checkpoints import WORDS, write_checkpoint
from textgym.errors import ModelError
from textgym.lm import LanguageModel
from textgym.lm.engine import prepare_training
from textgym.lm.lora import adapter_off, has_adapter
from textgym.sb3 import LMPolicy, LMRolloutBuffer, make_vec_env

# Peft asks transformers under an older name.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

TEXTS = torch.tensor([[3, 7, 1, 9, 4], [2, 2, 8, 0, 5]])


def logits(lm: LanguageModel) -> torch.Tensor:
    with torch.no_grad():
        return lm.logits(lm.hidden(TEXTS))


def disturb(model: Any) -> None:
    """Adapters begin as zero."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3, generator=generator)


def trained(lm: LanguageModel) -> list[str]:
    return [name for name, parameter in lm.named_parameters() if parameter.requires_grad]


def write_with_peft(base: str, folder: Path, **settings: Any) -> torch.Tensor:
    """Write an adapter with peft alone; returns the logits of the adapted model."""
    model = AutoModelForCausalLM.from_pretrained(base)
    config = peft.LoraConfig(r=2, task_type="CAUSAL_LM", **settings)
    adapted = peft.get_peft_model(model, config)
    disturb(adapted)
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad and "lora_" not in name:
            parameter.data += 0.1
    adapted.save_pretrained(str(folder))
    with torch.no_grad():
        result: torch.Tensor = adapted.eval()(TEXTS).logits
    return result[..., : len(WORDS)]


@pytest.fixture
def adapter(checkpoint: Callable[[str], str], tmp_path: Path) -> Path:
    """The folder of an adapter of the small Llama."""
    write_with_peft(checkpoint("llama"), tmp_path / "adapter", target_modules=["q_proj"])
    return tmp_path / "adapter"


def rewrite(folder: Path, **changes: Any) -> str:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return str(folder)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("llama", {}),
        ("gpt2", {"fan_in_fan_out": True}),
        ("grouped", {"use_dora": True, "use_rslora": True, "lora_dropout": 0.5}),
    ],
)
def test_what_peft_wrote(
    checkpoint: Callable[[str], str], tmp_path: Path, kind: str, settings: dict[str, Any]
) -> None:
    base = checkpoint(kind)
    expected = write_with_peft(base, tmp_path / "adapter", **settings)
    state = torch.random.get_rng_state()
    lm = LanguageModel.load(str(tmp_path / "adapter"), device="cpu")
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.testing.assert_close(logits(lm), expected, atol=1e-5, rtol=1e-5)
    # The adapter stays one: it alone trains, and without it the model is the base.
    assert trained(lm)
    assert all("lora_" in name for name in trained(lm))
    with adapter_off(lm.model):
        assert torch.equal(logits(lm), logits(LanguageModel.load(base, device="cpu")))


@pytest.mark.parametrize(
    "settings",
    [
        {"modules_to_save": ["lm_head"]},
        {"bias": "all", "fan_in_fan_out": True},
        {"trainable_token_indices": [1, 3]},
    ],
)
def test_an_adapter_with_weights_of_the_model_is_merged(
    checkpoint: Callable[[str], str], tmp_path: Path, settings: dict[str, Any]
) -> None:
    kind = "gpt2" if "bias" in settings else "llama"
    expected = write_with_peft(checkpoint(kind), tmp_path, **settings)
    lm = LanguageModel.load(str(tmp_path), device="cpu")
    torch.testing.assert_close(logits(lm), expected, atol=1e-5, rtol=1e-5)
    assert not has_adapter(lm.model)
    assert len(trained(lm)) == len(list(lm.parameters()))


@pytest.mark.parametrize("kind", ["llama", "gpt2", "t5"])
def test_peft_reads_what_is_saved(
    checkpoint: Callable[[str], str], tmp_path: Path, kind: str
) -> None:
    lm = LanguageModel.load(checkpoint(kind), device="cpu")
    prepare_training(lm, lora={"r": 2})
    disturb(lm)
    lm.save_pretrained(tmp_path, merge=False)
    assert not (tmp_path / "model.safetensors").exists()
    assert all("lora_" in key for key in load_file(tmp_path / "adapter_model.safetensors"))
    auto = AutoModelForSeq2SeqLM if kind == "t5" else AutoModelForCausalLM
    theirs = peft.PeftModel.from_pretrained(auto.from_pretrained(checkpoint(kind)), tmp_path)
    again = LanguageModel.load(str(tmp_path), device="cpu")
    with torch.no_grad():
        if kind == "t5":
            inputs = {"input_ids": TEXTS, "decoder_input_ids": TEXTS}
            expected = theirs(**inputs).logits
            torch.testing.assert_close(lm.model(**inputs).logits, expected)
            assert torch.equal(again.model(**inputs).logits, lm.model(**inputs).logits)
        else:
            expected = theirs(TEXTS).logits
            torch.testing.assert_close(logits(lm), expected, atol=1e-5, rtol=1e-5)
            assert torch.equal(logits(again), logits(lm))
    # Peft finds the base model by itself, too.
    by_name = peft.AutoPeftModelForSeq2SeqLM if kind == "t5" else peft.AutoPeftModelForCausalLM
    assert by_name.from_pretrained(tmp_path).peft_config["default"].r == 2


def test_an_adapter_of_the_built_in_model(tmp_path: Path) -> None:
    lm = LanguageModel.load(device="cpu")
    prepare_training(lm, lora={"r": 2})
    disturb(lm)
    lm.save_pretrained(tmp_path, merge=False)
    # The name, and not a path of this installation.
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "textgym/tiny"
    assert torch.equal(logits(LanguageModel.load(str(tmp_path), device="cpu")), logits(lm))
    # What textgym writes carries a digest.
    file = tmp_path / "adapter_model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ModelError, match="is damaged"):
        LanguageModel.load(str(tmp_path))


def test_training_goes_on_with_the_adapter(tmp_path: Path) -> None:
    start = LanguageModel.load(device="cpu")
    prepare_training(start, lora={"r": 2})
    start.save_pretrained(tmp_path / "a", merge=False)
    venv = make_vec_env(
        "TextGen-v0", 4, seed=0, prompts=["A day"], reward="distinct", max_new_tokens=3
    )
    model = PPO(
        LMPolicy, venv, n_steps=6, batch_size=12, n_epochs=1, learning_rate=0.01, device="cpu",
        policy_kwargs={"lm": str(tmp_path / "a")}, rollout_buffer_class=LMRolloutBuffer,
        rollout_buffer_kwargs={"reference": "base"},
    )  # fmt: skip
    before = logits(model.policy.lm)
    model.learn(48)
    after = logits(model.policy.lm)
    assert not torch.equal(before, after)
    with adapter_off(model.policy.lm.model):
        assert torch.equal(logits(model.policy.lm), logits(LanguageModel.load(device="cpu")))
    model.policy.lm.save_pretrained(tmp_path / "b", merge=False)
    assert torch.equal(logits(LanguageModel.load(str(tmp_path / "b"), device="cpu")), after)
    model.save(tmp_path / "model")
    again = PPO.load(tmp_path / "model", device="cpu")
    assert torch.equal(logits(again.policy.lm), after)


def test_a_new_adapter_on_one_that_was_loaded(adapter: Path, tmp_path: Path) -> None:
    lm = LanguageModel.load(str(adapter), device="cpu")
    before = logits(lm)
    prepare_training(lm, lora={"r": 3, "target_modules": ["v_proj"]})
    assert all("v_proj.lora_" in name for name in trained(lm))
    disturb(lm)
    assert not torch.allclose(logits(lm), before, atol=1e-2)
    # What it is without the new adapter is what training began with.
    with adapter_off(lm.model):
        torch.testing.assert_close(logits(lm), before, atol=1e-4, rtol=1e-4)
    with pytest.raises(ModelError, match="merge=False"):
        lm.save_pretrained(tmp_path / "new", merge=False)
    lm.save_pretrained(tmp_path / "new")
    saved = LanguageModel.load(str(tmp_path / "new"), device="cpu")
    torch.testing.assert_close(logits(saved), logits(lm), atol=1e-4, rtol=1e-4)


def test_a_model_without_an_adapter(checkpoint: Callable[[str], str], tmp_path: Path) -> None:
    lm = LanguageModel.load(checkpoint("llama"), device="cpu")
    with pytest.raises(ModelError, match="merge=False"):
        lm.save_pretrained(tmp_path, merge=False)
    assert not list(tmp_path.iterdir())


def test_a_base_next_to_the_adapter(adapter: Path, checkpoint: Callable[[str], str]) -> None:
    before = logits(LanguageModel.load(str(adapter), device="cpu"))
    shutil.copytree(checkpoint("llama"), adapter.parent / "base")
    name = rewrite(adapter, base_model_name_or_path="../base")
    assert torch.equal(logits(LanguageModel.load(name, device="cpu")), before)


@pytest.mark.parametrize("base", ["/no/such/base", "no-such-owner/no-such-model"])
def test_a_base_that_is_missing(adapter: Path, base: str) -> None:
    with pytest.raises(ModelError, match=base):
        LanguageModel.load(rewrite(adapter, base_model_name_or_path=base))


@pytest.mark.parametrize("base", [None, "", 3])
def test_an_adapter_that_names_no_base(adapter: Path, base: Any) -> None:
    with pytest.raises(ModelError, match="base_model_name_or_path"):
        LanguageModel.load(rewrite(adapter, base_model_name_or_path=base))


def test_a_base_of_another_shape(adapter: Path, tmp_path: Path) -> None:
    # Other layers; the same layers of another width; and fewer of them.
    write_checkpoint(tmp_path / "gpt2", "gpt2")
    write_checkpoint(tmp_path / "grouped", "grouped")
    for kind, changes in (
        ("gpt2", {}),
        ("grouped", {"target_modules": ["k_proj"]}),
    ):
        name = rewrite(adapter, base_model_name_or_path=str(tmp_path / kind), **changes)
        with pytest.raises(ModelError, match=kind):
            LanguageModel.load(name)


def test_a_base_with_fewer_layers(adapter: Path, tmp_path: Path) -> None:
    settings = json.loads((adapter / "adapter_config.json").read_text())
    base = settings["base_model_name_or_path"]
    shutil.copytree(base, tmp_path / "short")
    model = AutoModelForCausalLM.from_pretrained(base)
    model.model.layers = model.model.layers[:1]
    model.config.num_hidden_layers = 1
    model.save_pretrained(tmp_path / "short")
    name = rewrite(adapter, base_model_name_or_path=str(tmp_path / "short"))
    with pytest.raises(ModelError, match=r"layers\.1"):
        LanguageModel.load(name)


def test_pickled_and_damaged_weights(adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="damaged"):
        LanguageModel.load(str(adapter))
    torch.save(load_file, file.with_suffix(".bin"))
    file.unlink()
    with pytest.raises(ModelError, match=r"pickled weights \(\.bin\)"):
        LanguageModel.load(str(adapter))


def test_other_kinds_of_adapters(adapter: Path, checkpoint: Callable[[str], str]) -> None:
    model = AutoModelForCausalLM.from_pretrained(checkpoint("llama"))
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    peft.get_peft_model(model, config).save_pretrained(str(adapter))
    with pytest.raises(ModelError, match="PROMPT_TUNING"):
        LanguageModel.load(str(adapter))


def test_a_folder_holds_a_model_or_an_adapter(tmp_path: Path) -> None:
    lm = LanguageModel.load(device="cpu")
    prepare_training(lm, lora={"r": 2})
    disturb(lm)
    # Each takes the place of what was there.
    for merge, kind in ((False, "adapter"), (True, "whole"), (False, "adapter")):
        lm.save_pretrained(tmp_path / "both", merge=merge)
        again = LanguageModel.load(str(tmp_path / "both"), device="cpu")
        torch.testing.assert_close(logits(again), logits(lm), atol=1e-3, rtol=1e-3)
        assert has_adapter(again.model) == (kind == "adapter")
    lm.save_pretrained(tmp_path / "whole")
    for file in (tmp_path / "whole").iterdir():
        shutil.copy(file, tmp_path / "both")
    with pytest.raises(ModelError, match=r"adapter_config\.json"):
        LanguageModel.load(str(tmp_path / "both"))


def test_an_adapter_of_an_adapter(adapter: Path, tmp_path: Path) -> None:
    shutil.copytree(adapter, tmp_path / "second")
    name = rewrite(tmp_path / "second", base_model_name_or_path=str(adapter))
    with pytest.raises(ModelError, match="the base model '"):
        LanguageModel.load(name)
    with pytest.raises(ModelError, match="revision 'v1'"):
        LanguageModel.load(rewrite(adapter, revision="v1"))

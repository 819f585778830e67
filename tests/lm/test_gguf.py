from __future__ import annotations

import builtins
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.lm.gguf_writer import EOS, TOKENS, llama, write_gguf
from textgym.errors import MissingDependencyError, ModelError, TextGymError, TokenizerError
from textgym.lm import LanguageModel
from textgym.rewards.neural.checkpoint import Checkpoint
from textgym.rewards.preferences.model import PreferenceModel
from textgym.sb3 import LMPolicy, LMRolloutBuffer, make_vec_env
from textgym.tokenization import load_tokenizer

pytest.importorskip("gguf")

TEXT = "the movie was good. the thin"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def tokens(seed: int = 0) -> torch.Tensor:
    return torch.randint(0, len(TOKENS), (2, 9), generator=torch.Generator().manual_seed(seed))


def test_logits_are_those_of_the_model_that_was_written(file: str) -> None:
    lm = LanguageModel.load(file, device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(lm.logits(lm.hidden(tokens())), llama()(tokens()).logits)
    assert (lm.vocab_size, lm.context_length, lm.tokenizer.eos_id) == (len(TOKENS), 64, EOS)
    assert lm.dtype == torch.float32


def test_quantized_weights_are_unpacked(tmp_path: Path) -> None:
    import gguf

    model = llama()
    # Rows of 32 are one block of Q8_0: 8 bits a weight and one scale.
    weight = model.model.layers[0].mlp.up_proj.weight
    packed = gguf.quants.quantize(weight.detach().numpy(), gguf.GGMLQuantizationType.Q8_0)
    unpacked = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType.Q8_0)
    path = write_gguf(tmp_path / "q8.gguf", model, quantized="layers.0.mlp.up_proj")
    lm = LanguageModel.load(path, device="cpu")
    loaded = lm.model.get_parameter("model.layers.0.mlp.up_proj.weight")
    assert np.array_equal(loaded.detach().numpy(), unpacked)
    assert not torch.equal(loaded, weight)
    lm.logits(lm.hidden(tokens())).sum().backward()
    assert loaded.grad is not None


def test_tokenizer_is_that_of_transformers(file: str) -> None:
    theirs = AutoTokenizer.from_pretrained(Path(file).parent, gguf_file=Path(file).name)
    ours = load_tokenizer(file)
    assert ours.encode(TEXT) == theirs(TEXT, add_special_tokens=False).input_ids
    assert [ours.token(index) for index in range(ours.vocab_size)] == TOKENS
    assert ours.prompt_ids(TEXT) == theirs(TEXT).input_ids
    assert LanguageModel.load(file).tokenizer.content_hash() == ours.content_hash()


def test_the_chat_template_in_the_file(tmp_path: Path) -> None:
    template = "{% for m in messages %}<s>{{ m.role }} {{ m.content }}{% endfor %}"
    path = write_gguf(tmp_path / "chat.gguf", template=template)
    messages = [{"role": "user", "content": "was the movie good?"}]
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file="chat.gguf")
    ours = load_tokenizer(path)
    assert ours.chat_template is not None
    rendered = ours.chat_template.render(messages)
    assert rendered == theirs.apply_chat_template(messages, tokenize=False)
    # The template spells bos, and the tokenizer adds none.
    expected = theirs.apply_chat_template(messages, return_dict=False)
    assert ours.prompt_ids(rendered) == expected


def test_another_file_under_the_same_name_is_read_again(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf")
    first = LanguageModel.load(path, device="cpu")
    write_gguf(tmp_path / "a.gguf", llama(seed=1))
    second = LanguageModel.load(path, device="cpu")
    with torch.no_grad():
        expected = llama(seed=1)(tokens()).logits
        torch.testing.assert_close(second.logits(second.hidden(tokens())), expected)
        assert not torch.allclose(first.logits(first.hidden(tokens())), expected)


def test_a_folder_with_one_file(tmp_path: Path) -> None:
    write_gguf(tmp_path / "one.gguf")
    (tmp_path / "README.md").write_text("about")
    assert LanguageModel.load(str(tmp_path), device="cpu").vocab_size == len(TOKENS)
    assert load_tokenizer(tmp_path).vocab_size == len(TOKENS)
    write_gguf(tmp_path / "two.gguf")
    for load in (LanguageModel.load, load_tokenizer):
        with pytest.raises((ModelError, TokenizerError), match=r"2 GGUF files.*one\.gguf"):
            load(str(tmp_path))


def test_what_is_saved_loads_again(file: str, tmp_path: Path) -> None:
    lm = LanguageModel.load(file, device="cpu")
    lm.save_pretrained(tmp_path)
    again = LanguageModel.load(str(tmp_path), device="cpu")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():
        expected = lm.logits(lm.hidden(tokens()))
        assert torch.equal(again.logits(again.hidden(tokens())), expected)
        torch.testing.assert_close(plain(tokens()).logits, expected)
    assert again.tokenizer.content_hash() == lm.tokenizer.content_hash()
    assert again.tokenizer.encode(TEXT) == lm.tokenizer.encode(TEXT)
    assert (
        AutoTokenizer.from_pretrained(tmp_path)(TEXT).input_ids == lm.hf_tokenizer(TEXT).input_ids
    )


def test_training_on_it(file: str, tmp_path: Path) -> None:
    venv = make_vec_env(
        "TextGen-v0", 4, tokenizer=file, prompts=["the movie was"], reward="distinct",
        max_prompt_tokens=8, max_new_tokens=4,
    )  # fmt: skip
    model = PPO(
        LMPolicy, venv, n_steps=4, batch_size=8, n_epochs=1, device="cpu",
        policy_kwargs={"lm": file, "lora": {"r": 2}}, rollout_buffer_class=LMRolloutBuffer,
        rollout_buffer_kwargs={"kl_coef": 0.1, "reference": file},
    )  # fmt: skip
    model.learn(32)
    model.save(tmp_path / "model")
    again = PPO.load(tmp_path / "model", device="cpu")
    obs = model.policy.obs_to_tensor(venv.reset())[0]
    with torch.no_grad():
        before, after = (one.policy.get_distribution(obs).distribution for one in (model, again))
    torch.testing.assert_close(before.logits, after.logits)


def test_reward_models_start_from_it(file: str) -> None:
    model = PreferenceModel.load(file, device="cpu")
    assert model.model.config.num_labels == 1
    loaded = Checkpoint.load(AutoModelForCausalLM, file, torch.device("cpu"), torch.float32)
    with torch.no_grad():
        expected = llama()(tokens()).logits
        torch.testing.assert_close(loaded.model(tokens()).logits, expected)
    # The padding that the one needed is not that of the other.
    assert loaded.tokenizer.pad_token is None


def test_a_reward_model_whose_file_has_changed(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf")
    for seed in (0, 1):
        write_gguf(tmp_path / "a.gguf", llama(seed))
        for name in (path, str(tmp_path)):
            loaded = Checkpoint.load(AutoModelForCausalLM, name, torch.device("cpu"), torch.float32)
            with torch.no_grad():
                expected = llama(seed)(tokens()).logits
                torch.testing.assert_close(loaded.model(tokens()).logits, expected)


def test_missing_weights(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "part.gguf", leave_out="layers.1.mlp.up_proj")
    with pytest.raises(ModelError, match=r"part\.gguf.*layers\.1\.mlp\.up_proj"):
        LanguageModel.load(path, device="cpu")


def test_other_files_are_not_gguf(tmp_path: Path) -> None:
    junk = tmp_path / "junk.gguf"
    for content in (b"", b"GGU", b"PK\x03\x04 and so on"):
        junk.write_bytes(content)
        with pytest.raises(ModelError, match=r"junk\.gguf' is not a GGUF file"):
            LanguageModel.load(str(junk))
        with pytest.raises(TokenizerError, match=r"junk\.gguf' is not a GGUF file"):
            load_tokenizer(str(junk))
    with pytest.raises(ModelError, match=r"no model.*gone\.gguf"):
        LanguageModel.load(str(tmp_path / "gone.gguf"))
    with pytest.raises(TokenizerError, match=r"no tokenizer.*gone\.gguf"):
        load_tokenizer(str(tmp_path / "gone.gguf"))


def test_a_part_of_a_split_model(file: str, tmp_path: Path) -> None:
    part = tmp_path / "model-00002-of-00003.gguf"
    part.write_bytes(Path(file).read_bytes())
    with pytest.raises(ModelError, match=r"00002-of-00003.*--merge"):
        LanguageModel.load(str(part))


def test_damaged_files_end_in_our_errors(file: str, tmp_path: Path) -> None:
    whole = Path(file).read_bytes()
    rng = np.random.default_rng(0)
    broken = tmp_path / "broken.gguf"
    for end in [4, 20, 24, 30, 100, *rng.integers(100, len(whole) - 32, 6)]:
        broken.write_bytes(whole[: int(end)])
        with pytest.raises(TextGymError, match=r"broken\.gguf"):
            LanguageModel.load(str(broken), device="cpu")
    for start in [4, 8, 16, 24, *rng.integers(24, 3000, 8)]:  # Counts, lengths, types and names.
        broken.write_bytes(whole[:start] + b"\xff" * 8 + whole[start + 8 :])
        with suppress(TextGymError):  # Some bytes carry no meaning, such as those of a description.
            LanguageModel.load(str(broken), device="cpu")


@pytest.mark.parametrize("package", ["gguf", "accelerate"])
def test_without_the_extra(file: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ImportError(f"No module named {package!r}")
        return original(name, *args, **kwargs)

    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(builtins, "__import__", refuse)
    for load in (LanguageModel.load, load_tokenizer):
        with pytest.raises(MissingDependencyError, match=r"textgym\[gguf\]"):
            load(file)

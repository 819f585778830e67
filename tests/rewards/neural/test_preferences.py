"""Rewards from preferences: the loss by hand, and a known judge that is found again."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    pipeline,
)

from tests.lm.checkpoints import write_checkpoint
from textgym.errors import DataError, MissingDependencyError, ModelError, SettingsError
from textgym.rewards import train as command
from textgym.rewards.neural.classifier import RewardModel
from textgym.rewards.preferences import training as preferences
from textgym.rewards.preferences.calibration import calibration_of
from textgym.rewards.preferences.model import PreferenceModel
from textgym.rewards.preferences.pairs import (
    Pair,
    pairs_of,
    read_pairs,
    split_pairs,
)
from textgym.rewards.preferences.settings import TrainSettings
from textgym.rewards.preferences.training import (
    backward,
    batch_at,
    columns_of,
    parts_by_length,
    preference_loss,
    train,
)

WORDS = [f"w{index}" for index in range(12)]


def write_lm(folder: Path, eos: bool = True, **config: Any) -> str:
    """A small language model with random weights."""
    words = [*WORDS, "<eos>"] if eos else WORDS
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 24, **config}
        end = len(WORDS) if eos else None
        GPT2LMHeadModel(
            GPT2Config(vocab_size=len(words), bos_token_id=0, eos_token_id=end, **sizes)
        ).save_pretrained(folder)
    backend = tokenizers.Tokenizer(WordLevel({word: at for at, word in enumerate(words)}))
    backend.pre_tokenizer = WhitespaceSplit()
    special = {"eos_token": "<eos>"} if eos else {}
    PreTrainedTokenizerFast(tokenizer_object=backend, **special).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_lm(tmp_path_factory.mktemp("lm"))


@pytest.fixture
def model(lm: str) -> PreferenceModel:
    """Give the model a random head, since a new one is 0."""
    loaded = PreferenceModel.load(lm, "cpu")
    with torch.no_grad():
        loaded.model.score.weight.copy_(
            torch.randn(1, 32, generator=torch.Generator().manual_seed(1))
        )
    return loaded


# -- the loss ------------------------------------------------------------------------------------


def test_loss_and_gradient_of_two_pairs_by_hand() -> None:
    chosen = torch.tensor([1.0, -0.5], dtype=torch.float64, requires_grad=True)
    rejected = torch.tensor([0.25, 0.5], dtype=torch.float64, requires_grad=True)
    pairs = [Pair("", "a", "b", margin=0.5, weight=3.0), Pair("", "c", "d", preference=0.75)]
    columns = columns_of(pairs, dtype=torch.float64)
    loss = preference_loss(chosen, rejected, *columns, centering=0.1)
    loss.backward()

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    # z = 1 - 0.25 - 0.5 = 0.25, and z = -0.5 - 0.5 = -1; sums of rewards 1.25 and 0.
    first = -math.log(sigmoid(0.25)) + 0.1 * 1.25**2
    second = -0.75 * math.log(sigmoid(-1)) - 0.25 * math.log(sigmoid(1))
    assert loss.item() == pytest.approx((3 * first + second) / 4, abs=1e-12)
    # d/dz of -p log s(z) - (1 - p) log s(-z) is s(z) - p; of the square 2 * 0.1 * sum.
    slopes = [0.75 * (sigmoid(0.25) - 1), 0.25 * (sigmoid(-1) - 0.75)]
    level = [0.75 * 0.25, 0.0]
    by_hand = [slope + more for slope, more in zip(slopes, level, strict=True)]
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert chosen.grad.tolist() == pytest.approx(by_hand, abs=1e-12)
    by_hand = [more - slope for slope, more in zip(slopes, level, strict=True)]
    assert rejected.grad.tolist() == pytest.approx(by_hand, abs=1e-12)


def test_gradient_of_a_linear_reward_of_two_texts_in_closed_form(model: PreferenceModel) -> None:
    """With r = w . h the loss of one pair has the gradient (s(d) - 1) (h_chosen - h_rejected)."""
    net = model.model.double()
    encoded = model.encode_pairs([Pair("w1 w2", " w3 w4 w5", " w6")])
    net.zero_grad()
    loss = backward(model, encoded, np.array([0]), centering=0.0)
    with torch.no_grad():
        hidden = [
            net.transformer(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
            for ids in (encoded.chosen[0], encoded.rejected[0])
        ]
        gap = hidden[0] - hidden[1]
        difference = float(net.score.weight[0] @ gap)
        expected = (1 / (1 + math.exp(-difference)) - 1) * gap
    assert loss == pytest.approx(math.log1p(math.exp(-difference)), abs=1e-10)
    torch.testing.assert_close(net.score.weight.grad[0], expected, rtol=1e-9, atol=1e-12)


NUMBERS = st.floats(-20, 20)


@given(NUMBERS, NUMBERS, st.floats(0, 1), NUMBERS)
def test_swapping_the_texts_of_a_pair_changes_nothing(
    one: float, other: float, preference: float, margin: float
) -> None:
    def loss(first: float, second: float, share: float, margin: float) -> float:
        values = (torch.tensor([v], dtype=torch.float64) for v in (first, second, share, margin))
        return float(preference_loss(*values, torch.ones(1), centering=0.3))

    swapped = loss(other, one, 1 - preference, -margin)
    assert loss(one, other, preference, margin) == pytest.approx(swapped, abs=1e-9)


def test_large_differences_neither_overflow_nor_vanish() -> None:
    chosen = torch.tensor([-1000.0, 1000.0], requires_grad=True)
    one, zero = torch.ones(2), torch.zeros(2)
    loss = preference_loss(chosen, zero, one, zero, one)
    loss.backward()
    assert loss.item() == 500
    assert chosen.grad is not None
    assert chosen.grad.tolist() == [-0.5, 0.0]


def test_parts_of_a_batch_add_up_to_its_loss_and_gradient(model: PreferenceModel) -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, int(size))) for size in rng.integers(1, 20, 14)]
    pairs = [
        Pair("w0", f" {a}", f" {b}", weight=1.0 + at, margin=0.1 * at)
        for at, (a, b) in enumerate(zip(texts[::2], texts[1::2], strict=True))
    ]
    encoded, rows = model.encode_pairs(pairs), np.array([5, 1, 0, 3, 4])
    parts = list(parts_by_length(rows, encoded.lengths))
    assert len(parts) == 4
    assert sorted(np.concatenate(parts).tolist()) == [0, 1, 3, 4, 5]
    ordered = encoded.lengths[np.concatenate(parts)].tolist()
    assert ordered == sorted(ordered)
    total = backward(model, encoded, rows, centering=0.01)
    by_parts = model.model.score.weight.grad.clone()
    model.model.zero_grad()
    columns = columns_of([pairs[i] for i in rows])
    whole = preference_loss(*model.pair_rewards(encoded, rows), *columns, centering=0.01)
    whole.backward()
    assert total == pytest.approx(whole.item(), rel=1e-5)
    torch.testing.assert_close(by_parts, model.model.score.weight.grad, rtol=1e-4, atol=1e-6)


# -- the model -----------------------------------------------------------------------------------


def test_padding_on_the_right_does_not_change_a_reward(model: PreferenceModel) -> None:
    rows = [[1], [4, 5, 6, 7, 8, 9], [3, 2, 1], [11] * 24]
    with torch.no_grad():
        together = model.rewards(rows)
        for row, reward in zip(rows, together, strict=True):
            hidden = model.model.transformer(input_ids=torch.tensor([row])).last_hidden_state
            assert reward.item() == pytest.approx(
                float(model.model.score.weight[0] @ hidden[0, -1]), abs=1e-5
            )


def test_a_new_head_is_a_coin_and_the_body_is_the_language_models(lm: str) -> None:
    model = PreferenceModel.load(lm, "cpu")
    assert model.judge(model.encode_pairs([Pair("w1", " w2", " w3 w4")])).tolist() == [[0, 0]]
    body = load_file(Path(lm) / "model.safetensors")
    name = next(name for name in body if name.endswith("wte.weight"))
    assert torch.equal(model.model.transformer.wte.weight, body[name])
    assert not model.model.training


def test_long_texts_lose_their_beginning_and_empty_ones_are_read(lm: str) -> None:
    model = PreferenceModel.load(lm, "cpu", max_tokens=3)
    pairs = [Pair("w1 w2 w3", " w4 w5", " w6"), Pair("", "", "w7")]
    encoded = model.encode_pairs(pairs)
    assert encoded.chosen == [[3, 4, 5], [model.pad_id]]
    assert encoded.rejected == [[2, 3, 6], [7]]
    assert encoded.cut == 2
    assert PreferenceModel.load(lm, "cpu").limit == 24
    assert np.isfinite(model.judge(encoded)).all()


def test_a_tokenizer_without_pad_and_eos_gets_a_token_to_pad_with(tmp_path: Path) -> None:
    model = PreferenceModel.load(write_lm(tmp_path, eos=False), "cpu")
    assert model.model.config.pad_token_id == model.pad_id == len(WORDS)
    assert model.model.get_input_embeddings().num_embeddings == len(WORDS) + 1
    rewards = model.rewards([[1], [2, 3, 4]])
    assert rewards.shape == (2,)


def test_special_tokens_of_the_tokenizer_are_kept_and_a_template_writes_messages(
    tmp_path: Path,
) -> None:
    write_lm(tmp_path)
    model = PreferenceModel.load(str(tmp_path), "cpu")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.bos_token = "<eos>"
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %} {{ m.role }} {{ m.content }} <eos>{% endfor %}"
        "{% if add_generation_prompt %} assistant{% endif %}"
    )
    backend = tokenizer.backend_tokenizer
    end = len(WORDS)
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="<eos> $A", special_tokens=[("<eos>", end)]
    )
    tokenizer.save_pretrained(tmp_path)
    model = PreferenceModel.load(str(tmp_path), "cpu", max_tokens=4)
    assert model.encode(["w1 w2", "w1 w2 w3 w4 w5"])[0] == [[end, 1, 2], [end, 3, 4, 5]]
    talk = [{"role": "user", "content": "w1"}]
    row = {"prompt": talk, "chosen": [{"role": "assistant", "content": "w2"}], "rejected": "w3"}
    [pair] = pairs_of([row], "rows", model.render()).pairs
    # The tokenizer puts bos in front: the template's own is taken away.
    assert pair == Pair(" user w1 <eos> assistant", " w2 <eos>", " w3 <eos>")


@pytest.mark.parametrize("kind", ["t5", "mamba", "lstm"])
def test_models_without_a_head_on_the_last_token_are_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"a decoder such as GPT-2"):
        PreferenceModel.load(write_checkpoint(tmp_path, kind), "cpu")


def test_a_llama_can_be_a_reward(tmp_path: Path) -> None:
    model = PreferenceModel.load(write_checkpoint(tmp_path, "llama"), "cpu")
    torch.nn.init.ones_(model.model.score.weight)
    rows = [[1, 2, 3], [4]]
    alone = [model.rewards([row]).item() for row in rows]
    assert model.rewards(rows).tolist() == pytest.approx(alone, abs=1e-4)


def test_every_pair_is_drawn_once_an_epoch() -> None:
    epochs = [[i for step in range(4) for i in batch_at(4 * epoch + step, 10, 3, 0)]
              for epoch in range(2)]  # fmt: skip
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(10))
    assert epochs[0] != epochs[1]
    assert batch_at(5, 10, 3, 0).tolist() == batch_at(5, 10, 3, 0).tolist()
    assert [batch_at(step, 10, 3, 1).tolist() for step in range(4)] != [
        batch_at(step, 10, 3, 0).tolist() for step in range(4)
    ]


# -- training ------------------------------------------------------------------------------------

SIZE, SHARE = 6000, 1 / 6


class Judge:
    """A judge who knows the worth of each word, and prefers with Bradley-Terry noise."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.worth = dict(zip(WORDS, self.rng.normal(size=len(WORDS)), strict=True))

    def text(self, low: int, high: int) -> str:
        return " ".join(self.rng.choice(WORDS, self.rng.integers(low, high)))

    def gap(self, pair: Pair) -> float:
        one, other = (
            sum(map(self.worth.__getitem__, text.split())) for text in (pair.chosen, pair.rejected)
        )
        return float(one - other)

    def pairs(self, count: int) -> list[Pair]:
        made = []
        for _ in range(count):
            pair = Pair(self.text(3, 5), f" {self.text(4, 9)}", f" {self.text(4, 9)}")
            if self.rng.random() > 1 / (1 + math.exp(-self.gap(pair))):
                pair = Pair(pair.prompt, pair.rejected, pair.chosen)
            made.append(pair)
        return made


def write_pairs(file: Path, pairs: list[Pair]) -> str:
    names = ("prompt", "chosen", "rejected")
    lines = [json.dumps({name: getattr(pair, name) for name in names}) for pair in pairs]
    file.write_text("\n".join(lines))
    return str(file)


@pytest.fixture(scope="module")
def trained(lm: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Judge, Path, str]:
    root = tmp_path_factory.mktemp("trained")
    judge = Judge()
    file = write_pairs(root / "pairs.jsonl", judge.pairs(SIZE))
    folder = train(
        TrainSettings(
            pairs=file, lm=lm, out=str(root / "out"), held_out=SHARE, epochs=3, batch_size=128,
            learning_rate=3e-3, eval_every=20, threads=1, device="cpu",
        )
    )  # fmt: skip
    return judge, folder, file


def test_the_judges_ranking_and_probabilities_are_found_again(
    trained: tuple[Judge, Path, str],
) -> None:
    judge, folder, file = trained
    model = PreferenceModel.load(str(folder), "cpu")
    _, held_out = split_pairs(read_pairs(file).pairs, SHARE)
    assert len(held_out) > 900
    rewards = model.judge(model.encode_pairs(held_out))
    learned = rewards[:, 0] - rewards[:, 1]
    latent = np.array([judge.gap(pair) for pair in held_out])
    assert np.mean(np.sign(learned) == np.sign(latent)) > 0.9
    wins = [1 / (1 + np.exp(-gap)) for gap in (learned, latent)]
    bias = np.abs(wins[0] - wins[1]).mean()
    assert bias < 0.08
    # What the judge said agrees with the reward about as often as with the judge's own worth.
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["accuracy"] == pytest.approx(np.mean(learned > 0), abs=0.002)
    assert metrics["accuracy"] > np.mean(latent > 0) - 0.04
    # As far from the diagonal as a perfectly calibrated reward may be with so many pairs, and 0.02
    # more, since the worth of the words was learned from a sample.
    rng = np.random.default_rng(0)
    chance = [calibration_of(learned, rng.random(len(learned)) < wins[0]).ece for _ in range(200)]
    assert metrics["ece"] < max(chance) + 0.02 < 0.08
    assert metrics["log_loss"] < 0.7 * math.log(2)


def test_plain_transformers_reads_the_checkpoint(trained: tuple[Judge, Path, str]) -> None:
    _, folder, _ = trained
    plain = AutoModelForSequenceClassification.from_pretrained(folder, use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert plain.config.pad_token_id == tokenizer.pad_token_id is not None
    assert plain.config.num_labels == 1
    texts = ["w1 w2 w3", "w4", "w5 w6 w7 w8 w9 w1 w2"]
    with torch.no_grad():
        batch = tokenizer(texts, return_tensors="pt", padding=True)
        rewards = plain(**batch).logits[:, 0].tolist()
    ours = PreferenceModel.load(str(folder), "cpu")
    assert ours.rewards(ours.encode(texts)[0]).tolist() == pytest.approx(rewards, abs=1e-5)
    classify = pipeline("text-classification", model=str(folder), device="cpu")
    for text, reward in zip(texts, rewards, strict=True):
        assert classify(text) == [{"label": "reward", "score": pytest.approx(reward, abs=1e-5)}]
    # The reward of textgym reads what was trained.
    reward = RewardModel(str(folder), form="text", device="cpu")
    assert reward(["w1 ", "", "w5"], ["w2 w3", "w4", " w6 w7 w8 w9 w1 w2"]) == pytest.approx(
        rewards, abs=1e-5
    )
    # A text that is too long is read as in training: by its end.
    long = " ".join(WORDS * 3)
    cut = tokenizer(long, truncation=True).input_ids
    assert [cut] == ours.encode([long])[0] == [[i % 12 for i in range(12, 36)]]


def test_what_is_written_about_the_reward(trained: tuple[Judge, Path, str]) -> None:
    _, folder, _ = trained
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["pairs"] + metrics["held_out_pairs"] == SIZE
    losses = {found["step"]: found["loss"] for found in metrics["history"]}
    assert losses[metrics["best_step"]] == min(losses.values())
    assert metrics["loss"] == pytest.approx(min(losses.values()))
    table = json.loads((folder / "calibration.json").read_text())
    assert sum(one["pairs"] for one in table["bins"]) == metrics["held_out_pairs"]
    assert (folder / "calibration.svg").read_text().lstrip().startswith("<?xml")
    card = (folder / "README.md").read_text()
    assert "--batch_size 128" in card
    assert f"{metrics['accuracy']:.3f}" in card
    assert "![Calibration](calibration.svg)" in card
    assert "{" not in card


def small(tmp_path: Path, lm: str, count: int = 60, **settings: Any) -> TrainSettings:
    file = tmp_path / "pairs.jsonl"
    if not file.exists():
        write_pairs(file, Judge(1).pairs(count))
    given = {"out": str(tmp_path / "out"), "held_out": 0.3, "epochs": 2, "batch_size": 8,
             "eval_every": 3, "learning_rate": 1e-2, "device": "cpu", "threads": 1}  # fmt: skip
    return TrainSettings(pairs=str(file), lm=lm, **{**given, **settings})


def test_a_killed_training_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, lm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(small(tmp_path, lm, out=str(tmp_path / "whole")))
    step = preferences.batch_at

    def killed(number: int, *rest: Any) -> Any:
        if number == 5:
            raise KeyboardInterrupt
        return step(number, *rest)

    monkeypatch.setattr(preferences, "batch_at", killed)
    with pytest.raises(KeyboardInterrupt):
        train(small(tmp_path, lm))
    monkeypatch.undo()
    torch.manual_seed(123)  # What happened to the global generator in between does not matter.
    # Where the file lies, and how many threads there are, may change; what it holds may not.
    (tmp_path / "pairs.jsonl").rename(tmp_path / "moved.jsonl")
    again = train(replace(small(tmp_path, lm), pairs=str(tmp_path / "moved.jsonl")))
    for name in ("training.safetensors", "best.safetensors", "model/model.safetensors"):
        one, other = load_file(whole.parent / name), load_file(again.parent / name)
        assert one.keys() == other.keys()
        for key in one:
            assert torch.equal(one[key], other[key]), key
    history = [json.loads((f / "metrics.json").read_text())["history"] for f in (whole, again)]
    assert history[0] == history[1]
    assert len(history[0]) >= 3
    # A training that is over only writes its files again.
    assert train(small(tmp_path, lm, out=str(tmp_path / "whole"))) == whole
    with pytest.raises(SettingsError, match=r"other settings .batch_size"):
        train(small(tmp_path, lm, batch_size=9))
    write_pairs(tmp_path / "pairs.jsonl", Judge(2).pairs(60))
    with pytest.raises(SettingsError, match=r"other settings .pairs, eval_pairs"):
        train(small(tmp_path, lm))


def test_it_stops_early_and_keeps_the_best(tmp_path: Path, lm: str) -> None:
    # Labels that are noise: all that is learned of them is wrong of others.
    judge = Judge()
    noise = [Pair(judge.text(3, 5), f" {judge.text(4, 9)}", f" {judge.text(4, 9)}")
             for _ in range(100)]  # fmt: skip
    write_pairs(tmp_path / "pairs.jsonl", noise)
    folder = train(small(tmp_path, lm, epochs=50, patience=4))
    metrics = json.loads((folder / "metrics.json").read_text())
    losses = [found["loss"] for found in metrics["history"]]
    assert len(losses) == 5 + losses.index(min(losses))
    assert metrics["steps"] == 3 * len(losses) < 50 * math.ceil(metrics["pairs"] / 8)
    assert min(losses) == pytest.approx(metrics["loss"])
    assert min(losses) < losses[-1]


def test_pairs_to_judge_on_may_have_a_file_of_their_own(tmp_path: Path, lm: str) -> None:
    pairs = Judge(3).pairs(40)
    file = write_pairs(tmp_path / "eval.jsonl", pairs[:15])
    write_pairs(tmp_path / "pairs.jsonl", pairs[5:])
    folder = train(small(tmp_path, lm, eval_pairs=file, epochs=1))
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["held_out_pairs"] == 15
    assert metrics["prompts_of_eval_left_out"] == 10
    assert metrics["pairs"] == 25
    write_pairs(tmp_path / "pairs.jsonl", pairs[:15])
    with pytest.raises(DataError, match="no pairs are left"):
        train(small(tmp_path, lm, eval_pairs=file, out=str(tmp_path / "none")))


def test_impossible_data_and_divergence(tmp_path: Path, lm: str) -> None:
    one = Pair("w1", " w2", " w3")
    write_pairs(tmp_path / "pairs.jsonl", [one] * 5)
    with pytest.raises(DataError, match=r"--held-out 0.3 of 5 pairs with 1 prompts"):
        train(small(tmp_path, lm))
    row = {"chosen": " w1", "rejected": " w2", "weight": 0}
    lines = [json.dumps({**row, "prompt": f"w{i}"}) for i in range(12)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match="have the weight 0"):
        train(small(tmp_path, lm))
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "", "chosen": "good", "rejected": "bad"}')
    with pytest.raises(DataError, match=r"--held-out .*none"):
        train(small(tmp_path, lm))
    with pytest.raises(DataError, match=r"cannot be tokenized \(.*UNK"):
        PreferenceModel.load(lm, "cpu").encode(["good"])
    lines = [json.dumps({**row, "weight": 1, "margin": 1e39, "prompt": f"w{i}"}) for i in range(12)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    with pytest.raises(SettingsError, match="the loss is inf"):
        train(small(tmp_path, lm, out=str(tmp_path / "inf")))


def test_without_matplotlib_there_is_a_sentence(
    tmp_path: Path, lm: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*_: Any) -> None:
        raise MissingDependencyError("pip install 'textgym[agents]'")

    monkeypatch.setattr(preferences, "plot_calibration", missing)
    folder = train(small(tmp_path, lm, epochs=1))
    assert "calibration.svg was left out: pip install" in capsys.readouterr().out
    assert not (folder / "calibration.svg").exists()
    assert "calibration.svg" not in (folder / "README.md").read_text()


# -- the command line ----------------------------------------------------------------------------


def test_the_command_line_trains(
    tmp_path: Path, lm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = small(tmp_path, lm)
    words = f"--pairs {settings.pairs} --lm {lm} --out {settings.out} --epochs 1 --device cpu"
    command.main([*words.split(), "--held-out", "0.4"])
    assert f"wrote {settings.out}/model" in capsys.readouterr().out
    assert (tmp_path / "out" / "model" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--pairs none.jsonl", "none.jsonl"),
        ("--pairs README.md", "README.md has an unknown type"),
        ("--pairs a.jsonl --steps 5", "Unrecognized options: --steps"),
        ("--pairs a.jsonl --epoch_s 5", r"--epoch_s[\s\S]*--epochs INT"),
        ("--pairs a.jsonl --epochs 0", "--epochs .*not 0"),
        ("--pairs a.jsonl --held_out 1", "--held-out .* not 1.0"),
        ("--pairs a.jsonl --learning_rate nan", "--learning-rate .*not nan"),
        ("--pairs a.jsonl --centering -1", "--centering .*not -1.0"),
        ("--pairs a.jsonl --ties no", "--ties .*not 'no'"),
        ("--pairs a.jsonl --lm ./nowhere", "'./nowhere'"),
        ("--lm textgym/tiny", r"Required[\s\S]*--pairs"),
        ("--pairs a.jsonl --epochs many", "--epochs: .*'many'"),
    ],
)
def test_errors_of_the_command_line(
    words: str, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[3])
    with pytest.raises(SystemExit) as stopped:
        command.main(words.split())
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert re.search(message, err), err


def test_the_command_line_is_light_until_it_runs() -> None:
    code = "import textgym.rewards.train, sys; print('torch' in sys.modules)"
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True
    )
    assert done.stdout.strip() == "False"

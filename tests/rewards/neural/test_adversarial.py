"""The adversarial reward: its loss by hand, what it distinguishes, and its state."""

import copy
import json
import math
import pickle
import warnings
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

import textgym
from textgym.errors import DataError, RewardError
from textgym.rewards.adversarial.discriminator import (
    Discriminator,
    Shape,
    TextCNN,
    adversarial_loss,
)
from textgym.rewards.adversarial.reward import Adversarial
from textgym.rewards.adversarial.texts import Replay, TextEncoder
from textgym.rewards.registry import register_reward

WORDS = ["red", "green", "blue", "sun", "moon", "star"]
SMALL: dict[str, Any] = {
    "tokenizer": WORDS, "embedding": 8, "widths": (1, 2), "filters": 8, "warm_up_texts": 0,
    "update_every": 16, "updates": 4, "batch_size": 16, "buffer_size": 64, "device": "cpu",
}  # fmt: skip


def texts(rng: np.random.Generator, words: list[str], count: int) -> list[str]:
    sizes = rng.integers(3, 7, count)
    return [" ".join(words[i] for i in rng.integers(len(words), size=size)) for size in sizes]


def play(reward: Adversarial, calls: int = 6, seed: int = 0) -> list[list[float | None]]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(calls):
        fakes, reals = texts(rng, WORDS[:5], 10), texts(rng, WORDS[1:], 10)
        found.append(reward([""] * 10, fakes, reference=reals))
    return found


# -- The network and its loss ----------------------------------------------------------------------


def by_hand(**options: Any) -> Discriminator:
    """One filter of width 1 on one-dimensional vectors: the logit is 2 max(relu(vector)) - 1."""
    settings = {"learning_rate": 0.1, "weight_decay": 0.0, "dropout": 0.0, "smoothing": 0.2}
    shape = Shape(vocabulary=5, embedding=1, widths=(1,), filters=1, highway=0)
    made = Discriminator(shape, torch.device("cpu"), seed=0, **(settings | options))
    net = made.network
    with torch.no_grad():
        net.embedding.weight.copy_(torch.tensor([[-1.0], [0.5], [2.0], [1.0], [0.0]]))
        for layer, weight, bias in ((net.convolutions[0], 1.0, 0.0), (net.output, 2.0, -1.0)):
            layer.weight.fill_(weight)
            layer.bias.fill_(bias)
    return made


def test_loss_and_gradient_on_two_texts_by_hand() -> None:
    made = by_hand()
    real, fake = (0, 2, 1), (0, 1)  # The largest vectors are 2 and 0.5: logits 3 and 0.
    assert made.logits([real, fake]).tolist() == [3.0, 0.0]
    # -0.8 ln s(3) - 0.2 ln s(-3) and ln 2, where ln s(3) = -ln(1 + e^-3).
    expected = (
        0.8 * math.log(1 + math.exp(-3)) + 0.2 * math.log(1 + math.exp(3)) + math.log(2)
    ) / 2
    assert made.step([real], [fake]) == pytest.approx(expected, rel=1e-6)
    slopes = [(1 / (1 + math.exp(-3)) - 0.8) / 2, 0.5 / 2]  # (D - target) / 2
    net = made.network
    assert net.output.bias.grad.item() == pytest.approx(sum(slopes), rel=1e-5)
    assert net.output.weight.grad.item() == pytest.approx(2 * slopes[0] + 0.5 * slopes[1], rel=1e-5)
    of_vectors = net.embedding.weight.grad[:, 0].tolist()
    assert of_vectors == pytest.approx([0, 2 * slopes[1], 2 * slopes[0], 0, 0], rel=1e-5)
    # The first step of Adam is as long as the learning rate, against the sign of the gradient.
    assert net.output.bias.item() == pytest.approx(-1 - 0.1 * np.sign(sum(slopes)), rel=1e-5)
    assert made.steps == 1


def test_the_loss_weighs_both_kinds_the_same() -> None:
    rng = torch.Generator().manual_seed(0)
    real, fake = torch.randn(3, generator=rng), torch.randn(9, generator=rng)
    weight = torch.tensor([1 / 6] * 3 + [1 / 18] * 9)
    target = torch.tensor([0.9] * 3 + [0.0] * 9)
    expected = functional.binary_cross_entropy(
        torch.sigmoid(torch.cat([real, fake])), target, weight, reduction="sum"
    )
    assert torch.allclose(adversarial_loss(real, fake, 0.1), expected)


def test_features_are_the_largest_responses_of_windows_inside_the_text() -> None:
    shape = Shape(vocabulary=9, embedding=3, widths=(1, 2, 4), filters=5, highway=2)
    net = TextCNN(shape, torch.Generator().manual_seed(0))
    rows = [(1, 2, 3, 4, 5, 6), (7, 1), (3,)]
    batch = torch.full((3, 6), 8)
    for row, ids in zip(batch, rows, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    found = net.features(batch)
    for row, ids in enumerate(rows):
        expected = []
        for width, conv in zip(shape.widths, net.convolutions, strict=True):
            padded = [*ids, *[8] * max(0, width - len(ids))]
            windows = [padded[at : at + width] for at in range(len(padded) - width + 1)]
            vectors = torch.stack([net.embedding.weight[window].T for window in windows])
            responses = torch.einsum("nek,fek->nf", vectors, conv.weight) + conv.bias
            expected.append(responses.clamp(min=0).amax(0))
        assert torch.allclose(found[row], torch.cat(expected), atol=1e-6)


def test_highway_layers_mix_what_is_new_with_what_was() -> None:
    shape = Shape(vocabulary=5, embedding=2, widths=(1,), filters=3, highway=1)
    net = TextCNN(shape, torch.Generator().manual_seed(1))
    batch = torch.tensor([[0, 1, 2]])
    x = net.features(batch)[0]
    weight, bias = net.highway[0].weight, net.highway[0].bias
    assert torch.all(bias[3:] == -2)
    gate = torch.sigmoid(weight[3:] @ x + bias[3:])
    y = gate * (weight[:3] @ x + bias[:3]).clamp(min=0) + (1 - gate) * x
    assert torch.allclose(net(batch)[0], net.output.weight[0] @ y + net.output.bias[0])


def test_a_word_of_the_prompt_does_not_hide_the_same_word_of_the_text() -> None:
    reward = Adversarial(**SMALL | {"condition": True})
    found = reward(["sun", "sun", "moon"], ["sun", "moon", "sun"], reference=["sun"] * 3)
    assert len(set(found)) == 3
    assert Adversarial(**SMALL)(["sun", "moon"], ["star"] * 2, reference=["sun"] * 2)[0] == (
        pytest.approx(Adversarial(**SMALL)(["sun", "sun"], ["star"] * 2, reference=["sun"] * 2)[1])
    )


def test_what_is_read() -> None:
    words = textgym.load_tokenizer(WORDS)
    mark, end = words.vocab_size, words.vocab_size + 1
    pairs = [("red", ""), ("red", "sun moon"), ("", "sun moon red")]
    assert TextEncoder(words, 2, False)(pairs) == [
        (mark, end), (mark, 3, 4, end), (mark, 3, 4)
    ]  # fmt: skip
    assert TextEncoder(words, 2, True)([("red green blue", "sun")]) == [(1, 2, mark, 3, end)]


# -- Texts that it distinguishes -------------------------------------------------------------------


def held_out(reward: Adversarial, real: list[str], fake: list[str]) -> float:
    reward.freeze()
    scores = [np.array(reward([""] * len(part), part)) for part in (real, fake)]
    edge = (1 - reward.label_smoothing) / 2
    return float(((scores[0] >= edge).mean() + (scores[1] < edge).mean()) / 2)


def test_different_distributions_are_told_apart() -> None:
    # The same words in both: what differs is which word follows which.
    rng = np.random.default_rng(0)
    steps = [rng.integers(1, 3, size) for size in rng.integers(6, 9, 800)]
    real = [" ".join(WORDS[at % 6] for at in step.cumsum()) for step in steps]
    fake = [" ".join(rng.permutation(text.split())) for text in real]
    reward = Adversarial(**SMALL | {"buffer_size": 400, "learning_rate": 0.02})
    reward.warm_up(real[:400], fake[:400])
    unseen = [[text for text in part[400:] if text not in part[:400]] for part in (real, fake)]
    assert min(map(len, unseen)) > 100
    assert held_out(reward, *unseen) > 0.9
    scores = [reward([""] * 2, [text, text]) for text in (real[-1], fake[-1])]
    assert scores[0] > scores[1]


def test_equal_distributions_are_not() -> None:
    rng = np.random.default_rng(1)
    reward = Adversarial(**SMALL | {"window": 2000, "buffer_size": 2000, "updates": 1})
    for _ in range(40):
        reward([""] * 50, texts(rng, WORDS, 50), reference=texts(rng, WORDS, 50))
    # Four standard errors of the mean of two shares of 2000 texts each.
    interval = 4 * math.sqrt(0.25 / 4000)
    assert reward.stats["accuracy"] == pytest.approx(0.5, abs=interval)
    assert held_out(reward, texts(rng, WORDS, 2000), texts(rng, WORDS, 2000)) == pytest.approx(
        0.5, abs=interval
    )
    assert reward.stats["d_real"] == pytest.approx(0.45, abs=0.1)  # (1 - label_smoothing) / 2


def test_the_accuracy_is_of_texts_before_they_are_learned_from() -> None:
    reward = Adversarial(**SMALL | {"updates": 100, "update_every": 4, "label_smoothing": 0.0})
    fresh = Adversarial(**SMALL | {"label_smoothing": 0.0})
    fakes, reals = ["red sun", "blue"] * 2, ["moon star", "green"] * 2
    fresh.freeze()
    d_fake, d_real = (np.array(fresh([""] * 4, part)) for part in (fakes, reals))
    reward([""] * 4, fakes, reference=reals)
    stats = reward.stats
    assert stats["d_fake"] == pytest.approx(d_fake.mean())
    assert stats["d_real"] == pytest.approx(d_real.mean())
    assert stats["accuracy"] == ((d_real >= 0.5).mean() + (d_fake < 0.5).mean()) / 2
    assert (stats["texts"], stats["steps"]) == (4, 100)
    # By now it knows these four by heart.
    fake, real = reward([""] * 2, ["blue", "green"], reference=reals[:2])
    assert fake < 0.3 < 0.7 < real


# -- The reward ------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_rewards_whatever_the_global_generators_say() -> None:
    one = play(Adversarial(**SMALL))
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    again = Adversarial(**SMALL)
    with torch.no_grad():
        two = play(again)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        three = play(Adversarial(**SMALL))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert one == two == three
    assert play(Adversarial(**SMALL | {"seed": 1})) != one


def test_scores_do_not_depend_on_the_order_of_a_batch() -> None:
    reward = Adversarial(**SMALL)
    play(reward)
    reward.freeze()
    rng = np.random.default_rng(2)
    batch = [*texts(rng, WORDS, 40), "", "red", "red"]
    scores = reward([""] * 43, batch)
    assert scores[-1] == scores[-2]
    order = rng.permutation(43)
    assert reward([""] * 43, [batch[i] for i in order]) == [scores[i] for i in order]
    alone = [reward([""], [text])[0] for text in batch]
    assert scores == pytest.approx(alone, abs=1e-6)


def test_rewards_of_a_call_are_of_one_discriminator() -> None:
    reward, frozen = Adversarial(**SMALL), Adversarial(**SMALL)
    frozen.freeze()
    said = ["red sun", "moon"] * 20  # More than an update's worth.
    assert reward([""] * 40, said, reference=said) == frozen([""] * 40, said)
    assert reward.stats["steps"] == 2 * 4
    assert reward([""] * 40, said, reference=said) != frozen([""] * 40, said)


def test_probability_and_bounded_logit() -> None:
    chances = Adversarial(**SMALL)
    odds = Adversarial(**SMALL | {"reward": "logit", "bound": 0.3})
    for d, z in zip(chain(*play(chances)), chain(*play(odds)), strict=True):
        assert 0 < d < 1
        assert z == pytest.approx(np.clip(math.log(d / (1 - d)), -0.3, 0.3), abs=1e-6)


def test_frozen_never_changes() -> None:
    reward = Adversarial(**SMALL)
    play(reward)
    before, stats = reward.state_dict(), reward.stats
    reward.freeze()
    assert reward.frozen
    # Neither references nor a second look are needed.
    assert play(reward) == play(reward)
    reward([""], ["red"])
    after = reward.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert reward.stats == stats
    reward.unfreeze()
    assert play(reward, 2) != play(reward, 2)


def test_nothing_is_rewarded_before_the_warm_up_is_over() -> None:
    reward = Adversarial(**SMALL | {"warm_up_texts": 25})
    found = play(reward, 4)
    assert [row[0] is None for row in found] == [True, True, True, False]
    assert all(len({value is None for value in row}) == 1 for row in found)
    by_hand = Adversarial(**SMALL | {"warm_up_texts": 10**6})
    assert not by_hand.ready
    by_hand.warm_up(["red"] * 20, ["sun"] * 20)
    assert by_hand.ready
    assert by_hand.stats["steps"] == 8  # Three times over 40 texts, 16 at a time.
    real, fake = by_hand([""] * 2, ["red", "sun"], reference=["red"] * 2)
    assert real > fake


def test_memory_is_bounded() -> None:
    reward = Adversarial(**SMALL | {"buffer_size": 7, "window": 5, "updates": 1})
    play(reward, 10)
    state = reward.state_dict()
    assert len(state["fakes.lengths"]) == len(state["reals.lengths"]) == 7
    assert len(state["seen.real"]) == len(state["seen.fake"]) == 5


def test_a_ring_keeps_the_last_and_knows_the_fresh() -> None:
    ring, rng = Replay(5), np.random.default_rng(0)
    ring.add([(i,) for i in range(8)])
    assert {text[0] for text in ring.draw(rng, 200, 0)} == set(range(3, 8))
    ring.settle()
    ring.add([(8,), (9,)])
    drawn = [text[0] for text in ring.draw(rng, 300, 100)]
    assert set(drawn[:100]) == {8, 9}
    assert set(drawn[100:]) == set(range(5, 10))
    ring.settle()
    assert len(ring.draw(rng, 3, 2)) == 3


# -- Where real texts come from --------------------------------------------------------------------


def test_real_texts_from_everywhere(tmp_path: Path) -> None:
    rows = [{"prompt": "red", "reference": "sun"}, {"prompt": "blue", "reference": "moon"}]
    jsonl, txt = tmp_path / "texts.jsonl", tmp_path / "texts.txt"
    jsonl.write_text("".join(json.dumps(row) + "\n" for row in rows))
    txt.write_text("sun\nmoon\n")
    states = []
    for real in (["sun", "moon"], rows, jsonl, str(txt)):
        reward = Adversarial(real, **SMALL)
        reward(["red"] * 9, ["star"] * 9)
        states.append(reward.state_dict()["reals.tokens"].tolist())
    assert states[1:] == states[:-1]
    assert {3, 4} < set(states[0])
    both = Adversarial(rows, **SMALL | {"condition": True})
    both(["red"] * 9, ["star"] * 9)
    pairs = both.state_dict()["reals.tokens"].view(9, 4)[:, [0, 2]].tolist()
    assert {tuple(pair) for pair in pairs} == {(0, 3), (2, 4)}


def test_real_texts_from_a_task() -> None:
    small = {name: value for name, value in SMALL.items() if name != "tokenizer"}
    drawn = []
    for real in ("TextGen/Story-v0", textgym.make_task("TextGen/Story-v0")):
        reward = Adversarial(real, **small)
        reward([""] * 12, [" Ben ran."] * 12)
        drawn.append(reward.state_dict()["reals.tokens"])
    assert torch.equal(*drawn)
    decode = textgym.load_tokenizer().decode
    marks = textgym.load_tokenizer().vocab_size
    assert " the " in decode([index for index in drawn[0].tolist() if index < marks])


def test_references_may_be_several_or_none() -> None:
    reward = Adversarial(**SMALL)
    found = reward([""] * 3, ["red"] * 3, reference=[None, ["sun", "moon"], []])
    assert None not in found
    assert len(reward.state_dict()["reals.lengths"]) == 1
    alone = Adversarial(**SMALL)
    alone([""] * 40, ["red"] * 40, reference=[None] * 40)
    assert alone.stats == {"texts": 40, "steps": 0}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"real": []}, r"real=\[\]"),
        ({"real": "TextGen/Stroy-v0"}, "real='TextGen/Stroy-v0'"),
        ({"real": [3]}, "real text 0 is 3"),
        ({"real": ["a"], "condition": True}, "condition=True .*real text 0"),
        ({"reward": "D"}, "reward .*not 'D'"),
        ({"widths": ()}, "widths .*not 0"),
        ({"widths": (0,)}, "widths .*not 0"),
        ({"batch_size": 1}, "batch_size .*not 1"),
        ({"dropout": 1.0}, "dropout .*not 1.0"),
        ({"label_smoothing": 0.5}, "label_smoothing .*not 0.5"),
        ({"learning_rate": float("nan")}, "learning_rate .*not nan"),
        ({"update_every": 0}, "update_every .*not 0"),
    ],
)
def test_wrong_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(RewardError, match=said):
        Adversarial(**options)


def test_what_is_missing_is_said() -> None:
    with pytest.raises(DataError, match="no file"):
        Adversarial("nowhere.jsonl")
    with pytest.raises(RewardError, match="'reference'"):
        Adversarial(**SMALL)(["red"], ["red"], solution=["red"])
    with pytest.raises(RewardError, match="warm_up"):
        Adversarial(**SMALL).warm_up([], ["red"])
    with pytest.raises(RewardError, match="prompts"):
        Adversarial(**SMALL | {"condition": True}).warm_up(["red"], ["red"])


@pytest.mark.parametrize("condition", [False, True])
def test_any_text_will_do(condition: bool) -> None:
    odd = ["", " ", "\ud800", "naïve 北京 👩‍🚀 \x00", "<|endoftext|>", "é" * 50_000, "a\u0301\n\n"]
    small = {name: value for name, value in SMALL.items() if name != "tokenizer"}
    reward = Adversarial(**small | {"condition": condition, "max_tokens": 8, "update_every": 3})
    for _ in range(3):
        found = reward(odd, odd, reference=odd[::-1])
        assert all(value is not None and 0 <= value <= 1 for value in found)
    assert reward.stats["steps"] == 28  # 21 texts, 3 at a time.
    assert reward([], [], reference=[]) == []


# -- Its state -------------------------------------------------------------------------------------


@pytest.mark.parametrize("calls", [0, 3, 12])
def test_a_saved_state_goes_on_as_it_would_have(tmp_path: Path, calls: int) -> None:
    reward = Adversarial(**SMALL)
    play(reward, calls)
    reward.save(tmp_path / "state.safetensors")
    other = Adversarial(**SMALL)
    play(other, 2, seed=9)
    other.load(tmp_path / "state.safetensors")
    assert other.stats == reward.stats
    assert play(other, 5, seed=1) == play(reward, 5, seed=1)
    assert not list(tmp_path.glob("*.partial"))


def test_states_of_other_rewards_are_refused(tmp_path: Path) -> None:
    reward = Adversarial(**SMALL)
    play(reward, 3)
    path = tmp_path / "state.safetensors"
    reward.save(path)
    for options, said in (({"filters": 4}, "filters 8"), ({"tokenizer": WORDS[:5]}, "tokenizer")):
        with pytest.raises(RewardError, match=said):
            Adversarial(**SMALL | options).load(path)
    other = Adversarial(**SMALL | {"filters": 4})
    before = other.state_dict()
    with pytest.raises(RewardError, match="not a state"):
        other.load_state_dict(reward.state_dict())
    with pytest.raises(RewardError, match="not a state"):
        other.load_state_dict({})
    with pytest.raises(RewardError, match="buffer_size"):
        Adversarial(**SMALL | {"buffer_size": 9}).load_state_dict(reward.state_dict())
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
    with pytest.raises(RewardError, match="cannot be read"):
        reward.load(tmp_path / "nothing")
    pickled = tmp_path / "weights.bin"
    torch.save(reward.state_dict(), pickled)
    with pytest.raises(RewardError, match="cannot be read"):
        reward.load(pickled)
    save_file({"a": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(RewardError, match="not a state of an adversarial reward"):
        reward.load(tmp_path / "other")


def test_it_pickles_as_its_specification_and_says_what_is_lost() -> None:
    reward = Adversarial(["sun", "moon"], **SMALL | {"seed": 3})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        twin = pickle.loads(pickle.dumps(reward))
    assert play(reward) == play(twin)
    with pytest.warns(UserWarning, match="^adversarial: a pickle"):
        third = pickle.loads(pickle.dumps(reward))
    assert third.stats == {}
    assert copy.deepcopy(reward) is copy.copy(reward) is reward
    assert copy.deepcopy({"reward": reward})["reward"] is reward


# -- In an environment -----------------------------------------------------------------------------


def test_in_an_environment() -> None:
    small = {name: value for name, value in SMALL.items() if name != "tokenizer"}
    reward = Adversarial(**small | {"update_every": 8, "updates": 2})
    envs = gym.make_vec(
        "textgym:TextGen/Story-v0", num_envs=6, reward=reward, max_new_tokens=4, stop_at_eos=False
    )
    envs.reset(seed=0)
    envs.action_space.seed(0)
    total = np.zeros(6)
    for _ in range(20):
        total += envs.step(envs.action_space.sample())[1]
    assert reward.stats["texts"] == 24
    assert reward.stats["steps"] == 6
    assert (total > 0).all()


def test_in_a_sum_of_rewards(register: Any) -> None:
    small = {name: value for name, value in SMALL.items() if name != "tokenizer"}
    reward = Adversarial(**small)
    env = gym.make(
        "textgym:TextGen/Story-v0", reward={reward: 0.5, "distinct": 1}, max_new_tokens=3
    )
    env.reset(seed=0)
    for token in repeat(100):
        _, value, terminated, _, info = env.step(token)
        if terminated:
            break
    terms = info["reward_terms"]
    assert list(terms) == ["adversarial", "distinct"]
    assert value == pytest.approx(0.5 * terms["adversarial"] + terms["distinct"])
    assert 0 < terms["adversarial"] < 1


def test_by_name() -> None:
    register_reward("test-adversarial", "textgym.rewards.adversarial.reward:Adversarial")
    made = textgym.make_reward("test-adversarial", **SMALL)
    assert isinstance(made, Adversarial)
    assert made.name == "adversarial"

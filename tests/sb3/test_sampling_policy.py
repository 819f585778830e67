"""Sampling is part of the policy: one distribution in the rollout, the update and the KL."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.buffers import RolloutBuffer
from transformers import AutoModelForCausalLM

from tests.lm.checkpoints import EOS, WORDS
from tests.sb3.rollouts import collect, stock_twin
from textgym.errors import SettingsError
from textgym.lm import Decision, KeptSets, Sampling, scoring
from textgym.lm.sampling import decision
from textgym.sb3 import LMPolicy, LMRolloutBuffer

SETTINGS = {
    "temperature": {"temperature": 0.7},
    "top_k": {"top_k": 4},
    "top_p": {"top_p": 0.8},
    "penalty": {"repetition_penalty": 1.5},
    "banned": {"banned_tokens": ["w3", 7], "required_tokens": ["w1"]},
    "all": {
        "temperature": 1.4,
        "top_k": 12,
        "top_p": 0.9,
        "repetition_penalty": 1.3,
        "banned_tokens": [2],
        "required_tokens": [1],
    },
}
each_setting = pytest.mark.parametrize("name", SETTINGS)


def make(algorithm, env, lm, name, buffer=LMRolloutBuffer, **kwargs):
    settings = {"n_steps": 5, "device": "cpu", "seed": 0, "learning_rate": 1e-3} | kwargs
    if algorithm is PPO:
        settings = {"batch_size": 30, "n_epochs": 1} | settings
    model = algorithm(
        LMPolicy,
        env,
        policy_kwargs={"lm": lm, "sampling": SETTINGS[name] if isinstance(name, str) else name},
        rollout_buffer_class=buffer,
        **settings,
    )
    torch.manual_seed(5)
    torch.nn.init.normal_(model.policy.value_net[-1].weight, std=0.1)
    return model


def decisions(buffer):
    """Texts ``[n, L]``, actions ``[n]`` and kept sets ``[n, V]`` of all decisions."""
    np.random.seed(0)  # The order of the decisions.
    (batch,) = buffer.get(None)
    texts = batch.observations.observations(0, len(batch.actions))
    found = zip(texts, batch.actions, batch.old_log_prob, strict=True)
    stored = (
        (buffer.observations[at], buffer.actions[at][0], buffer.log_probs[at])
        for at in np.ndindex(buffer.log_probs.shape)
    )
    ours, theirs = (
        sorted(
            (text[text >= 0].tolist(), int(action), float(value)) for text, action, value in each
        )
        for each in (found, stored)
    )
    assert ours == theirs
    kept = batch.observations.kept
    return texts, batch.actions.flatten(), None if kept is None else kept.mask()


def truth(model, texts, actions, kept_masks):
    """Plain transformers, one unpadded pass a decision: log-probabilities and entropies.

    Args:
        texts: ``[n, L]``.
        actions: ``[n]``.
        kept_masks: ``[n, V]``, or None.
    """
    settings = Sampling.of(model.policy.sampling)
    banned = model.policy.sampler.banned
    found = []
    for at, text in enumerate(texts):
        text = text[text >= 0].tolist()
        scores = model.policy.lm.model(torch.tensor([text or [EOS]])).logits[0, -1]
        seen = torch.zeros(len(WORDS), dtype=torch.bool)
        seen[text] = True
        penalty = settings.repetition_penalty
        scores = torch.where(
            seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores
        )
        scores = scores / settings.temperature
        hidden = torch.zeros(len(WORDS), dtype=torch.bool)
        hidden[list(banned)] = True
        if any(token not in text for token in model.policy.sampler.required):
            hidden[EOS] = True
        if kept_masks is not None:
            hidden |= ~kept_masks[at]
        log_probs = torch.log_softmax(scores.masked_fill(hidden, -torch.inf), 0)
        entropy = -(log_probs.exp() * log_probs.masked_fill(hidden, 0.0)).sum()
        found.append(torch.stack([log_probs[actions[at]], entropy]))
    return torch.stack(found)


def drift(model, buffer):
    """``|log-probability in the rollout - in the update|`` of each decision."""
    model.policy.set_training_mode(True)
    found = []
    for batch in buffer.get(7):
        _, log_probs, _ = model.policy.evaluate_actions(batch.observations, batch.actions)
        found.append((log_probs - batch.old_log_prob).abs().detach())
    return torch.cat(found)


@each_setting
@pytest.mark.parametrize("kind", ["gpt2", "grouped"])
def test_the_ratio_is_one_at_first(checkpoint, make_env, name, kind):
    model = make(PPO, make_env(), checkpoint(kind), name)
    gaps = drift(model, collect(model, rollouts=3))
    assert len(gaps) == 30
    assert gaps.max() < 1e-5


@pytest.mark.parametrize("name", ["top_p", "all"])
def test_ppo_finds_a_ratio_of_one(checkpoint, make_env, name):
    model = make(PPO, make_env(), checkpoint(), name)
    model.learn(60)
    assert abs(model.logger.name_to_value.get("train/approx_kl", 1.0)) < 1e-6
    assert model.logger.name_to_value["train/clip_fraction"] == 0


@each_setting
def test_losses_and_gradients_are_a_brute_force(checkpoint, make_env, name, monkeypatch):
    # Small enough that logits are computed in pieces, of which some are computed twice.
    monkeypatch.setattr(scoring, "MAX_LOGITS", 8 * len(WORDS))
    monkeypatch.setattr(scoring, "SAVED_LOGITS", 16 * len(WORDS))
    model = make(PPO, make_env(), checkpoint(), name)
    buffer = collect(model, rollouts=2)
    assert (buffer.episode_starts[0] == 0).any(), "no episode crosses the border"
    texts, actions, masks = decisions(buffer)
    assert (masks is not None) == model.policy.sampler.truncates
    if masks is not None:
        with torch.no_grad():
            assert torch.equal(masks, model.policy.get_distribution(texts).distribution.probs > 0)
    # Other weights than those that the tokens were drawn with.
    with torch.no_grad():
        for parameter in model.policy.lm.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    np.random.seed(0)
    batch = next(buffer.get(None)).observations
    weights = torch.randn(2, len(actions))
    parameters = list(model.policy.lm.parameters())

    _, log_probs, entropy = model.policy.evaluate_actions(batch, actions)
    loss = (weights[0] * log_probs + weights[1] * entropy).sum()
    ours = torch.autograd.grad(loss, parameters)
    expected = truth(model, texts, actions, masks)
    torch.testing.assert_close(torch.stack([log_probs, entropy], 1), expected, atol=1e-4, rtol=1e-4)
    theirs = torch.autograd.grad((weights * expected.T).sum(), parameters)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()) + 1e-8)


@pytest.mark.parametrize("name", ["top_k", "top_p", "all"])
def test_updates_replay_what_was_kept(checkpoint, make_env, name):
    model = make(PPO, make_env(), checkpoint(), name, learning_rate=3e-2, n_epochs=3)
    buffer = collect(model)
    _, _, before = decisions(buffer)
    model.train()
    policy = model.policy
    policy.set_training_mode(False)
    outside = 0
    for batch in buffer.get(None):
        sequences = batch.observations
        recorded = sequences.kept.mask()
        with torch.no_grad():
            _, log_probs, entropy = policy.evaluate_actions(sequences, batch.actions)
            assert torch.isfinite(torch.exp(log_probs - batch.old_log_prob)).all()
            assert torch.isfinite(entropy).all()
            assert recorded.gather(1, batch.actions).all()
            # The sets that these weights would keep are others: replaying is what keeps it finite.
            now = policy.get_distribution(sequences._replace(kept=None)).distribution.probs
            then = policy.get_distribution(sequences).distribution.probs
        assert torch.equal(then > 0, recorded)
        outside += int((now.gather(1, batch.actions) == 0).sum())
    assert outside > 0
    assert torch.equal(decisions(buffer)[2], before)


@each_setting
def test_all_ways_to_ask_agree(checkpoint, make_env, name):
    model = make(PPO, make_env(), checkpoint(), name)
    policy = model.policy
    policy.set_training_mode(False)
    texts = torch.from_numpy(collect(model).observations.reshape(-1, 13))
    with torch.no_grad():
        actions, values, log_probs = policy(texts)
        distribution = policy.get_distribution(texts)
        record = Decision.of(log_probs)
        again = policy.evaluate_actions(texts, actions, kept=record.kept)
        likeliest = policy.predict(texts.numpy(), deterministic=True)[0]
    assert record.lm is policy.lm
    close = {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(again[0], values, **close)
    torch.testing.assert_close(again[1], log_probs, **close)
    torch.testing.assert_close(distribution.log_prob(actions), log_probs, **close)
    torch.testing.assert_close(again[2], distribution.entropy(), **close)
    assert np.array_equal(likeliest, distribution.distribution.probs.argmax(-1))
    # With gradients on, the way back goes through the same numbers.
    torch.manual_seed(3)
    _, _, live = policy(texts)
    torch.manual_seed(3)
    with torch.no_grad():
        _, _, cached = policy(texts)
    torch.testing.assert_close(live, cached, **close)
    live.sum().backward()
    assert all(parameter.grad is not None for parameter in policy.lm.parameters())


@pytest.mark.parametrize("name", ["temperature", "all"])
def test_large_batches_are_drawn_in_pieces(checkpoint, make_env, name, monkeypatch):
    monkeypatch.setattr(decision, "MAX_LOGITS", 4 * len(WORDS))
    model = make(PPO, make_env(), checkpoint(), name)
    assert drift(model, collect(model, rollouts=2)).max() < 1e-5


@each_setting
def test_the_kl_of_the_reference_to_itself_is_zero(checkpoint, make_env, name):
    kwargs = {"kl_coef": 0.3, "reference": checkpoint()}
    model = make(PPO, make_env(), checkpoint(), name, rollout_buffer_kwargs=kwargs)
    buffer = collect(model, rollouts=2)
    np.testing.assert_allclose(buffer.rewards, buffer.task_rewards, atol=1e-5)
    assert abs(buffer.stats["kl"]) < 1e-5


@pytest.mark.parametrize("name", ["banned", "all"])
def test_settings_are_saved(checkpoint, make_env, tmp_path, name):
    model = make(PPO, make_env(), checkpoint(), name)
    model.learn(30)
    model.save(tmp_path / "model.zip")
    model.policy.save(tmp_path / "policy.pt")
    texts = torch.from_numpy(model.rollout_buffer.observations.reshape(-1, 13))
    with torch.no_grad():
        expected = model.policy.get_distribution(texts).distribution.probs
        for loaded in (
            PPO.load(tmp_path / "model.zip", device="cpu").policy,
            LMPolicy.load(tmp_path / "policy.pt", device="cpu"),
        ):
            assert loaded.sampling == Sampling.of(SETTINGS[name])
            assert torch.equal(loaded.get_distribution(texts).distribution.probs, expected)
    again = PPO.load(tmp_path / "model.zip", env=make_env(), device="cpu")
    again.learn(30)


def test_forbidden_tokens_are_never_written(checkpoint, make_env):
    # So hot that eos is written often.
    settings = {**SETTINGS["banned"], "temperature": 10.0}
    model = make(PPO, make_env(16), checkpoint(), settings, n_steps=40, batch_size=640)
    buffer = collect(model)
    written, texts = buffer.actions[..., 0], buffer.observations
    assert not np.isin(written, [3, 7]).any()
    ended = texts[written == EOS]
    assert len(ended)
    assert (ended == 1).any(-1).all()


def test_stock_buffers_know_no_sets(checkpoint, make_env):
    model = make(PPO, make_env(), checkpoint(), "top_k", buffer=RolloutBuffer)
    with pytest.raises(SettingsError, match="rollout_buffer_class=LMRolloutBuffer"):
        model.learn(30)
    # Settings that are functions of the text alone need no record.
    model = make(A2C, make_env(), checkpoint(), "penalty", buffer=RolloutBuffer)
    model.learn(60)
    ours = make(A2C, make_env(), checkpoint(), "penalty")
    ours.learn(60)
    pairs = zip(model.policy.parameters(), ours.policy.parameters(), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_log_probabilities_without_their_record_are_refused(checkpoint, make_env):
    """A policy in between that copies the tensor loses the sets: no guess is made."""
    model = make(PPO, make_env(), checkpoint(), "top_p")
    forward = model.policy.forward
    model.policy.forward = lambda *a, **k: tuple(part.clone() for part in forward(*a, **k))
    with pytest.raises(SettingsError, match=r"LMRolloutBuffer.*LMPolicy"):
        model.learn(30)


def test_what_is_stored_is_small(checkpoint, make_env):
    model = make(PPO, make_env(), checkpoint(), "top_k")
    buffer = collect(model)
    kept = next(buffer.get(None)).observations.kept
    assert isinstance(kept, KeptSets)
    # Four of 23 tokens: three bytes of bits are less than four ids.
    assert kept.bits.shape == (30, 3)
    assert stock_twin(buffer).observations.shape == (5, 6, 13)


def test_the_default_is_the_softmax(checkpoint, make_env):
    plain = LMPolicy(*_spaces(make_env()), lambda _: 1e-3, lm=checkpoint())
    texts = torch.full((2, 13), -1, dtype=torch.int32)
    texts[:, :2] = torch.tensor([[3, 4], [5, 6]])
    model = AutoModelForCausalLM.from_pretrained(checkpoint())
    with torch.no_grad():
        probs = plain.get_distribution(texts).distribution.probs
        expected = torch.softmax(model(texts[:, :2].long()).logits[:, -1], -1)
        _, _, log_probs = plain(texts)
    torch.testing.assert_close(probs, expected, atol=1e-5, rtol=1e-5)
    assert Decision.of(log_probs).kept is None


def _spaces(env):
    return env.observation_space, env.action_space


def test_wrong_settings_are_refused(checkpoint, make_env):
    for sampling, message in (
        ({"topk": 5}, "no setting 'topk'; did you mean"),
        ({"banned_tokens": ["nothing"]}, "'nothing'"),
        ("greedy", "sampling='greedy'"),
    ):
        with pytest.raises(SettingsError, match=message):
            LMPolicy(*_spaces(make_env()), lambda _: 1e-3, lm=checkpoint(), sampling=sampling)

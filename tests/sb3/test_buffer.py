"""Whole sequences give what one row a timestep gives: the same losses, gradients and weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.utils import explained_variance

from tests.lm.checkpoints import WORDS
from tests.sb3.rollouts import collect, make_model, stock_twin
from textgym.errors import ModelError, SettingsError
from textgym.lm import scoring
from textgym.sb3 import LMPolicy, LMRolloutBuffer


def gradients(model: Any, buffer: RolloutBuffer, **kwargs: Any) -> tuple[float, list[torch.Tensor]]:
    """The gradient of one pass of the algorithm's own train() over a buffer, before clipping."""
    model.rollout_buffer = buffer
    captured: list[torch.Tensor] = []

    def capture(*_: Any) -> None:
        captured.extend(parameter.grad.clone() for parameter in model.policy.parameters())

    state = {key: value.clone() for key, value in model.policy.state_dict().items()}
    handle = model.policy.optimizer.register_step_pre_hook(capture)
    model.max_grad_norm = 1e9
    model.train()
    handle.remove()
    model.policy.load_state_dict(state)
    return float(model.logger.name_to_value["train/value_loss"]), captured


@pytest.mark.parametrize("kind", ["gpt2", "grouped"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("algorithm", [PPO, A2C])
def test_losses_and_gradients_are_those_of_the_stock_buffer(
    checkpoint, make_env, algorithm, normalize, kind, monkeypatch
):
    # Small enough that the logits are computed in pieces.
    monkeypatch.setattr(scoring, "MAX_LOGITS", 8 * len(WORDS))
    kwargs = {"n_epochs": 1} if algorithm is PPO else {}
    model = make_model(
        algorithm, make_env(), checkpoint(kind), normalize_advantage=normalize, ent_coef=0.02,
        **kwargs,
    )  # fmt: skip
    ours = collect(model, rollouts=2)
    assert (ours.episode_starts[0] == 0).any(), "no episode crosses the border"
    loss, gradient = gradients(model, ours)
    expected_loss, expected = gradients(model, stock_twin(ours))
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert len(gradient) == len(expected) > 0
    for ours_, theirs in zip(gradient, expected, strict=True):
        scale = float(theirs.abs().max())
        torch.testing.assert_close(ours_, theirs, rtol=1e-5, atol=1e-5 * scale + 1e-8)


@pytest.mark.parametrize("algorithm", [PPO, A2C])
def test_weights_after_training_are_those_of_the_stock_buffer(checkpoint, make_env, algorithm):
    def run(buffer):
        model = make_model(algorithm, make_env(), checkpoint(), buffer, learning_rate=1e-4)
        model.learn(4 * 30)
        return model

    ours, theirs = run(LMRolloutBuffer), run(RolloutBuffer)
    start = make_model(algorithm, make_env(), checkpoint())
    pairs = zip(
        ours.policy.parameters(), theirs.policy.parameters(), start.policy.parameters(), strict=True
    )
    moved = 0.0
    for a, b, c in pairs:
        moved = max(moved, float((a - c).detach().abs().max()))
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-6)
    assert moved > 1e-4


@pytest.mark.parametrize("algorithm", [PPO, A2C])
def test_the_ratio_is_one_at_first(checkpoint, make_env, algorithm):
    model = make_model(algorithm, make_env(), checkpoint("grouped"))
    buffer = collect(model, rollouts=2)
    model.policy.set_training_mode(True)
    for batch in buffer.get(7):
        _, log_probs, _ = model.policy.evaluate_actions(batch.observations, batch.actions)
        ratio = torch.exp(log_probs - batch.old_log_prob)
        torch.testing.assert_close(ratio, torch.ones_like(ratio), atol=2e-5, rtol=0)


def test_ppo_finds_a_ratio_of_one(checkpoint, make_env):
    model = make_model(PPO, make_env(), checkpoint(), n_epochs=1)
    model.learn(30)
    assert abs(model.logger.name_to_value.get("train/approx_kl", 1.0)) < 1e-6
    assert model.logger.name_to_value["train/clip_fraction"] == 0


@pytest.mark.parametrize("batch_size", [None, 1, 7, 13, 30, 1000])
def test_every_decision_comes_once(checkpoint, make_env, batch_size):
    buffer = collect(make_model(PPO, make_env(), checkpoint()), rollouts=2)
    stock = stock_twin(buffer)

    def rows(batches, observations):
        found = []
        for batch in batches:
            columns = [batch.actions.reshape(-1), *batch[2:]]
            for text, *values in zip(observations(batch), *columns, strict=True):
                found.append((tuple(text.tolist()), *(float(value) for value in values)))
        return sorted(found)

    def texts(batch):
        tokens, at, positions = batch.observations[:3]
        whole = torch.full((len(at), buffer.observation_space.shape[0]), -1)
        whole[:, : tokens.shape[1]] = tokens[at]
        return torch.where(torch.arange(whole.shape[1]) <= positions[:, None], whole, -1)

    ours = list(buffer.get(batch_size))
    assert rows(ours, texts) == rows(stock.get(30), lambda batch: batch.observations)
    if batch_size is None:
        assert len(ours) == 1
    for batch in ours:
        assert batch.old_values.shape == batch.returns.shape == batch.actions.shape[:1]
        assert batch.actions.shape[1:] == (1,)


def test_batches_are_balanced_and_shuffled(checkpoint, make_env):
    model = make_model(PPO, make_env(16), checkpoint(), n_steps=32, batch_size=64)
    buffer = collect(model)
    sizes = [len(batch.returns) for batch in buffer.get(64)]
    assert len(sizes) == 8
    assert sum(sizes) == 512
    assert max(sizes) - min(sizes) <= 4
    np.random.seed(3)
    first = [batch.actions for batch in buffer.get(64)]
    np.random.seed(3)
    again = [batch.actions for batch in buffer.get(64)]
    assert all(map(torch.equal, first, again))
    other = [batch.actions for batch in buffer.get(64)]
    assert [len(a) for a in first] != [len(b) for b in other] or not all(
        map(torch.equal, first, other)
    )


def test_a_whole_text_is_one_row(checkpoint, make_env):
    """Tokens are stored once: as many rows as there are episodes, not timesteps."""
    env = make_env(4, stop_at_eos=False)
    buffer = collect(make_model(PPO, env, checkpoint(), n_steps=14, batch_size=56))
    (batch,) = buffer.get(None)
    assert len(batch.observations.tokens) == 8
    assert len(batch.observations.rows) == 56
    assert batch.observations.to("cpu").tokens.dtype == torch.int32


def test_explained_variance_can_be_computed(checkpoint, make_env):
    buffer = collect(make_model(PPO, make_env(), checkpoint()))
    list(buffer.get(7))
    assert buffer.values.shape == buffer.returns.shape == (5, 6)
    np.testing.assert_allclose(buffer.advantages + buffer.values, buffer.returns)
    assert np.isfinite(explained_variance(buffer.values.flatten(), buffer.returns.flatten()))


def test_impossible_settings(checkpoint):
    texts = spaces.Box(-1, len(WORDS) - 1, (8,), np.int32)
    tokens = spaces.Discrete(len(WORDS))
    for kwargs in ({"kl_coef": 0.1}, {"kl_target": 1.0}):
        with pytest.raises(SettingsError, match="no reference model"):
            LMRolloutBuffer(4, texts, tokens, **kwargs)
    wide = spaces.Box(-1, len(WORDS) - 1, (40,), np.int32)
    with pytest.raises(ModelError, match="at most 32 tokens"):
        LMRolloutBuffer(4, wide, tokens, kl_coef=0.1, reference=checkpoint())
    with pytest.raises(SettingsError, match="stores token ids"):
        LMRolloutBuffer(4, spaces.Dict(tokens=texts), tokens)


def test_it_learns(checkpoint, make_env):
    """Reward for low words: PPO on whole sequences finds them."""
    env = make_env(16, stop_at_eos=False)
    model = PPO(
        LMPolicy, env, n_steps=14, batch_size=56, n_epochs=2, learning_rate=1e-3, gamma=1.0,
        gae_lambda=1.0, policy_kwargs={"lm": checkpoint()}, rollout_buffer_class=LMRolloutBuffer,
        device="cpu", seed=0,
    )  # fmt: skip
    model.learn(16 * 14)
    first = np.mean([episode["r"] for episode in model.ep_info_buffer])
    model.learn(16 * 14 * 20)
    last = np.mean([episode["r"] for episode in list(model.ep_info_buffer)[-32:]])
    assert last > first + 0.25

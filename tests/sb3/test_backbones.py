"""PPO on every kind of language model: the ratio starts at 1, and sequences cost no precision."""

from __future__ import annotations

import pytest
import torch
from stable_baselines3 import PPO

from tests.lm.checkpoints import ENCODER_DECODERS, EOS, WORDS
from tests.sb3.rollouts import collect, make_model, stock_twin
from tests.sb3.test_buffer import gradients
from textgym.errors import ModelError
from textgym.sb3 import LMPolicy

KINDS = [
    "gpt2",
    "llama",
    "qwen",
    "sliding",
    "alternating",
    "mamba",
    "mamba2",
    "lstm",
    "t5",
    "bart",
]


@pytest.fixture(params=KINDS)
def model(request, checkpoint, make_env):
    """PPO with a rollout in which episodes cross its borders."""
    kind, path = request.param, checkpoint(request.param)
    # The prompts of an encoder-decoder need the frame that its own tokenizer puts around them.
    tokenizer = path if kind in ENCODER_DECODERS else WORDS
    env = make_env(tokenizer=tokenizer, max_prompt_tokens=8)
    return make_model(PPO, env, path, n_epochs=1, ent_coef=0.02)


def test_the_ratio_is_one_at_first(model):
    buffer = collect(model, rollouts=2)
    model.policy.set_training_mode(True)
    for batch in buffer.get(7):
        _, log_probs, _ = model.policy.evaluate_actions(batch.observations, batch.actions)
        ratio = torch.exp(log_probs.detach() - batch.old_log_prob)
        torch.testing.assert_close(ratio, torch.ones_like(ratio), atol=5e-5, rtol=0)


def test_losses_and_gradients_are_those_of_the_stock_buffer(model):
    ours = collect(model, rollouts=2)
    assert (ours.episode_starts[0] == 0).any(), "no episode crosses the border"
    loss, gradient = gradients(model, ours)
    expected_loss, expected = gradients(model, stock_twin(ours))
    assert loss == pytest.approx(expected_loss, rel=1e-4)
    assert len(gradient) == len(expected) > 0
    scale = max(float(theirs.abs().max()) for theirs in expected)
    for found, theirs in zip(gradient, expected, strict=True):
        torch.testing.assert_close(found, theirs, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("kind", ["mamba", "lstm", "t5", "bart"])
def test_a_reference_of_the_same_weights_is_no_distance_away(checkpoint, make_env, kind):
    """The KL penalty scores whole rollouts with a second model of that kind."""
    path = checkpoint(kind)
    env = make_env(tokenizer=path if kind in ENCODER_DECODERS else WORDS, max_prompt_tokens=8)
    settings = {"rollout_buffer_kwargs": {"kl_coef": 0.1, "reference": path}}
    model = make_model(PPO, env, path, n_epochs=1, **settings)
    assert abs(collect(model).stats["kl"]) < 1e-5
    model.train()
    stats = collect(model).stats
    assert stats["kl"] != 0
    assert abs(stats["kl"]) < 0.5


@pytest.mark.parametrize("kind", ENCODER_DECODERS)
def test_a_list_of_words_leaves_prompts_open(checkpoint, make_env, kind):
    """The vocabulary is the same, but nothing closes the prompts."""
    model = make_model(PPO, make_env(), checkpoint(kind))
    with pytest.raises(ModelError, match="eos token"):
        collect(model)


@pytest.mark.parametrize("kind", ["lstm", "mamba", "t5"])
def test_a_trained_agent_can_be_saved(checkpoint, make_env, kind, tmp_path):
    path = checkpoint(kind)
    env = make_env(8, tokenizer=path if kind in ENCODER_DECODERS else WORDS, max_prompt_tokens=8)
    model = make_model(PPO, env, path, n_steps=14, batch_size=56, n_epochs=1)
    model.learn(8 * 14 * 2)
    model.save(tmp_path / "agent.zip")
    again = PPO.load(tmp_path / "agent.zip", device="cpu")
    assert isinstance(again.policy, LMPolicy)
    observations = env.reset()
    actions, _ = model.predict(observations, deterministic=True)
    assert actions.tolist() == again.predict(observations, deterministic=True)[0].tolist()
    if kind in ENCODER_DECODERS:
        assert ((observations == EOS).sum(1) == 1).all()

"""PPO on one set of weights: adapters, mixed precision, activation checkpointing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

from tests.sb3.rollouts import Record, collect
from textgym.errors import ModelError
from textgym.lm.sampling.decision import to_host
from textgym.sb3 import LMPolicy, LMRolloutBuffer


def model_of(env, lm, kl=None, **policy_kwargs):
    return PPO(
        LMPolicy,
        env,
        n_steps=5,
        batch_size=30,
        n_epochs=2,
        learning_rate=1e-2,
        policy_kwargs={"lm": lm, **policy_kwargs},
        rollout_buffer_class=LMRolloutBuffer,
        rollout_buffer_kwargs=kl or {},
        device="cpu",
        seed=0,
    )


def frozen(policy):
    return {n: p.detach().clone() for n, p in policy.lm.named_parameters() if "lora_" not in n}


def test_ppo_trains_the_adapter_alone(make_env, checkpoint):
    model = model_of(make_env(), checkpoint("llama"), lora={"r": 2})
    before = frozen(model.policy)
    adapter = [p.detach().clone() for n, p in model.policy.lm.named_parameters() if "lora_" in n]
    model.learn(60)
    assert all(torch.equal(before[name], value) for name, value in frozen(model.policy).items())
    after = [p for n, p in model.policy.lm.named_parameters() if "lora_" in n]
    assert not all(torch.equal(a, b) for a, b in zip(adapter, after, strict=True))
    trained = {id(p) for group in model.policy.optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in model.policy.parameters() if p.requires_grad}


def test_the_base_is_the_reference_that_a_copy_would_be(make_env, checkpoint):
    """The same KL and rewards as with a second copy of the model, rollout after rollout."""
    name, seen = checkpoint("llama"), []
    for reference in (name, "base"):
        kl = {"kl_coef": 0.1, "kl_target": 0.05, "reference": reference}
        model = model_of(make_env(), name, kl, lora={"r": 2})
        record = Record()
        model.learn(90, callback=record)
        seen.append([[stats[key] for key in sorted(stats)] for stats in record.seen])
        assert (model.rollout_buffer.kl.model is None) == (reference == "base")
    np.testing.assert_allclose(seen[0], seen[1], rtol=1e-4, atol=1e-6)
    assert max(abs(row[0]) for row in seen[0]) > 0.001


def test_without_an_adapter_there_is_no_base(make_env, checkpoint):
    kl = {"kl_coef": 0.1, "reference": "base"}
    with pytest.raises(ModelError, match=r"no adapter.*lora=dict"):
        model_of(make_env(), checkpoint(), kl).learn(30)


def test_an_adapter_is_saved_and_loaded(make_env, checkpoint, tmp_path):
    model = model_of(make_env(), checkpoint(), lora={"r": 2, "lora_alpha": 4})
    model.learn(60)
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", device="cpu")
    obs = model.env.reset()
    expected, _ = model.predict(obs, deterministic=True)
    found, _ = loaded.predict(obs, deterministic=True)
    assert expected.tolist() == found.tolist()
    for name, value in model.policy.state_dict().items():
        assert torch.equal(loaded.policy.state_dict()[name], value), name


@pytest.mark.parametrize(
    "engine",
    [{"gradient_checkpointing": True}, {"lora": {"r": 2}}, {"compile": "eager"}],
    ids=["checkpointing", "lora", "compile"],
)
def test_the_ratio_starts_at_one(make_env, checkpoint, engine):
    model = model_of(make_env(), checkpoint(), **engine)
    buffer = collect(model, rollouts=2)
    for batch in buffer.get(None):
        _, log_probs, _ = model.policy.evaluate_actions(batch.observations, batch.actions)
        torch.testing.assert_close(log_probs, batch.old_log_prob, atol=1e-5, rtol=0)


def test_mixed_precision_stays_near_one(make_env, checkpoint):
    model = model_of(make_env(), checkpoint(), dtype="bfloat16")
    buffer = collect(model, rollouts=2)
    for batch in buffer.get(None):
        _, log_probs, _ = model.policy.evaluate_actions(batch.observations, batch.actions)
        assert (log_probs - batch.old_log_prob).abs().max() < 0.3
    model.learn(30)
    assert all(p.dtype == torch.float32 for p in model.policy.parameters())


def test_one_transfer_changes_no_number():
    actions = torch.tensor([0, 2**24 + 1, 50_256])
    values, log_probs = torch.randn(3, 1) * 1e-7, torch.randn(3) * 1e5
    found = to_host(actions, values, log_probs)
    for one, other in zip(found, (actions, values, log_probs), strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)

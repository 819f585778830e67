"""The KL penalty: what it charges, how its coefficient moves, and what is kept of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from transformers import AutoModelForCausalLM

from tests.lm.checkpoints import EOS
from tests.sb3.rollouts import Record, after_rollout, collect, make_model, stock_twin
from textgym.sb3 import LMRolloutBuffer


def brute_force_log_probs(folder: str, buffer: LMRolloutBuffer) -> np.ndarray:
    """One unpadded pass of plain transformers a decision, ``[T, N]``."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    found = np.zeros(buffer.rewards.shape)
    for at in np.ndindex(*found.shape):
        text = buffer.observations[at]
        tokens = torch.tensor([text[text >= 0].tolist() or [EOS]])
        with torch.no_grad():
            logits = model(tokens).logits[0, -1]
        found[at] = torch.log_softmax(logits, 0)[int(buffer.actions[at][0])]
    return found


def test_the_penalty_is_the_kl_to_the_reference(checkpoint, make_env):
    reference = checkpoint(seed=1)
    plain = collect(make_model(PPO, make_env(), checkpoint()), rollouts=2)
    kwargs = {"kl_coef": 0.3, "reference": reference}
    model = make_model(PPO, make_env(), checkpoint(), rollout_buffer_kwargs=kwargs)
    buffer = collect(model, rollouts=2)
    assert np.array_equal(buffer.task_rewards, plain.rewards)
    ratio = buffer.log_probs - brute_force_log_probs(reference, buffer)
    np.testing.assert_allclose(buffer.rewards, buffer.task_rewards - 0.3 * ratio, atol=1e-4)
    assert buffer.stats["kl"] == pytest.approx(ratio.mean(), abs=1e-4)
    assert buffer.stats["kl_penalty"] == pytest.approx(0.3 * ratio.mean(), abs=1e-4)
    assert buffer.stats["task_reward"] == pytest.approx(buffer.task_rewards.mean(), abs=1e-6)
    assert abs(ratio).max() > 1
    # The advantages are those of the lowered rewards.
    stock = stock_twin(buffer)
    stock.compute_returns_and_advantage(*after_rollout(model))
    np.testing.assert_allclose(buffer.advantages, stock.advantages, atol=1e-5)


def test_the_kl_of_the_reference_to_itself_is_zero(checkpoint, make_env):
    kwargs = {"kl_coef": 0.3, "reference": checkpoint()}
    buffer = collect(make_model(PPO, make_env(), checkpoint(), rollout_buffer_kwargs=kwargs))
    np.testing.assert_allclose(buffer.rewards, buffer.task_rewards, atol=1e-5)
    assert abs(buffer.stats["kl"]) < 1e-5


def test_the_coefficient_adapts_once_a_rollout(checkpoint, make_env):
    kwargs = {"kl_coef": 0.3, "kl_target": 0.05, "reference": checkpoint(seed=1)}
    model = make_model(PPO, make_env(), checkpoint(), rollout_buffer_kwargs=kwargs)
    record = Record()
    model.learn(4 * 30, callback=record)
    assert len(record.seen) == 4
    for before, after in zip(record.seen, record.seen[1:], strict=False):
        error = np.clip((before["kl"] - 0.05) / 0.05, -0.2, 0.2)
        assert after["kl_coef"] == pytest.approx(before["kl_coef"] * (1 + 0.1 * error))
    assert record.seen[0]["kl_coef"] == 0.3


def test_a_reference_without_a_coefficient_only_measures(checkpoint, make_env):
    kwargs = {"reference": checkpoint(seed=1)}
    buffer = collect(make_model(PPO, make_env(), checkpoint(), rollout_buffer_kwargs=kwargs))
    assert np.array_equal(buffer.rewards, buffer.task_rewards)
    assert buffer.stats["kl"] > 0.1


def test_the_reference_is_not_trained(checkpoint, make_env):
    kwargs = {"kl_coef": 0.3, "reference": checkpoint()}
    model = make_model(PPO, make_env(), checkpoint(), rollout_buffer_kwargs=kwargs)
    before = [parameter.clone() for parameter in model.rollout_buffer.kl.model.parameters()]
    model.learn(60)
    after = model.rollout_buffer.kl.model.parameters()
    assert all(map(torch.equal, before, after))
    trained = {id(p) for group in model.policy.optimizer.param_groups for p in group["params"]}
    assert trained == {id(parameter) for parameter in model.policy.parameters()}


def test_a_rollout_is_charged_once(checkpoint, make_env):
    kwargs = {"kl_coef": 0.3, "kl_target": 0.05, "reference": checkpoint(seed=1)}
    model = make_model(PPO, make_env(), checkpoint(), rollout_buffer_kwargs=kwargs)
    buffer = collect(model, rollouts=2)
    after = after_rollout(model)

    def results():
        found = (buffer.task_rewards, buffer.rewards, buffer.advantages, buffer.returns)
        return [array.copy() for array in found], buffer.kl.coef, dict(buffer.stats)

    once = results()
    buffer.compute_returns_and_advantage(*after)
    np.testing.assert_equal(results(), once)
    # What a callback then adds to the rewards counts, and is not taken for a new rollout.
    buffer.rewards += 1
    buffer.compute_returns_and_advantage(*after)
    np.testing.assert_array_equal(buffer.rewards, once[0][1] + 1)
    assert (buffer.advantages > once[0][2]).all()


def test_an_adaptive_coefficient_can_be_saved(checkpoint, make_env, tmp_path):
    """By the line that the buffer's documentation gives."""
    recipe = 'model.rollout_buffer_kwargs["kl_coef"] = model.rollout_buffer.kl.coef'
    assert recipe in LMRolloutBuffer.__doc__
    kwargs = {"kl_coef": 0.3, "kl_target": 0.05, "reference": checkpoint(seed=1)}
    model = make_model(PPO, make_env(), checkpoint(), rollout_buffer_kwargs=kwargs)
    model.learn(3 * 30)
    coef = model.rollout_buffer.kl.coef
    assert coef != 0.3
    exec(recipe, {"model": model})
    model.save(tmp_path / "model.zip")
    loaded = PPO.load(tmp_path / "model.zip", env=make_env(), device="cpu")
    record = Record()
    loaded.learn(30, callback=record)
    assert record.seen[0]["kl_coef"] == coef

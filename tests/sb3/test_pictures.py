"""Pictures in the policy and the buffer: the numbers of SB3's own, and a picture that is used."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import DictRolloutBuffer

import textgym
from tests.pictures import Colour
from tests.sb3.rollouts import COLUMNS, collect, make_model
from textgym.registry import TASKS
from textgym.sb3 import LMPolicy, LMRolloutBuffer, make_vec_env


@pytest.fixture
def colours(register):
    with TASKS.restored():
        textgym.register_task(Colour.id, Colour)
        yield lambda n_envs=6: make_vec_env(Colour.id, n_envs, seed=0)


def stock_twin(buffer):
    """SB3's own buffer for dictionaries with the same rollout in it."""
    twin = DictRolloutBuffer(
        buffer.buffer_size, buffer.observation_space, buffer.action_space, "cpu",
        buffer.gae_lambda, buffer.gamma, buffer.n_envs,
    )  # fmt: skip
    twin.observations = {key: value.copy() for key, value in buffer.observations.items()}
    for name in (*COLUMNS, "rewards", "episode_starts"):
        setattr(twin, name, getattr(buffer, name).copy())
    twin.pos, twin.full = buffer.pos, True
    return twin


def gradients(model, buffer):
    model.rollout_buffer = buffer
    captured = []

    def capture(*_):
        captured.extend(weight.grad.clone() for weight in model.policy.parameters())

    state = {key: value.clone() for key, value in model.policy.state_dict().items()}
    handle = model.policy.optimizer.register_step_pre_hook(capture)
    model.train()
    handle.remove()
    model.policy.load_state_dict(state)
    return captured


@pytest.mark.parametrize("kind", ["gpt2", "grouped"])
def test_gradients_are_those_of_the_stock_buffer(checkpoint, colours, kind):
    model = make_model(
        PPO, colours(), checkpoint(kind), n_epochs=1, max_grad_norm=1e9, ent_coef=0.02
    )
    ours = collect(model, rollouts=2)
    assert (ours.episode_starts[0] == 0).any(), "no episode crosses the border"
    found, expected = gradients(model, ours), gradients(model, stock_twin(ours))
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        scale = float(other.abs().max())
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * scale + 1e-8)


def test_observations_come_back_from_the_buffer(checkpoint, colours):
    model = make_model(PPO, colours(), checkpoint())
    seen = []
    add = model.rollout_buffer.add

    def record(obs, *rest):
        seen.append({key: value.copy() for key, value in obs.items()})
        add(obs, *rest)

    model.rollout_buffer.add = record
    buffer = collect(model)
    for step, obs in enumerate(seen):
        assert (buffer.observations["tokens"][step] == obs["tokens"]).all()
        assert (buffer.observations["image"][step] == obs["image"]).all()


def test_the_ratio_is_one_in_the_first_epoch(checkpoint, colours):
    model = make_model(PPO, colours(), checkpoint())
    for sample in collect(model).get(10):
        with torch.no_grad():
            _, log_probs, _ = model.policy.evaluate_actions(
                sample.observations, sample.actions.flatten()
            )
        torch.testing.assert_close(log_probs, sample.old_log_prob, atol=1e-5, rtol=0)


def test_a_saved_agent_sees_the_same(checkpoint, colours, tmp_path):
    venv = colours()
    model = make_model(PPO, venv, checkpoint())
    model.learn(60)
    model.save(tmp_path / "model")
    again = PPO.load(tmp_path / "model", env=venv, device="cpu")
    obs = venv.reset()
    tensors = model.policy.obs_to_tensor(obs)[0]
    with torch.no_grad():
        one, other = (agent.policy.get_distribution(tensors) for agent in (model, again))
    torch.testing.assert_close(one.distribution.logits, other.distribution.logits)
    single = {key: value[0] for key, value in obs.items()}
    assert model.predict(single, deterministic=True)[0] == again.predict(
        single, deterministic=True
    )[0]  # fmt: skip


def test_the_reference_reads_the_text_alone(checkpoint, colours):
    model = PPO(
        LMPolicy, colours(), n_steps=4, batch_size=24, device="cpu", seed=0,
        policy_kwargs={"lm": checkpoint()}, rollout_buffer_class=LMRolloutBuffer,
        rollout_buffer_kwargs={"reference": checkpoint(), "kl_coef": 0.1},
    )  # fmt: skip
    buffer = collect(model)
    texts = torch.from_numpy(buffer.observations["tokens"].reshape(24, -1))
    actions = torch.from_numpy(buffer.actions.reshape(-1))
    from textgym.lm import last_hidden

    lm = buffer.kl.model
    with torch.no_grad():
        logits = lm.logits(last_hidden(lm, texts))
    reference = logits.log_softmax(-1).gather(1, actions[:, None])[:, 0].numpy()
    expected = buffer.task_rewards.reshape(-1) - 0.1 * (buffer.log_probs.reshape(-1) - reference)
    np.testing.assert_allclose(buffer.rewards.reshape(-1), expected, atol=1e-5)


def test_ppo_learns_what_only_the_picture_tells(checkpoint, colours):
    model = PPO(
        LMPolicy, colours(64), n_steps=8, batch_size=256, n_epochs=4, learning_rate=1e-3,
        gamma=1.0, device="cpu", seed=0, policy_kwargs={"lm": checkpoint()},
        rollout_buffer_class=LMRolloutBuffer,
    )  # fmt: skip
    model.learn(40_000)
    venv = colours(64)
    obs = venv.reset()
    wanted = [info["prompt"] for info in venv.unwrapped.reset_infos]
    assert len(set(wanted)) > 1
    actions, _ = model.predict(obs, deterministic=True)
    red = obs["image"][:, 0, 0, 0] > obs["image"][:, 2, 0, 0]
    right = np.where(red, 1, 2)
    assert red.any()
    assert not red.all()
    assert (actions == right).mean() > 0.95

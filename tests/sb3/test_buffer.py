"""Whole sequences give what one row a timestep gives: the same losses, gradients and weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import explained_variance

from tests.lm.checkpoints import WORDS
from tests.sb3.rollouts import (
    Everything,
    assert_yields,
    begin,
    collect,
    expected,
    make_model,
    rollout,
    stock_twin,
    yielded,
)
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
    for name, value in (("kl_coef", 0.1), ("kl_target", 1.0)):
        with pytest.raises(SettingsError, match=rf"{name}.* {value}.*reference="):
            LMRolloutBuffer(4, texts, tokens, **{name: value})
    wide = spaces.Box(-1, len(WORDS) - 1, (40,), np.int32)
    with pytest.raises(ModelError, match="32 tokens"):
        LMRolloutBuffer(4, wide, tokens, kl_coef=0.1, reference=checkpoint())
    with pytest.raises(SettingsError, match=r"LMRolloutBuffer.*Dict"):
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


# -- whole episodes --------------------------------------------------------------------------------


STOP = ["2", "5", "7", "9"]
"""Words that end a text, so that texts differ in length."""
OFTEN = [*STOP, "0", "3", "6"]
"""More of them, so that most texts are shorter than a rollout, and some longer."""


def whole(env, checkpoint, n_steps: int, **kwargs: Any) -> Any:
    options = {"whole_episodes": True, **kwargs.pop("rollout_buffer_kwargs", {})}
    return make_model(
        PPO, env, checkpoint(), n_steps=n_steps, batch_size=n_steps * env.num_envs,
        rollout_buffer_kwargs=options, **kwargs,
    )  # fmt: skip


@pytest.mark.parametrize(("n_steps", "stop"), [(5, OFTEN), (6, OFTEN), (7, STOP), (9, STOP)])
def test_whole_episodes_come_once_with_what_they_earned(checkpoint, make_env, n_steps, stop):
    model = whole(make_env(48, stop=stop), checkpoint, n_steps, gae_lambda=0.9, gamma=0.98)
    heard = Everything()
    callback = begin(model, heard)
    found: list[tuple[Any, ...]] = []
    for _ in range(6):
        known = len(heard.episodes)
        rollout(model, callback)
        assert len(heard.episodes) > known
        found += yielded(model)
    want = expected(heard.episodes, 0.98, 0.9)
    assert len(found) == len(want) > 200
    assert max(map(len, heard.episodes)) > n_steps or n_steps > 6
    for ours, theirs in zip(sorted(found), want, strict=True):
        assert ours[:2] == theirs[:2]
        assert ours[2:] == pytest.approx(theirs[2:], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("n_steps", [4, 5, 7])
def test_a_rollout_in_which_little_ends_is_used_as_it_is(checkpoint, make_env, n_steps):
    """Whole episodes alone, if they have half as many decisions as the rollout; or everything."""
    model = whole(make_env(48, stop=STOP), checkpoint, n_steps)
    heard = Everything()
    callback = begin(model, heard)
    used: set[int] = set()
    alone = []
    for _ in range(8):
        rollout(model, callback)
        over = [each for episode in heard.episodes for each in episode if id(each) not in used]
        rest = [each for texts in heard.open.values() for each in texts if id(each) not in used]
        alone.append(len(over) >= n_steps * 48 / 2)
        want = over if alone[-1] else over + rest
        used |= set(map(id, want))
        assert sorted(each[:2] for each in yielded(model)) == sorted(each[:2] for each in want)
    assert alone == [True] * 8 or n_steps < 7
    assert any(alone)


def test_a_rollout_in_which_nothing_ends_is_used_as_it_is(checkpoint, make_env):
    """All texts have 7 tokens: the first rollout of 4 steps sees no end, the second does."""
    model = whole(make_env(stop_at_eos=False), checkpoint, 4)
    stock = make_model(
        PPO, make_env(stop_at_eos=False), checkpoint(), n_steps=4, batch_size=24
    )  # fmt: skip
    callbacks = [begin(each) for each in (model, stock)]
    for at in range(2):
        for each, callback in zip((model, stock), callbacks, strict=True):
            torch.manual_seed(at)
            rollout(each, callback)
        ours, theirs = sorted(yielded(model)), sorted(yielded(stock))
        assert len(theirs) == 24
        if at < 1:
            assert ours == theirs
        else:  # The last three tokens of each; the first of the next ones waits.
            assert len(ours) == 18
            assert set(ours) < set(theirs)


def test_a_text_that_waited_is_one_row(checkpoint, make_env):
    model = whole(make_env(48, stop=STOP), checkpoint, 4)
    callback = begin(model)
    for _ in range(4):
        rollout(model, callback)
        (batch,) = model.rollout_buffer.get(None)
        texts = batch.observations
        ends = {}
        for row, position in zip(texts.rows.tolist(), texts.positions.tolist(), strict=True):
            ends.setdefault(row, []).append(position)
        # A row is a whole episode: all its decisions, one after the other.
        assert len(ends) == len(texts.tokens)
        assert all(np.diff(places).tolist() == [1] * (len(places) - 1) for places in ends.values())


@pytest.mark.parametrize("sampling", [None, {"top_p": 0.7}])
def test_what_waited_is_scored_as_it_was_drawn(checkpoint, make_env, sampling):
    """The same weights give the same log-probabilities."""
    model = whole(
        make_env(48, stop=STOP), checkpoint, 5, policy=sampling and {"sampling": sampling}
    )
    callback = begin(model)
    model.policy.set_training_mode(True)
    for _ in range(5):
        rollout(model, callback)
        yielded_now: set[float] = set()
        for batch in model.rollout_buffer.get(20):
            _, log_probs, _ = model.policy.evaluate_actions(batch.observations, batch.actions)
            torch.testing.assert_close(log_probs, batch.old_log_prob, atol=2e-5, rtol=0)
            yielded_now |= set(batch.old_log_prob.tolist())
    drawn = set(model.rollout_buffer.log_probs.flatten().tolist())
    assert yielded_now - drawn, "no decision had waited"


@pytest.mark.parametrize("n_steps", [7, 9])
def test_decisions_that_waited_pay_the_penalty_once(checkpoint, make_env, n_steps):
    other = checkpoint(seed=1)
    model = whole(
        make_env(48, stop=STOP), checkpoint, n_steps,
        rollout_buffer_kwargs={"kl_coef": 0.5, "reference": other},
    )  # fmt: skip
    reference = LMPolicy(model.observation_space, model.action_space, lambda _: 0.0, lm=other)
    heard = Everything()
    callback = begin(model, heard)
    waited = 0
    for _ in range(4):
        waited += sum(map(len, heard.open.values()))
        rollout(model, callback)
        ended = [each for episode in heard.episodes for each in episode]
        texts = torch.tensor([text for text, *_ in ended])
        with torch.no_grad():
            _, theirs, _ = reference.evaluate_actions(
                texts, torch.tensor([a for _, a, *_ in ended])
            )
        kls = np.array([each[4] for each in ended]) - theirs.numpy()
        assert model.rollout_buffer.stats["kl"] == pytest.approx(kls.mean(), abs=1e-4)
        left = iter(kls)
        paid = [
            [(text, a, reward - 0.5 * next(left), *more) for text, a, reward, *more in episode]
            for episode in heard.episodes
        ]
        assert_yields(model, expected(paid, model.gamma, model.gae_lambda))
        heard.episodes.clear()
    assert waited


def test_episodes_that_a_reset_cut_off_are_forgotten(checkpoint, make_env):
    model = whole(make_env(48, stop=STOP), checkpoint, 7)
    heard = Everything()
    callback = begin(model, heard)
    rollout(model, callback)
    assert model.rollout_buffer.unfinished() is not None
    callback = begin(model, heard)  # Resets the environment.
    heard.open.clear()
    heard.episodes.clear()
    rollout(model, callback)
    ours = sorted(yielded(model))
    want = expected(heard.episodes, model.gamma, model.gae_lambda)
    assert [each[:2] for each in ours] == [each[:2] for each in want]


def test_whole_episodes_learn(checkpoint, make_env):
    model = whole(make_env(16, stop=STOP), checkpoint, 4, normalize_advantage=True, n_epochs=2)
    model.learn(16 * 4 * 6)
    assert np.isfinite(model.logger.name_to_value["train/loss"])


@pytest.mark.parametrize("algorithm", [A2C, PPO])
def test_one_decision_alone_is_never_yielded(checkpoint, make_env, algorithm):
    """Its advantage cannot be normalised: A2C's weights would be no numbers any more."""
    model = make_model(
        algorithm, make_env(1, stop=STOP), checkpoint(), n_steps=3, normalize_advantage=True,
        rollout_buffer_kwargs={"whole_episodes": True},
        **({"batch_size": 3} if algorithm is PPO else {}),
    )  # fmt: skip
    callback = begin(model)
    sizes = []
    for _ in range(40):
        rollout(model, callback)
        sizes.append(len(yielded(model, None)))
    assert min(sizes) >= 2
    assert max(sizes) > 3
    model.learn(3 * 40)
    assert all(torch.isfinite(weight).all() for weight in model.policy.parameters())


class Stops(BaseCallback):
    """Ends the training in a step of its own choice."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def _on_step(self) -> bool:
        return self.n_calls != self.step


@pytest.mark.parametrize("step", [5, 6])
def test_a_rollout_that_was_broken_off_leaves_nothing(checkpoint, make_env, step):
    """Stopped in the first step of the second rollout, of which no buffer is told, or later."""
    model = whole(make_env(48, stop=STOP), checkpoint, 4)
    model.learn(10**6, callback=Stops(step))
    assert model.rollout_buffer.pos == step - 5
    heard = Everything()
    callback = begin(model, heard, reset=False)
    rollout(model, callback)
    ours = [each[:2] for each in yielded(model)]
    # Episodes under way began before; what is known of them is what was heard since.
    want = [each[:2] for each in expected(heard.episodes, 1.0, 1.0)]
    assert sorted(ours) == want


def test_an_interrupt_before_the_estimate_leaves_nothing(checkpoint, make_env, monkeypatch):
    model = whole(make_env(48, stop=STOP), checkpoint, 6)
    callback = begin(model)
    for _ in range(2):
        rollout(model, callback)

    def interrupt(**_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(model.rollout_buffer, "compute_returns_and_advantage", interrupt)
        with pytest.raises(KeyboardInterrupt):
            rollout(model, callback)
    assert model.rollout_buffer.unfinished() is None
    rollout(model, callback)
    assert model.rollout_buffer.unfinished() is not None

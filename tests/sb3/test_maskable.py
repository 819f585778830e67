"""Action masks have the effect that they have in sb3-contrib, and no other."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.buffers import MaskableRolloutBuffer
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn
from transformers import AutoModelForCausalLM

from tests.lm.checkpoints import EOS, WORDS
from tests.sb3.rollouts import COLUMNS, collect
from tests.sb3.test_checkpoints import disturb, train, weights
from textgym.errors import SettingsError
from textgym.lm.sampling.decision import Decision
from textgym.sb3 import Checkpoints, LMPolicy, LMRolloutBuffer, resume
from textgym.sb3.maskable import MaskableLMPolicy, MaskableLMRolloutBuffer
from textgym.testing.vector import assert_same
from textgym.wrappers import ActionMasks

SIZE = len(WORDS)
STEPS = 30  # A rollout of 6 rows and 5 steps each.


def by_last_word(texts: np.ndarray) -> np.ndarray:
    """After an odd word even ones are allowed, and the other way round; eos always is."""
    lengths = (texts >= 0).sum(1)
    padded = np.concatenate([texts, np.full((len(texts), 1), -1)], 1)
    last = np.where(lengths > 0, padded[np.arange(len(texts)), lengths - 1], 0)
    masks = (np.arange(SIZE)[None] + last[:, None]) % 2 == 1
    masks[:, EOS] = True
    return masks


def make_masked(make_env: Any, **kwargs: Any) -> Any:
    wrapper = partial(ActionMasks, mask=by_last_word, banned=["w7"])
    return make_env(wrapper=wrapper, **kwargs)


def make(env: Any, lm: str, buffer: Any = MaskableLMRolloutBuffer, **kwargs: Any) -> Any:
    settings = {
        "n_steps": 5, "batch_size": 30, "n_epochs": 2, "learning_rate": 1e-3, "device": "cpu",
        "seed": 0, "policy_kwargs": {"lm": lm}, "rollout_buffer_class": buffer,
    }  # fmt: skip
    model = MaskablePPO(MaskableLMPolicy, env, **{**settings, **kwargs})  # type: ignore[arg-type]
    # Values that are not all zero.
    torch.manual_seed(5)
    nn.init.normal_(model.policy.value_net[-1].weight, std=0.1)  # type: ignore[index]
    return model


def masks_of(observations: np.ndarray) -> np.ndarray:
    """Masks for observations ``[T, N, L]``, computed again by the environment's rules."""
    shape = observations.shape
    masks = by_last_word(observations.reshape(-1, shape[-1])).reshape(*shape[:2], SIZE)
    masks[..., 7] = False
    return masks


def stock_twin(buffer: Any) -> MaskableRolloutBuffer:
    """sb3-contrib's own buffer with the same rollout in it."""
    twin = MaskableRolloutBuffer(
        buffer.buffer_size, buffer.observation_space, buffer.action_space, "cpu",
        buffer.gae_lambda, buffer.gamma, buffer.n_envs,
    )  # fmt: skip
    twin.reset()
    twin.observations = buffer.observations.copy()
    for name in (*COLUMNS, "rewards", "episode_starts"):
        setattr(twin, name, getattr(buffer, name).copy())
    twin.action_masks = masks_of(buffer.observations).astype(np.float32)
    twin.pos, twin.full = buffer.pos, True
    return twin


class Backbone(BaseFeaturesExtractor):
    """Plain transformers, one unpadded text at a time."""

    def __init__(self, observation_space: Any, folder: str) -> None:
        # MaskablePPO switches dropout on when it trains.
        off = {f"{part}_pdrop": 0.0 for part in ("attn", "embd", "resid")}
        model = AutoModelForCausalLM.from_pretrained(folder, **off)
        super().__init__(observation_space, model.config.hidden_size)
        self.model = model

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        texts = [row[row >= 0].long().tolist() or [EOS] for row in observations]
        hidden = [self.model.transformer(torch.tensor([text]))[0][0, -1] for text in texts]
        return torch.stack(hidden)


def stock_policy(env: Any, lm: str, like: Any) -> Any:
    """A policy of sb3-contrib's, of which only the network is given: that of another policy."""
    policy = MaskableActorCriticPolicy(
        env.observation_space, env.action_space, lambda _: 1e-3, net_arch=[], ortho_init=False,
        features_extractor_class=Backbone, features_extractor_kwargs={"folder": lm},
        normalize_images=False,
    )  # fmt: skip
    backbone: Any = policy.features_extractor
    policy.action_net = backbone.model.lm_head
    head = copy.deepcopy(like.value_net[-1])
    policy.value_net = nn.Sequential(  # type: ignore[assignment]
        nn.LayerNorm(backbone.features_dim, elementwise_affine=False), head
    )
    policy.optimizer = torch.optim.Adam(policy.parameters(), lr=1e-3)
    return policy


def gradients(model: Any, policy: Any, buffer: Any) -> dict[str, Any]:
    """What MaskablePPO's own train() makes of a buffer in one step: gradients and logged losses."""
    found: dict[str, Any] = {}

    def capture(*_: Any) -> None:
        for name, parameter in policy.named_parameters():
            if parameter.grad is not None:
                # Both have transformers' names, behind what holds the model.
                part = name.split("transformer.")[-1] if "transformer." in name else name[-11:]
                found[part] = parameter.grad.clone()

    handle = policy.optimizer.register_step_pre_hook(capture)
    model.policy, model.rollout_buffer, model.max_grad_norm = policy, buffer, 1e9
    model.train()
    handle.remove()
    logged = model.logger.name_to_value
    return found | {name: torch.tensor(logged[name]) for name in logged if "loss" in name}


@pytest.mark.parametrize("normalize", [True, False])
def test_losses_and_gradients_are_sb3_contribs(checkpoint, make_env, normalize):
    """Its policy, distribution and buffer, with plain transformers as the network."""
    lm, env = checkpoint(), make_masked(make_env)
    model = make(env, lm, n_epochs=1, normalize_advantage=normalize, ent_coef=0.02)
    buffer = collect(model, rollouts=2)
    assert (buffer.episode_starts[0] == 0).any(), "no episode crosses the border"
    theirs, stock = stock_policy(env, lm, model.policy), stock_twin(buffer)
    ours = gradients(model, model.policy, buffer)
    expected = gradients(model, theirs, stock)
    assert ours.keys() == expected.keys()
    assert {"wte.weight", "h.0.attn.c_attn.weight", "train/value_loss"} <= ours.keys()
    for name, value in expected.items():
        # The policy's loss is a mean of about 0, of advantages of about 1.
        scale = 0.1 if "loss" in name else float(value.abs().max())
        torch.testing.assert_close(
            ours[name], value, rtol=1e-5, atol=1e-5 * scale + 1e-8, check_dtype=False, msg=name
        )


def test_weights_after_training_are_those_of_sb3_contribs_buffer(checkpoint, make_env):
    def run(buffer: Any) -> Any:
        model = make(make_masked(make_env), checkpoint(), buffer, learning_rate=1e-4)
        model.learn(4 * STEPS)
        return model

    ours, theirs = run(MaskableLMRolloutBuffer), run(MaskableRolloutBuffer)
    start = make(make_masked(make_env), checkpoint())
    parts = (model.policy.parameters() for model in (ours, theirs, start))
    moved = 0.0
    for a, b, c in zip(*parts, strict=True):
        moved = max(moved, float((a - c).detach().abs().max()))
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-6)
    assert moved > 1e-4


def test_without_masks_it_is_lm_policy(checkpoint, make_env):
    """And PPO's own buffer of whole sequences."""
    from stable_baselines3 import PPO

    def run(algorithm: Any, policy: Any, buffer: Any, **kwargs: Any) -> Any:
        model = algorithm(
            policy, make_env(), n_steps=5, batch_size=30, n_epochs=2, seed=0, device="cpu",
            policy_kwargs={"lm": checkpoint()}, rollout_buffer_class=buffer, max_grad_norm=0.5,
        )  # fmt: skip
        return model.learn(2 * STEPS, **kwargs)

    ours = run(MaskablePPO, MaskableLMPolicy, MaskableLMRolloutBuffer, use_masking=False)
    theirs = run(PPO, LMPolicy, LMRolloutBuffer)
    for a, b in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.7, "top_k": 3}, {"top_p": 0.6}])
def test_the_ratio_is_one_at_first(checkpoint, make_env, sampling, whole):
    kwargs = {"lm": checkpoint(), "sampling": sampling}
    model = make(
        make_masked(make_env), checkpoint(), policy_kwargs=kwargs,
        rollout_buffer_kwargs={"whole_episodes": whole},
    )  # fmt: skip
    buffer = collect(model, rollouts=4)
    model.policy.set_training_mode(True)
    written: set[float] = set()
    for batch in buffer.get(7):
        written |= set(batch.old_log_prob.tolist())
        assert batch.action_masks is None
        _, log_probs, entropy = model.policy.evaluate_actions(batch.observations, batch.actions)
        ratio = torch.exp(log_probs - batch.old_log_prob)
        torch.testing.assert_close(ratio, torch.ones_like(ratio), atol=2e-5, rtol=0)
        sizes = batch.observations.kept.mask().sum(-1)
        assert (entropy <= torch.log(sizes) + 1e-5).all()
    waited = written - set(buffer.log_probs.flatten().tolist())
    assert bool(waited) == whole


def log_softmax_within(folder: str, texts: Any, masks: Any, top_k: int | None = None) -> Any:
    """By hand, of one text at a time."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    rows = []
    for text, mask in zip(texts, masks, strict=True):
        with torch.no_grad():
            tokens = torch.tensor([text[text >= 0].tolist() or [EOS]])
            logits = model(tokens).logits[0, -1].masked_fill(~torch.from_numpy(mask), -torch.inf)
        if top_k is not None:
            logits[logits < logits.sort().values[-top_k]] = -torch.inf
        rows.append(torch.log_softmax(logits, 0))
    return torch.stack(rows)


@pytest.mark.parametrize("top_k", [None, 4])
def test_the_distribution_is_the_softmax_within_the_mask(checkpoint, make_env, top_k, monkeypatch):
    """With top-k the likeliest of those that are allowed."""
    monkeypatch.setattr("textgym.sb3.maskable.MAX_LOGITS", 4 * SIZE)  # In pieces.
    env = make_masked(make_env, n_envs=50)
    kwargs = {"lm": checkpoint(), "sampling": {"top_k": top_k}}
    policy = make(env, checkpoint(), policy_kwargs=kwargs).policy
    texts = env.reset()
    masks = np.stack(env.env_method("action_masks"))
    expected = log_softmax_within(checkpoint(), texts, masks, top_k)
    obs = torch.from_numpy(texts)
    found = policy.get_distribution(obs, masks).distribution.logits.detach()
    possible = expected > -torch.inf
    assert torch.equal(found > -1e20, possible)
    torch.testing.assert_close(found[possible], expected[possible], atol=1e-5, rtol=1e-5)
    rows = np.arange(50)
    for graded in (False, True):
        with torch.set_grad_enabled(graded):
            actions, values, log_probs = policy(obs, action_masks=masks)
        torch.testing.assert_close(log_probs.detach(), expected[rows, actions], atol=1e-5, rtol=0)
        assert values.shape == (50, 1)
    likeliest, _ = policy.predict(texts, deterministic=True, action_masks=masks)
    assert np.array_equal(likeliest, expected.argmax(-1).numpy())
    # Draws from one text: a chi-square, five deviations out.
    monkeypatch.undo()
    with torch.no_grad():
        drawn, _, _ = policy(obs[:1].expand(4000, -1), action_masks=np.repeat(masks[:1], 4000, 0))
    counts = torch.bincount(drawn, minlength=SIZE).double()
    probs = expected[0].exp().double()
    assert counts[probs == 0].sum() == 0
    some = probs > 0
    means = 4000 * probs[some]
    freedom = int(some.sum()) - 1
    assert float(((counts[some] - means) ** 2 / means).sum()) < freedom + 5 * (2 * freedom) ** 0.5


def test_masks_are_stored_once(checkpoint, make_env):
    model = make(make_masked(make_env), checkpoint())
    buffer = collect(model, rollouts=3)
    masks = masks_of(buffer.observations)
    assert np.array_equal(buffer.action_masks, masks)
    seen = 0
    for batch in buffer.get(11):
        texts = batch.observations.observations(0, len(batch.actions)).numpy()
        expected = masks_of(texts[None])[0]
        assert np.array_equal(batch.observations.kept.mask().numpy(), expected)
        seen += len(texts)
    assert seen == STEPS


def test_masks_of_earlier_rollouts_are_dropped(checkpoint, make_env):
    """Each distinct mask is stored once, as bits, while a decision needs it."""
    model = make(
        make_masked(make_env), checkpoint(), rollout_buffer_kwargs={"whole_episodes": True}
    )

    def stored() -> np.ndarray:
        masks = collect(model, rollouts=3).waiting_state()["masks"]
        assert masks.nbytes == 2 * 3  # 23 bits each.
        return np.unpackbits(masks, 1, SIZE, bitorder="little").astype(bool)

    def expected(banned: int) -> np.ndarray:
        masks = by_last_word(np.array([[0], [1]]))
        masks[:, banned] = False
        return masks

    np.testing.assert_array_equal(np.unique(stored(), axis=0), np.unique(expected(7), axis=0))
    model.set_env(make_env(wrapper=partial(ActionMasks, mask=by_last_word, banned=["w8"])))
    np.testing.assert_array_equal(np.unique(stored(), axis=0), np.unique(expected(8), axis=0))


def test_the_kl_is_within_the_masks(checkpoint, make_env):
    """Like is compared with like: to itself it is 0, to another model never below."""
    kwargs = {"kl_coef": 0.3, "reference": checkpoint()}
    model = make(make_masked(make_env), checkpoint(), rollout_buffer_kwargs=kwargs)
    buffer = collect(model)
    np.testing.assert_allclose(buffer.rewards, buffer.task_rewards, atol=1e-5)
    kwargs["reference"] = checkpoint(seed=1)
    buffer = collect(make(make_masked(make_env), checkpoint(), rollout_buffer_kwargs=kwargs), 2)
    texts, masks = buffer.observations, masks_of(buffer.observations)
    flat = texts.reshape(-1, texts.shape[-1]), masks.reshape(-1, SIZE)
    reference = log_softmax_within(checkpoint(seed=1), *flat)
    chosen = reference[np.arange(STEPS), buffer.actions.reshape(-1)].reshape(5, 6).numpy()
    expected = buffer.task_rewards - 0.3 * (buffer.log_probs - chosen)
    np.testing.assert_allclose(buffer.rewards, expected, atol=1e-4)


def test_wrong_masks_are_refused(checkpoint, make_env):
    env, lm = make_masked(make_env), checkpoint()
    policy = make(env, lm, policy_kwargs={"lm": lm, "sampling": {"banned_tokens": ["w3"]}}).policy
    texts = env.reset()
    only = np.zeros((6, SIZE), bool)
    only[:, 3] = True
    with pytest.raises(SettingsError, match="action_masks"):
        policy.predict(texts, action_masks=only)
    actions, _ = policy.predict(texts)  # Those masks are gone.
    assert (actions != 3).all()
    with pytest.raises(SettingsError, match="action_masks has 2 rows"):
        policy.predict(texts, action_masks=~only[:2])
    # sb3-contrib's buffer does not know what top-k kept.
    kwargs = {"lm": lm, "sampling": {"top_k": 3}}
    model = make(make_masked(make_env), lm, MaskableRolloutBuffer, policy_kwargs=kwargs)
    with pytest.raises(SettingsError, match="kept=None"):
        model.learn(STEPS)
    buffer = make(make_masked(make_env), lm).rollout_buffer
    step = (texts, np.zeros(6), np.zeros(6), np.ones(6), torch.zeros(6, 1), torch.zeros(6))
    with pytest.raises(SettingsError, match="log_prob"):
        buffer.add(*step, action_masks=~only)
    assert Decision.of(torch.zeros(6)) is None


@pytest.mark.parametrize("whole_episodes", [False, True])
def test_an_interrupted_training_goes_on(checkpoint, make_env, tmp_path, whole_episodes):
    kwargs = {
        "kl_coef": 0.1,
        "kl_target": 0.01,
        "reference": checkpoint(),
        "whole_episodes": whole_episodes,
    }

    def new() -> Any:
        return make(make_masked(make_env), checkpoint(), rollout_buffer_kwargs=kwargs)

    whole = new()
    logged, seen = train(whole, 6 * STEPS, reset=True)
    train(new(), 3 * STEPS, Checkpoints(tmp_path, every=STEPS), reset=True)
    disturb()
    again = new()
    again.set_logger(Logger(None, []))  # It takes what was logged, but not written out.
    rest = resume(again, tmp_path, 6 * STEPS)
    assert rest == 3 * STEPS
    logged_again, seen_again = train(again, rest)
    assert_same(weights(again), weights(whole))
    assert_same(seen_again, seen[-len(seen_again) :])
    known = [{k: v for k, v in row.items() if k != "time/iterations"} for row in logged]
    assert logged_again == known[-len(logged_again) :]


def test_it_is_saved(checkpoint, make_env, tmp_path):
    env = make_masked(make_env)
    model = make(env, checkpoint())
    model.learn(STEPS)
    model.save(tmp_path / "model")
    loaded = MaskablePPO.load(tmp_path / "model", env=env, device="cpu")
    texts, masks = env.reset(), np.stack(env.env_method("action_masks"))
    for each in (True, False):
        torch.manual_seed(0)
        one = loaded.predict(texts, deterministic=each, action_masks=masks)[0]
        torch.manual_seed(0)
        assert np.array_equal(one, model.predict(texts, deterministic=each, action_masks=masks)[0])
    loaded.learn(STEPS)

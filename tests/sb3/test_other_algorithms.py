"""LMPolicy with algorithms and arguments that other policies are made for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.distributions import CategoricalDistribution, kl_divergence
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.sb3.rollouts import collect
from textgym.errors import ModelError, SettingsError, TextGymError
from textgym.sb3 import LMPolicy, LMReplayBuffer, LMRolloutBuffer, TopKPolicy, make_vec_env
from textgym.wrappers import TopKActions

MakeEnv = Callable[..., Any]
Checkpoint = Callable[..., str]
KINDS = ["gpt2", "sliding", "t5", "lstm"]


def environment(make_env: MakeEnv, lm: str) -> Any:
    """Six rows of the tokens that the model reads: an encoder-decoder's prompts end with eos."""
    return make_env(tokenizer=lm, max_prompt_tokens=8)


def stock_trpo(make_env: MakeEnv, lm: str, policy: Any = None, **kwargs: Any) -> Any:
    contrib = pytest.importorskip("sb3_contrib")
    settings = {"n_steps": 8, "batch_size": 48, "cg_max_steps": 4, "seed": 0, "device": "cpu"}
    return contrib.TRPO(
        LMPolicy, environment(make_env, lm), policy_kwargs={"lm": lm, **(policy or {})},
        **{**settings, **kwargs},
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("buffer", [None, LMRolloutBuffer])
def test_stock_trpo_stays_in_its_region(
    make_env: MakeEnv, checkpoint: Checkpoint, kind: str, buffer: Any
) -> None:
    limit = 0.005
    model = stock_trpo(make_env, checkpoint(kind), rollout_buffer_class=buffer, target_kl=limit)
    model.set_logger(sb3.common.logger.Logger(None, []))
    collect(model)
    batch = next(iter(model.rollout_buffer.get(None)))
    before = [weight.detach().clone() for weight in model.policy.lm.parameters()]
    with torch.no_grad():
        old = copy.copy(model.policy.get_distribution(batch.observations))
    model.train()
    with torch.no_grad():
        new = model.policy.get_distribution(batch.observations)
    divergence = float(kl_divergence(new, old).mean())
    assert 1e-5 < divergence < limit
    gains = batch.advantages * (
        new.log_prob(batch.actions.flatten()) - old.log_prob(batch.actions.flatten())
    )
    assert float(gains.mean()) > 0
    assert not all(map(torch.equal, before, model.policy.lm.parameters()))


@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives_are_differences_of_the_first(
    make_env: MakeEnv, checkpoint: Checkpoint, kind: str
) -> None:
    """A Fisher-vector product against the gradients at two neighbouring points."""
    model = stock_trpo(make_env, checkpoint(kind), rollout_buffer_class=LMRolloutBuffer)
    collect(model)
    policy = model.policy.double()
    policy.lm.cast_to = "float64"
    batch = next(iter(model.rollout_buffer.get(None))).observations
    weights = [weight for weight in policy.lm.parameters() if weight.requires_grad]

    def slope(create_graph: bool = False) -> list[torch.Tensor]:
        new = policy.get_distribution(batch)
        fixed = torch.zeros_like(new.distribution.logits)
        old = CategoricalDistribution(fixed.shape[-1]).proba_distribution(fixed)
        kl = kl_divergence(new, old).mean()
        found = torch.autograd.grad(kl, weights, create_graph=create_graph, allow_unused=True)
        return [
            torch.zeros_like(weight) if part is None else part
            for part, weight in zip(found, weights, strict=True)
        ]

    torch.manual_seed(1)
    direction = [torch.randn_like(weight) for weight in weights]
    first = slope(create_graph=True)
    product = sum((a * b).sum() for a, b in zip(first, direction, strict=True))
    exact = torch.autograd.grad(product, weights, allow_unused=True)
    step = 1e-5
    ends = []
    for sign in (1, -2):
        with torch.no_grad():
            for weight, part in zip(weights, direction, strict=True):
                weight += sign * step * part
        ends.append(slope())
    found = torch.cat([part.flatten() for part in exact if part is not None])
    expected = torch.cat([
        ((up - down) / (2 * step)).flatten()
        for part, up, down in zip(exact, *ends, strict=True)
        if part is not None
    ])  # fmt: skip
    assert float(expected.norm()) > 1e-3
    assert float((found - expected).norm() / expected.norm()) < 1e-2


def test_where_there_are_no_second_derivatives(make_env: MakeEnv, checkpoint: Checkpoint) -> None:
    lm = checkpoint()
    model = stock_trpo(make_env, lm, rollout_buffer_class=LMRolloutBuffer)
    collect(model)
    batch = next(iter(model.rollout_buffer.get(None)))
    with sdpa_kernel(SDPBackend.MATH):
        _, log_probs, _ = model.policy.evaluate_actions(batch.observations, batch.actions)
    weights = list(model.policy.lm.parameters())
    with pytest.raises(ModelError, match=r"evaluate_actions.*get_distribution"):
        torch.autograd.grad(log_probs.mean(), weights, create_graph=True)
    for policy, fix in (
        ({"sampling": {"top_k": 3}}, "top_k, top_p"),
        ({"sampling": {"banned_tokens": ["w2"]}}, "top_k, top_p"),
        ({"gradient_checkpointing": True}, "gradient_checkpointing"),
    ):
        model = stock_trpo(make_env, lm, policy, rollout_buffer_class=LMRolloutBuffer)
        with pytest.raises(SettingsError, match=fix):
            model.learn(48)


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("DQN", r"TopKActions.*DQN\(TopKPolicy"),
        ("QRDQN", r"TopKActions.*DQN\(TopKPolicy"),
        ("RecurrentPPO", "RecurrentPPO.*use PPO"),
        ("ARS", "ARS"),
    ],
)
def test_other_algorithms_are_refused_with_what_to_use(
    make_env: MakeEnv, checkpoint: Checkpoint, name: str, instead: str
) -> None:
    if not hasattr(sb3, name):
        pytest.importorskip("sb3_contrib")
        import sb3_contrib
    algorithm = getattr(sb3, name, None) or getattr(sb3_contrib, name)
    small = {"buffer_size": 10} if name.endswith("DQN") else {}
    with pytest.raises(SettingsError, match=f"for PPO, A2C and TRPO.*{instead}"):
        algorithm(LMPolicy, make_env(), policy_kwargs={"lm": checkpoint()}, device="cpu", **small)


def test_a_policy_has_no_parts_of_others(make_env: MakeEnv, checkpoint: Checkpoint) -> None:
    env = make_env()
    policy = LMPolicy(env.observation_space, env.action_space, lambda _: 1e-3, lm=checkpoint())
    assert not hasattr(policy, "q_net")
    assert not hasattr(policy, "anything")
    assert hasattr(policy, "value_net")


@pytest.mark.parametrize("algorithm", [sb3.PPO, sb3.A2C])
def test_another_policy_with_our_buffer_is_refused(make_env: MakeEnv, algorithm: Any) -> None:
    model = algorithm(
        "MlpPolicy", make_env(64), n_steps=5, rollout_buffer_class=LMRolloutBuffer, device="cpu"
    )
    with pytest.raises(SettingsError, match=r"LMRolloutBuffer.*LMPolicy.*rollout_buffer_class"):
        model.learn(320)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features_extractor_class": torch.nn.Identity}, "'features_extractor_class'"),
        ({"share_features_extractor": False}, "'share_features_extractor'"),
        ({"ortho_init": True}, "'ortho_init'"),
        ({"log_std_init": 0.0}, "'log_std_init'"),
        ({"lstm_hidden_size": 8}, "'lstm_hidden_size'"),
        ({"temperature": 0.5}, r"temperature.*sampling=dict\(temperature=\.\.\.\)"),
        ({"model": "x"}, "model.*lm=NAME_OR_PATH"),
        ({"learning_rate": 1e-3}, "'learning_rate'"),
        ({"samplings": {}}, "samplings.*did you mean 'sampling'"),
        ({"activation_fn": torch.nn.ReLU}, r"activation_fn=ReLU.*net_arch=\[64\]"),
        ({"activation_fn": "relu", "net_arch": [4]}, "activation_fn='relu'.*torch.nn.ReLU"),
        ({"net_arch": {"qf": [4]}}, "net_arch.*'qf'"),
        ({"net_arch": [4, {"vf": [4]}]}, "net_arch="),
        ({"net_arch": [0]}, "net_arch="),
        ({"net_arch": 64}, "net_arch=64"),
        ({"net_arch": "64"}, "net_arch='64'"),
        ({"optimizer_class": "adam"}, r"optimizer_class='adam'.*torch\.optim\.Adam"),
        ({"optimizer_kwargs": {"lr": 1e-3}}, "optimizer_kwargs.*learning_rate"),
    ],
)
def test_arguments_that_would_be_ignored_are_refused(
    make_env: MakeEnv, checkpoint: Checkpoint, arguments: dict[str, Any], message: str
) -> None:
    env = make_env()
    with pytest.raises(TextGymError, match=message):
        LMPolicy(
            env.observation_space, env.action_space, lambda _: 1e-3, lm=checkpoint(), **arguments
        )


@pytest.mark.parametrize(
    ("algorithm", "policy", "arguments", "message"),
    [
        ("PPO", TopKPolicy, {}, "TopKPolicy.*for DQN.*LMPolicy"),
        ("QRDQN", TopKPolicy, {}, "TopKPolicy.*TopKQuantilePolicy"),
        ("DQN", TopKPolicy, {"policy_kwargs": {"net_arch": [8]}}, "net_arch.*size=64"),
        ("DQN", TopKPolicy, {"policy_kwargs": {"sizes": 8}}, "sizes.*did you mean 'size'"),
        (
            "DQN",
            TopKPolicy,
            {"replay_buffer_class": LMRolloutBuffer},
            "LMRolloutBuffer.*for PPO.*replay_buffer_class=LMReplayBuffer",
        ),
        (
            "DQN",
            TopKPolicy,
            {"replay_buffer_class": LMReplayBuffer, "replay_buffer_kwargs": {"n_step": 3}},
            "LMReplayBuffer.*'n_step'.*did you mean 'n_steps'",
        ),
    ],
)
def test_proposals_with_what_does_not_fit(
    algorithm: str, policy: Any, arguments: dict[str, Any], message: str
) -> None:
    home: Any = sb3 if hasattr(sb3, algorithm) else pytest.importorskip("sb3_contrib")
    venv = make_vec_env("TextGen/Sentiment-v0", 2, wrapper=TopKActions)
    if algorithm.endswith("DQN"):
        arguments = {"buffer_size": 10, **arguments}
    with pytest.raises(SettingsError, match=message):
        getattr(home, algorithm)(policy, venv, device="cpu", **arguments)


@pytest.mark.parametrize(
    ("buffer", "arguments", "message"),
    [
        (LMReplayBuffer, {}, "LMReplayBuffer.*for DQN"),
        (LMRolloutBuffer, {"kl_coeff": 0.1}, "'kl_coeff'.*did you mean 'kl_coef'"),
    ],
)
def test_buffers_with_what_does_not_fit(
    make_env: MakeEnv, checkpoint: Checkpoint, buffer: Any, arguments: Any, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        sb3.A2C(
            LMPolicy, make_env(), policy_kwargs={"lm": checkpoint()}, device="cpu",
            rollout_buffer_class=buffer, rollout_buffer_kwargs=arguments,
        )  # fmt: skip

"""Updates: micro-batches, rates of the value head, weight decay, and states of adapters."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from stable_baselines3 import PPO

from tests.sb3.rollouts import collect
from tests.sb3.test_engine import model_of
from textgym.errors import ModelError, SettingsError
from textgym.sb3 import LMPolicy, load_checkpoint, save_checkpoint

MakeEnv = Callable[..., Any]
Checkpoint = Callable[..., str]


def gradients(model: PPO) -> dict[str, torch.Tensor]:
    """The gradients of a loss that weights all results of all decisions differently."""
    buffer = collect(model, rollouts=2)
    (batch,) = buffer.get(None)
    model.policy.zero_grad()
    values, log_probs, entropy = model.policy.evaluate_actions(batch.observations, batch.actions)
    weights = torch.linspace(-1, 1, len(log_probs))
    mixed = (log_probs * weights + entropy * weights.flip(0) + values[:, 0] * weights.cos()).sum()
    (mixed + log_probs.exp().sum().square()).backward()
    return {name: p.grad for name, p in model.policy.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["llama", "gpt2", "lstm"])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_micro_batches_have_the_gradients_of_the_batch(
    make_env: MakeEnv, checkpoint: Checkpoint, kind: str, size: int
) -> None:
    name, sampling = checkpoint(kind), {"top_k": 5, "temperature": 0.7}
    whole = gradients(model_of(make_env(), name, sampling=sampling))
    split = gradients(model_of(make_env(), name, sampling=sampling, micro_batch=size))
    assert whole.keys() == split.keys()
    largest = max(float(gradient.abs().max()) for gradient in whole.values())
    for key, gradient in whole.items():
        assert (split[key] - gradient).abs().max() < 1e-6 * largest, key


def test_no_more_texts_are_in_a_forward_pass(make_env: MakeEnv, checkpoint: Checkpoint) -> None:
    model = model_of(make_env(), checkpoint("llama"), micro_batch=2)
    (batch,) = collect(model).get(None)
    assert len(batch.observations.tokens) > 4
    rows: list[int] = []
    body = model.policy.lm.body
    body.register_forward_hook(
        lambda module, args, kwargs, result: rows.append(len(result.last_hidden_state)),
        with_kwargs=True,
    )
    _, log_probs, _ = model.policy.evaluate_actions(batch.observations, batch.actions)
    once = sum(rows)
    log_probs.sum().backward()
    assert max(rows) == 2
    assert sum(rows) == 2 * once, "each runs again in the backward pass"
    with torch.no_grad():
        rows.clear()
        model.policy.evaluate_actions(batch.observations, batch.actions)
    assert max(rows) > 2, "without a backward pass nothing is stored"


def test_a_training_in_micro_batches_is_the_same(make_env: MakeEnv, checkpoint: Checkpoint) -> None:
    ends = []
    for size in (None, 2):
        model = model_of(make_env(), checkpoint("llama"), micro_batch=size)
        model.learn(90)
        ends.append(dict(model.policy.named_parameters()))
    for name, weight in ends[0].items():
        torch.testing.assert_close(ends[1][name], weight, rtol=1e-4, atol=1e-4, msg=name)


# ---------------------------------------------------------------------- rates


def step(policy: LMPolicy) -> dict[str, torch.Tensor]:
    """The changes by one optimizer step, of gradients that are 1 everywhere."""
    before = {name: p.detach().clone() for name, p in policy.named_parameters()}
    for parameter in policy.parameters():
        parameter.grad = torch.ones_like(parameter)
    policy.optimizer.step()
    return {name: p.detach() - before[name] for name, p in policy.named_parameters()}


def test_the_value_head_has_its_own_rate(make_env: MakeEnv, checkpoint: Checkpoint) -> None:
    own = {"optimizer_class": torch.optim.SGD, "value_lr_factor": 0.25}
    policy = model_of(make_env(), checkpoint("llama"), **own).policy
    for name, change in step(policy).items():
        rate = 0.0025 if name.startswith("value_net") else 0.01
        torch.testing.assert_close(change, torch.full_like(change, -rate), rtol=1e-3, atol=1e-6)
    assert {group["lr"] for group in policy.optimizer.param_groups} == {0.01}, "as SB3 set it"


def test_the_value_head_warms_up_alone(make_env: MakeEnv, checkpoint: Checkpoint) -> None:
    policy = model_of(make_env(), checkpoint("llama"), value_warmup=2).policy
    for number in range(3):
        changes = step(policy)
        moved = {name.startswith("value_net") for name, change in changes.items() if change.any()}
        assert moved == ({True} if number < 2 else {True, False})


def test_weight_decay_is_for_matrices(make_env: MakeEnv, checkpoint: Checkpoint) -> None:
    """With gradients of 0, AdamW's step is a decay by lr * weight_decay (Loshchilov & Hutter)."""
    own = {"optimizer_class": torch.optim.AdamW, "optimizer_kwargs": {"weight_decay": 0.5}}
    policy = model_of(make_env(), checkpoint("gpt2"), **own).policy
    before = {name: p.detach().clone() for name, p in policy.named_parameters()}
    for parameter in policy.parameters():
        parameter.grad = torch.zeros_like(parameter)
    policy.optimizer.step()
    for name, weight in policy.named_parameters():
        factor = 1 - 0.01 * 0.5 if weight.ndim >= 2 else 1
        torch.testing.assert_close(weight.detach(), before[name] * factor, msg=name)


def test_without_them_the_optimizer_is_as_before(make_env: MakeEnv, checkpoint: Checkpoint) -> None:
    policy = model_of(make_env(), checkpoint()).policy
    (group,) = policy.optimizer.param_groups
    assert group.keys() == torch.optim.Adam(policy.parameters()).param_groups[0].keys()
    assert "value_lr_factor" not in policy._get_constructor_parameters()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"micro_batch": 0}, "micro_batch=0"),
        ({"value_lr_factor": 0.0}, r"value_lr_factor=0\.0"),
        ({"value_lr_factor": float("nan")}, "value_lr_factor=nan"),
        ({"value_warmup": -1}, "value_warmup=-1"),
    ],
)
def test_impossible_numbers_are_refused(
    make_env: MakeEnv, checkpoint: Checkpoint, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        model_of(make_env(), checkpoint(), **arguments)


# ---------------------------------------------------------------------- adapters


def test_the_state_of_an_adapter_has_no_base(
    make_env: MakeEnv, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    kl = {"kl_coef": 0.1, "reference": "base"}
    models = [
        model_of(make_env(), checkpoint("llama"), kl if lora else None, **lora)
        for lora in ({}, {"lora": {"r": 1}})
    ]
    sizes = []
    for model in models:
        model.learn(30)
        model.save(tmp_path / "model")
        file = save_checkpoint(model, tmp_path / str(len(sizes)))
        weights = sum(p.numel() for p in model.policy.parameters() if p.requires_grad)
        sizes.append((file.stat().st_size, (tmp_path / "model.zip").stat().st_size, weights))
    # Weights, and two moments of Adam, of 4 bytes each.
    for place in (0, 1):
        saved = sizes[0][place] - sizes[1][place]
        assert saved == pytest.approx(12 * (sizes[0][2] - sizes[1][2]), rel=0.15)
    state = models[1].policy.state_dict()
    assert all("lora_" in name or "value_net" in name or name == "base_hash" for name in state)
    again = model_of(make_env(), checkpoint("llama"), kl, lora={"r": 1})
    load_checkpoint(again, tmp_path / "1")
    for name, weight in models[1].policy.named_parameters():
        assert torch.equal(weight, again.policy.get_parameter(name)), name


def test_states_with_the_base_can_be_loaded(make_env: MakeEnv, checkpoint: Checkpoint) -> None:
    """As version 0.1.0 wrote them."""
    model = model_of(make_env(), checkpoint("llama"), lora={"r": 1})
    whole = {name: weight.detach() for name, weight in model.policy.named_parameters()}
    whole["value_net.1.scale"] = model.policy.get_buffer("value_net.1.scale")
    for name, weight in model.policy.lm.named_parameters(remove_duplicate=False):
        whole[f"lm.{name}"] = weight.detach()
    other = model_of(make_env(), checkpoint("llama"), lora={"r": 1})
    with torch.no_grad():
        for weight in other.policy.parameters():
            weight.add_(1)
    other.policy.load_state_dict(whole)
    for name, weight in model.policy.named_parameters():
        assert torch.equal(weight, other.policy.get_parameter(name)), name


def test_an_adapter_of_another_base_is_refused(
    make_env: MakeEnv, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    state = model_of(make_env(), checkpoint("llama"), lora={"r": 1}).policy.state_dict()
    other = tmp_path / "other"
    shutil.copytree(checkpoint("llama"), other)
    tensors = load_file(other / "model.safetensors")
    name = sorted(tensors)[0]
    save_file({**tensors, name: tensors[name] + 1}, other / "model.safetensors", {"format": "pt"})
    policy = model_of(make_env(), str(other), lora={"r": 1}).policy
    with pytest.raises(ModelError, match="other weights"):
        policy.load_state_dict(state)

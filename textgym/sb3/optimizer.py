"""The optimizer of a policy: a separate rate of the value head, and decay of matrices alone.

Stable-Baselines3 gives all parameter groups of an optimizer the same learning rate. Here a group
has a factor, by which the rate is multiplied during a step, and a number of steps to wait before
its first change. Both are in the optimizer's state, so that a resumed training continues them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_FACTOR, _WAITS, _GIVEN = "lr_factor", "waits", "given_lr"


def make_optimizer(
    policy: nn.Module,
    head: nn.Module,
    kind: type[torch.optim.Optimizer],
    lr: float,
    arguments: dict[str, Any],
    value_lr_factor: float = 1.0,
    value_warmup: int = 0,
) -> torch.optim.Optimizer:
    """An optimizer of the trainable parameters of a policy.

    A ``weight_decay`` among the arguments is for matrices alone: vectors are biases and the scales
    of norms, which decay would pull towards 0.

    Args:
        policy: The policy.
        head: Its value head, a submodule.
        kind: The class of the optimizer.
        lr: Learning rate.
        arguments: The other arguments of the class.
        value_lr_factor: The value head's learning rate, relative to that of the other parameters.
        value_warmup: Number of optimizer steps at the beginning that change the value head alone.
    """
    heads = {id(parameter) for parameter in head.parameters()}
    decay = arguments.get("weight_decay", 0.0)
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in policy.parameters():
        if parameter.requires_grad:
            own = id(parameter) in heads and (value_lr_factor != 1.0 or value_warmup > 0)
            groups.setdefault((own, bool(decay) and parameter.ndim < 2), []).append(parameter)
    if set(groups) <= {(False, False)}:
        return kind(groups.get((False, False), []), lr=lr, **arguments)  # type: ignore[call-arg]
    described: list[dict[str, Any]] = []
    for (own, undecayed), parameters in groups.items():
        rates = {_FACTOR: value_lr_factor, _WAITS: 0} if own else {_WAITS: value_warmup}
        exempt = {"weight_decay": 0.0} if undecayed else {}
        described.append({"params": parameters, _FACTOR: 1.0, **rates, **exempt})
    optimizer = kind(described, lr=lr, **arguments)  # type: ignore[call-arg]
    optimizer.register_step_pre_hook(_set_rates)
    optimizer.register_step_post_hook(_restore_rates)
    return optimizer


def _set_rates(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    for group in optimizer.param_groups:
        group[_GIVEN] = group["lr"]
        group["lr"] = 0.0 if group[_WAITS] else group["lr"] * group[_FACTOR]


def _restore_rates(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group.pop(_GIVEN)
        group[_WAITS] = max(0, group[_WAITS] - 1)

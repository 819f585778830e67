"""The value head of a language-model policy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from textgym.errors import SettingsError, shown


def value_head(width: int, layers: list[int], activation: type[nn.Module]) -> nn.Sequential:
    """A small network from hidden state to value, initially 0.

    The input is normalized, because hidden states differ in scale between models. The last layer is
    initialized with zeros: random values would dominate the first advantages, and their gradient
    would disturb the language model.
    """
    modules: list[nn.Module] = [nn.LayerNorm(width, elementwise_affine=False)]
    for size in layers:
        modules += [nn.Linear(width, size), activation()]
        width = size
    last = FastLinear(width, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*modules, last)


class FastLinear(nn.Linear):
    """A linear layer whose output is multiplied by 10, so that Adam changes it ten times as fast.

    Adam's steps have the size of the learning rate, which suits a pretrained language model. A new
    head needs larger ones: until it knows the mean return, all advantages are biased alike, and the
    policy learns to repeat whatever it does. Stable-Baselines3 has one learning rate for all.
    """

    scale: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("scale", torch.tensor(10.0))

    def forward(self, inputs: Tensor) -> Tensor:
        """The scaled output, ``[..., outputs]``."""
        return self.scale * super().forward(inputs)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # Agents that were saved before have no scale.
        state_dict.setdefault(f"{prefix}scale", torch.tensor(1.0))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def value_layers(net_arch: Any) -> list[int]:
    """The widths of the hidden layers in SB3's argument ``net_arch``.

    Args:
        net_arch: None, a list of widths, or ``dict(vf=[...])``.

    Raises:
        SettingsError: If it has layers for the actor, or is invalid.
    """
    layers = net_arch
    if isinstance(net_arch, dict):
        if net_arch.get("pi"):
            raise SettingsError(
                f"net_arch={shown(net_arch)} has layers for 'pi', but the actor is the language "
                "model; give layers for the value head alone: net_arch=dict(vf=[64])"
            )
        if others := net_arch.keys() - {"pi", "vf"}:
            raise SettingsError(
                f"net_arch={shown(net_arch)} has layers for "
                f"{', '.join(sorted(map(repr, others)))}, which LMPolicy does not have; give "
                "layers for the value head alone: net_arch=dict(vf=[64])"
            )
        layers = net_arch.get("vf")
    if layers is None:
        return []
    if not isinstance(layers, list | tuple) or not all(map(_is_width, layers)):
        raise SettingsError(
            f"net_arch={shown(net_arch)} must be a list of the widths of the value head's hidden "
            "layers, integers of at least 1, as in net_arch=[64]"
        )
    return [int(width) for width in layers]


def _is_width(value: Any) -> bool:
    number = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return number and int(value) >= 1

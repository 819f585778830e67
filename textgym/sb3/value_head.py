"""The value head of a language-model policy."""

from __future__ import annotations

from torch import nn

from textgym.errors import SettingsError


def value_head(width: int, layers: list[int], activation: type[nn.Module]) -> nn.Sequential:
    """A small network from hidden state to value, 0 everywhere at first.

    Hidden states differ in scale from model to model, so they are normalised first. The last layer
    starts at zero: a random first guess would be the whole of the first advantages, and its
    gradient would disturb the language model before the value means anything.
    """
    modules: list[nn.Module] = [nn.LayerNorm(width, elementwise_affine=False)]
    for size in layers:
        modules += [nn.Linear(width, size), activation()]
        width = size
    last = nn.Linear(width, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*modules, last)


def value_layers(net_arch: list[int] | dict[str, list[int]] | None) -> list[int]:
    """The widths of the hidden layers in SB3's argument ``net_arch``.

    Raises:
        SettingsError: If it has layers for the actor too.
    """
    if isinstance(net_arch, dict):
        if net_arch.get("pi"):
            raise SettingsError(
                "net_arch has layers for 'pi', but the actor is the language model; "
                "give layers for the value head alone: net_arch=dict(vf=[64])"
            )
        return list(net_arch.get("vf", []))
    return list(net_arch or [])

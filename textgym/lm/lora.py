"""Low-rank adapters (LoRA, Hu et al. 2021, https://arxiv.org/abs/2106.09685) through peft.

The adapter is trained, and the weights below it are frozen. With the adapter disabled, the model is
the initial one: a reference for a KL penalty without a second copy.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from textgym.errors import ModelError, SettingsError, near_matches, require


def add_lora(model: PreTrainedModel, name: str, settings: Mapping[str, Any]) -> None:
    """Freeze a model and add a trainable adapter.

    Args:
        model: The model.
        name: Its name, for messages.
        settings: Arguments of peft's ``LoraConfig``: ``r`` (rank), ``lora_alpha``,
            ``target_modules`` (peft has defaults for common architectures), ...

    Raises:
        MissingDependencyError: If peft is not installed.
        SettingsError: If an argument is unknown, or would change the weights below the adapter.
        ModelError: If peft cannot add an adapter to this architecture.
    """
    peft = require("peft", "lora")
    _check(settings)
    known = peft.LoraConfig.__dataclass_fields__
    for setting in settings:
        if setting not in known:
            raise SettingsError(
                f"lora has no setting {setting!r}{near_matches(setting, list(known))}; it takes "
                "the arguments of peft.LoraConfig, such as r=8, lora_alpha=16"
            )
    try:
        with warnings.catch_warnings():
            # GPT-2's weights are transposed, which peft detects.
            warnings.filterwarnings("ignore", message="fan_in_fan_out")
            peft.inject_adapter_in_model(peft.LoraConfig(**settings), model)
    except ValueError as error:
        raise ModelError(
            f"no adapter could be added to {name!r} ({model.config.model_type}): {error}; "
            "give the layers to adapt: lora=dict(target_modules=[...])"
        ) from error


def _check(settings: Mapping[str, Any]) -> None:
    """Refuse settings without an effect, and those that change the weights below the adapter.

    With the latter, the base would not be the initial model.
    """
    for name in ("modules_to_save", "trainable_token_indices"):
        if settings.get(name):
            raise SettingsError(
                f"lora: {name} trains weights of the model itself, which cannot be disabled; "
                "leave it out, or train all weights without lora"
            )
    if settings.get("bias", "none") != "none":
        raise SettingsError(
            f"lora: bias={settings['bias']!r} trains weights of the model itself, which cannot be "
            "disabled; leave it out, or train all weights without lora"
        )
    start = settings.get("init_lora_weights", True)
    if not isinstance(start, bool) and start not in ("gaussian", "orthogonal"):
        raise SettingsError(
            f"lora: init_lora_weights={start!r} changes the weights of the model itself; use "
            "True, False, 'gaussian' or 'orthogonal'"
        )
    if settings.get("lora_dropout"):
        raise SettingsError(
            "lora: lora_dropout has no effect, because dropout is off (PPO's ratio would not start "
            "at 1); leave it out"
        )


@contextmanager
def adapter_off(model: PreTrainedModel) -> Iterator[None]:
    """A context in which the adapter is disabled: the model is the one before training."""
    layers = list(_adapted(model))
    trained = [[parameter.requires_grad for parameter in layer.parameters()] for layer in layers]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer, flags in zip(layers, trained, strict=True):
            layer.enable_adapters(True)
            for parameter, flag in zip(layer.parameters(), flags, strict=True):
                parameter.requires_grad_(flag)


def has_adapter(model: PreTrainedModel) -> bool:
    """Whether a model has an adapter."""
    return any(True for _ in _adapted(model))


def merged(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of a model with the adapter merged into the weights."""
    model = copy.deepcopy(model)
    merge_in_place(model)
    return model


def merge_in_place(model: PreTrainedModel) -> None:
    """Merge the adapter into the weights, all of which become trainable."""
    for layer in list(_adapted(model)):
        layer.merge()
    for name, child in list(model.named_modules()):
        if _is_adapted(child):
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, child.get_base_layer())
    # Otherwise transformers would save an adapter alone, and peft would add to it.
    model._hf_peft_config_loaded = False
    model.__dict__.pop("peft_config", None)
    model.requires_grad_(True)


def _is_adapted(module: nn.Module) -> bool:
    return hasattr(module, "enable_adapters") and hasattr(module, "get_base_layer")


def _adapted(model: PreTrainedModel) -> Iterator[Any]:
    return (module for module in model.modules() if _is_adapted(module))

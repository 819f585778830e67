"""Whether a checkpoint is of the training that is to go on from it.

A model that is made otherwise than the saved one may take its weights all the same: another
temperature, another scale of an adapter or another discount has no shape. It would go on as a
training that nobody asked for, so all that decides what is learned is compared by value. What only
decides how fast it is computed, and where, may differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor

from textgym.errors import SettingsError
from textgym.lm.weights import weights_hash
from textgym.lm.kl import BASE

_FREE = {
    # Compared elsewhere, by what they are made of: weights, the tokenizer, the spaces.
    "lm", "observation_space", "action_space",
    # For the first weights alone.
    "ortho_init", "log_std_init",
    # Set anew by the algorithm.
    "lr_schedule",
    # The same numbers, up to rounding, by another way.
    "cache", "gradient_checkpointing", "compile",
}  # fmt: skip
_FREE_OF_OPTIMIZER = {"fused", "foreach"}


def describe(model: Any) -> dict[str, Any]:
    """What has to be the same for one agent to go on as another: plain values, nested.

    An agent may have a method ``describe() -> dict`` for its own settings.
    """
    venv = model.get_env()
    found: dict[str, Any] = {
        "algorithm": type(model).__name__,
        "n_envs": venv.num_envs,
        "observations": repr(venv.observation_space),
        "actions": repr(venv.action_space),
    }
    policy = getattr(model, "policy", None)
    if isinstance(policy, BasePolicy):
        found |= _of_policy(policy)
    if hasattr(model, "describe"):
        found["settings"] = _plain(model.describe())
    if isinstance(model, OnPolicyAlgorithm):
        found |= {
            "n_steps": model.n_steps,
            "gamma": model.gamma,
            "gae_lambda": model.gae_lambda,
            "rollout_buffer": type(model.rollout_buffer).__name__,
            "rollout_buffer_kwargs": _plain(_buffer_settings(model)),
        }
    if isinstance(model, OffPolicyAlgorithm):
        found |= {
            "gamma": model.gamma,
            "buffer_size": model.buffer_size,
            "replay_buffer": type(model.replay_buffer).__name__,
            "replay_buffer_kwargs": _plain(model.replay_buffer_kwargs),
        }
    return found


def _of_policy(policy: BasePolicy) -> dict[str, Any]:
    settings = {
        key: value
        for key, value in policy._get_constructor_parameters().items()
        if key not in _FREE
    }
    optimizer = settings.get("optimizer_kwargs") or {}
    settings["optimizer_kwargs"] = {
        key: value for key, value in optimizer.items() if key not in _FREE_OF_OPTIMIZER
    }
    lm = getattr(policy, "lm", None)
    return {
        "policy": type(policy).__name__,
        "tokenizer": None if lm is None else lm.tokenizer.content_hash(),
        "policy_kwargs": _plain(settings),
    }


def check_same(model: Any, theirs: dict[str, Any], parameters: dict[str, Any] | None) -> None:
    """Refuse the checkpoint of another training.

    Args:
        model: The model that is to go on.
        theirs: What `describe` said of the saved one.
        parameters: What ``get_parameters`` returned of it, if it has this method.

    Raises:
        SettingsError: If they differ; it names everything that does.
    """
    different = list(_differences("", theirs, describe(model)))
    if parameters is not None and isinstance(model, BaseAlgorithm):
        known, saved = _shapes(model.get_parameters()), _shapes(parameters)
        wrong = sorted(name for name in {*known, *saved} if known.get(name) != saved.get(name))
        if wrong:
            shapes = f"{saved.get(wrong[0])} and is {known.get(wrong[0])}"
            different.append(f"the parameter {wrong[0]} was {shapes} ({len(wrong)} differ)")
    if different:
        raise SettingsError(
            f"the checkpoint is of another training: {'; '.join(different)}; make the model as it "
            "was made, or start a new training in another folder"
        )


def _buffer_settings(model: OnPolicyAlgorithm) -> dict[str, Any]:
    """The arguments of the rollout buffer; those of a KL penalty as they were understood."""
    given = dict(model.rollout_buffer_kwargs)
    kl = getattr(model.rollout_buffer, "kl", None)
    # A coefficient that adapts is a part of the state.
    first = given.pop("kl_coef", 0.0)
    if kl is None:
        return {key: value for key, value in given.items() if value is not None}
    return given | {
        "kl_coef": first if kl.target is None else "adaptive",
        "kl_target": kl.target,
        "reference": BASE if kl.model is None else weights_hash(kl.model),
        "reference_dtype": given.get("reference_dtype", "auto"),
    }


def _plain(value: Any) -> Any:
    """A value that is the same in another process: classes and functions by their names."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if hasattr(value, "__qualname__"):
        return value.__qualname__
    shown = repr(value)
    # By default an address in memory, which says nothing.
    return type(value).__qualname__ if " at 0x" in shown else shown


def _differences(where: str, theirs: Any, ours: Any) -> Iterator[str]:
    """What differs between two nested descriptions, by name."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted({*theirs, *ours}):
            name = f"{where}.{key}" if where else key
            yield from _differences(name, theirs.get(key), ours.get(key))
    elif theirs != ours:
        yield f"{where} was {theirs!r} and is {ours!r}"


def _shapes(parameters: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights; those of an optimizer's state follow."""
    return {
        f"{owner}.{name}": tuple(value.shape)
        for owner, state in parameters.items()
        for name, value in state.items()
        if isinstance(value, Tensor)
    }

"""Checks of a checkpoint before any of it is used: is it whole, and is it of this training?

A model that is made with other arguments than the saved one may still accept its weights: another
temperature, adapter scale or discount does not change a shape. So every setting that affects the
result is compared by value. Settings that only affect where and how fast it is computed may differ.
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
from textgym.sb3.adapters import BASE_HASH

_NOTHING = type(None)
_ALWAYS = {
    "training": dict, "num_timesteps": int, "environment": list, "actions": dict,
    "generators": dict, "logged": dict,
}  # fmt: skip
_OF_SB3 = {
    "counters": dict, "parameters": dict, "last_obs": object, "last_episode_starts": object,
    "last_original_obs": object, "episodes": (list, _NOTHING), "successes": (list, _NOTHING),
}  # fmt: skip
_ON_POLICY = {"kl_coef": (float, int, _NOTHING), "waiting": (dict, _NOTHING)}
_OFF_POLICY = {"replay": dict}
_GENERATORS = {"python": tuple, "numpy": dict, "torch": Tensor, "cuda": list}

_NOT_COMPARED = {
    # Compared by their content instead: weights, tokenizer, spaces.
    "lm", "observation_space", "action_space",
    # Used for the initial weights alone.
    "ortho_init", "log_std_init",
    # Set again by the algorithm.
    "lr_schedule",
    # Change the result by rounding alone.
    "cache", "gradient_checkpointing", "compile", "micro_batch",
}  # fmt: skip
_NOT_COMPARED_OF_OPTIMIZER = {"fused", "foreach"}


def check_complete(model: Any, state: dict[str, Any]) -> None:
    """Check that a state has all its parts, each of the right type.

    Args:
        model: The model that the state is for.
        state: The state.

    Raises:
        SettingsError: If not; the message names the parts.
    """
    parts: dict[str, Any] = dict(_ALWAYS)
    training = state.get("training")
    # The state of another algorithm has other parts; `check_same` has the better message for it.
    same = isinstance(training, dict) and training.get("algorithm") == type(model).__name__
    for kind, more in (
        (BaseAlgorithm, _OF_SB3), (OnPolicyAlgorithm, _ON_POLICY), (OffPolicyAlgorithm, _OFF_POLICY)
    ):  # fmt: skip
        if same and isinstance(model, kind):
            parts |= more
    wrong = _wrong(state, parts)
    if "generators" not in wrong:
        wrong += [f"generators.{name}" for name in _wrong(state["generators"], _GENERATORS)]
    if "environment" not in wrong and not all(map(_is_layer, state["environment"])):
        wrong.append("environment")
    if "logged" not in wrong and not all(map(_is_logged, state["logged"].values())):
        wrong.append("logged")
    if wrong:
        raise SettingsError(
            f"the checkpoint is damaged: {', '.join(wrong)} missing or of another type; if its "
            "folder has an older one, delete this one"
        )


def describe(model: Any) -> dict[str, Any]:
    """The settings that two agents must share for one to continue the training of the other.

    Plain nested values. An agent's own method ``describe() -> dict`` can add settings.
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
        found |= _describe_policy(policy)
    if hasattr(model, "describe"):
        found["settings"] = plain_values(model.describe())
    if isinstance(model, OnPolicyAlgorithm):
        found |= {
            "n_steps": model.n_steps,
            "gamma": model.gamma,
            "gae_lambda": model.gae_lambda,
            "rollout_buffer": type(model.rollout_buffer).__name__,
            "rollout_buffer_kwargs": plain_values(_buffer_settings(model)),
        }
    if isinstance(model, OffPolicyAlgorithm):
        found |= {
            "gamma": model.gamma,
            "buffer_size": model.buffer_size,
            "replay_buffer": type(model.replay_buffer).__name__,
            "replay_buffer_kwargs": plain_values(model.replay_buffer_kwargs),
        }
    return found


def check_same(model: Any, theirs: dict[str, Any], parameters: dict[str, Any] | None) -> None:
    """Refuse the checkpoint of another training.

    Args:
        model: The model that is to be resumed.
        theirs: The result of `describe` for the saved model.
        parameters: The result of its ``get_parameters``, if it has this method.

    Raises:
        SettingsError: If they differ; the message names every difference.
    """
    different = list(_differences("", theirs, describe(model)))
    if parameters is not None and isinstance(model, BaseAlgorithm):
        known, saved = _shapes(model.get_parameters()), _shapes(parameters)
        # Trainings with an adapter once stored the weights below it, and not their hash.
        every = model.policy.named_parameters(remove_duplicate=False)
        own = {f"policy.{name}": tuple(p.shape) for name, p in every}
        wrong = sorted(
            name
            for name in {*known, *saved} - {f"policy.{BASE_HASH}"}
            if (known | own if name in saved else known).get(name) != saved.get(name)
        )
        if wrong:
            shapes = f"{saved.get(wrong[0])} and is {known.get(wrong[0])}"
            different.append(f"the parameter {wrong[0]} was {shapes} ({len(wrong)} differ)")
    if different:
        raise SettingsError(
            f"the checkpoint is of another training: {'; '.join(different)}; make the model with "
            "the same arguments, or start a new training in another folder"
        )


def plain_values(value: Any) -> Any:
    """A value that is the same in another process: classes and functions by their names."""
    if isinstance(value, Mapping):
        return {str(key): plain_values(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_values(entry) for entry in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if hasattr(value, "__qualname__"):
        return value.__qualname__
    shown = repr(value)
    # The default repr has an address in memory.
    return type(value).__qualname__ if " at 0x" in shown else shown


def _wrong(state: dict[str, Any], parts: dict[str, Any]) -> list[str]:
    return [
        name
        for name, kind in parts.items()
        if name not in state or not isinstance(state[name], kind)
    ]


def _is_logged(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 3


def _is_layer(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() >= {"layer", "state"}


def _describe_policy(policy: BasePolicy) -> dict[str, Any]:
    settings = {
        key: value
        for key, value in policy._get_constructor_parameters().items()
        if key not in _NOT_COMPARED
    }
    optimizer = settings.get("optimizer_kwargs") or {}
    settings["optimizer_kwargs"] = {
        key: value for key, value in optimizer.items() if key not in _NOT_COMPARED_OF_OPTIMIZER
    }
    lm = getattr(policy, "lm", None)
    return {
        "policy": type(policy).__name__,
        "tokenizer": None if lm is None else lm.tokenizer.content_hash(),
        "policy_kwargs": plain_values(settings),
    }


def _buffer_settings(model: OnPolicyAlgorithm) -> dict[str, Any]:
    """The arguments of the rollout buffer, those of a KL penalty with their defaults filled in."""
    given = dict(model.rollout_buffer_kwargs)
    kl = getattr(model.rollout_buffer, "kl", None)
    # An adaptive coefficient is part of the state.
    first = given.pop("kl_coef", 0.0)
    if kl is None:
        return {key: value for key, value in given.items() if value is not None}
    return given | {
        "kl_coef": first if kl.target is None else "adaptive",
        "kl_target": kl.target,
        "reference": kl.fingerprint,
        "reference_dtype": given.get("reference_dtype", "auto"),
    }


def _differences(where: str, theirs: Any, ours: Any) -> Iterator[str]:
    """The differences between two nested descriptions, by name."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted({*theirs, *ours}):
            name = f"{where}.{key}" if where else key
            yield from _differences(name, theirs.get(key), ours.get(key))
    elif theirs != ours:
        yield f"{where} was {theirs!r} and is {ours!r}"


def _shapes(parameters: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights; the shapes of an optimizer's state follow from them."""
    return {
        f"{owner}.{name}": tuple(value.shape)
        for owner, state in parameters.items()
        for name, value in state.items()
        if isinstance(value, Tensor)
    }

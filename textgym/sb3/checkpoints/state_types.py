"""The parts of a training's state and their types, checked before any of it is used."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import Tensor

from textgym.errors import SettingsError

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


def check_form(model: Any, state: dict[str, Any]) -> None:
    """Refuse a state that lacks a part, or has one of another type.

    Args:
        model: The model that is to go on from it.
        state: The state.

    Raises:
        SettingsError: If it does; the message names the parts.
    """
    parts: dict[str, Any] = dict(_ALWAYS)
    training = state.get("training")
    # What another algorithm saved has other parts: that it is another one is the better message.
    same = isinstance(training, dict) and training.get("algorithm") == type(model).__name__
    for kind, more in (
        (BaseAlgorithm, _OF_SB3), (OnPolicyAlgorithm, _ON_POLICY), (OffPolicyAlgorithm, _OFF_POLICY)
    ):  # fmt: skip
        if same and isinstance(model, kind):
            parts |= more
    wrong = _wrong(state, parts)
    if "generators" not in wrong:
        generators = _wrong(state["generators"], _GENERATORS)
        wrong += [f"generators.{name}" for name in generators]
    if "environment" not in wrong and not all(map(_is_layer, state["environment"])):
        wrong.append("environment")
    if "logged" not in wrong and not all(map(_is_logged, state["logged"].values())):
        wrong.append("logged")
    if wrong:
        raise SettingsError(
            f"the checkpoint is damaged: {', '.join(wrong)} missing or of another type; if there "
            "is an older one in its folder, delete this one"
        )


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

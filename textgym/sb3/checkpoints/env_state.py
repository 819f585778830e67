"""The state of a Stable-Baselines3 environment, layer by layer.

A ``VecEnv`` is a batch inside wrappers, and wrappers have state too: ``VecMonitor`` has the returns
of unfinished episodes. A custom wrapper, for SB3 or Gymnasium, implements ``get_state() -> dict``
and ``set_state(state)`` for its own state (JSON values and numpy arrays); a stateless one returns
``{}``. Unknown wrappers are refused, because a partly restored environment would silently change
the learning curve.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium.vector import VectorWrapper
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import (
    VecCheckNan,
    VecEnv,
    VecEnvWrapper,
    VecExtractDictObs,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)

from textgym.errors import SettingsError
from textgym.sb3.vec_env import TextVecEnv
from textgym.storage.json_values import from_plain, to_plain

State = dict[str, Any]

_STATELESS = (VecCheckNan, VecExtractDictObs, VecTransposeImage)


def get_env_state(venv: VecEnv) -> list[State]:
    """The state of an environment.

    Returns:
        The name and state of each layer, from the outermost wrapper to the batch.

    Raises:
        SettingsError: If a layer does not give its state.
        DataError: If a row of prompts has a column that is not a JSON value.
    """
    return [{"layer": type(layer).__name__, "state": _get(layer)} for layer in _layers(venv)]


def set_env_state(venv: VecEnv, states: list[State]) -> None:
    """Restore a state from `get_env_state`.

    Raises:
        SettingsError: If it is of another environment; nothing is changed then.
    """
    layers = list(_layers(venv))
    names = [type(layer).__name__ for layer in layers]
    theirs = [state["layer"] for state in states]
    if names != theirs:
        raise SettingsError(
            f"the state is of an environment made of {' > '.join(theirs)}, and this one is made of "
            f"{' > '.join(names)}; use the same wrappers"
        )
    before = get_env_state(venv)
    try:
        _set_all(layers, states)
    except BaseException:
        _set_all(layers, before)
        raise


def _set_all(layers: list[Any], states: list[State]) -> None:
    # The batch first: it checks that the state is of the same settings.
    for layer, state in reversed(list(zip(layers, states, strict=True))):
        _set(layer, state["state"])


def _layers(env: Any) -> Iterator[Any]:
    """SB3 wrappers, the ``VecEnv`` in them, Gymnasium wrappers, and the batch."""
    while True:
        yield env
        if isinstance(env, VecEnvWrapper):
            env = env.venv
        elif isinstance(env, TextVecEnv):
            env = env.envs
        elif isinstance(env, VectorWrapper):
            env = env.env
        else:
            return


def _get(layer: Any) -> State:
    kind = type(layer)
    # Looked up on the class: SB3 wrappers forward unknown attributes to the layer below.
    if hasattr(kind, "get_state") and hasattr(kind, "set_state"):
        state: State = layer.get_state()
        return state
    if isinstance(layer, TextVecEnv):
        # Seeds and options are used by the next reset.
        values: State = {
            "infos": layer.reset_infos, "seeds": layer._seeds, "options": layer._options
        }  # fmt: skip
        return {key: to_plain(list(value), "the info of reset") for key, value in values.items()}
    if kind is VecMonitor:
        return {
            "episode_returns": layer.episode_returns.copy(),
            "episode_lengths": layer.episode_lengths.copy(),
            "episode_count": layer.episode_count,
            "seconds": time.time() - layer.t_start,
        }
    if kind is VecNormalize:
        state = {"returns": layer.returns.copy(), "old_reward": layer.old_reward.copy()}
        return state | {name: _statistics(rms) for name, rms in _running(layer).items()}
    if kind in _STATELESS:
        return {}
    raise SettingsError(
        f"{kind.__name__} has no get_state() and set_state(state), so a training in it cannot be "
        f"resumed; {_advice(layer)}"
    )


def _advice(layer: Any) -> str:
    if isinstance(layer, VecEnvWrapper | VectorWrapper):
        return (
            "leave this wrapper out, or add the two methods in a subclass (the state of a "
            "stateless one is {})"
        )
    if isinstance(layer, VecEnv):
        return "make the environment with textgym.sb3.make_vec_env"
    return "use a text environment, or add the two methods"


def _set(layer: Any, state: State) -> None:
    kind = type(layer)
    if hasattr(kind, "get_state") and hasattr(kind, "set_state"):
        layer.set_state(state)
    elif isinstance(layer, TextVecEnv):
        # In place: VecMonitor and other wrappers share the list.
        layer.reset_infos[:] = from_plain(state["infos"])
        layer._seeds, layer._options = from_plain(state["seeds"]), from_plain(state["options"])
    elif kind is VecMonitor:
        layer.episode_returns = np.array(state["episode_returns"], dtype=np.float32)
        layer.episode_lengths = np.array(state["episode_lengths"], dtype=np.int32)
        layer.episode_count = state["episode_count"]
        layer.t_start = time.time() - state["seconds"]
    elif kind is VecNormalize:
        layer.returns = np.array(state["returns"])
        layer.old_reward = np.array(state["old_reward"])
        for name, rms in _running(layer).items():
            for key, value in state[name].items():
                setattr(rms, key, value.copy() if isinstance(value, np.ndarray) else value)


def _running(layer: VecNormalize) -> dict[str, RunningMeanStd]:
    """The running statistics of a ``VecNormalize``, by name."""
    found = {"rewards": layer.ret_rms}
    observed = getattr(layer, "obs_rms", None)  # None if observations are not normalized.
    if isinstance(observed, dict):
        return found | {f"observations.{key}": rms for key, rms in observed.items()}
    return found if observed is None else {**found, "observations": observed}


def _statistics(rms: RunningMeanStd) -> State:
    return {
        "mean": np.array(rms.mean),
        "var": np.array(rms.var),
        "count": rms.count,
    }

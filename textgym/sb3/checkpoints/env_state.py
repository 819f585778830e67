"""The state of a Stable-Baselines3 environment, layer by layer.

A ``VecEnv`` is a batch inside wrappers, and wrappers remember things too: ``VecMonitor`` the
returns of the episodes under way. A layer of your own, a wrapper of SB3's or of Gymnasium's kind,
takes part by two methods, ``get_state() -> dict`` and ``set_state(state)``, about itself alone
(values that JSON can hold, and numpy arrays); one that remembers nothing returns ``{}``. A layer of
which nothing is known is refused: an environment that goes on from half a state would give another
curve, and nobody would notice.
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
    """Take down the state of an environment.

    Returns:
        The name and state of each layer, from the outermost to the batch.

    Raises:
        SettingsError: If the state of a layer cannot be had.
        DataError: If a row of prompts has a column that JSON cannot hold.
    """
    return [{"layer": type(layer).__name__, "state": _get(layer)} for layer in _layers(venv)]


def set_env_state(venv: VecEnv, states: list[State]) -> None:
    """Go on from a state of `get_env_state`.

    Raises:
        SettingsError: If it is another environment's; then nothing changes.
    """
    layers = list(_layers(venv))
    names = [type(layer).__name__ for layer in layers]
    theirs = [state["layer"] for state in states]
    if names != theirs:
        raise SettingsError(
            f"the state is of an environment made of {' > '.join(theirs)}, and this one is made of "
            f"{' > '.join(names)}; wrap it as it was"
        )
    before = get_env_state(venv)
    try:
        _set_all(layers, states)
    except BaseException:
        _set_all(layers, before)
        raise


def _set_all(layers: list[Any], states: list[State]) -> None:
    # The batch first: it is the one that knows whether the state is its own.
    for layer, state in reversed(list(zip(layers, states, strict=True))):
        _set(layer, state["state"])


def _layers(env: Any) -> Iterator[Any]:
    """The wrappers of SB3, the ``VecEnv`` in them, the wrappers of Gymnasium, and the batch."""
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
    # Asked of the class: a wrapper of SB3 passes on what it lacks itself to the layer below.
    if hasattr(kind, "get_state") and hasattr(kind, "set_state"):
        state: State = layer.get_state()
        return state
    if isinstance(layer, TextVecEnv):
        # Seeds and options wait for the next reset.
        told: State = {
            "infos": layer.reset_infos, "seeds": layer._seeds, "options": layer._options
        }  # fmt: skip
        return {key: to_plain(list(value), "what reset reported") for key, value in told.items()}
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
            "leave this wrapper out, or give a subclass of it the two methods (the state of one "
            "that remembers nothing is {})"
        )
    if isinstance(layer, VecEnv):
        return "make the environment with textgym.sb3.make_vec_env"
    return "use a text environment, or give this one the two methods"


def _set(layer: Any, state: State) -> None:
    kind = type(layer)
    if hasattr(kind, "get_state") and hasattr(kind, "set_state"):
        layer.set_state(state)
    elif isinstance(layer, TextVecEnv):
        # In place: VecMonitor and others show the same list.
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
    """The running statistics of a normalisation, by name."""
    found = {"rewards": layer.ret_rms}
    observed = getattr(layer, "obs_rms", None)  # There is none if observations stay as they are.
    if isinstance(observed, dict):
        return found | {f"observations.{key}": rms for key, rms in observed.items()}
    return found if observed is None else {**found, "observations": observed}


def _statistics(rms: RunningMeanStd) -> State:
    return {
        "mean": np.array(rms.mean),
        "var": np.array(rms.var),
        "count": rms.count,
    }

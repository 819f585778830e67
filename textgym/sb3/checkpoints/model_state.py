"""The state of an agent in training: everything that the rest of the training depends on.

Weights and optimizer, counters, the adapted KL coefficient, the last observations, the environment,
the rollout buffer's unfinished episodes, the replay buffer, values that are logged but not yet
written, and all random generators. Between an update and the next rollout this is complete: the KV
cache is empty, because training has changed the weights.

An agent that is not an SB3 algorithm, or that has more state than one, implements `OwnState`.
"""

from __future__ import annotations

import random
from collections import deque
from importlib.metadata import version
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from gymnasium.vector import VectorWrapper
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecCheckNan, VecEnv, VecMonitor, VecNormalize

from textgym.errors import DataError, SettingsError
from textgym.sb3.buffer import LMRolloutBuffer
from textgym.sb3.checkpoints.env_state import get_env_state, set_env_state
from textgym.sb3.checkpoints.validation import check_complete, check_same, describe
from textgym.sb3.replay.buffer import LMReplayBuffer
from textgym.sb3.vec_env import TextVecEnv
from textgym.storage.json_values import to_plain

_FORMAT = 4
_COUNTERS = (
    "_total_timesteps",
    "_n_updates",
    "_episode_num",
    "_current_progress_remaining",
    # DQN's.
    "_n_calls",
    "exploration_rate",
)


@runtime_checkable
class OwnState(Protocol):
    """An agent that saves and restores its own state.

    With `Checkpoints`, its ``learn(total_timesteps, callback, reset_num_timesteps=True)`` calls
    ``callback.on_rollout_start()`` where it can be saved, and ``on_rollout_end()`` after each
    rollout; with ``reset_num_timesteps=False`` it continues. A method ``describe() -> dict`` can
    return further settings that have to match when a training is resumed.
    """

    num_timesteps: int

    def get_env(self) -> VecEnv | None:
        """The environment."""

    def get_state(self) -> dict[str, Any]:
        """The state as strings, numbers, lists, dictionaries, arrays and tensors.

        It leaves out the environment, `num_timesteps`, the global random generators and the state
        of SB3's base classes. It is written immediately, so it need not be a copy.
        """

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state, in an agent made with the same arguments; copy its values."""


Resumable: TypeAlias = BaseAlgorithm | OwnState
"""An agent whose training can be saved and resumed."""


def get_model_state(model: Resumable) -> dict[str, Any]:
    """The state of a training between two rollouts.

    Raises:
        SettingsError: If the algorithm or environment cannot be resumed, or the training is in the
            middle of a rollout, for example because a callback stopped it there.
        DataError: If the environment's rows contain a value that cannot be saved.
    """
    venv = _checked(model)
    state: dict[str, Any] = {
        "format": _FORMAT,
        "made_with": {name: version(name) for name in ("torch", "stable-baselines3", "numpy")},
        "training": describe(model),
        "num_timesteps": model.num_timesteps,
        "environment": get_env_state(venv),
        "actions": venv.action_space.np_random.bit_generator.state,
        "own": model.get_state() if isinstance(model, OwnState) else None,
        "generators": generator_states(),
        "logged": _logged(model),
    }
    if isinstance(model, BaseAlgorithm):
        # Plain dictionaries instead of the OrderedDicts of state_dict().
        parameters = model.get_parameters().items()
        state |= {
            "counters": {name: getattr(model, name) for name in _COUNTERS if hasattr(model, name)},
            "parameters": {name: dict(values) for name, values in parameters},
            "last_obs": model._last_obs,
            "last_episode_starts": model._last_episode_starts,
            "last_original_obs": model._last_original_obs,
            "episodes": None if model.ep_info_buffer is None else list(model.ep_info_buffer),
            "successes": None if model.ep_success_buffer is None else list(model.ep_success_buffer),
        }
    if isinstance(model, OnPolicyAlgorithm):
        _check_between(model, state["environment"])
        kl = _kl(model)
        state |= {"kl_coef": None if kl is None else kl.coef, "waiting": _waiting(model)}
    if isinstance(model, OffPolicyAlgorithm):
        assert isinstance(model.replay_buffer, LMReplayBuffer)
        _check_between(model, state["environment"])
        state["replay"] = model.replay_buffer.get_state()
    return state


def set_model_state(model: Resumable, state: dict[str, Any]) -> None:
    """Restore a state from `get_model_state`.

    A logger that ``learn`` creates does not exist yet: see `set_logged`.

    Raises:
        SettingsError: If the state is of another training. Nothing is changed then, except by a
            ``set_state`` of the agent that fails halfway.
    """
    venv = _checked(model)
    if state.get("format") != _FORMAT:
        raise SettingsError("the checkpoint is of another version of textgym; start a new training")
    check_complete(model, state)
    check_same(model, state["training"], state.get("parameters"))
    before = get_env_state(venv)
    set_env_state(venv, state["environment"])
    if isinstance(model, OwnState):
        try:
            model.set_state(state["own"])
        except Exception as error:
            set_env_state(venv, before)
            raise SettingsError(
                f"the checkpoint is of another {type(model).__name__} "
                f"({type(error).__name__}: {error}); make the agent with the same arguments, or "
                "start a new training in another folder"
            ) from error
    model.num_timesteps = state["num_timesteps"]
    venv.action_space.np_random.bit_generator.state = state["actions"]
    if isinstance(model, BaseAlgorithm):
        for name, value in state["counters"].items():
            setattr(model, name, value)
        model.set_parameters(state["parameters"], device=model.device)
        model._last_obs = state["last_obs"]
        model._last_episode_starts = state["last_episode_starts"]
        model._last_original_obs = state["last_original_obs"]
        model.ep_info_buffer = _buffer(model, state["episodes"])
        model.ep_success_buffer = _buffer(model, state["successes"])
    if isinstance(model, OnPolicyAlgorithm):
        if (kl := _kl(model)) is not None and state["kl_coef"] is not None:
            kl.coef = state["kl_coef"]
        keep_kl_coef(model)
        if isinstance(model.rollout_buffer, LMRolloutBuffer):
            model.rollout_buffer.set_waiting_state(state["waiting"])
    if isinstance(model, OffPolicyAlgorithm):
        assert isinstance(model.replay_buffer, LMReplayBuffer)
        model.replay_buffer.set_state(state["replay"])
    empty_kv_cache(model)
    if getattr(model, "_custom_logger", True):
        set_logged(model, state)
    set_generator_states(state["generators"])


def check_resumable(model: Resumable) -> None:
    """Refuse an agent whose training cannot be resumed.

    Raises:
        SettingsError: If the state of the agent, or of a layer of its environment, is not known
            completely.
        DataError: If the environment's rows contain a value that cannot be saved.
    """
    get_env_state(_checked(model))


def keep_kl_coef(model: Resumable) -> None:
    """Save an adapted KL coefficient with the model: SB3 saves the buffer's arguments alone."""
    if isinstance(model, OnPolicyAlgorithm) and (kl := _kl(model)) is not None:
        model.rollout_buffer_kwargs = {**model.rollout_buffer_kwargs, "kl_coef": kl.coef}


def _checked(model: Resumable) -> VecEnv:
    """The environment of an agent; refuses one whose training cannot be resumed."""
    name = type(model).__name__
    refused = f"a training by {name} cannot be resumed"
    if isinstance(model, OnPolicyAlgorithm):
        if model.use_sde or hasattr(model, "_last_lstm_states"):
            what = "gSDE's noise" if model.use_sde else "its recurrent state"
            raise SettingsError(f"{refused}: {what} is not saved")
    elif isinstance(model, OffPolicyAlgorithm):
        if not isinstance(model.replay_buffer, LMReplayBuffer):
            buffer = type(model.replay_buffer).__name__
            raise SettingsError(
                f"{refused}: its {buffer} is not saved; give it "
                "replay_buffer_class=textgym.sb3.LMReplayBuffer, or use SB3's save_replay_buffer, "
                "after which the random numbers differ"
            )
        if model.action_noise is not None or model.use_sde:
            raise SettingsError(f"{refused}: the state of its noise is not saved")
    elif not isinstance(model, OwnState):
        raise SettingsError(
            f"{refused}: it is neither an on-policy nor an off-policy algorithm of SB3, and has no "
            "get_state() and set_state(state); add them, next to get_env() and num_timesteps "
            "(textgym.sb3.checkpoints.model_state.OwnState)"
        )
    venv = model.get_env()
    if venv is None:
        raise SettingsError(f"{name} has no environment; make it with one")
    return venv


def _check_between(
    model: OnPolicyAlgorithm | OffPolicyAlgorithm, environment: list[dict[str, Any]]
) -> None:
    """Refuse a training that is not between two rollouts.

    A callback that stops the training in the first step of a rollout leaves an empty buffer, as an
    update does, but the environment is one step ahead of the algorithm.
    """
    advice = (
        "which a checkpoint does not store; save between two rollouts, as textgym.sb3.Checkpoints "
        "does"
    )
    buffer = getattr(model, "rollout_buffer", None)
    if buffer is not None and 0 < buffer.pos < buffer.buffer_size:
        raise SettingsError(f"the training is in the middle of a rollout, {advice}")
    if model._last_obs is None:  # Before the first rollout.
        return
    shown = _shown(model.env, environment[-1]["state"].get("tokens"))
    seen: Any = model._last_obs
    if isinstance(seen, dict):
        shown, seen = _proposed(environment), seen.get("candidates")
    if shown is not None and not np.array_equal(shown, seen):
        raise SettingsError(
            "the environment has been stepped since the algorithm's last observation: the training "
            f"is in the middle of a rollout, {advice}; if something else uses this environment, "
            "such as an evaluation, give it a separate one"
        )


def _proposed(environment: list[dict[str, Any]]) -> Any:
    """The last proposals of an environment; None if they are not known."""
    layers = {layer["layer"]: layer["state"] for layer in environment}
    if "TopKVectorEnv" not in layers or "VecNormalize" in layers:
        return None
    return layers["TopKVectorEnv"]["tokens"]


def _shown(env: Any, tokens: Any) -> Any:
    """The last observations of an environment, from the tokens of its batch.

    None if a layer may have changed them.
    """
    if type(env) in (VecMonitor, VecCheckNan):
        return _shown(env.venv, tokens)
    if type(env) is VecNormalize:
        inner = _shown(env.venv, tokens)
        return None if inner is None else env.normalize_obs(inner)
    if not isinstance(env, TextVecEnv):
        return None
    layer: Any = env.envs
    while isinstance(layer, VectorWrapper):
        if not type(layer).__module__.startswith("textgym."):
            return None
        layer = layer.env
    return tokens if env.observation_space == layer.single_observation_space else None


def _buffer(model: BaseAlgorithm, values: list[Any] | None) -> deque[Any] | None:
    return None if values is None else deque(values, maxlen=model._stats_window_size)


def _kl(model: OnPolicyAlgorithm) -> Any:
    """The KL penalty of an :class:`LMRolloutBuffer`."""
    return getattr(model.rollout_buffer, "kl", None)


def _waiting(model: OnPolicyAlgorithm) -> dict[str, Any] | None:
    """The unfinished episodes of an :class:`LMRolloutBuffer`."""
    buffer = model.rollout_buffer
    return buffer.waiting_state() if isinstance(buffer, LMRolloutBuffer) else None


def empty_kv_cache(model: Resumable) -> None:
    """Empty the policy's KV cache, so that the saved and the resumed run both start by a prefill.

    An evaluation since the last update may have filled it, and prefill and decode differ in the
    last bits.
    """
    decoder = getattr(getattr(model, "policy", None), "decoder", None)
    if decoder is not None:
        decoder.invalidate()


def generator_states() -> dict[str, Any]:
    """The states of all global random generators."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),
        "torch": torch.get_rng_state(),
        "cuda": list(cuda),
    }


def set_generator_states(states: dict[str, Any]) -> None:
    """Restore a result of `generator_states`."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available():  # The number of devices may differ from the saved one.
        for number, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state, number)


def _logged(model: Resumable) -> dict[str, Any]:
    """Values that are recorded but not yet written: those of the last update."""
    # An SB3 algorithm has no logger before its first `learn`.
    logger = getattr(model, "_logger" if isinstance(model, BaseAlgorithm) else "logger", None)
    if logger is None:
        return {}
    found = {}
    for name, value in logger.name_to_value.items():
        try:
            to_plain(value, name)
        except DataError:  # A figure or a video.
            continue
        excluded = logger.name_to_excluded.get(name, ("",))
        found[name] = (value, logger.name_to_count.get(name, 0), excluded)
    return found


def set_logged(model: Resumable, state: dict[str, Any]) -> None:
    """Record again the values that were not yet written: SB3 dumps before it trains."""
    logger = getattr(model, "logger", None)
    if logger is None:  # Other agents need not log.
        return
    for name, (value, count, excluded) in state["logged"].items():
        logger.name_to_value[name] = value
        logger.name_to_count[name] = count
        logger.name_to_excluded[name] = excluded

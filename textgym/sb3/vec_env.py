"""Stable-Baselines3's ``VecEnv`` over the native batch of text environments.

SB3 does not support Gymnasium's ``VectorEnv``. Its ``VecEnv`` resets a row in the step in which its
episode ends (``SAME_STEP``), and reports the end in ``info``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv, VecMonitor
from stable_baselines3.common.vec_env.base_vec_env import (
    VecEnvIndices,
    VecEnvObs,
    VecEnvStepReturn,
)

import textgym.envs  # noqa: F401  # registers the environment ids
from textgym.data.rows import Row
from textgym.errors import SettingsError, shown
from textgym.sb3.spaces import compared
from textgym.wrappers.nesting import attribute, layers

# Arguments of stable_baselines3.common.env_util.make_vec_env, with a hint for each.
_BATCHED = "the batch is one object in this process; leave it out"
_OF_SB3 = {
    "env_kwargs": "give the environment's arguments directly, as in max_new_tokens=32, or "
    "**env_kwargs",
    "vec_env_cls": _BATCHED,
    "vec_env_kwargs": _BATCHED,
    "start_index": f"{_BATCHED}, and give seed=... for other prompts",
    "monitor_dir": "the batch is inside a VecMonitor already; to write episodes to a file, give "
    "wrapper=functools.partial(textgym.wrappers.RecordEpisodes, path=...)",
    "monitor_kwargs": "the batch is inside a VecMonitor already; leave it out",
    "wrapper_class": "give wrapper=..., which wraps the batch (a gymnasium.vector.VectorWrapper)",
    "wrapper_kwargs": "give wrapper=functools.partial(WRAPPER, ...)",
    "num_envs": "the number of rows is n_envs",
}


def make_vec_env(
    env_id: str | EnvSpec,
    n_envs: int,
    seed: int | None = None,
    *,
    wrapper: Callable[[VectorEnv[Any, Any, Any]], VectorEnv[Any, Any, Any]] | None = None,
    **env_kwargs: Any,
) -> VecEnv:
    """Make a batch of text environments for Stable-Baselines3.

    Args:
        env_id: ``"TextGen-v0"``, ``"TextGen/Sentiment-v0"``, ...; ``"module:id"`` imports first.
        n_envs: Number of rows N.
        seed: Seed of the batch. Row seeds come from ``numpy.random.SeedSequence`` (see
            :meth:`TextVecEnv.seed`), so different seeds are independent, unlike in Gymnasium, where
            row i gets ``seed + i``. The algorithm's ``seed`` argument overrides it.
        wrapper: Wraps the batch, e.g. ``functools.partial(TopKActions, lm="textgym/tiny", k=8)``.
        **env_kwargs: The environment's arguments, as for ``gymnasium.make_vec``.

    Returns:
        A :class:`TextVecEnv` inside SB3's ``VecMonitor``, which logs returns and lengths.

    Raises:
        SettingsError: If the environment is not a text environment; if ``autoreset_mode`` or an
            argument of SB3's own ``make_vec_env`` is given; or `wrapper` wraps single environments.
    """
    for name in env_kwargs:
        if name in _OF_SB3:
            raise SettingsError(
                f"{name} is an argument of Stable-Baselines3's make_vec_env, not of "
                f"textgym.sb3's: {_OF_SB3[name]}"
            )
    if not isinstance(env_id, str | EnvSpec):
        raise SettingsError(
            f"env_id={shown(env_id)} must be the id of a text environment, such as 'TextGen-v0': "
            "the batch is not made of single environments"
        )
    kind: Any = wrapper
    if isinstance(kind, type) and issubclass(kind, gym.Wrapper):
        raise SettingsError(
            f"wrapper={kind.__name__} wraps single environments, and this is a batch; give a "
            "wrapper of gymnasium.wrappers.vector or textgym.wrappers"
        )
    if "autoreset_mode" in env_kwargs:
        raise SettingsError(
            "autoreset_mode is always SAME_STEP, which Stable-Baselines3 needs; leave it out"
        )
    try:
        envs = gym.make_vec(
            env_id, num_envs=n_envs, autoreset_mode=AutoresetMode.SAME_STEP, **env_kwargs
        )
    except TypeError as error:
        # Every text environment has this argument; other TypeErrors are the caller's.
        if "argument 'autoreset_mode'" not in str(error):
            raise
        raise SettingsError(
            f"env_id={env_id!r} is not a text environment; use "
            "stable_baselines3.common.env_util.make_vec_env for it"
        ) from error
    inner = TextVecEnv(envs if wrapper is None else wrapper(envs))
    venv = VecMonitor(inner)
    # A VecEnvWrapper has a separate list, which stays empty.
    venv.reset_infos = inner.reset_infos
    if seed is not None:
        venv.seed(seed)
    return venv


class TextVecEnv(VecEnv):
    """The native batch as a ``VecEnv``.

    Rows share one environment object, so attributes are the same for all rows; a tuple or array
    with one entry a row is split among them.

    Args:
        envs: A text environment from ``gymnasium.make_vec``, in the mode SAME_STEP.

    Attributes:
        envs: The text environment.
        spec: Its specification.

    Raises:
        SettingsError: If it is in another autoreset mode.
    """

    def __init__(self, envs: VectorEnv[Any, Any, Any]) -> None:
        if envs.metadata.get("autoreset_mode") is not AutoresetMode.SAME_STEP:
            raise SettingsError(
                "Stable-Baselines3 needs the autoreset mode SAME_STEP; make the batch with "
                "gymnasium.make_vec(..., autoreset_mode='SameStep'), or use make_vec_env"
            )
        # The base class reads attributes of the environment.
        self.envs = envs
        self.spec = envs.spec
        self._actions: Any = None
        action_space = compared(envs.single_action_space)
        # A policy sees only the spaces: this lets it check that the tokens are the same.
        tokenizer = getattr(envs.unwrapped, "tokenizer", None)
        # (A wrapper's actions may not be tokens.)
        if tokenizer is not None and action_space == envs.unwrapped.single_action_space:
            action_space.tokenizer_hash = tokenizer.agreement()  # type: ignore[attr-defined]
        super().__init__(envs.num_envs, compared(envs.single_observation_space), action_space)

    @property
    def tokenizer(self) -> Any:
        """The environment's tokenizer."""
        return self.envs.unwrapped.tokenizer  # type: ignore[attr-defined]

    @property
    def rows(self) -> list[Row]:
        """The row (prompt and columns) that each episode under way started from, N dictionaries."""
        return list(attribute(self.envs, "rows"))

    def seed(self, seed: int | Sequence[int] | None = None) -> list[int | None]:
        """Seed the streams of prompts; the next :meth:`reset` uses the seeds.

        Row i of a whole number s gets the first word of ``SeedSequence(s, spawn_key=(i,))``: the
        streams of two seeds are independent, and do not depend on the number of rows.
        (With SB3's rule, s + i, seeds 0 and 1 differ in one row alone.)

        Args:
            seed: A non-negative integer; a list of N such integers, one for each row; or None for
                a random one.

        Returns:
            The seed of each row.

        Raises:
            SettingsError: If it is something else.
        """
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
        if isinstance(seed, (list, tuple, np.ndarray)):
            if len(seed) != self.num_envs:
                raise SettingsError(
                    f"seed={seed!r} has {len(seed)} entries for {self.num_envs} rows; give one "
                    "integer, or one for each row"
                )
            self._seeds = [int(_checked_seed(one)) for one in seed]
        else:
            self._seeds = [*row_seeds(_checked_seed(seed), self.num_envs)]
        return list(self._seeds)

    def reset(self) -> VecEnvObs:
        """Start new episodes in all rows.

        Returns:
            Observations ``[N, L]``, or a dictionary of arrays ``[N, ...]``.
        """
        seeds = None if self._seeds[0] is None else list(self._seeds)
        observations: Any = None
        for rows, options in self._option_groups():
            observations, infos = self.envs.reset(seed=seeds, options=options)  # type: ignore[arg-type]
            for row, info in zip(rows, _rows_of(infos, rows), strict=True):
                self.reset_infos[row] = info
        # Seeds and options are used once.
        self._reset_seeds()
        self._reset_options()
        return cast(VecEnvObs, observations)

    def step_async(self, actions: np.ndarray) -> None:
        """Store the actions ``[N]`` of the next step."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step.

        Returns:
            Observations ``[N, L]`` int32 (or as in :meth:`reset`), rewards ``[N]`` float32, dones
            ``[N]`` bool, and one info per row. At the end of an episode it has
            ``terminal_observation`` ``[L]``, of which the first ``prompt_tokens`` are the prompt,
            ``TimeLimit.truncated`` and the environment's final info (``response``,
            ``finish_reason``, ...). The info of the next episode is in ``reset_infos`` (through
            wrappers: ``venv.unwrapped.reset_infos``).
        """
        observations, rewards, terminated, truncated, vector = self.envs.step(self._actions)
        dones = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if vector:
            self._fill_infos(infos, vector, dones, truncated & ~terminated)
        return observations, rewards.astype(np.float32), dones, infos

    def _fill_infos(
        self,
        infos: list[dict[str, Any]],
        vector: dict[str, Any],
        dones: np.ndarray,
        cut: np.ndarray,
    ) -> None:
        """Split a vector info into final infos, reset infos and the rest."""
        ended = np.flatnonzero(dones).tolist()
        if ended:
            finals = vector["final_obs"]
            reports = _rows_of(vector.get("final_info", {}), ended)
            for row, report in zip(ended, reports, strict=True):
                report["terminal_observation"] = finals[row]
                # Until below, these are of the episode that has ended.
                if "prompt_tokens" in self.reset_infos[row]:
                    report["prompt_tokens"] = int(self.reset_infos[row]["prompt_tokens"])
                report["TimeLimit.truncated"] = bool(cut[row])
                infos[row] = report
        rest = {
            key: value
            for key, value in vector.items()
            if key.removeprefix("_") not in ("final_obs", "final_info")
        }
        reported = np.zeros(self.num_envs, dtype=bool)
        for key, mask in rest.items():
            if key.startswith("_"):
                reported |= mask
        rows = np.flatnonzero(reported).tolist()
        for row, report in zip(rows, _rows_of(rest, rows), strict=True):
            if dones[row]:
                self.reset_infos[row] = report
            else:
                infos[row] = report

    def close(self) -> None:
        """Close the environment."""
        self.envs.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of the environment, once for each of the rows ``indices``."""
        return self._split(attribute(self.envs, attr_name), indices)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute for all rows.

        Raises:
            SettingsError: If ``indices`` does not include all rows.
        """
        if set(self._get_indices(indices)) != set(range(self.num_envs)):
            raise SettingsError(
                f"indices={indices!r}: the rows of a text environment share the attribute "
                f"{attr_name!r}; leave indices out"
            )
        setattr(self.envs.unwrapped, attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method of the environment once; its result for each of the rows ``indices``."""
        result = attribute(self.envs, method_name)(*method_args, **method_kwargs)
        return self._split(result, indices)

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Whether the batch is wrapped, once for each of the rows ``indices``."""
        wrapped = any(isinstance(layer, wrapper_class) for layer in layers(self.envs))
        return [wrapped for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[np.ndarray | None]:
        """One image per row, uint8 ``[H, W, 3]``, in the render mode "rgb_array"."""
        if self.render_mode != "rgb_array":
            return [None] * self.num_envs
        return list(self.envs.render())  # type: ignore[arg-type]

    def render(self, mode: str | None = None) -> Any:
        """Tile the rows' images; in the mode "ansi", return their texts."""
        if self.render_mode == "ansi" and mode in (None, "ansi"):
            return self.envs.render()
        return super().render(mode)

    def _split(self, value: Any, indices: VecEnvIndices) -> list[Any]:
        per_row = isinstance(value, tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)
        if per_row and len(value) == self.num_envs:
            return [value[row] for row in self._get_indices(indices)]
        return [value for _ in self._get_indices(indices)]

    def _option_groups(self) -> list[tuple[list[int], dict[str, Any] | None]]:
        """The necessary resets, each with its rows and options."""
        kinds: dict[tuple[str, ...], list[int]] = {}
        for row, options in enumerate(self._options):
            kinds.setdefault(tuple(sorted(options)), []).append(row)
        everyone = list(range(self.num_envs))
        groups: list[tuple[list[int], dict[str, Any] | None]] = []
        if () in kinds or len(kinds) > 1:
            # The first reset starts all rows; those with options are then reset again.
            groups.append((everyone, None))
        for keys, rows in kinds.items():
            if not keys:
                continue
            own = self._options[rows[0]]
            merged: dict[str, Any] = {
                key: [self._options[row].get(key, own[key]) for row in everyone] for key in keys
            }
            if len(rows) < self.num_envs:
                merged["reset_mask"] = np.isin(everyone, rows)
            groups.append((rows, merged))
        return groups


def row_seeds(seed: int, count: int) -> list[int]:
    """Independent seeds below 2**64 for the rows of a batch."""
    return [
        int(np.random.SeedSequence(seed, spawn_key=(row,)).generate_state(1, np.uint64)[0])
        for row in range(count)
    ]


def _checked_seed(seed: Any) -> int:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise SettingsError(f"seed={seed!r} must be a non-negative integer")
    return int(seed)


def _rows_of(vector: dict[str, Any], rows: Sequence[int]) -> list[dict[str, Any]]:
    """Split Gymnasium's vector info into one dictionary per row."""
    reports: list[dict[str, Any]] = [{} for _ in rows]
    for key, value in vector.items():
        # (A column of the data may be a dictionary with other keys than strings.)
        if isinstance(key, str) and key.startswith("_") and key[1:] in vector:
            continue
        mask = vector.get(f"_{key}")
        nested = _rows_of(value, rows) if isinstance(value, dict) else None
        for at, row in enumerate(rows):
            if mask is None or mask[row]:
                reports[at][key] = value[row] if nested is None else nested[at]
    return reports

"""A wrapper that writes finished episodes into a file, one JSON line each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from numpy.typing import NDArray

from textgym.errors import SettingsError
from textgym.wrappers.episode_file import EpisodeFile, plain
from textgym.wrappers.nesting import new_of_kind

# The keys of a line that come from the last `info`, in order; its other keys are the row's columns.
_INFO_KEYS = ("response", "finish_reason", "turns", "replies", "reward_terms", "cost_terms")
_NO_COLUMNS = {*_INFO_KEYS, "prompt", "cost", "turn", "turn_reward"}


class RecordEpisodes:
    """Write each finished episode as a line of JSON.

    ``RecordEpisodes(env, path)`` is a :class:`RecordEpisodesEnv` (a ``gymnasium.Wrapper``) for a
    single environment, and a :class:`RecordEpisodesVectorEnv` (a ``VectorWrapper``) for a batch, in
    each autoreset mode; both are instances of this class. The environment's behavior does not
    change. For Stable-Baselines3::

        make_vec_env(..., wrapper=functools.partial(RecordEpisodes, path="runs.jsonl"))

    A line has these keys; those in brackets depend on the environment::

        episode        number of the episode in the file, from 0
        row, seed      index in the batch, and the last seed (or null)
        prompt, response, finish_reason, [turns, replies,] reward_terms, [cost_terms]
                       as in `info`
        reward, [cost] sums over the episode
        length         number of steps
        columns        the row's other columns: reference, ...

    An episode truncated by a step limit is not scored: its ``finish_reason`` is "truncated", it has
    no ``reward_terms``, and its ``response`` is the text so far, or null if the observations are
    not texts or the task has several turns. Put this wrapper around the one that truncates. An
    episode that is interrupted by ``reset`` is not written.

    The file is only appended to, and closed after each step, so a killed run loses at most an
    incomplete line, which the next run removes. A training that resumes from a checkpoint
    (:mod:`textgym.sb3.checkpoints`) repeats the later episodes, and replaces their lines. Several
    environments should not write into one file.

    Numpy's numbers and arrays and tuples become numbers and lists, NaN and infinities become null,
    and numbers as keys become strings.

    Args:
        env: A text environment, from ``gymnasium.make`` or ``gymnasium.make_vec``.
        path: The file, commonly ``*.jsonl``; made with its folder if it does not exist.
        every: Write every n-th episode, starting with the first.
        without: Columns to leave out.

    Raises:
        SettingsError: If an argument is invalid, or the file holds anything but episodes.
        DataError: At the end of an episode, if JSON cannot represent a column.
        StorageError: At the end of an episode, if the disk is full or the file cannot be written.
            The file is then unchanged, and the environment can be reset and used.

    Example:
        >>> import pathlib, tempfile
        >>> import gymnasium, textgym
        >>> from textgym.wrappers import RecordEpisodes
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "episodes.jsonl"
        >>> env = RecordEpisodes(gymnasium.make("TextGen-v0", max_new_tokens=1), path)
        >>> obs, info = env.reset(seed=0)
        >>> obs, reward, terminated, truncated, info = env.step(0)
        >>> path.read_text()[:34]
        '{"episode": 0, "row": 0, "seed": 0'
    """

    file: EpisodeFile
    every: int
    without: tuple[str, ...]

    @overload
    def __new__(
        cls, env: VectorEnv[Any, Any, Any], path: str | Path, every: int = ...,
        without: Sequence[str] = ...,
    ) -> RecordEpisodesVectorEnv: ...  # fmt: skip

    @overload
    def __new__(
        cls, env: gym.Env[Any, Any], path: str | Path, every: int = ...,
        without: Sequence[str] = ...,
    ) -> RecordEpisodesEnv: ...  # fmt: skip

    def __new__(cls, env: Any = None, *_: Any, **__: Any) -> Any:
        """Make a wrapper of the environment's kind."""
        kinds = (RecordEpisodesEnv, RecordEpisodesVectorEnv)
        return new_of_kind(cls, env, RecordEpisodes, kinds)

    def _set_up(
        self, env: Any, path: str | Path, every: int, without: Sequence[str], rows: int
    ) -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise SettingsError(f"RecordEpisodes: every={every!r} has to be a whole number above 0")
        if isinstance(without, str):
            raise SettingsError(f"RecordEpisodes: without={without!r} has to be a list of columns")
        self.file, self.every, self.without = EpisodeFile(Path(path)), every, tuple(without)
        self._tokenizer = getattr(env.unwrapped, "tokenizer", None)
        self._episode = self.file.next
        self._reward, self._cost = np.zeros(rows), np.zeros(rows)
        self._has_cost = False
        self._length = np.zeros(rows, dtype=np.int64)
        self._seeds: list[int | None] = [None] * rows
        # The prompt of each row, its number of tokens, and whether the task has several turns.
        self._starts: list[tuple[str, int, bool]] = [("", 0, False)] * rows

    def _start(self, row: int, info: dict[str, Any]) -> None:
        self._starts[row] = (str(info.get("prompt", "")), int(info.get("prompt_tokens", 0)),
                             "turn" in info)  # fmt: skip
        self._reward[row], self._cost[row], self._length[row] = 0.0, 0.0, 0

    def _write(self, ended: Sequence[tuple[int, dict[str, Any], Any]]) -> None:
        """Write the episodes that ended, given as (row, last `info`, last observation)."""
        lines, before = [], self._episode
        try:
            for row, info, last in ended:
                if self._episode % self.every == 0:
                    lines.append(self._line(row, info, last))
                self._episode += 1
            self.file.append(lines)
        except BaseException:
            self._episode = before  # The lines were not written.
            raise

    def _line(self, row: int, info: dict[str, Any], last: Any) -> dict[str, Any]:
        prompt, count, multi_turn = self._starts[row]
        line: dict[str, Any] = {"episode": self._episode, "row": row, "seed": self._seeds[row]}
        line["prompt"] = info.get("prompt", prompt)
        if "finish_reason" not in info:
            line["response"] = None if multi_turn else self._response(last, count)
            line["finish_reason"] = "truncated"
        for name in _INFO_KEYS:
            if name in info:
                line[name] = plain(info[name], name)
        line["reward"] = plain(self._reward[row], "reward")
        if self._has_cost:
            line["cost"] = plain(self._cost[row], "cost")
        line["length"] = int(self._length[row])
        if "finish_reason" in info:
            line["columns"] = {
                name: plain(value, name)
                for name, value in info.items()
                if name not in _NO_COLUMNS and name not in self.without
            }
        return line

    def _response(self, last: Any, count: int) -> str | None:
        """The text after a prompt of `count` tokens, if the observation is a text."""
        if self._tokenizer is None or not isinstance(last, np.ndarray) or last.dtype != np.int32:
            return None
        written = last[count:]
        text: str = self._tokenizer.continuation(written[written >= 0].tolist(), last[:count])
        return text


class RecordEpisodesEnv(RecordEpisodes, gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """:class:`RecordEpisodes` around a single environment."""

    def __init__(
        self,
        env: gym.Env[Any, Any],
        path: str | Path,
        every: int = 1,
        without: Sequence[str] = (),
    ) -> None:
        RecordConstructorArgs.__init__(self, path=path, every=every, without=without)
        gym.Wrapper.__init__(self, env)
        self._set_up(env, path, every, without, 1)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode; see the wrapped environment."""
        obs, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self._seeds = [int(seed)]
        self._start(0, info)
        return obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step; see the wrapped environment.

        Raises:
            DataError: If the episode is over, and a column cannot be written.
        """
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._reward[0] += float(reward)
        self._length[0] += 1
        self._has_cost = self._has_cost or "cost" in info
        self._cost[0] += info.get("cost", 0.0)
        if terminated or truncated:
            self._write([(0, info, obs)])
        return obs, reward, terminated, truncated, info


class RecordEpisodesVectorEnv(
    RecordEpisodes, VectorWrapper[Any, Any, Any, Any, Any], RecordConstructorArgs
):
    """:class:`RecordEpisodes` around a batch, in the autoreset mode of the batch.

    Episodes that end in the same step are written in the order of their rows.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        path: str | Path,
        every: int = 1,
        without: Sequence[str] = (),
    ) -> None:
        RecordConstructorArgs.__init__(self, path=path, every=every, without=without)
        VectorWrapper.__init__(self, env)
        self._set_up(env, path, every, without, self.num_envs)
        mode = self.metadata.get("autoreset_mode")
        self._same_step = mode is AutoresetMode.SAME_STEP
        self._over = np.zeros(self.num_envs, dtype=np.bool_)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start episodes; see the wrapped environment."""
        obs, infos = self.env.reset(seed=seed, options=options)
        mask = None if options is None else options.get("reset_mask")
        rows = range(self.num_envs) if mask is None else np.flatnonzero(mask).tolist()
        if isinstance(seed, int | np.integer):
            seed = [int(seed) + row for row in range(self.num_envs)]
        for row, info in zip(rows, _infos_of(infos, rows), strict=True):
            if seed is not None and seed[row] is not None:
                self._seeds[row] = int(seed[row])
            self._start(row, info)
            self._over[row] = False
        return obs, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all rows; see the wrapped environment.

        Raises:
            DataError: If an episode is over, and a column cannot be written.
        """
        result = self.env.step(actions)
        obs, rewards, terminated, truncated, infos = result
        # Under NEXT_STEP, rows whose episode was over are only reset in this step.
        stepping, over = ~self._over, terminated | truncated
        self._reward[stepping] += rewards[stepping]
        self._length[stepping] += 1
        finals = infos.get("final_info", {}) if self._same_step else infos
        for source, rows in ((infos, stepping & ~over), (finals, over)):
            mask = source.get("_cost")
            if mask is not None:
                self._has_cost = True
                self._cost[rows & mask] += source["cost"][rows & mask].astype(np.float64)
        if over.any():
            ended = np.flatnonzero(over).tolist()
            last = infos["final_obs"] if self._same_step else obs
            observations = [last[row] if isinstance(last, np.ndarray) else None for row in ended]
            self._write(list(zip(ended, _infos_of(finals, ended), observations, strict=True)))
        starting = np.flatnonzero(over if self._same_step else self._over).tolist()
        for row, info in zip(starting, _infos_of(infos, starting), strict=True):
            self._start(row, info)
        self._over = np.zeros_like(over) if self._same_step else over
        return result

    def get_state(self) -> dict[str, Any]:
        """The state of this wrapper alone; see :mod:`textgym.sb3.checkpoints.env_state`."""
        return {
            "episode": self._episode,
            "file": self.file.get_state(),
            "sums": np.stack([self._reward, self._cost, self._length]),
            "costly": self._has_cost,
            "over": self._over.copy(),
            "seeds": list(self._seeds),
            "starts": [list(start) for start in self._starts],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state of `get_state`; lines that were written after it are replaced."""
        self._episode = int(state["episode"])
        self.file.set_state(state["file"], self._episode)
        self._reward, self._cost, length = np.array(state["sums"], np.float64)
        self._length = length.astype(np.int64)
        self._has_cost, self._over = bool(state["costly"]), np.array(state["over"], np.bool_)
        self._seeds = list(state["seeds"])
        self._starts = [(str(a), int(b), bool(c)) for a, b, c in state["starts"]]


def _infos_of(infos: dict[str, Any], rows: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The `info` of each of some rows, from Gymnasium's vector form."""
    if not infos:
        yield from ({} for _ in rows)
        return
    # A column of dictionaries may have keys that are not strings.
    masks: dict[Any, NDArray[np.bool_]] = {
        key: infos[f"_{key}"] for key in infos if f"_{key}" in infos
    }
    nested = {key: _infos_of(infos[key], rows) for key in masks if isinstance(infos[key], dict)}
    for row in rows:
        inner = {key: next(each) for key, each in nested.items()}
        yield {
            key: inner[key] if key in inner else infos[key][row]
            for key, mask in masks.items()
            if mask[row]
        }

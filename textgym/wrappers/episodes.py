"""Finished episodes in a file, one JSON line each."""

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

# What is told of an episode, in this order; all else in its last `info` are the row's columns.
_TOLD = ("response", "finish_reason", "turns", "replies", "reward_terms", "cost_terms")
_NO_COLUMNS = {*_TOLD, "prompt", "cost", "turn", "turn_reward"}


class RecordEpisodes:
    """Write each finished episode as a line of JSON.

    ``RecordEpisodes(env, path)`` is a :class:`RecordEpisodesEnv` (a ``gymnasium.Wrapper``) for a
    single environment, and a :class:`RecordEpisodesVectorEnv` (a ``VectorWrapper``) for a batch, in
    each autoreset mode; both are instances of this class. What the environment does is not
    changed. For Stable-Baselines3::

        make_vec_env(..., wrapper=functools.partial(RecordEpisodes, path="runs.jsonl"))

    A line has these keys, those in brackets where the environment has such a thing::

        episode        number of the episode in the file, from 0
        row, seed      the row of the batch, and what it was last seeded with (or null)
        prompt, response, finish_reason, [turns, replies,] reward_terms, [cost_terms]
                       as in `info`
        reward, [cost] sums over the episode
        length         steps of this environment
        columns        the row's other columns: reference, ...

    An episode that a step limit truncates is not judged: its ``finish_reason`` is "truncated", and
    it has no ``reward_terms``; its ``response`` is what was written, or null where the observations
    are no texts, or there are several turns. Put this wrapper around the one that truncates. An
    episode that ``reset`` cuts off is not written.

    The file is only appended to, and closed after each step, so a run that is killed loses the line
    under way at most. The next run repairs the file's end and goes on numbering. A training that
    goes on from a checkpoint (:mod:`textgym.sb3.checkpoints`) plays the episodes after it again:
    the lines that the interrupted run wrote of them are replaced. Several environments should not
    write into one file.

    JSON has no numpy numbers and arrays, tuples, NaN or infinities: they become numbers, lists,
    and null. Numbers as keys become strings.

    Args:
        env: A text environment, from ``gymnasium.make`` or ``gymnasium.make_vec``.
        path: The file, commonly ``*.jsonl``; made with its folder if there is none.
        every: Only each so-many-th episode is written, the first included.
        without: Columns to leave out.

    Raises:
        SettingsError: If an argument is wrong, or the file holds something else than episodes.
        DataError: When an episode ends: if a column cannot be written.
        StorageError: When an episode ends: if the disk is full or the file cannot be written. What
            the file held before is intact, and the environment can be reset and used.
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
        self._costly = False
        self._length = np.zeros(rows, dtype=np.int64)
        self._seeds: list[int | None] = [None] * rows
        # The prompt of each row, its number of tokens, and whether there are several turns.
        self._starts: list[tuple[str, int, bool]] = [("", 0, False)] * rows

    def _begin(self, row: int, info: dict[str, Any]) -> None:
        self._starts[row] = (str(info.get("prompt", "")), int(info.get("prompt_tokens", 0)),
                             "turn" in info)  # fmt: skip
        self._reward[row], self._cost[row], self._length[row] = 0.0, 0.0, 0

    def _write(self, ended: Sequence[tuple[int, dict[str, Any], Any]]) -> None:
        """Write the episodes of rows that ended: the row, its last `info`, and observation."""
        lines, before = [], self._episode
        try:
            for row, info, last in ended:
                if self._episode % self.every == 0:
                    lines.append(self._told(row, info, last))
                self._episode += 1
            self.file.append(lines)
        except BaseException:
            self._episode = before  # Numbers follow the lines that are in the file.
            raise

    def _told(self, row: int, info: dict[str, Any], last: Any) -> dict[str, Any]:
        prompt, count, talks = self._starts[row]
        told: dict[str, Any] = {"episode": self._episode, "row": row, "seed": self._seeds[row]}
        told["prompt"] = info.get("prompt", prompt)
        if "finish_reason" not in info:
            told["response"] = None if talks else self._text(last, count)
            told["finish_reason"] = "truncated"
        for name in _TOLD:
            if name in info:
                told[name] = plain(info[name], name)
        told["reward"] = plain(self._reward[row], "reward")
        if self._costly:
            told["cost"] = plain(self._cost[row], "cost")
        told["length"] = int(self._length[row])
        if "finish_reason" in info:
            told["columns"] = {
                name: plain(value, name)
                for name, value in info.items()
                if name not in _NO_COLUMNS and name not in self.without
            }
        return told

    def _text(self, last: Any, count: int) -> str | None:
        """What was written behind a prompt of so many tokens, if the observation is a text."""
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
        seen, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self._seeds = [int(seed)]
        self._begin(0, info)
        return seen, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step; see the wrapped environment.

        Raises:
            DataError: If the episode is over, and a column cannot be written.
        """
        seen, reward, terminated, truncated, info = self.env.step(action)
        self._reward[0] += float(reward)
        self._length[0] += 1
        self._costly = self._costly or "cost" in info
        self._cost[0] += info.get("cost", 0.0)
        if terminated or truncated:
            self._write([(0, info, seen)])
        return seen, reward, terminated, truncated, info


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
        seen, infos = self.env.reset(seed=seed, options=options)
        mask = None if options is None else options.get("reset_mask")
        rows = range(self.num_envs) if mask is None else np.flatnonzero(mask).tolist()
        if isinstance(seed, int | np.integer):
            seed = [int(seed) + row for row in range(self.num_envs)]
        for row, info in zip(rows, _infos_of(infos, rows), strict=True):
            if seed is not None and seed[row] is not None:
                self._seeds[row] = int(seed[row])
            self._begin(row, info)
            self._over[row] = False
        return seen, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all rows; see the wrapped environment.

        Raises:
            DataError: If an episode is over, and a column cannot be written.
        """
        result = self.env.step(actions)
        seen, rewards, terminated, truncated, infos = result
        # Under NEXT_STEP the rows that were over start anew in this step, and do nothing else.
        stepping, over = ~self._over, terminated | truncated
        self._reward[stepping] += rewards[stepping]
        self._length[stepping] += 1
        finals = infos.get("final_info", {}) if self._same_step else infos
        for source, rows in ((infos, stepping & ~over), (finals, over)):
            told = source.get("_cost")
            if told is not None:
                self._costly = True
                self._cost[rows & told] += source["cost"][rows & told].astype(np.float64)
        if over.any():
            ended = np.flatnonzero(over).tolist()
            last = infos["final_obs"] if self._same_step else seen
            at = [_observation(last, row) for row in ended]
            self._write(list(zip(ended, _infos_of(finals, ended), at, strict=True)))
        starting = np.flatnonzero(over if self._same_step else self._over).tolist()
        for row, info in zip(starting, _infos_of(infos, starting), strict=True):
            self._begin(row, info)
        self._over = np.zeros_like(over) if self._same_step else over
        return result

    def get_state(self) -> dict[str, Any]:
        """What this wrapper itself goes on from; see :mod:`textgym.sb3.checkpoints.env_state`."""
        return {
            "episode": self._episode,
            "file": self.file.get_state(),
            "sums": np.stack([self._reward, self._cost, self._length]),
            "costly": self._costly,
            "over": self._over.copy(),
            "seeds": list(self._seeds),
            "starts": [list(start) for start in self._starts],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a state of `get_state`; lines that were written after it are replaced."""
        self._episode = int(state["episode"])
        self.file.set_state(state["file"], self._episode)
        self._reward, self._cost, length = np.array(state["sums"], np.float64)
        self._length = length.astype(np.int64)
        self._costly, self._over = bool(state["costly"]), np.array(state["over"], np.bool_)
        self._seeds = list(state["seeds"])
        self._starts = [(str(a), int(b), bool(c)) for a, b, c in state["starts"]]


def _observation(seen: Any, row: int) -> Any:
    return seen[row] if isinstance(seen, np.ndarray) else None


def _infos_of(infos: dict[str, Any], rows: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The `info` of each of some rows, out of Gymnasium's vector form."""
    if not infos:
        yield from ({} for _ in rows)
        return
    # A column of dictionaries may have keys that are no strings.
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

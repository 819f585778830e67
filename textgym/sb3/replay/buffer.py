"""A replay buffer for DQN and QR-DQN that stores each observation once, with n-step returns.

Stable-Baselines3's buffer for ``Dict`` observations stores every observation twice (also as the
next observation of the previous one) in full precision, and has one-step targets alone. If the
reward comes at the end of a text, one-step targets propagate it back by one token per pass over the
buffer; n-step and Monte-Carlo returns reach the first token at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.type_aliases import DictReplayBufferSamples
from torch import Tensor

from textgym.errors import SettingsError
from textgym.sb3.compatibility import FOR_REPLAY, refuse_arguments
from textgym.sb3.replay.sum_tree import SumTree

Scorer: TypeAlias = Callable[[DictReplayBufferSamples], Tensor]
"""From a batch of B samples to their errors ``[B]``, of either sign."""

_RUNS, _TERMINATED, _CUT = range(3)
# Added to errors, so that transitions without an error are still sampled (Schaul et al. 2016).
_LEAST_ERROR = 1e-3


class LMReplayBuffer(ReplayBuffer):
    """Transitions of ``Dict`` observations, each observation stored once.

    The next observation of a transition is the next one in its row. It is stored separately where
    the episode was truncated, or the environment was reset within it.

    ``n_steps`` and ``gamma`` define the targets, ``sum(gamma**i * reward[i] for i < n) + gamma**n *
    max Q(observation[n])``, through the ``discounts`` of the samples that DQN and QR-DQN read::

        DQN(..., gamma=1.0, replay_buffer_class=LMReplayBuffer,
            replay_buffer_kwargs=dict(n_steps=None, gamma=1.0))

    Args:
        buffer_size: Number of transitions of all rows together.
        observation_space: A ``Dict`` of ``Box`` spaces.
        action_space: ``Discrete``.
        device: Device of the samples.
        n_envs: Number of rows N.
        optimize_memory_usage: Must be False: observations are stored once anyway.
        n_steps: Number of rewards before the bootstrapped value; None for Monte-Carlo returns, for
            which transitions of finished episodes are sampled.
        gamma: Discount factor; the same as the algorithm's.
        half: Store floats as float16, with a relative error of up to 1 / 2048.
        priority_exponent: 0 samples uniformly; alpha > 0 in proportion to ``|error|**alpha``
            (Schaul et al. 2016, "Prioritized experience replay", https://arxiv.org/abs/1511.05952),
            for which :attr:`scorer` has to be set. SB3's losses have no importance weights, so the
            result is biased towards transitions with large errors.
        **others: Arguments of other buffers, which are refused with a hint.

    Attributes:
        scorer: Function that computes the errors of each sampled batch; see
            :func:`textgym.sb3.td_errors`. It refers to the agent, so it is not saved with the
            buffer: set it again after ``load_replay_buffer``.

    Raises:
        SettingsError: If an argument is invalid.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        n_steps: int | None = 1,
        gamma: float = 0.99,
        half: bool = True,
        priority_exponent: float = 0.0,
        **others: Any,
    ) -> None:
        refuse_arguments(LMReplayBuffer, others, FOR_REPLAY)
        if not isinstance(observation_space, spaces.Dict) or not all(
            isinstance(space, spaces.Box) for space in observation_space.values()
        ):
            raise SettingsError(
                f"LMReplayBuffer needs Dict observations of Box spaces, not {observation_space}; "
                "wrap the environment in textgym.wrappers.TopKActions"
            )
        if not isinstance(action_space, spaces.Discrete):
            raise SettingsError(f"LMReplayBuffer needs Discrete actions, not {action_space}")
        if optimize_memory_usage:
            raise SettingsError(
                "optimize_memory_usage=True has no effect: LMReplayBuffer stores each observation "
                "once already; leave it out"
            )
        if n_steps is not None and (not isinstance(n_steps, int) or n_steps < 1):
            raise SettingsError(f"n_steps={n_steps!r} must be at least 1, or None (Monte Carlo)")
        if not 0 <= gamma <= 1 or priority_exponent < 0:
            raise SettingsError(
                f"gamma={gamma!r} must be between 0 and 1, and priority_exponent="
                f"{priority_exponent!r} at least 0"
            )
        # Like SB3's DictReplayBuffer: ReplayBuffer.__init__ would allocate its arrays.
        BaseBuffer.__init__(self, buffer_size, observation_space, action_space, device, n_envs)
        self.buffer_size = max(buffer_size // n_envs, 1)
        self.optimize_memory_usage = False
        # Read by SB3 when it loads a buffer: truncations are not terminations here.
        self.handle_timeout_termination = True
        self.n_steps = n_steps
        self.gamma = gamma
        self.scorer: Scorer | None = None
        self._exponent = priority_exponent
        shape = (self.buffer_size, n_envs)
        self._dtypes = {
            key: _stored_as(cast(spaces.Box, space), half)
            for key, space in observation_space.items()
        }
        self._kept = {
            key: np.zeros((*shape, *cast(spaces.Box, space).shape), self._dtypes[key])
            for key, space in observation_space.items()
        }
        self.actions = np.zeros(shape, np.min_scalar_type(int(action_space.n) - 1))
        self.rewards = np.zeros(shape, np.float32)
        self._ends = np.zeros(shape, np.uint8)
        # The observations after the newest transitions, and those after truncations and resets.
        self._latest: dict[str, NDArray[Any]] = {}
        self._cuts: dict[int, dict[int, dict[str, NDArray[Any]]]] = {}
        self._added = 0
        # The number of steps of each row until its last episode ended; the longest episode so far.
        self._finished = np.zeros(n_envs, np.int64)
        self._longest = 1
        self._tree = SumTree(self.buffer_size * n_envs) if priority_exponent else None
        self._largest = 1.0

    @property
    def bytes_per_transition(self) -> float:
        """Memory per transition, including priorities."""
        arrays = [*self._kept.values(), self.actions, self.rewards, self._ends]
        if self._tree is not None:
            arrays.append(self._tree.nodes)
        return sum(array.nbytes for array in arrays) / self._ends.size

    def reset(self) -> None:
        """Remove all transitions."""
        super().reset()
        self._added, self._longest, self._largest = 0, 1, 1.0
        self._finished[:] = 0
        self._latest, self._cuts = {}, {}
        if self._tree is not None:
            self._tree = SumTree(self._ends.size)

    def __getstate__(self) -> dict[str, Any]:
        # The scorer refers to the agent, which has this buffer.
        return {**self.__dict__, "scorer": None}

    def get_state(self) -> dict[str, Any]:
        """The content, for checkpoints (:mod:`textgym.sb3.checkpoints.model_state`).

        The arrays are views of the buffer; save them before it changes.
        """
        size = self.size()
        arrays = {"actions": self.actions, "rewards": self.rewards, "ends": self._ends}
        cuts = [(at, row) for at, rows in self._cuts.items() for row in rows]
        return {
            "observations": {key: array[:size] for key, array in self._kept.items()},
            **{name: array[:size] for name, array in arrays.items()},
            "pos": self.pos,
            "full": self.full,
            "latest": dict(self._latest),
            "cuts": np.array(cuts, np.int64).reshape(-1, 2),
            # One array, not one for each: there may be thousands.
            "cut_observations": {
                key: np.stack([self._cuts[at][row][key] for at, row in cuts]) if cuts else None
                for key in self._kept
            },
            "added": self._added,
            "finished": self._finished,
            "longest": self._longest,
            "weights": None if self._tree is None else self._tree.weights[: self._ends.size],
            "largest": self._largest,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state from `get_state`, in a buffer with the same arguments."""
        self.reset()
        size = len(state["actions"])
        for key, array in self._kept.items():
            array[:size] = state["observations"][key]
        self.actions[:size], self.rewards[:size] = state["actions"], state["rewards"]
        self._ends[:size] = state["ends"]
        self.pos, self.full = state["pos"], state["full"]
        self._latest = {key: np.array(array) for key, array in state["latest"].items()}
        for number, (at, row) in enumerate(state["cuts"].tolist()):
            stacked = state["cut_observations"].items()
            kept = {key: array[number].copy() for key, array in stacked}
            self._cuts.setdefault(at, {})[row] = kept
        self._added, self._longest = state["added"], state["longest"]
        self._finished = np.array(state["finished"], np.int64)
        self._largest = state["largest"]
        if self._tree is not None:
            self._tree.set(np.arange(self._ends.size), state["weights"])

    # ------------------------------------------------------------------ adding

    def add(  # type: ignore[override]
        self,
        obs: dict[str, NDArray[Any]],
        next_obs: dict[str, NDArray[Any]],
        action: NDArray[Any],
        reward: NDArray[Any],
        done: NDArray[Any],
        infos: list[dict[str, Any]],
    ) -> None:
        """Store one step of all rows; the arguments are those of ``ReplayBuffer.add``.

        Raises:
            SettingsError: If a value is too large for float16.
        """
        now, following = self._packed(obs), self._packed(next_obs)
        if self._added:
            self._cut_off(now)
        at = self.pos
        for key, array in self._kept.items():
            array[at] = now[key]
        self.actions[at] = np.asarray(action).reshape(self.n_envs)
        self.rewards[at] = reward
        cut = np.array([bool(info.get("TimeLimit.truncated", False)) for info in infos])
        ended = np.asarray(done, dtype=np.bool_)
        self._ends[at] = np.where(ended, np.where(cut, _CUT, _TERMINATED), _RUNS)
        self._cuts.pop(at, None)
        for row in np.flatnonzero(ended & cut).tolist():
            self._keep_aside(at, row, following)
        self._latest = following
        self._added += 1
        self._longest = max(self._longest, int((self._added - self._finished).max()))
        if self._tree is not None:
            # Transitions without a Monte-Carlo return are not sampled.
            value = 0.0 if self.n_steps is None else self._largest
            self._tree.set(at * self.n_envs + np.arange(self.n_envs), value)
        self._finish(np.flatnonzero(ended), self._added)
        self.pos += 1
        if self.pos == self.buffer_size:
            self.full, self.pos = True, 0

    def _packed(self, observation: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """A copy of an observation ``[N, ...]`` in the dtypes of the buffer."""
        packed = {}
        for key, dtype in self._dtypes.items():
            with np.errstate(over="ignore"):
                packed[key] = np.array(observation[key], dtype=dtype)
            if dtype == np.float16 and not np.array_equal(
                np.isfinite(packed[key]), np.isfinite(observation[key])
            ):
                raise SettingsError(
                    f"half=True: {key!r} has values above float16's 65,504; use "
                    "replay_buffer_kwargs=dict(half=False)"
                )
        return packed

    def _cut_off(self, now: dict[str, NDArray[Any]]) -> None:
        """Truncate the episodes of rows that were reset since the last step."""
        newest = (self.pos - 1) % self.buffer_size
        continues = np.ones(self.n_envs, np.bool_)
        for key, array in now.items():
            same = array == self._latest[key]
            continues &= same.reshape(self.n_envs, -1).all(1)
        cut = np.flatnonzero(~continues & (self._ends[newest] == _RUNS))
        for row in cut.tolist():
            self._ends[newest, row] = _CUT
            self._keep_aside(newest, row, self._latest)
        self._finish(cut, self._added)

    def _keep_aside(self, at: int, row: int, observation: dict[str, NDArray[Any]]) -> None:
        kept = {key: array[row].copy() for key, array in observation.items()}
        self._cuts.setdefault(at, {})[row] = kept

    def _finish(self, rows: NDArray[np.intp], end: int) -> None:
        """Mark the steps of some rows before the step ``end`` as part of finished episodes."""
        if self._tree is not None and self.n_steps is None:
            for row in rows.tolist():
                first = max(int(self._finished[row]), end - self.buffer_size)
                places = np.arange(first, end) % self.buffer_size
                self._tree.set(places * self.n_envs + row, self._largest)
        self._finished[rows] = end

    # ------------------------------------------------------------------ sampling

    def sample(self, batch_size: int, env: Any = None) -> DictReplayBufferSamples:  # type: ignore[override]
        """Sample transitions with replacement.

        Args:
            batch_size: Number of transitions B.
            env: The agent's ``VecNormalize``, if it has one.

        Returns:
            Observations, actions ``[B, 1]``, the observations after n steps (or at the end), and
            ``[B, 1]`` each: whether the episode terminated by then, the discounted rewards until
            then, and the discount of the value.

        Raises:
            SettingsError: If the buffer is empty, or priorities need a :attr:`scorer`.
        """
        if self._tree is not None and self.scorer is None:
            raise SettingsError(
                f"priority_exponent={self._exponent} needs a scorer; set "
                "agent.replay_buffer.scorer = textgym.sb3.td_errors(agent), also after "
                "load_replay_buffer, or leave priority_exponent out"
            )
        places, rows = self._draw(batch_size)
        samples = self._look_ahead(places, rows, env)
        if self._tree is not None and self.scorer is not None:
            with torch.no_grad():
                errors = self.scorer(samples).flatten().abs().double().cpu().numpy()
            weights = (errors + _LEAST_ERROR) ** self._exponent
            self._largest = max(self._largest, float(weights.max()))
            self._tree.set(places * self.n_envs + rows, weights)
        return samples

    def _draw(self, batch_size: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Positions in the ring buffer and rows of sampled transitions, ``[B]`` each."""
        if not self._added:
            raise SettingsError("the replay buffer is empty; raise learning_starts")
        if self._tree is not None and self._tree.total > 0:
            leaves = self._tree.find(np.random.random(batch_size) * self._tree.total)
            return leaves // self.n_envs, leaves % self.n_envs
        oldest = self._added - self.size()
        counts = np.full(self.n_envs, self.size(), np.int64)
        if self.n_steps is None and (self._finished > oldest).any():
            counts = np.maximum(self._finished - oldest, 0)
        upto = counts.cumsum()
        drawn = np.random.randint(upto[-1], size=batch_size)
        rows = np.searchsorted(upto, drawn, side="right")
        places = (oldest + drawn - (upto - counts)[rows]) % self.buffer_size
        return places, rows

    def _look_ahead(
        self, places: NDArray[np.intp], rows: NDArray[np.intp], env: Any
    ) -> DictReplayBufferSamples:
        """The n-step samples at some positions; shorter at the newest transition."""
        newest = (self.pos - 1) % self.buffer_size
        ahead = min(self.n_steps or self._longest, self.buffer_size)
        steps = np.arange(ahead)
        at = (places[:, None] + steps) % self.buffer_size
        stops = (self._ends[at, rows[:, None]] != _RUNS) | (at == newest)
        stops[:, -1] = True
        lengths = stops.argmax(1) + 1
        rewards = self._normalize_reward(self.rewards[at, rows[:, None]], env)
        discounts = np.where(steps < lengths[:, None], self.gamma**steps, 0.0)
        last = at[np.arange(len(at)), lengths - 1]
        return DictReplayBufferSamples(
            observations=self._as_tensors({k: v[places, rows] for k, v in self._kept.items()}, env),
            actions=self.to_torch(self.actions[places, rows].astype(np.int64)[:, None]),
            next_observations=self._as_tensors(self._after(last, rows), env),
            dones=self._column(self._ends[last, rows] == _TERMINATED),
            rewards=self._column((rewards * discounts).sum(1)),
            discounts=self._column(self.gamma**lengths),
        )

    def _after(self, places: NDArray[np.intp], rows: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
        """The observations after some transitions.

        After a termination, this is the start of another episode, whose value is not used.
        """
        following = (places + 1) % self.buffer_size
        found = {key: array[following, rows] for key, array in self._kept.items()}
        newest = places == (self.pos - 1) % self.buffer_size
        cut = self._ends[places, rows] == _CUT
        for key, array in found.items():
            array[newest] = self._latest[key][rows[newest]]
            for sample in np.flatnonzero(cut).tolist():
                array[sample] = self._cuts[int(places[sample])][int(rows[sample])][key]
        return found

    def _as_tensors(self, observation: dict[str, NDArray[Any]], env: Any) -> dict[str, Tensor]:
        space = cast(spaces.Dict, self.observation_space)
        wide = {key: array.astype(space[key].dtype) for key, array in observation.items()}
        normal = cast(dict[str, NDArray[Any]], self._normalize_obs(wide, env))
        return {key: self.to_torch(array, copy=False) for key, array in normal.items()}

    def _column(self, values: NDArray[Any]) -> Tensor:
        return self.to_torch(values.astype(np.float32)[:, None], copy=False)


def _stored_as(space: spaces.Box, half: bool) -> np.dtype[Any]:
    """The smallest dtype for the values of a space."""
    assert space.dtype is not None
    if space.dtype.kind == "f":
        return np.dtype(np.float16) if half else space.dtype
    low, high = int(space.low.min()), int(space.high.max())
    return np.promote_types(np.min_scalar_type(low), np.min_scalar_type(high))

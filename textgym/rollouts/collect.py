"""The loop that writes whole episodes: :func:`collect`, and :class:`Rollout` under it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from textgym.data.observations import split_observation, text_view
from textgym.errors import SettingsError
from textgym.lm.sampling.decision import Decision
from textgym.lm.sampling.kept_sets import KeptSets
from textgym.lm.scoring import SequenceBatch
from textgym.rollouts.episodes import Episodes
from textgym.rollouts.fragments import FragmentStore, Ints
from textgym.rollouts.interfaces import Agent, Policy, VecEnv


class Step(NamedTuple):
    """One step of all rows. Rows that are done with their episodes do not count.

    Attributes:
        observations: ``[N, ...]``, of the environment after the step, in all rows.
        rewards: ``[N]`` float32; 0 in rows that are done.
        dones: ``[N]``, where an episode ended; False in rows that are done.
        infos: One per row; empty in rows that are done.
    """

    observations: Any
    rewards: NDArray[np.float32]
    dones: NDArray[np.bool_]
    infos: list[dict[str, Any]]


@overload
def collect(
    venv: VecEnv,
    policy: Policy | Agent,
    *,
    episodes_per_row: int = 1,
    group_size: int = 1,
    rest: bool = True,
    deterministic: bool = False,
    on_step: None = None,
) -> Episodes: ...


@overload
def collect(
    venv: VecEnv,
    policy: Policy | Agent,
    *,
    episodes_per_row: int = 1,
    group_size: int = 1,
    rest: bool = True,
    deterministic: bool = False,
    on_step: Callable[[Step], bool],
) -> Episodes | None: ...


def collect(
    venv: VecEnv,
    policy: Policy | Agent,
    *,
    episodes_per_row: int = 1,
    group_size: int = 1,
    rest: bool = True,
    deterministic: bool = False,
    on_step: Callable[[Step], bool] | None = None,
) -> Episodes | None:
    """Reset the environment, and write a number of whole episodes in each of its N rows.

    Each row writes `episodes_per_row` of them, however long they are. (The episodes that end first
    in a number of steps are mostly short ones.) All actions are of the present weights.

    Args:
        venv: An environment of :func:`textgym.sb3.make_vec_env`, or any other ``VecEnv``.
        policy: A policy that returns actions, values and log-probabilities, such as
            :class:`textgym.sb3.LMPolicy`; or an agent with ``predict``, such as ``PPO``.
        episodes_per_row: Episodes E of each row.
        group_size: Neighbouring rows that have to start from the same prompt, as an environment
            with the same ``group_size`` does.
        rest: Rows that are done show the policy the last text that it has read, so that
            :class:`textgym.lm.decoding.MemoDecoder` has nothing to compute, and the environment
            gets a filler token for them. False: they write further episodes, which are dropped. An
            agent with ``predict`` never rests: its state may depend on every step.
        deterministic: Take the likeliest action instead of drawing one.
        on_step: Called after each step; False ends the rollout.

    Returns:
        ``E * N`` episodes: the first of each row, in order, then the second ones, and so on. None
        if `on_step` ended the rollout.

    Raises:
        SettingsError: If the rows of a group have different prompts, or the numbers are impossible.
    """
    if episodes_per_row < 1:
        raise SettingsError(f"episodes_per_row={episodes_per_row} has to be at least 1")
    rollout = Rollout(
        venv, policy, episodes_per_row=episodes_per_row, rest=rest, deterministic=deterministic
    )
    rollout.reset()
    if group_size != 1:
        _check_groups(rollout.observations, group_size)
    while rollout.active.any():
        step = rollout.step()
        if on_step is not None and not on_step(step):
            return None
    return rollout.take(range(episodes_per_row * venv.num_envs))


class Rollout:
    """Episodes under way in the rows of an environment; :func:`collect` runs one to its end.

    It can also run without an end: after `reset`, `step` as often as needed, and `take` the
    episodes that are complete. The others are continued.

    Args:
        venv: As for :func:`collect`.
        policy: As for :func:`collect`, like `rest` and `deterministic`.
        episodes_per_row: Episodes of each row; None is unlimited.

    Attributes:
        observations: ``[N, ...]``, the input of the policy in the next step.
        active: ``[N]``, the rows that have episodes left to write.
        complete: The infos at the end of the episodes that are complete and not taken yet, by
            their numbers, in the order in which they ended. The episode ``e`` of row ``r`` has the
            number ``e * N + r``.
    """

    def __init__(
        self,
        venv: VecEnv,
        policy: Policy | Agent,
        *,
        episodes_per_row: int | None = None,
        rest: bool = True,
        deterministic: bool = False,
    ) -> None:
        if not hasattr(venv, "get_attr"):
            kind = type(venv).__name__
            raise SettingsError(f"collect: {kind} is not a VecEnv; use textgym.sb3.make_vec_env")
        if not (callable(policy) or hasattr(policy, "predict")):
            raise SettingsError(f"collect: {policy!r:.80} is not an LMPolicy or another agent")
        self._venv, self._policy, self._deterministic = venv, policy, deterministic
        self._episodes_per_row = np.inf if episodes_per_row is None else episodes_per_row
        self._rests = rest and callable(policy)
        if isinstance(policy, nn.Module):
            policy.eval()
        self._filler = 0
        if self._rests and episodes_per_row is not None:
            # A token that does not end a text, so that a row at rest asks for no rewards.
            self._filler = int(venv.get_attr("tokenizer")[0].eos_id == 0)

    def reset(self) -> None:
        """Reset the environment; episodes that are under way, or not taken, are dropped."""
        self._clear()
        self.observations = self._venv.reset()
        self._prompts = {row: self._prompt(row) for row in range(self._venv.num_envs)}

    def _clear(self) -> None:
        rows, view = self._venv.num_envs, text_view(self._venv.observation_space)
        self._store = None if view is None else FragmentStore(rows, view.width, view.image_shape)
        self._steps: list[tuple[NDArray[Any], ...]] = []
        self._kept: list[KeptSets] = []
        self._state: Any = None
        self._ended = np.zeros(rows, dtype=np.int64)
        self._starts = np.ones(rows, dtype=np.bool_)
        self.active = np.ones(rows, dtype=np.bool_)
        self.complete: dict[int, dict[str, Any]] = {}

    @torch.no_grad()
    def step(self) -> Step:
        """Take one step in all rows."""
        active, before = self.active, self.observations
        actions, log_probs, values = self._act()
        if self._rests:
            actions = np.where(active, actions, self._filler)
        after, rewards, dones, infos = self._venv.step(actions)
        rewards = np.where(active, rewards, 0).astype(np.float32)
        infos = [info if writes else {} for info, writes in zip(infos, active, strict=True)]
        costs = np.array([info.get("cost", 0.0) for info in infos], dtype=np.float64)
        self._record(before, actions, log_probs, values, rewards, costs)
        ends: NDArray[np.bool_] = dones & active
        for row in np.flatnonzero(ends).tolist():
            self.complete[self._number(row)] = infos[row]
        self._ended += ends
        for row in np.flatnonzero(ends).tolist():
            self._prompts[self._number(row)] = self._prompt(row)
        self.active = self._ended < self._episodes_per_row
        if self._rests:
            self.observations, self._starts = _where(self.active, after, before), ends & self.active
        else:
            self.observations, self._starts = after, dones
        return Step(after, rewards, ends, infos)

    def take(self, numbers: Iterable[int] | None = None) -> Episodes:
        """Take complete episodes out of the rollout.

        Args:
            numbers: The numbers of some complete episodes, in the order that they are to have;
                None takes all, in the order in which they ended.

        Raises:
            ValueError: If no episode is complete.
        """
        ids = np.array(list(self.complete if numbers is None else numbers), dtype=np.int64)
        if not len(ids):
            raise ValueError("no episode is complete yet; step on until `complete` has some")
        columns = [np.concatenate(column) for column in zip(*self._steps, strict=True)]
        kept = KeptSets.join(self._kept) if self._kept else None
        episode = columns[0]
        places = np.full(int(episode.max()) + 1, -1, dtype=np.int64)
        places[ids] = np.arange(len(ids))
        place = places[episode]
        # By episode, then by time.
        which = np.argsort(place, kind="stable")[int((place < 0).sum()) :]
        fragments, lengths, actions, log_probs, values, rewards, costs = (
            column[which] for column in columns[1:]
        )
        sequences = None
        if self._store is not None:
            used, owners = np.unique(fragments, return_inverse=True)
            ends = lengths - 1
            images = self._store.images
            sequences = SequenceBatch(
                torch.from_numpy(self._store.tokens[used, : int(ends.max()) + 1]),
                torch.from_numpy(owners),
                torch.from_numpy(ends),
                None if kept is None else kept.take(torch.from_numpy(which)),
                None if images is None else torch.from_numpy(images[used]),
            )
        found = Episodes(
            np.bincount(place[which], minlength=len(ids)),
            torch.from_numpy(actions),
            rewards,
            tuple(self._prompts.pop(number) for number in ids.tolist()),
            tuple(self.complete.pop(number) for number in ids.tolist()),
            costs,
            sequences,
            torch.from_numpy(log_probs),
            torch.from_numpy(values),
        )
        self._keep(np.flatnonzero(place < 0), columns, kept)
        return found

    def get_state(self) -> dict[str, Any]:
        """The state of the rollout, which a checkpoint holds with those of environment and policy.

        Infos of complete episodes are left out: they may contain objects of any type.
        """
        store = self._store
        texts = None
        if store is not None:
            texts = {"tokens": store.tokens, "images": store.images, "current": store.current}
        return {
            "observations": self.observations,
            "policy_state": self._state,
            "starts": self._starts,
            "active": self.active,
            "ended": self._ended,
            "complete": list(self.complete),
            "prompts": [[number, prompt] for number, prompt in self._prompts.items()],
            "columns": [np.concatenate(column) for column in zip(*self._steps, strict=True)],
            "kept": KeptSets.join(self._kept).state() if self._kept else None,
            "texts": texts,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state of `get_state`, instead of a `reset`."""
        self._clear()
        self.observations, self._state = state["observations"], state["policy_state"]
        self._starts, self.active = np.array(state["starts"]), np.array(state["active"])
        self._ended = np.array(state["ended"])
        self.complete = {number: {} for number in state["complete"]}
        self._prompts = dict(state["prompts"])
        self._steps = [tuple(map(np.array, state["columns"]))] if state["columns"] else []
        self._kept = [KeptSets(**state["kept"])] if state["kept"] else []
        if self._store is not None:
            self._store.start_with(**state["texts"])

    def _act(self) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.float32]]:
        """Actions ``[N]``, their log-probabilities and the policy's values ``[N]``."""
        if callable(self._policy):
            device = getattr(self._policy, "device", "cpu")
            answer = self._policy(_tensors(self.observations, device), self._deterministic)
            tokens, values, log_probs = answer
            decision = Decision.of(log_probs)
            if decision is not None and decision.kept is not None:
                rows = torch.from_numpy(np.flatnonzero(self.active))
                self._kept.append(decision.kept.to("cpu").take(rows))
            values = values.flatten().float()
            return tokens.cpu().numpy(), log_probs.float().cpu().numpy(), values.cpu().numpy()
        actions, self._state = self._policy.predict(
            self.observations, self._state, self._starts, deterministic=self._deterministic
        )
        unknown = np.full(len(self.active), np.nan, dtype=np.float32)
        return np.asarray(actions), unknown, unknown

    def _record(self, before: Any, *columns: NDArray[Any]) -> None:
        """Record the decisions of the active rows."""
        rows = np.flatnonzero(self.active)
        fragments = lengths = np.zeros(len(self.active), dtype=np.int64)
        if self._store is not None:
            tokens, images = split_observation(before)
            fragments, lengths = self._store.add(tokens, self._starts, images)
        numbers = self._ended * len(self.active) + np.arange(len(self.active))
        self._steps.append(tuple(part[rows] for part in (numbers, fragments, lengths, *columns)))

    def _keep(self, which: Ints, columns: list[NDArray[Any]], kept: KeptSets | None) -> None:
        """Drop all decisions but some."""
        self._steps, self._kept = [], []
        if kept is not None:
            self._kept = [kept.take(torch.from_numpy(which))]
        if self._store is not None:
            used, columns[1][which] = np.unique(columns[1][which], return_inverse=True)
            self._store.keep(used)
        if len(which):
            self._steps = [tuple(column[which] for column in columns)]

    def _number(self, row: int) -> int:
        """The number of the episode that a row is in."""
        return int(self._ended[row]) * len(self.active) + row

    def _prompt(self, row: int) -> str:
        return str(self._venv.unwrapped.reset_infos[row].get("prompt", ""))


def _tensors(observations: Any, device: Any) -> Any:
    if isinstance(observations, Mapping):
        return {key: _tensors(value, device) for key, value in observations.items()}
    return torch.as_tensor(observations, device=device)


def _where(rows: NDArray[np.bool_], new: Any, old: Any) -> Any:
    """The new observations of some rows, and the old ones of the others."""
    if isinstance(new, Mapping):
        return {key: _where(rows, new[key], old[key]) for key in new}
    return np.where(rows.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def _check_groups(observations: Any, group_size: int) -> None:
    """Refuse an environment whose neighbouring rows do not start alike."""
    for part in split_observation(observations):
        if part is None:
            continue
        if group_size < 1 or len(part) % group_size:
            raise SettingsError(
                f"group_size={group_size} has to divide n_envs={len(part)}, the number of rows"
            )
        grouped = part.reshape(-1, group_size, *part.shape[1:])
        if (grouped != grouped[:, :1]).any():
            raise SettingsError(
                f"group_size={group_size}: the rows of a group have different prompts; make the "
                f"environment with make_vec_env(..., group_size={group_size})"
            )

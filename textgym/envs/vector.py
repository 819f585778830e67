"""The batched environment, with the interface of ``gymnasium.vector.VectorEnv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from textgym.data.observations import Observation
from textgym.data.rows import Row
from textgym.envs.arguments import MAX_ROWS, BatchArguments, check_memory, known_mode, takes, whole
from textgym.envs.batch import TextBatch
from textgym.envs.observations import check_actions, observation_space, observe
from textgym.envs.prompts.drawing import check_options
from textgym.envs.rendering import (
    RENDER_MODES,
    Frame,
    check_render_mode,
    print_row,
    render_rows,
)
from textgym.envs.row_steps import RowSteps, step_rows, with_costs
from textgym.envs.settings import resolve
from textgym.envs.state import State, batch_state, set_batch_state
from textgym.envs.vector_infos import add_infos
from textgym.errors import ResetNeededError, SettingsError, shown
from textgym.tokenization.writable import writable_tokens

Actions = NDArray[np.integer[Any]]


class TextGenVectorEnv(VectorEnv[Observation, Actions, NDArray[Any]]):
    """Text generation as a Markov decision process, N episodes at once.

    ``gymnasium.make_vec("TextGen-v0", num_envs=N, ...)`` makes one. It is equivalent to Gymnasium's
    ``SyncVectorEnv`` of :class:`textgym.envs.TextGenEnv`, dtypes and infos included, but much
    faster: it steps arrays, and calls the reward once for all episodes that end in a step. See
    :class:`textgym.envs.TextGenEnv` for the process and the other arguments.

    ## Observation Space
    int32 ``[N, L]``, a new array from every call; with pictures, a dictionary of it (``tokens``)
    and uint8 ``[N, 3, H, W]`` (``image``).

    ## Action Space
    One token id per row, integers ``[N]``.

    ## Arguments
    num_envs: Number of rows N.
    group_size: This many neighbouring rows get the same prompts in the same order, for algorithms
        that compare several responses to one prompt (GRPO, RLOO). It divides ``num_envs``.
    autoreset_mode: When a row starts its next episode: ``"NextStep"`` (in the next call of
        ``step``, which ignores the row's action), ``"SameStep"`` (in the same step; ``final_obs``
        and ``final_info`` have the end) or ``"Disabled"`` (by ``reset`` with
        ``options={"reset_mask": mask}``); or Gymnasium's ``AutoresetMode``.
    max_episode_steps: Truncate longer episodes, as a wrapper of ``gymnasium.make`` does.

    The options of ``reset`` may also be lists, tuples or arrays with one value per row:
    ``{"index": [0, 1, 2]}``.
    """

    # An instance variable in Gymnasium's class.
    metadata: dict[str, Any] = {"render_modes": RENDER_MODES, "render_fps": 8}  # noqa: RUF012

    @takes(BatchArguments)
    def __init__(self, arguments: BatchArguments) -> None:
        self.settings = resolve(arguments, arguments.max_episode_steps)
        name = self.settings.name
        num_envs = whole(name, "num_envs", arguments.num_envs, least=1, most=MAX_ROWS)
        group_size = whole(name, "group_size", arguments.group_size, least=1)
        if num_envs % group_size:
            raise SettingsError(
                f"{name}: group_size={shown(group_size)} does not divide num_envs={num_envs}; use "
                f"num_envs={-(-num_envs // group_size) * group_size}"
            )
        check_memory(name, num_envs, self.settings.width, self.settings.image_shape)
        self.tokenizer = self.settings.tokenizer
        self.num_envs = num_envs
        self.render_mode = check_render_mode(name, arguments.render_mode)
        self.autoreset_mode = known_mode(name, arguments.autoreset_mode)
        self.metadata = {**type(self).metadata, "autoreset_mode": self.autoreset_mode}
        size = self.tokenizer.vocab_size
        self.single_observation_space = observation_space(self.settings)
        self.single_action_space = gym.spaces.Discrete(size)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._batch = TextBatch(num_envs, self.settings, group_size)
        self._over = np.ones(num_envs, dtype=np.bool_)  # True before the first episode, too.
        self._begun = False

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | NDArray[np.integer[Any]] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observation, dict[str, Any]]:
        """Start new episodes, in all rows or in those of ``options["reset_mask"]``.

        Args:
            seed: Row i is seeded with ``seed + i``, or with its entry of a list, tuple or array;
                None continues the rows' streams of prompts.
            options: ``{"prompt": "..."}``, ``{"row": {...}}`` or ``{"index": i}`` fixes the start;
                each value may be a list, tuple or array with one entry per row.

        Returns:
            The observations ``[N, L]`` of all rows, and the infos of those that were reset.

        Raises:
            TextGymError: If seed or options are invalid, or a prompt does not fit; nothing
                changes.
        """
        rows = self._rows_to_reset(options)
        seeds = self._seeds_of_rows(seed)
        row_infos = self._batch.reset(rows, seeds, options)
        infos: dict[str, Any] = {}
        indices = np.asarray(rows, dtype=np.intp)
        add_infos(infos, self.num_envs, indices, row_infos)
        self._over[indices] = False
        self._begun = True
        if self.render_mode == "human":
            self._show()
        return observe(self._batch), infos

    def step(
        self, actions: Actions
    ) -> tuple[
        Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]
    ]:
        """Append one token to every row.

        Args:
            actions: Token ids, integers ``[N]``.

        Returns:
            Observations ``[N, L]`` int32, rewards ``[N]`` float64, terminations ``[N]`` bool,
            truncations ``[N]`` bool, and infos.

        Raises:
            ActionError: If the actions are invalid; nothing changes.
            RewardError: If a reward function fails; nothing changes.
            PromptError: If the next prompt of a row does not fit; no episode changes.
            ResetNeededError: If ``reset`` has to be called first.
        """
        if not self._begun:
            raise ResetNeededError(f"{self.settings.name}: call reset() before the first step()")
        over = self._over
        stepping = (~over).nonzero()[0]
        if self.autoreset_mode is AutoresetMode.DISABLED and len(stepping) < self.num_envs:
            raise ResetNeededError(
                f"{self.settings.name}: the episodes of rows {np.flatnonzero(over).tolist()} are "
                "over, and autoreset is disabled; call reset(options={'reset_mask': mask})"
            )
        batch = self._batch
        checked = check_actions(batch, actions, stepping)
        same_step = self.autoreset_mode is AutoresetMode.SAME_STEP
        starting = None if same_step else over.nonzero()[0].tolist()
        outcome = batch.step(checked, stepping, starting)

        infos: dict[str, Any] = {}
        now_over = outcome.terminated | outcome.truncated
        info_rows, row_infos = outcome.info_rows, outcome.infos
        if self.settings.costs is not None:  # Every step has a cost.
            info_rows, row_infos = stepping, with_costs(stepping, outcome)
        if same_step and now_over.any():
            ended = now_over.nonzero()[0]
            by_row = dict(zip(info_rows.tolist(), row_infos, strict=True))
            finals = [
                {"final_obs": observe(batch, row), "final_info": by_row.pop(row, {})}
                for row in ended.tolist()
            ]
            add_infos(infos, self.num_envs, ended, finals)
            info_rows, row_infos = np.array(list(by_row), dtype=np.intp), list(by_row.values())
        add_infos(infos, self.num_envs, info_rows, row_infos)
        if self.render_mode == "human":
            self._show()  # Before the next episodes start, so that the whole text is shown.
        if outcome.starts:
            indices = np.array(list(outcome.starts), dtype=np.intp)
            add_infos(infos, self.num_envs, indices, batch.start_episodes(outcome.starts))
        self._over = np.zeros(self.num_envs, dtype=np.bool_) if same_step else now_over
        return (
            observe(batch),
            outcome.rewards,
            outcome.terminated,
            outcome.truncated,
            infos,
        )

    def step_rows(self, tokens: NDArray[Any], stepping: NDArray[np.bool_]) -> RowSteps:
        """Append several tokens to each of some rows, until its episode or turn ends.

        Rows are not reset in any autoreset mode: call ``reset`` with a ``reset_mask``.

        Args:
            tokens: Integers ``[N, m]``, -1 after the last token of a row.
            stepping: ``[N]`` bool, the rows that step; their episodes must not be over.

        Raises:
            TextGymError: As for `step`, but tokens before the error are written.
        """
        if (self._over & stepping).any():
            raise ResetNeededError(f"{self.settings.name}: a row's episode is over; call reset()")
        result = step_rows(self._batch, self._over, tokens, stepping)
        if self.render_mode == "human":
            self._show()
        return result

    @property
    def rows(self) -> tuple[Row, ...]:
        """The row (prompt and columns) that each episode under way started from, N dictionaries.

        After ``step`` under SAME_STEP these are the rows of the episodes that have just begun. The
        dictionaries are copies; their values are not.
        """
        return tuple(dict(row) for row in self._batch.rows)

    def get_state(self) -> State:
        """The whole state, current episodes included.

        An environment with the same arguments continues from it bit for bit, even in another
        process or on another machine::

            state = envs.get_state()
            others.set_state(state)

        A function that makes prompts must depend on its Generator alone, since the state does not
        include a function's own state (a counter, an open file).

        Returns:
            JSON-serializable values and numpy arrays, all copies.

        Raises:
            DataError: If a data row has a column that JSON cannot represent, other than tuples and
                numpy's numbers, strings and arrays.
        """
        mode = self.autoreset_mode.value
        return batch_state(self._batch, self._over, self._begun, autoreset_mode=mode)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore a state of `get_state`; nothing changes if an error is raised.

        Args:
            state: The state, which is copied. Functions among the arguments are compared by name
                only.

        Raises:
            SettingsError: If the state is damaged, or of an environment with other arguments or
                data.
        """
        mode = self.autoreset_mode.value
        self._over, self._begun = set_batch_state(self._batch, state, autoreset_mode=mode)

    def action_masks(self) -> NDArray[np.bool_]:
        """A mask of the tokens, bool ``[N, V]``; see the single environment."""
        return np.tile(writable_tokens(self.tokenizer), (self.num_envs, 1))

    def render(self) -> tuple[Frame, ...] | None:
        """One frame per row ("ansi" or "rgb_array"); None for "human"."""
        return render_rows(self._batch, self.render_mode)

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The generators of the rows, which draw their prompts."""
        streams = self._batch.streams
        if None in streams.rngs:
            streams.reseed(range(self.num_envs), [None] * self.num_envs)
        return tuple(rng for rng in streams.rngs if rng is not None)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seeds of the rows; -1 for a row that was never seeded."""
        return tuple(-1 if seed is None else seed for seed in self._batch.streams.seeds)

    def _rows_to_reset(self, options: Mapping[str, Any] | None) -> list[int]:
        check_options(self.settings.name, options)
        mask = None if options is None else options.get("reset_mask")
        if mask is None:
            return list(range(self.num_envs))
        if (
            not isinstance(mask, np.ndarray)
            or mask.dtype != np.bool_
            or mask.shape != (self.num_envs,)
            or not mask.any()
        ):
            raise SettingsError(
                f"{self.settings.name}: reset_mask has to be a boolean numpy array of shape "
                f"({self.num_envs},) with at least one True, not {shown(mask)}"
            )
        if not self._begun and not mask.all():
            raise ResetNeededError(
                f"{self.settings.name}: the first reset has to start all rows; omit reset_mask"
            )
        return [int(row) for row in np.flatnonzero(mask)]

    def _seeds_of_rows(
        self, seed: int | Sequence[int | None] | NDArray[np.integer[Any]] | None
    ) -> list[int | None]:
        if isinstance(seed, np.ndarray):
            seed = seed.tolist()
        if seed is None:
            return [None] * self.num_envs
        if not isinstance(seed, (list, tuple)):
            first = whole(self.settings.name, "seed", seed)
            return [first + row for row in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise SettingsError(
                f"{self.settings.name}: seed={shown(seed)} has to be an integer, or a list of "
                f"{self.num_envs} of them"
            )
        return list(seed)

    def _show(self) -> None:
        for row in range(self.num_envs):
            print_row(self._batch, row, label=f"[{row}] ")

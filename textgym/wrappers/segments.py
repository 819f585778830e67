"""A wrapper whose actions choose among pieces of text that a language model samples."""

from __future__ import annotations

from typing import Any, cast, overload

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from textgym.envs.vector import TextGenVectorEnv
from textgym.envs.vector_infos import add_infos
from textgym.errors import ResetNeededError, SettingsError
from textgym.tokenization import TINY
from textgym.wrappers.continuations import Continuations
from textgym.wrappers.masks import ActionMasks
from textgym.wrappers.nesting import layers, new_of_kind
from textgym.wrappers.proposals import (
    FrozenLM,
    Proposals,
    check_choices,
    check_count,
    hidden_space,
    log_prob_space,
    row_of,
)

_ONE = np.ones(1, dtype=np.bool_)


class SegmentActions:
    """Choose among k continuations that a frozen language model samples.

    An action writes up to ``segment`` tokens, until the chosen continuation or the episode ends,
    and its reward is the undiscounted sum of their rewards.
    ``SegmentActions(env)`` is a :class:`SegmentEnv` (a ``gymnasium.Wrapper``) for a single
    environment, and a :class:`SegmentVectorEnv` (a ``VectorWrapper``) for a batch.

    ## Action Space
    ``Discrete(k)``: the index of the continuation to write.

    ## Observation Space
    ``Dict``, with new arrays in each step:

    * ``hidden``: float32 ``[d]``, the model's hidden state after the text.
    * ``candidates``: int32 ``[k, segment]``, the continuations, likeliest first; -1 after their
      end, which is eos or the end of the environment's budget.
    * ``logprobs``: float32 ``[k]``, their log-probabilities (at temperature 1, in the whole
      vocabulary).
    * ``outcomes``: float32 ``[k, d]``, the hidden state after each of them.

    At the end of an episode all candidates are -1, and ``action_masks()``, the mask of the k
    choices, is False.

    Tokens that the environment's ``action_masks()`` forbid are not sampled. Put
    :class:`textgym.wrappers.ActionMasks` inside; its function is called for every token of every
    continuation.

    ``reset(seed=...)`` also seeds the sampling, in a batch with ``seed + i`` for row i. The same
    seed and the same choices give the same texts.

    Args:
        env: A text environment, from ``gymnasium.make`` or ``gymnasium.make_vec``. Since rows step
            at different times, wrappers of a batch other than ``ActionMasks`` go around this one.
        lm: Name or path of the language model, see ``LanguageModel.load``.
        k: Number of continuations.
        segment: Their maximal length in tokens.
        temperature: Sampling temperature; 1 is the model's distribution.
        device: The model's device; ``"auto"`` is the GPU if there is one.

    Raises:
        SettingsError: If k, segment or temperature is not positive, the environment is not a text
            environment, or its masks are only known for the current text.
        ModelError: If the model cannot be loaded, or does not match the environment.

    Example:
        >>> import gymnasium, textgym
        >>> from textgym.wrappers import SegmentActions
        >>> env = SegmentActions(gymnasium.make("TextGen-v0"), k=2, segment=4)
        >>> obs, info = env.reset(seed=0)
        >>> obs["candidates"].shape
        (2, 4)
        >>> obs, reward, terminated, truncated, info = env.step(0)
    """

    frozen: FrozenLM
    k: int
    segment: int
    temperature: float

    @overload
    def __new__(
        cls,
        env: VectorEnv[Any, Any, Any],
        lm: str = ...,
        k: int = ...,
        segment: int = ...,
        temperature: float = ...,
        device: str = ...,
    ) -> SegmentVectorEnv: ...

    @overload
    def __new__(
        cls,
        env: gym.Env[Any, Any],
        lm: str = ...,
        k: int = ...,
        segment: int = ...,
        temperature: float = ...,
        device: str = ...,
    ) -> SegmentEnv: ...

    def __new__(cls, env: Any = None, *_: Any, **__: Any) -> Any:
        """Make a wrapper of the environment's kind."""
        return new_of_kind(cls, env, SegmentActions, (SegmentEnv, SegmentVectorEnv))

    @property
    def lm_name(self) -> str:
        """Name or path of the language model."""
        return self.frozen.name

    def _set_up(
        self, env: Any, lm: str, k: int, segment: int, temperature: float, device: str, rows: int
    ) -> gym.spaces.Dict:
        """Load the model; returns the observation space of one row."""
        self.k, self.segment = check_count("k", k), check_count("segment", segment)
        if isinstance(temperature, bool) or not 0 < temperature < np.inf:
            raise SettingsError(f"temperature={temperature!r} has to be a positive number")
        self.temperature = float(temperature)
        self.frozen = FrozenLM(lm, device, env)
        self.continuations = Continuations(
            self.frozen, env, rows, (self.k, self.segment), self.temperature
        )
        self._proposed: NDArray[np.int32] | None = None
        model, width = self.frozen.lm, (self.k, self.segment)
        return gym.spaces.Dict(
            {
                "hidden": hidden_space(model.hidden_size),
                "candidates": gym.spaces.Box(-1, model.vocab_size - 1, width, np.int32),
                "logprobs": log_prob_space(self.k),
                "outcomes": hidden_space(self.k, model.hidden_size),
            }
        )

    def _valid(self) -> NDArray[np.bool_]:
        """A mask of the proposals that are not empty, ``[N, k]``."""
        if self._proposed is None:
            raise ResetNeededError("call reset() before action_masks()")
        return self._proposed[..., 0] >= 0


class SegmentEnv(SegmentActions, gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """:class:`SegmentActions` around a single environment."""

    def __init__(
        self,
        env: gym.Env[Any, Any],
        lm: str = TINY,
        k: int = 4,
        segment: int = 8,
        temperature: float = 1.0,
        device: str = "auto",
    ) -> None:
        RecordConstructorArgs.__init__(
            self, lm=lm, k=k, segment=segment, temperature=temperature, device=device
        )
        gym.Wrapper.__init__(self, env)
        self.observation_space = self._set_up(env, lm, k, segment, temperature, device, rows=1)
        self.action_space = gym.spaces.Discrete(self.k)

    def action_masks(self) -> NDArray[np.bool_]:
        """A mask of the proposals, bool ``[k]``, all False at the end of an episode.

        Raises:
            ResetNeededError: Before the first ``reset``.
        """
        masks: NDArray[np.bool_] = self._valid()[0]
        return masks

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Proposals, dict[str, Any]]:
        """Start an episode; see the wrapped environment."""
        text, info = self.env.reset(seed=seed, options=options)
        self.frozen.forget()
        self.continuations.seed(0, seed)
        self.continuations.start_episodes(text[None], [0])
        obs = self.continuations.propose(text[None], _ONE)
        self._proposed = obs["candidates"].copy()
        return row_of(obs, 0), info

    def step(self, action: int) -> tuple[Proposals, float, bool, bool, dict[str, Any]]:
        """Write the chosen continuation, until the episode or turn ends.

        Raises:
            ActionError: If the action is invalid; nothing changes.
            TextGymError: As for the wrapped environment; ``reset`` is then needed.
        """
        if self._proposed is None:
            raise ResetNeededError("call reset() before the first step(), and after an error")
        (choice,) = check_choices(np.reshape(action, -1), self.k, _ONE)
        tokens = self._proposed[0, choice]
        self._proposed = None
        total, cost, has_cost = 0.0, 0.0, False
        # Without tokens, after the end of an episode, the environment raises.
        for token in tokens[tokens >= 0].tolist() or [0]:
            text, reward, terminated, truncated, info = self.env.step(token)
            total += float(reward)
            has_cost = has_cost or "cost" in info
            cost += info.get("cost", 0.0)
            # The rest of the continuation is not written into the next turn.
            if terminated or truncated or "turn" in info:
                break
        if has_cost:
            info = {**info, "cost": cost}
        obs = self.continuations.propose(text[None], np.array([not (terminated or truncated)]))
        self._proposed = obs["candidates"].copy()
        return row_of(obs, 0), total, terminated, truncated, info


class SegmentVectorEnv(
    SegmentActions, VectorWrapper[Any, Any, Any, Any, Any], RecordConstructorArgs
):
    """:class:`SegmentActions` around a batch, in the autoreset mode of the batch.

    A row whose segment or episode ends early waits for the others, and is reset only after all of
    them are done.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        lm: str = TINY,
        k: int = 4,
        segment: int = 8,
        temperature: float = 1.0,
        device: str = "auto",
    ) -> None:
        RecordConstructorArgs.__init__(
            self, lm=lm, k=k, segment=segment, temperature=temperature, device=device
        )
        VectorWrapper.__init__(self, env)
        *wrappers, native = layers(env)
        if not isinstance(native, TextGenVectorEnv) or not all(
            isinstance(layer, ActionMasks) for layer in wrappers
        ):
            raise SettingsError(
                f"SegmentActions steps the rows of a batch separately, which {env} does not allow; "
                "wrap a text environment from gymnasium.make_vec, and put other wrappers around "
                "SegmentActions"
            )
        self.single_observation_space = self._set_up(
            env, lm, k, segment, temperature, device, env.num_envs
        )
        self.single_action_space = gym.spaces.Discrete(self.k)
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self.action_space = batch_space(self.single_action_space, env.num_envs)
        self._native = native
        self._obs: Proposals = {}
        self._over = np.ones(env.num_envs, dtype=np.bool_)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Proposals, dict[str, Any]]:
        """Start episodes; see the wrapped environment."""
        texts, infos = self.env.reset(seed=seed, options=options)
        mask = None if options is None else options.get("reset_mask")
        rows = range(self.num_envs) if mask is None else np.flatnonzero(mask).tolist()
        if mask is None:
            self.frozen.forget()
        if isinstance(seed, (int, np.integer)):
            seed = [int(seed) + row for row in range(self.num_envs)]
        for row in rows:
            self.continuations.seed(row, None if seed is None else seed[row])
        self.continuations.start_episodes(texts, list(rows))
        self._over[list(rows)] = False
        return self._propose(texts, np.isin(range(self.num_envs), list(rows))), infos

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Proposals, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Write the chosen continuation of each row, until its episode or turn ends.

        Raises:
            ActionError: If an action is invalid; nothing changes.
            TextGymError: As for the wrapped environment; ``reset`` is then needed.
        """
        if self._proposed is None:
            raise ResetNeededError("call reset() before the first step(), and after an error")
        mode, over = self._native.autoreset_mode, self._over
        if mode is AutoresetMode.DISABLED and over.any():
            raise ResetNeededError(
                f"the episodes of rows {np.flatnonzero(over).tolist()} are over, and autoreset is "
                "disabled; call reset(options={'reset_mask': mask})"
            )
        choices = check_choices(actions, self.k, ~over)
        tokens = self._proposed[np.arange(self.num_envs), choices]
        self._proposed = None
        result = self._native.step_rows(tokens, ~over)
        now_over = result.terminated | result.truncated
        infos: dict[str, Any] = {}
        texts = result.texts
        if mode is AutoresetMode.NEXT_STEP:
            add_infos(infos, self.num_envs, result.info_rows, result.infos)
            if over.any():
                texts = self._reset_rows(over, infos)
        elif mode is AutoresetMode.SAME_STEP and now_over.any():
            ended = np.flatnonzero(now_over)
            last = self.continuations.propose(texts, np.zeros_like(over))
            by_row = dict(zip(result.info_rows.tolist(), result.infos, strict=True))
            finals = [
                {"final_obs": row_of(last, row), "final_info": by_row.pop(row, {})}
                for row in ended.tolist()
            ]
            add_infos(infos, self.num_envs, ended, finals)
            others = np.array(list(by_row), dtype=np.intp)
            add_infos(infos, self.num_envs, others, [*by_row.values()])
            texts = self._reset_rows(now_over, infos)
        else:
            add_infos(infos, self.num_envs, result.info_rows, result.infos)
        self._over = np.zeros_like(over) if mode is AutoresetMode.SAME_STEP else now_over
        self._obs = {}
        obs = self._propose(texts, ~self._over)
        return obs, result.rewards, result.terminated, result.truncated, infos

    def action_masks(self) -> NDArray[np.bool_]:
        """A mask of the proposals, bool ``[N, k]``, all False for rows that are over.

        Raises:
            ResetNeededError: Before the first ``reset``, and after an error.
        """
        return self._valid()

    def get_state(self) -> dict[str, Any]:
        """The state of this wrapper alone; see :mod:`textgym.sb3.checkpoints.env_state`."""
        return {
            "seen": {key: array.copy() for key, array in self._obs.items()},
            "proposed": self._proposed is not None,
            "over": self._over.copy(),
            **self.continuations.get_state(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state of `get_state`."""
        self._obs = {key: np.array(array) for key, array in state["seen"].items()}
        self._proposed = self._obs["candidates"] if state["proposed"] else None
        self._over = np.array(state["over"], np.bool_)
        self.continuations.set_state(state)

    def _propose(self, texts: NDArray[np.int32], rows: NDArray[np.bool_]) -> Proposals:
        """The observations of all rows, with new proposals for some of them."""
        obs = self.continuations.propose(texts, rows)
        for key, array in self._obs.items():
            obs[key][~rows] = array[~rows]
        self._obs = {key: array.copy() for key, array in obs.items()}
        self._proposed = self._obs["candidates"]
        return obs

    def _reset_rows(self, rows: NDArray[np.bool_], infos: dict[str, Any]) -> NDArray[np.int32]:
        """Start new episodes in some rows; returns the texts of all."""
        observations, reset_infos = self._native.reset(options={"reset_mask": rows.copy()})
        texts = cast(NDArray[np.int32], observations)
        indices = np.flatnonzero(rows)
        keys = [key for key in reset_infos if not key.startswith("_")]
        row_infos = [{key: reset_infos[key][row] for key in keys} for row in indices]
        add_infos(infos, self.num_envs, indices, row_infos)
        self.continuations.start_episodes(texts, indices.tolist())
        return texts

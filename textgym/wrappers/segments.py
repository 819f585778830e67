"""The agent chooses among pieces of text that a language model has sampled."""

from __future__ import annotations

from typing import Any, cast, overload

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from textgym.envs.infos import add_infos
from textgym.envs.vector import TextGenVectorEnv
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
    """Choose among k continuations that a frozen language model has sampled.

    An action writes up to ``segment`` tokens, one by one, until the chosen continuation or the
    episode ends; its reward is the sum of theirs. (A discount within a segment would need one
    between segments that depends on their length, which agents do not know of.)
    ``SegmentActions(env)`` is a :class:`SegmentEnv` (a ``gymnasium.Wrapper``) for a single
    environment, and a :class:`SegmentVectorEnv` (a ``VectorWrapper``) for a batch.

    ## Action Space
    ``Discrete(k)``: which of the proposed continuations is written.

    ## Observation Space
    ``Dict``, fresh arrays in each step:

    * ``hidden``: float32 ``[d]``, the model's hidden state after the text.
    * ``candidates``: int32 ``[k, segment]``, the continuations, likeliest first; -1 after their
      end, which is eos or the end of the environment's budget.
    * ``logprobs``: float32 ``[k]``, their log-probabilities (at temperature 1, in the whole
      vocabulary).
    * ``outcomes``: float32 ``[k, d]``, the hidden state after each of them.

    Nothing is proposed after the end of an episode: all candidates are -1 there, and
    ``action_masks()``, the mask of the k choices, is False.

    No token is proposed that the environment's ``action_masks()`` forbid: they are drawn among the
    others. :class:`textgym.wrappers.ActionMasks` goes inside, and its function is asked about every
    token of every continuation.

    ``reset(seed=...)`` seeds the sampling too, in a batch that of row i with ``seed + i``; the same
    seed and the same choices give the same texts.

    Args:
        env: A text environment, from ``gymnasium.make`` or ``gymnasium.make_vec``. The batch has to
            be the bare one, or in ``ActionMasks``, as rows step at different times: other wrappers
            go around this one.
        lm: Name or path of the language model, as ``LanguageModel.load`` takes it.
        k: Number of continuations.
        segment: Their length in tokens.
        temperature: Of the sampling; 1 is the model's own distribution.
        device: Where the model runs; ``"auto"`` takes the GPU if there is one.

    Raises:
        SettingsError: If k, segment or temperature is not above 0, or the environment is not one of
            texts, or has masks that are known of the present text only.
        ModelError: If the model cannot be loaded, or its tokens are not the environment's.
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
        """Load the model; returns the observation space of a row."""
        self.k, self.segment = check_count("k", k), check_count("segment", segment)
        if isinstance(temperature, bool) or not 0 < temperature < np.inf:
            raise SettingsError(f"temperature={temperature!r} has to be a number above 0")
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

    def _counting(self) -> NDArray[np.bool_]:
        """Which proposals ``[N, k]`` write something."""
        if self._proposed is None:
            raise ResetNeededError("call reset() before action_masks(): nothing is proposed yet")
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
        """Which proposals write something: bool ``[k]``; none after the end of an episode.

        Raises:
            ResetNeededError: Before the first ``reset``.
        """
        masks: NDArray[np.bool_] = self._counting()[0]
        return masks

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Proposals, dict[str, Any]]:
        """Start an episode; see the wrapped environment."""
        text, info = self.env.reset(seed=seed, options=options)
        self.frozen.forget()
        self.continuations.seed(0, seed)
        self.continuations.begin(text[None], [0])
        seen = self.continuations.propose(text[None], _ONE)
        self._proposed = seen["candidates"].copy()
        return row_of(seen, 0), info

    def step(self, action: int) -> tuple[Proposals, float, bool, bool, dict[str, Any]]:
        """Write the chosen continuation, or as much of it as the episode takes.

        Raises:
            ActionError: If there is no such proposal; nothing changes.
            TextGymError: As the wrapped environment does; then ``reset`` is due.
        """
        if self._proposed is None:
            raise ResetNeededError("call reset() before the first step(), and after an error")
        (choice,) = check_choices(np.reshape(action, -1), self.k, _ONE)
        tokens = self._proposed[0, choice]
        self._proposed = None
        total, cost, costly = 0.0, 0.0, False
        # Nothing is left to write after the end: the environment then says so.
        for token in tokens[tokens >= 0].tolist() or [0]:
            text, reward, terminated, truncated, info = self.env.step(token)
            total += float(reward)
            costly = costly or "cost" in info
            cost += info.get("cost", 0.0)
            # What was meant for this turn is not written into the next one.
            if terminated or truncated or "turn" in info:
                break
        if costly:
            info = {**info, "cost": cost}
        seen = self.continuations.propose(text[None], np.array([not (terminated or truncated)]))
        self._proposed = seen["candidates"].copy()
        return row_of(seen, 0), total, terminated, truncated, info


class SegmentVectorEnv(
    SegmentActions, VectorWrapper[Any, Any, Any, Any, Any], RecordConstructorArgs
):
    """:class:`SegmentActions` around a batch, in the autoreset mode of the batch.

    Rows write segments of different lengths, and some end within theirs: these wait until all are
    done, and only then start anew, so no row takes a token that was meant for another episode.
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
        *around, native = layers(env)
        if not isinstance(native, TextGenVectorEnv) or not all(
            isinstance(layer, ActionMasks) for layer in around
        ):
            raise SettingsError(
                f"SegmentActions steps the rows of a batch one by one, which {env} does not allow; "
                "wrap what gymnasium.make_vec returns for a text environment, and put other "
                "wrappers around SegmentActions"
            )
        self.single_observation_space = self._set_up(
            env, lm, k, segment, temperature, device, env.num_envs
        )
        self.single_action_space = gym.spaces.Discrete(self.k)
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self.action_space = batch_space(self.single_action_space, env.num_envs)
        self._native = native
        self._seen: Proposals = {}
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
        self.continuations.begin(texts, list(rows))
        self._over[list(rows)] = False
        return self._propose_to(texts, np.isin(range(self.num_envs), list(rows))), infos

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Proposals, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Write the chosen continuation of each row, or as much of it as its episode takes.

        Raises:
            ActionError: If there is no such proposal; nothing changes.
            TextGymError: As the wrapped environment does; then ``reset`` is due.
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
            add_infos(infos, self.num_envs, result.told, result.reports)
            if over.any():
                texts = self._start(over, infos)
        elif mode is AutoresetMode.SAME_STEP and now_over.any():
            ended = np.flatnonzero(now_over)
            last = self.continuations.propose(texts, np.zeros_like(over))
            reports = dict(zip(result.told.tolist(), result.reports, strict=True))
            finals = [
                {"final_obs": row_of(last, row), "final_info": reports.pop(row, {})}
                for row in ended.tolist()
            ]
            object_rows = [final.pop("final_obs") for final in finals]
            add_infos(infos, self.num_envs, ended, finals)
            infos["final_obs"] = np.full(self.num_envs, None, dtype=object)
            for row, seen in zip(ended.tolist(), object_rows, strict=True):
                infos["final_obs"][row] = seen
            infos["_final_obs"] = now_over.copy()
            add_infos(
                infos, self.num_envs, np.array(list(reports), dtype=np.intp), [*reports.values()]
            )
            texts = self._start(now_over, infos)
        else:
            add_infos(infos, self.num_envs, result.told, result.reports)
        self._over = np.zeros_like(over) if mode is AutoresetMode.SAME_STEP else now_over
        self._seen = {}
        seen = self._propose_to(texts, ~self._over)
        return seen, result.rewards, result.terminated, result.truncated, infos

    def action_masks(self) -> NDArray[np.bool_]:
        """Which proposals write something: bool ``[N, k]``; none in rows that are over.

        Raises:
            ResetNeededError: Before the first ``reset``, and after an error.
        """
        return self._counting()

    def get_state(self) -> dict[str, Any]:
        """What this wrapper itself goes on from; see :mod:`textgym.sb3.checkpoints.env_state`."""
        return {
            "seen": {key: array.copy() for key, array in self._seen.items()},
            "proposed": self._proposed is not None,
            "over": self._over.copy(),
            **self.continuations.get_state(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a state of `get_state`."""
        self._seen = {key: np.array(array) for key, array in state["seen"].items()}
        self._proposed = self._seen["candidates"] if state["proposed"] else None
        self._over = np.array(state["over"], np.bool_)
        self.continuations.set_state(state)

    def _propose_to(self, texts: NDArray[np.int32], rows: NDArray[np.bool_]) -> Proposals:
        """Observe all rows; those that are not to get new proposals keep theirs."""
        seen = self.continuations.propose(texts, rows)
        for key, array in self._seen.items():
            seen[key][~rows] = array[~rows]
        self._seen = {key: array.copy() for key, array in seen.items()}
        self._proposed = self._seen["candidates"]
        return seen

    def _start(self, rows: NDArray[np.bool_], infos: dict[str, Any]) -> NDArray[np.int32]:
        """Start new episodes in some rows; returns the texts of all."""
        observed, started = self._native.reset(options={"reset_mask": rows.copy()})
        texts = cast(NDArray[np.int32], observed)
        at = np.flatnonzero(rows)
        keys = [key for key in started if not key.startswith("_")]
        reports = [{key: started[key][row] for key in keys} for row in at]
        add_infos(infos, self.num_envs, at, reports)
        self.continuations.begin(texts, at.tolist())
        return texts

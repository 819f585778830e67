"""The agent chooses among the k tokens that a language model finds likeliest."""

from __future__ import annotations

from typing import Any, overload

import gymnasium as gym
import numpy as np
import torch
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from textgym.errors import ResetNeededError, SettingsError
from textgym.tokenization import TINY
from textgym.wrappers.nesting import attribute, new_of_kind
from textgym.wrappers.proposals import (
    FrozenLM,
    Proposals,
    as_array,
    check_choices,
    check_count,
    fillers,
    hidden_space,
    likeliest,
    log_prob_space,
    row_of,
)

_ONE = np.ones(1, dtype=np.bool_)
# So many nats a filler is below the least likely proposal: exp(-20) is 2e-9.
_BELOW = 20.0


class TopKActions:
    """Choose among the k likeliest tokens of a frozen language model.

    ``TopKActions(env)`` is a :class:`TopKEnv` (a ``gymnasium.Wrapper``) for a single environment,
    and a :class:`TopKVectorEnv` (a ``VectorWrapper``) for a batch; both are instances of this
    class. Rewards, flags and infos are the wrapped environment's.

    ## Action Space
    ``Discrete(k)``: which of the proposed tokens is written.

    ## Observation Space
    ``Dict``, fresh arrays in each step:

    * ``hidden``: float32 ``[d]``, the model's hidden state after the text.
    * ``candidates``: int32 ``[k]``, the proposed tokens, likeliest first; equally likely ones in
      the order of their ids. Never one that the environment's ``action_masks()`` forbid, nor the
      padding of the model's vocabulary. Where fewer than k are allowed, the likeliest one fills up.
    * ``logprobs``: float32 ``[k]``, their log-probabilities in the whole vocabulary. One that only
      fills up has 20 less than the least likely of the others: a finite number of a size that
      networks can read, and nothing to a softmax.

    ``action_masks()`` is False for what only fills up; choosing it writes the token all the same.

    Acting costs one forward pass over one token a row.

    Args:
        env: A text environment, from ``gymnasium.make`` or ``gymnasium.make_vec``.
        lm: Name or path of the language model, as ``LanguageModel.load`` takes it. Pickled
            environments load it again by this name.
        k: Number of proposals.
        device: Where the model runs; ``"auto"`` takes the GPU if there is one.

    Raises:
        SettingsError: If k is not from 1 to the size of the vocabulary, or the environment is not
            one of texts.
        ModelError: If the model cannot be loaded, or its tokens are not the environment's.
    """

    frozen: FrozenLM
    k: int

    @overload
    def __new__(
        cls, env: VectorEnv[Any, Any, Any], lm: str = ..., k: int = ..., device: str = ...
    ) -> TopKVectorEnv: ...

    @overload
    def __new__(
        cls, env: gym.Env[Any, Any], lm: str = ..., k: int = ..., device: str = ...
    ) -> TopKEnv: ...

    def __new__(cls, env: Any = None, *_: Any, **__: Any) -> Any:
        """Make a wrapper of the environment's kind."""
        return new_of_kind(cls, env, TopKActions, (TopKEnv, TopKVectorEnv))

    @property
    def lm_name(self) -> str:
        """Name or path of the language model."""
        return self.frozen.name

    def _set_up(self, env: Any, lm: str, k: int, device: str) -> gym.spaces.Dict:
        """Load the model; returns the observation space of a row."""
        self.k = check_count("k", k)
        self.frozen = FrozenLM(lm, device, env)
        size = self.frozen.lm.vocab_size
        if self.k > size:
            raise SettingsError(
                f"k={k} is more than the {size} tokens of {lm!r}; give k from 1 to {size}"
            )
        return gym.spaces.Dict(
            {
                "hidden": hidden_space(self.frozen.lm.hidden_size),
                "candidates": gym.spaces.Box(0, size - 1, (self.k,), np.int32),
                "logprobs": log_prob_space(self.k),
            }
        )

    def _propose(self, hidden: Tensor, allowed: NDArray[np.bool_] | None = None) -> Proposals:
        """The observations of texts.

        Args:
            hidden: The hidden states ``[B, d]`` after them.
            allowed: ``[B, V]``, the tokens that may be proposed; None: all.
        """
        every = self.frozen.log_probs(hidden)
        if allowed is not None and not allowed.all():
            every.masked_fill_(torch.from_numpy(~allowed).to(every.device), -torch.inf)
        tokens, log_probs = likeliest(every, self.k)
        filling = log_probs.isneginf()
        if bool(filling.any()):
            tokens = torch.where(filling, tokens[:, :1], tokens)
            least = log_probs.masked_fill(filling, 0.0).amin(1, keepdim=True)
            log_probs = torch.where(filling, least - _BELOW, log_probs)
        return {
            "hidden": as_array(hidden),
            "candidates": tokens.cpu().numpy().astype(np.int32),
            "logprobs": as_array(log_probs.clamp(max=0.0)),
        }


class TopKEnv(TopKActions, gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """:class:`TopKActions` around a single environment."""

    def __init__(
        self, env: gym.Env[Any, Any], lm: str = TINY, k: int = 8, device: str = "auto"
    ) -> None:
        RecordConstructorArgs.__init__(self, lm=lm, k=k, device=device)
        gym.Wrapper.__init__(self, env)
        self.observation_space = self._set_up(env, lm, k, device)
        self.action_space = gym.spaces.Discrete(self.k)
        self._tokens: NDArray[np.int32] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Proposals, dict[str, Any]]:
        """Start an episode; see the wrapped environment."""
        text, info = self.env.reset(seed=seed, options=options)
        self.frozen.forget()
        return self._observe(text, over=False), info

    def step(self, action: int) -> tuple[Proposals, float, bool, bool, dict[str, Any]]:
        """Write the chosen token.

        Raises:
            ActionError: If there is no such proposal; nothing changes.
            TextGymError: As the wrapped environment does.
        """
        if self._tokens is None:
            raise ResetNeededError("call reset() before the first step()")
        (choice,) = check_choices(np.reshape(action, -1), self.k, _ONE)
        text, reward, terminated, truncated, info = self.env.step(int(self._tokens[choice]))
        seen = self._observe(text, over=terminated or truncated)
        return seen, float(reward), terminated, truncated, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Which proposals do not only fill up: bool ``[k]``.

        Raises:
            ResetNeededError: Before the first ``reset``.
        """
        return _counting(self._tokens)

    def _observe(self, text: NDArray[np.int32], over: bool) -> Proposals:
        allowed = None
        if not over and self.env.has_wrapper_attr("action_masks"):
            allowed = self.env.get_wrapper_attr("action_masks")()[None]
        seen = row_of(self._propose(self.frozen.hidden(text[None]), allowed), 0)
        self._tokens = seen["candidates"].copy()
        return seen


class TopKVectorEnv(TopKActions, VectorWrapper[Any, Any, Any, Any, Any], RecordConstructorArgs):
    """:class:`TopKActions` around a batch, in the autoreset mode of the batch."""

    def __init__(
        self, env: VectorEnv[Any, Any, Any], lm: str = TINY, k: int = 8, device: str = "auto"
    ) -> None:
        RecordConstructorArgs.__init__(self, lm=lm, k=k, device=device)
        VectorWrapper.__init__(self, env)
        self.single_observation_space = self._set_up(env, lm, k, device)
        self.single_action_space = gym.spaces.Discrete(self.k)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        mode = self.metadata.get("autoreset_mode")
        self._next_step = mode is AutoresetMode.NEXT_STEP
        self._same_step = mode is AutoresetMode.SAME_STEP
        self._tokens: NDArray[np.int32] | None = None
        self._over = np.zeros(self.num_envs, dtype=np.bool_)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Proposals, dict[str, Any]]:
        """Start episodes; see the wrapped environment."""
        texts, infos = self.env.reset(seed=seed, options=options)
        mask = None if options is None else options.get("reset_mask")
        self._over = np.zeros_like(self._over) if mask is None else self._over & ~mask
        if mask is None:
            self.frozen.forget()
        return self._observe(texts), infos

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Proposals, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Write the chosen token of each row.

        Under SAME_STEP, ``final_obs`` are observations of this wrapper.

        Raises:
            ActionError: If there is no such proposal; nothing changes.
            TextGymError: As the wrapped environment does.
        """
        if self._tokens is None:
            raise ResetNeededError("call reset() before the first step()")
        # A row that starts anew in this step ignores its action.
        stepping = ~self._over if self._next_step else np.ones_like(self._over)
        choices = check_choices(actions, self.k, stepping)
        tokens = self._tokens[np.arange(self.num_envs), choices]
        texts, rewards, terminated, truncated, infos = self.env.step(tokens)
        self._over = terminated | truncated
        ended = np.flatnonzero(infos.get("_final_obs", []))
        if len(ended):
            infos = {**infos, "final_obs": self._observe_ends(texts, infos["final_obs"], ended)}
        return self._observe(texts), rewards, terminated, truncated, infos

    def action_masks(self) -> NDArray[np.bool_]:
        """Which proposals do not only fill up: bool ``[N, k]``.

        Raises:
            ResetNeededError: Before the first ``reset``.
        """
        return _counting(self._tokens)

    def get_state(self) -> dict[str, Any]:
        """What this wrapper itself goes on from; see :mod:`textgym.sb3.checkpoints.env_state`."""
        tokens = None if self._tokens is None else self._tokens.copy()
        return {"tokens": tokens, "over": self._over.copy(), **self.frozen.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a state of `get_state`."""
        tokens = state["tokens"]
        self._tokens = None if tokens is None else np.array(tokens, np.int32)
        self._over = np.array(state["over"], np.bool_)
        self.frozen.set_state(state)

    def _observe(self, texts: NDArray[np.int32]) -> Proposals:
        seen = self._propose(self.frozen.hidden(texts), self._allowed())
        self._tokens = seen["candidates"].copy()
        return seen

    def _allowed(self) -> NDArray[np.bool_] | None:
        """What the outermost layer with masks allows, ``[N, V]``; after an end it says nothing."""
        try:
            ask = attribute(self.env, "action_masks")
        except AttributeError:
            return None
        masks: NDArray[np.bool_] = ask()
        over = np.zeros_like(self._over) if self._same_step else self._over
        return masks | over[:, None]

    def _observe_ends(
        self, texts: NDArray[np.int32], finals: NDArray[Any], ended: NDArray[np.intp]
    ) -> NDArray[Any]:
        """Observe the last texts of the rows that ended.

        All rows are decoded, those that go on too: each has one new token, so it is one pass, and
        the next call finds their part of it remembered.
        """
        texts = texts.copy()
        texts[ended] = np.stack([finals[row] for row in ended])
        seen = self._propose(self.frozen.hidden(texts)[ended])
        observed = np.full(self.num_envs, None, dtype=object)
        for at, row in enumerate(ended):
            observed[row] = row_of(seen, at)
        return observed


def _counting(tokens: NDArray[np.int32] | None) -> NDArray[np.bool_]:
    """Which proposals count as choices of their own."""
    if tokens is None:
        raise ResetNeededError("call reset() before action_masks(): nothing is proposed yet")
    counting: NDArray[np.bool_] = ~fillers(tokens)
    return counting

"""A wrapper whose actions choose among the k likeliest tokens of a language model."""

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
# Difference in log-probability between the least likely proposal and a filler.
_FILLER_MARGIN = 20.0


class TopKActions:
    """Choose among the k likeliest tokens of a frozen language model.

    ``TopKActions(env)`` is a :class:`TopKEnv` (a ``gymnasium.Wrapper``) for a single environment,
    and a :class:`TopKVectorEnv` (a ``VectorWrapper``) for a batch; both are instances of this
    class. Rewards, flags and infos are the wrapped environment's.

    ## Action Space
    ``Discrete(k)``: the index of the token to write.

    ## Observation Space
    ``Dict``, with new arrays in each step:

    * ``hidden``: float32 ``[d]``, the model's hidden state after the text.
    * ``candidates``: int32 ``[k]``, the proposed tokens, likeliest first, with ties in the order of
      their ids. Tokens that the environment's ``action_masks()`` forbid and the padding of the
      model's vocabulary are left out. If fewer than k are allowed, fillers repeat the likeliest.
    * ``logprobs``: float32 ``[k]``, their log-probabilities in the whole vocabulary. Fillers have
      20 less than the least likely of the others: finite, but negligible in a softmax.

    ``action_masks()`` is False for fillers; choosing one writes its token nevertheless.

    Each step costs one forward pass over one token per row.

    Args:
        env: A text environment, from ``gymnasium.make`` or ``gymnasium.make_vec``.
        lm: Name or path of the language model, see ``LanguageModel.load``. Pickled environments
            load it again by this name.
        k: Number of proposals.
        device: The model's device; ``"auto"`` is the GPU if there is one.

    Raises:
        SettingsError: If k is not between 1 and the vocabulary's size, or the environment is not a
            text environment.
        ModelError: If the model cannot be loaded, or does not match the environment.

    Example:
        >>> import gymnasium, textgym
        >>> from textgym.wrappers import TopKActions
        >>> env = TopKActions(gymnasium.make("TextGen-v0"), k=4)
        >>> env.action_space
        Discrete(4)
        >>> obs, info = env.reset(seed=0)
        >>> obs["candidates"].shape, obs["logprobs"].shape
        ((4,), (4,))
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
        """Load the model; returns the observation space of one row."""
        self.k = check_count("k", k)
        self.frozen = FrozenLM(lm, device, env)
        size = self.frozen.lm.vocab_size
        if self.k > size:
            raise SettingsError(
                f"k={k} is more than the {size} tokens of {lm!r}; use k from 1 to {size}"
            )
        return gym.spaces.Dict(
            {
                "hidden": hidden_space(self.frozen.lm.hidden_size),
                "candidates": gym.spaces.Box(0, size - 1, (self.k,), np.int32),
                "logprobs": log_prob_space(self.k),
            }
        )

    def _propose(self, hidden: Tensor, allowed: NDArray[np.bool_] | None = None) -> Proposals:
        """The observations after texts.

        Args:
            hidden: The hidden states of the texts, ``[B, d]``.
            allowed: ``[B, V]``, the tokens that may be proposed; None for all.
        """
        vocabulary = self.frozen.log_probs(hidden)
        if allowed is not None and not allowed.all():
            vocabulary.masked_fill_(torch.from_numpy(~allowed).to(vocabulary.device), -torch.inf)
        tokens, log_probs = likeliest(vocabulary, self.k)
        filler = log_probs.isneginf()
        if bool(filler.any()):
            tokens = torch.where(filler, tokens[:, :1], tokens)
            least = log_probs.masked_fill(filler, 0.0).amin(1, keepdim=True)
            log_probs = torch.where(filler, least - _FILLER_MARGIN, log_probs)
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
            ActionError: If an action is invalid; nothing changes.
            TextGymError: As for the wrapped environment.
        """
        if self._tokens is None:
            raise ResetNeededError("call reset() before the first step()")
        (choice,) = check_choices(np.reshape(action, -1), self.k, _ONE)
        text, reward, terminated, truncated, info = self.env.step(int(self._tokens[choice]))
        obs = self._observe(text, over=terminated or truncated)
        return obs, float(reward), terminated, truncated, info

    def action_masks(self) -> NDArray[np.bool_]:
        """A mask of the proposals that are not fillers, bool ``[k]``.

        Raises:
            ResetNeededError: Before the first ``reset``.
        """
        return _not_fillers(self._tokens)

    def _observe(self, text: NDArray[np.int32], over: bool) -> Proposals:
        allowed = None
        if not over and self.env.has_wrapper_attr("action_masks"):
            allowed = self.env.get_wrapper_attr("action_masks")()[None]
        obs = row_of(self._propose(self.frozen.hidden(text[None]), allowed), 0)
        self._tokens = obs["candidates"].copy()
        return obs


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
            ActionError: If an action is invalid; nothing changes.
            TextGymError: As for the wrapped environment.
        """
        if self._tokens is None:
            raise ResetNeededError("call reset() before the first step()")
        # A row that is reset in this step ignores its action.
        stepping = ~self._over if self._next_step else np.ones_like(self._over)
        choices = check_choices(actions, self.k, stepping)
        tokens = self._tokens[np.arange(self.num_envs), choices]
        texts, rewards, terminated, truncated, infos = self.env.step(tokens)
        self._over = terminated | truncated
        ended = np.flatnonzero(infos.get("_final_obs", []))
        if len(ended):
            infos = {
                **infos,
                "final_obs": self._final_observations(texts, infos["final_obs"], ended),
            }
        return self._observe(texts), rewards, terminated, truncated, infos

    def action_masks(self) -> NDArray[np.bool_]:
        """A mask of the proposals that are not fillers, bool ``[N, k]``.

        Raises:
            ResetNeededError: Before the first ``reset``.
        """
        return _not_fillers(self._tokens)

    def get_state(self) -> dict[str, Any]:
        """The state of this wrapper alone; see :mod:`textgym.sb3.checkpoints.env_state`."""
        tokens = None if self._tokens is None else self._tokens.copy()
        return {"tokens": tokens, "over": self._over.copy(), **self.frozen.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state of `get_state`."""
        tokens = state["tokens"]
        self._tokens = None if tokens is None else np.array(tokens, np.int32)
        self._over = np.array(state["over"], np.bool_)
        self.frozen.set_state(state)

    def _observe(self, texts: NDArray[np.int32]) -> Proposals:
        obs = self._propose(self.frozen.hidden(texts), self._allowed())
        self._tokens = obs["candidates"].copy()
        return obs

    def _allowed(self) -> NDArray[np.bool_] | None:
        """The masks of the outermost layer that has them, ``[N, V]``; all True after an end."""
        try:
            action_masks = attribute(self.env, "action_masks")
        except AttributeError:
            return None
        masks: NDArray[np.bool_] = action_masks()
        over = np.zeros_like(self._over) if self._same_step else self._over
        return masks | over[:, None]

    def _final_observations(
        self, texts: NDArray[np.int32], finals: NDArray[Any], ended: NDArray[np.intp]
    ) -> NDArray[Any]:
        """The observations of the last texts of the rows that ended.

        All rows are decoded, because the cache has the new tokens of the others for the next call.
        """
        texts = texts.copy()
        texts[ended] = np.stack([finals[row] for row in ended])
        obs = self._propose(self.frozen.hidden(texts)[ended])
        observations = np.full(self.num_envs, None, dtype=object)
        for index, row in enumerate(ended):
            observations[row] = row_of(obs, index)
        return observations


def _not_fillers(tokens: NDArray[np.int32] | None) -> NDArray[np.bool_]:
    if tokens is None:
        raise ResetNeededError("call reset() before action_masks()")
    mask: NDArray[np.bool_] = ~fillers(tokens)
    return mask

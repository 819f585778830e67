"""A wrapper that masks actions: the tokens that may be written next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, overload

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from numpy.typing import NDArray

from textgym.errors import ActionError, SettingsError
from textgym.lm.sampling.tokens import token_ids, token_list
from textgym.tokenization import Tokenizer
from textgym.wrappers.nesting import attribute, new_of_kind

Mask: TypeAlias = NDArray[np.bool_]
MaskFunction: TypeAlias = Callable[[NDArray[np.int32]], Any]


class ActionMasks:
    """Forbid tokens, always or as a function of the text so far.

    ``ActionMasks(env)`` is an :class:`ActionMasksEnv` (a ``gymnasium.Wrapper``) for a single
    environment, and an :class:`ActionMasksVectorEnv` (a ``VectorWrapper``) for a batch; both are
    instances of this class. Spaces, observations and rewards are the wrapped environment's.

    ``action_masks()`` returns the allowed tokens, bool ``[V]``, or ``[N, V]`` for a batch, as
    sb3-contrib's ``MaskablePPO`` expects. Masks narrow the wrapped environment's mask (all tokens
    but the special ones other than eos), so wrappers can be stacked. Writing a masked token is an
    error.

    ``MaskablePPO`` stores a float32 mask per timestep, ``[T, N, V]``: 1.6 GB for 64 rows of 128
    tokens and a vocabulary of 50,257. For large vocabularies use the policy instead: ``LMPolicy``
    takes ``sampling=dict(banned_tokens=..., required_tokens=...)`` (:class:`textgym.lm.Sampling`),
    which stores no masks.

    Args:
        env: A text environment, from ``gymnasium.make`` or ``gymnasium.make_vec``.
        banned: Tokens that are never written: ids, strings of the vocabulary, or texts that are a
            single token.
        allowed: The only tokens that may be written, in the same form; None for all.
        mask: A function of the texts so far, int32 ``[n, L]`` padded with -1, that returns the
            allowed next tokens, bool ``[n, V]``.

    Raises:
        SettingsError: If a name is not a token, no token is left, or the environment is not a text
            environment.

    Example:
        >>> import gymnasium, textgym
        >>> from textgym.wrappers import ActionMasks
        >>> words = ["the", "cat", "sat", "<eos>"]
        >>> env = gymnasium.make("TextGen-v0", prompts=["the"], tokenizer=words)
        >>> env = ActionMasks(env, banned=["the"])
        >>> obs, info = env.reset(seed=0)
        >>> env.action_masks()
        array([False,  True,  True,  True])
    """

    _static: Mask
    _mask: MaskFunction | None
    _tokenizer: Tokenizer

    @overload
    def __new__(
        cls,
        env: VectorEnv[Any, Any, Any],
        banned: Sequence[int | str] = ...,
        allowed: Sequence[int | str] | None = ...,
        mask: MaskFunction | None = ...,
    ) -> ActionMasksVectorEnv: ...

    @overload
    def __new__(
        cls,
        env: gym.Env[Any, Any],
        banned: Sequence[int | str] = ...,
        allowed: Sequence[int | str] | None = ...,
        mask: MaskFunction | None = ...,
    ) -> ActionMasksEnv: ...

    def __new__(cls, env: Any = None, *_: Any, **__: Any) -> Any:
        """Make a wrapper of the environment's kind."""
        return new_of_kind(cls, env, ActionMasks, (ActionMasksEnv, ActionMasksVectorEnv))

    def _set_up(
        self,
        env: Any,
        banned: Sequence[int | str],
        allowed: Sequence[int | str] | None,
        mask: MaskFunction | None,
    ) -> None:
        tokenizer = getattr(env.unwrapped, "tokenizer", None)
        if not isinstance(tokenizer, Tokenizer) or not hasattr(env.unwrapped, "action_masks"):
            raise SettingsError(
                f"ActionMasks wraps text environments such as TextGen-v0, not {env}"
            )
        if env.action_space != env.unwrapped.action_space:
            raise SettingsError(
                f"ActionMasks masks tokens, but the actions of {env} are not tokens; put "
                "ActionMasks around the text environment, and the other wrapper around ActionMasks"
            )
        self._tokenizer, self._mask = tokenizer, mask
        self._static = np.ones(tokenizer.vocab_size, dtype=np.bool_)
        self._static[list(token_ids("banned", token_list("banned", banned), tokenizer))] = False
        if allowed is not None:
            chosen = token_ids("allowed", token_list("allowed", allowed), tokenizer)
            self._static &= np.isin(np.arange(tokenizer.vocab_size), chosen)

    def _check_any_allowed(self, inner: Mask) -> None:
        if not (inner & self._static).any(-1).all():
            raise SettingsError("ActionMasks: no token is left to write; allow at least one")

    def narrow(self, texts: NDArray[np.int32], inner: Mask) -> Mask:
        """The allowed next tokens after any texts.

        Args:
            texts: ``[n, L]``, padded with -1.
            inner: ``[n, V]``, the masks of the wrapped environment.

        Returns:
            ``[n, V]`` bool, a new array.

        Raises:
            SettingsError: If the mask function returns an invalid mask, or no token is allowed.
        """
        return self._masks(texts, inner, np.zeros(len(texts), dtype=np.bool_))

    def _masks(self, texts: NDArray[np.int32], inner: Mask, over: Mask) -> Mask:
        """As `narrow`, but without calling the function for rows ``[n]`` that are over."""
        masks = inner & self._static
        active = np.flatnonzero(~over)
        if self._mask is not None and len(active):
            found = np.asarray(self._mask(texts[active]))
            expected = (len(active), masks.shape[1])
            if found.shape != expected or found.dtype != np.bool_:
                raise SettingsError(
                    f"ActionMasks: the mask function returned {found.dtype} {found.shape}; return "
                    f"one bool for each text and token, {expected}"
                )
            masks[active] &= found
        empty = np.flatnonzero(~masks.any(-1) & ~over)
        if len(empty):
            text = texts[empty[0]]
            shown = self._tokenizer.decode(text[text >= 0].tolist())
            raise SettingsError(
                f"ActionMasks: row {empty[0]} may write no token after {shown!r}; "
                "allow at least one, such as eos"
            )
        return masks

    def _check(self, actions: Any, masks: Mask, over: Mask) -> None:
        """Refuse masked actions ``[n]``; the environment refuses other invalid actions."""
        try:
            array = np.asarray(actions)
        except ValueError:
            return
        if array.shape != over.shape or array.dtype.kind not in "iu":
            return
        for row in np.flatnonzero(~over).tolist():
            action = int(array[row])
            if 0 <= action < masks.shape[1] and not masks[row, action]:
                token = self._tokenizer.token(action)
                some = [self._tokenizer.token(i) for i in np.flatnonzero(masks[row])[:4].tolist()]
                raise ActionError(
                    f"row {row}: action {action} ({token!r}) is masked; choose one where "
                    f"action_masks() is True, such as {', '.join(map(repr, some))}"
                )


class ActionMasksEnv(ActionMasks, gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """:class:`ActionMasks` around a single environment."""

    def __init__(
        self,
        env: gym.Env[Any, Any],
        banned: Sequence[int | str] = (),
        allowed: Sequence[int | str] | None = None,
        mask: MaskFunction | None = None,
    ) -> None:
        RecordConstructorArgs.__init__(
            self, banned=banned, allowed=allowed, mask=mask, _disable_deepcopy=True
        )
        gym.Wrapper.__init__(self, env)
        self._set_up(env, banned, allowed, mask)
        self._text: NDArray[np.int32] | None = None
        self._over = True
        # Masks depend on the text alone, and may be requested more than once per step.
        self._cached: Mask | None = None
        self._check_any_allowed(attribute(self.env, "action_masks")())

    def action_masks(self) -> Mask:
        """The allowed tokens, bool ``[V]``; before ``reset``, without the mask function."""
        if self._cached is None:
            text = np.full((1, 0), -1, np.int32) if self._text is None else self._text[None]
            self._cached = self._masks(
                text, attribute(self.env, "action_masks")()[None], np.array([self._over])
            )[0]
        return self._cached.copy()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode; see the wrapped environment."""
        text, info = self.env.reset(seed=seed, options=options)
        self._text, self._over, self._cached = text.copy(), False, None
        return text, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Write a token.

        Raises:
            ActionError: If it is masked; nothing changes.
            SettingsError: If the mask function returns an invalid mask, or allows no token.
            TextGymError: As for the wrapped environment.
        """
        if not self._over:
            flat = np.reshape(action, -1) if np.size(action) == 1 else action
            self._check(flat, self.action_masks()[None], np.array([False]))
        text, reward, terminated, truncated, info = self.env.step(action)
        self._text, self._over, self._cached = text.copy(), terminated or truncated, None
        return text, reward, terminated, truncated, info


class ActionMasksVectorEnv(
    ActionMasks, VectorWrapper[Any, Any, Any, Any, Any], RecordConstructorArgs
):
    """:class:`ActionMasks` around a batch, in the autoreset mode of the batch."""

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        banned: Sequence[int | str] = (),
        allowed: Sequence[int | str] | None = None,
        mask: MaskFunction | None = None,
    ) -> None:
        RecordConstructorArgs.__init__(
            self, banned=banned, allowed=allowed, mask=mask, _disable_deepcopy=True
        )
        VectorWrapper.__init__(self, env)
        self._set_up(env, banned, allowed, mask)
        self._texts: NDArray[np.int32] | None = None
        self._over = np.ones(env.num_envs, dtype=np.bool_)
        self._cached: Mask | None = None
        self._restarts = env.metadata.get("autoreset_mode") is AutoresetMode.SAME_STEP
        self._check_any_allowed(attribute(self.env, "action_masks")())

    def action_masks(self) -> Mask:
        """The allowed tokens of each row, bool ``[N, V]``.

        The mask function is not called before ``reset``, nor for rows whose episode is over, since
        their action is ignored.
        """
        if self._cached is None:
            texts = self._texts
            if texts is None:
                texts = np.full((self.num_envs, 0), -1, np.int32)
            self._cached = self._masks(texts, attribute(self.env, "action_masks")(), self._over)
        return self._cached.copy()

    def get_state(self) -> dict[str, Any]:
        """The state of this wrapper alone; see :mod:`textgym.sb3.checkpoints.env_state`."""
        texts = None if self._texts is None else self._texts.copy()
        return {"texts": texts, "over": self._over.copy(), "static": self._static.copy()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state of `get_state`; mask functions are not compared.

        Raises:
            SettingsError: If other tokens were banned or allowed; nothing changes.
        """
        if not np.array_equal(state["static"], self._static):
            raise SettingsError(
                "the state is of ActionMasks with other tokens; ban and allow the same ones"
            )
        texts = state["texts"]
        self._texts = None if texts is None else np.array(texts, np.int32)
        self._over, self._cached = np.array(state["over"], np.bool_), None

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Start episodes; see the wrapped environment."""
        texts, infos = self.env.reset(seed=seed, options=options)
        mask = None if options is None else options.get("reset_mask")
        self._over[slice(None) if mask is None else mask] = False
        self._texts, self._cached = texts.copy(), None
        return texts, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Write a token in each row.

        Raises:
            ActionError: If one is masked; nothing changes.
            SettingsError: If the mask function returns an invalid mask, or allows no token.
            TextGymError: As for the wrapped environment.
        """
        if not self._over.all():
            self._check(actions, self.action_masks(), self._over)
        texts, rewards, terminated, truncated, infos = self.env.step(actions)
        over = terminated | truncated
        self._over = np.zeros_like(over) if self._restarts else over
        self._texts, self._cached = texts.copy(), None
        return texts, rewards, terminated, truncated, infos

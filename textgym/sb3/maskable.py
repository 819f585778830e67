"""Policy and rollout buffer for sb3-contrib's MaskablePPO on a language model.

MaskablePPO (Huang and Ontañón 2020, https://arxiv.org/abs/2006.14171) runs unmodified::

    from sb3_contrib import MaskablePPO
    from textgym.sb3.maskable import MaskableLMPolicy, MaskableLMRolloutBuffer

    venv = make_vec_env("TextGen-v0", n_envs=64, wrapper=partial(ActionMasks, mask=my_mask))
    model = MaskablePPO(MaskableLMPolicy, venv, rollout_buffer_class=MaskableLMRolloutBuffer)

A mask restricts the support of the distribution, like top-k and top-p. So the update gets masks as
:class:`textgym.lm.KeptSets`: log-probabilities, entropies and the KL to a reference are those of
the masked distribution. With top-k or top-p, the mask is applied first, and the recorded support is
a subset of it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor

from textgym.data.observations import split_observation
from textgym.errors import SettingsError, require
from textgym.lm.sampling.decision import Decision
from textgym.lm.sampling.kept_sets import KeptSets
from textgym.lm.scoring import MAX_LOGITS, SequenceBatch
from textgym.rollouts.fragments import Ints
from textgym.sb3.buffer import LMRolloutBuffer
from textgym.sb3.policy import LMPolicy

require("sb3_contrib", "contrib")
from sb3_contrib.common.maskable.buffers import (  # noqa: E402
    MaskableRolloutBuffer,
    MaskableRolloutBufferSamples,
)
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy  # noqa: E402

Masks = np.ndarray | Tensor


class MaskableLMPolicy(LMPolicy):
    """:class:`textgym.sb3.LMPolicy` with action masks: ``[B, V]``, True where a token is allowed.

    The arguments are those of ``LMPolicy``. Tokens that are not allowed have probability 0.
    """

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        # Masks have an effect even if the settings have none.
        self.sampler.plain = False
        self._masks: Tensor | None = None

    def forward(
        self,
        obs: Tensor | Mapping[str, Tensor],
        deterministic: bool = False,
        action_masks: Masks | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Act with action masks ``[B, V]``; see ``LMPolicy.forward``.

        Raises:
            SettingsError: If a mask allows no token, or there is not one for each observation.
        """
        with self._within(action_masks):
            return super().forward(obs, deterministic)

    def evaluate_actions(
        self,
        obs: Tensor | Mapping[str, Tensor] | SequenceBatch,
        actions: Tensor,
        kept: KeptSets | None = None,
        action_masks: Masks | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Evaluate actions with masks ``[n, V]``; see ``LMPolicy.evaluate_actions``.

        Sequences from :class:`MaskableLMRolloutBuffer` include their masks.

        Raises:
            SettingsError: If top-k or top-p is on, and the support is not known.
        """
        if kept is None and action_masks is not None:
            # With top-k, the support is smaller than the mask.
            self.sampler.check_recorded(None)
            bits = _as_bits(action_masks, self.lm.vocab_size)
            kept = _as_sets(bits, self.lm.vocab_size).to(self.device)
        return super().evaluate_actions(obs, actions, kept)

    def get_distribution(
        self,
        obs: Tensor | Mapping[str, Tensor] | SequenceBatch,
        action_masks: Masks | None = None,
    ) -> Distribution:
        """The masked distribution over tokens; see ``LMPolicy.get_distribution``."""
        if action_masks is None or isinstance(obs, SequenceBatch):
            return super().get_distribution(obs)
        texts, _ = split_observation(obs)
        logits = self.lm.logits(self._hidden(obs))
        logits = logits.masked_fill(~self._checked(action_masks, len(logits)), -torch.inf)
        logits = self.sampler.process(logits, texts)
        kept = self.sampler.kept(logits)
        if kept is not None:
            logits = logits.masked_fill(~kept.mask(), -torch.inf)
        return self.action_dist.proba_distribution(logits)

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: Masks | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Predict with action masks ``[B, V]``.

        Raises:
            SettingsError: If a mask allows no token, or there is not one for each observation.
        """
        with self._within(action_masks):
            return super().predict(observation, state, episode_start, deterministic)

    @contextmanager
    def _within(self, action_masks: Masks | None) -> Iterator[None]:
        """Store masks for `_draw`, to which the methods of ``LMPolicy`` do not pass them."""
        self._masks = None if action_masks is None else self._checked(action_masks)
        try:
            yield
        finally:
            self._masks = None

    def _checked(self, action_masks: Masks, count: int | None = None) -> Tensor:
        """Masks as bool ``[B, V]`` on the policy's device."""
        masks = torch.as_tensor(action_masks, device=self.device).bool()
        masks = masks.reshape(-1, self.lm.vocab_size)
        if count is not None and len(masks) != count:
            raise SettingsError(
                f"action_masks has {len(masks)} rows for {count} observations; give one for each: "
                "np.stack(venv.env_method('action_masks'))"
            )
        return masks

    def _draw(
        self, hidden: Tensor, obs: Tensor, deterministic: bool
    ) -> tuple[Tensor, Tensor, KeptSets | None]:
        if self._masks is None:
            return super()._draw(hidden, obs, deterministic)
        masks = self._checked(self._masks, len(hidden))
        with torch.no_grad():
            step = max(1, MAX_LOGITS // self.lm.vocab_size)
            pieces = [slice(at, at + step) for at in range(0, len(hidden), step)]
            parts = [
                self._draw_masked(hidden[some], obs[some], masks[some], deterministic)
                for some in pieces
            ]
        actions, log_probs, kept = zip(*parts, strict=True)
        sets = None if kept[0] is None else KeptSets.join(kept)
        if sets is None and torch.is_grad_enabled():
            # Evaluated again with gradients. In a rollout, the buffer gets the masks directly.
            bits = _as_bits(masks, self.lm.vocab_size)
            sets = _as_sets(bits, self.lm.vocab_size).to(self.device)
        return torch.cat(actions), torch.cat(log_probs), sets

    def _draw_masked(
        self, hidden: Tensor, texts: Tensor, masks: Tensor, deterministic: bool
    ) -> tuple[Tensor, Tensor, KeptSets | None]:
        logits = self.lm.logits(hidden).masked_fill_(~masks, -torch.inf)
        possible = masks
        if self.sampler.banned or self.sampler.required:
            possible = self.sampler.process(logits, texts) > -torch.inf
        if not bool(possible.any(-1).all()):
            raise SettingsError(
                "action_masks: a mask allows no token, together with the sampling's banned_tokens "
                "and required_tokens; allow at least one, such as eos"
            )
        return self.sampler.sample(logits, texts, deterministic)


class MaskableLMRolloutBuffer(LMRolloutBuffer):
    """:class:`textgym.sb3.LMRolloutBuffer` that also stores action masks.

    The arguments are those of ``LMRolloutBuffer``. Each distinct mask is stored once, as bits;
    sb3-contrib's buffer stores 4 bytes per token of the vocabulary and step.
    """

    _waiting_columns = (*LMRolloutBuffer._waiting_columns, "_mask")
    _numbers: dict[bytes, int]

    def reset(self) -> None:
        """Empty the buffer."""
        super().reset()
        assert isinstance(self.action_space, spaces.Discrete)
        self._vocab_size = int(self.action_space.n)
        self._mask = np.zeros((self.buffer_size, self.n_envs), dtype=np.int64)
        # The bits of each mask, in the order of their numbers; unfinished episodes keep theirs.
        known = list(self._numbers) if self._before is not None else []
        self._numbers = {}
        if self._before is not None:
            used, numbers = np.unique(self._before.columns["_mask"], return_inverse=True)
            self._numbers = {known[number]: place for place, number in enumerate(used)}
            self._before.columns["_mask"][:] = numbers.reshape(self._before.there.shape)
        self._bits = np.zeros((0, -(-self._vocab_size // 8)), dtype=np.uint8)

    @property
    def action_masks(self) -> NDArray[np.bool_]:
        """The masks ``[T, N, V]``; float32 in sb3-contrib's buffer, bool here."""
        bits = self._distinct()[self._mask]
        return np.unpackbits(bits, -1, self._vocab_size, bitorder="little").astype(np.bool_)

    def add(
        self,
        obs: np.ndarray | dict[str, np.ndarray],
        action: np.ndarray,
        reward: np.ndarray,
        episode_start: np.ndarray,
        value: Tensor,
        log_prob: Tensor,
        action_masks: Masks | None = None,
    ) -> None:
        """Add one timestep; see ``LMRolloutBuffer``.

        Args:
            obs: As in ``LMRolloutBuffer.add``, like the others.
            action: See `obs`.
            reward: See `obs`.
            episode_start: See `obs`.
            value: See `obs`.
            log_prob: See `obs`.
            action_masks: ``[N, V]``, True for the allowed tokens; None for all.

        Raises:
            SettingsError: If `log_prob` is not the tensor that the policy returned.
        """
        if Decision.of(log_prob) is None:
            raise SettingsError(
                "MaskableLMRolloutBuffer: log_prob has no record of the sampling; use "
                "MaskableLMPolicy, and pass its tensor of log-probabilities, not a copy"
            )
        if action_masks is None:
            action_masks = np.ones((self.n_envs, self._vocab_size), dtype=np.bool_)
        self._mask[self.pos] = [
            self._numbers.setdefault(mask.tobytes(), len(self._numbers))
            for mask in _as_bits(action_masks, self._vocab_size)
        ]
        super().add(obs, action, reward, episode_start, value, log_prob)

    def get(self, batch_size: int | None = None) -> Generator[Any, None, None]:
        """Yield every decision once, in minibatches of whole sequences; see ``LMRolloutBuffer``.

        Yields:
            sb3-contrib's samples. Their ``action_masks`` are None: the sequences include them.
        """
        for samples in super().get(batch_size):
            yield MaskableRolloutBufferSamples(*samples, None)  # type: ignore[arg-type]

    def waiting_state(self) -> dict[str, Any] | None:
        """The unfinished episodes, for a checkpoint."""
        state = super().waiting_state()
        return None if state is None else {**state, "masks": self._distinct()}

    def set_waiting_state(self, state: dict[str, Any] | None) -> None:
        """Empty the buffer, and restore unfinished episodes, which the next rollout continues."""
        masks = () if state is None else np.asarray(state["masks"])
        self._numbers = {mask.tobytes(): number for number, mask in enumerate(masks)}
        super().set_waiting_state(state)

    def _join(self) -> None:
        super()._join()
        self._bits = self._distinct()
        self._flat_mask = self._all("_mask").reshape(-1)

    def _distinct(self) -> NDArray[np.uint8]:
        """The bits of all distinct masks."""
        bits = np.frombuffer(b"".join(self._numbers), np.uint8)
        return bits.reshape(len(self._numbers), -1).copy()

    def _sequences(self, fragments: Ints) -> tuple[SequenceBatch, Ints]:
        batch, which = super()._sequences(fragments)
        assert self._decision is not None
        if not self._decision.sampler.truncates:
            bits = self._bits[self._flat_mask[which]]
            batch = batch._replace(kept=_as_sets(bits, self._vocab_size))
        return batch, which


# MaskablePPO checks for these classes; ours have their interface, but derive from LMPolicy.
MaskableActorCriticPolicy.register(MaskableLMPolicy)
MaskableRolloutBuffer.register(MaskableLMRolloutBuffer)


def _as_bits(masks: Masks, vocab_size: int) -> NDArray[np.uint8]:
    """Masks ``[n, V]`` as bits ``[n, ceil(V / 8)]``, lowest first."""
    array = masks.cpu().numpy() if isinstance(masks, Tensor) else masks
    array = np.asarray(array, dtype=np.bool_).reshape(-1, vocab_size)
    return np.packbits(array, axis=1, bitorder="little")


def _as_sets(bits: NDArray[np.uint8], vocab_size: int) -> KeptSets:
    """Bits ``[n, ceil(V / 8)]`` as sets of tokens."""
    none = torch.zeros(0, dtype=torch.int32)
    counts = torch.full((len(bits),), -1, dtype=torch.long)
    return KeptSets(vocab_size, counts, none, torch.from_numpy(bits))

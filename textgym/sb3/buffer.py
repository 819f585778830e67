"""A rollout buffer of whole sequences for Stable-Baselines3's PPO and A2C.

SB3's own buffer has a row per timestep, with the whole text so far in it: T tokens of a response
take T texts of memory and T forward passes. This one stores each token once and yields minibatches
of whole sequences, in which all decisions of a text share one forward pass. Losses and gradients
are the same: a loss is a mean over decisions, however they were computed.

A minibatch is a random set of fragments. They are not sorted by length, although that would save
padding: in a batch of short texts, advantages would be normalised among short texts, and the
difference between short and long ones would be lost. Padding is saved within the batch instead
(:func:`textgym.lm.scoring.sequence_hidden`).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer, RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor

from textgym.data.observations import split_observation, text_view
from textgym.errors import SettingsError
from textgym.lm.kl import KLPenalty
from textgym.lm.sampling.decision import Decision
from textgym.lm.sampling.kept_sets import KeptSets
from textgym.lm.scoring import SequenceBatch
from textgym.rollouts.fragments import FragmentStore, Ints, deal
from textgym.sb3.compatibility import FOR_ROLLOUTS, refuse_arguments
from textgym.sb3.unfinished import Unfinished, finished

# Decisions that the reference model scores at once.
_KL_CHUNK = 4096
# Share of a rollout's decisions that whole episodes must have, to be yielded alone.
_ENOUGH = 0.5


class LMRolloutBuffer(RolloutBuffer):
    """Stores texts once, yields whole sequences, and subtracts a KL penalty from the rewards.

    It is for :class:`textgym.sb3.LMPolicy`: SB3's other policies cannot read a
    :class:`SequenceBatch`, and are refused in the first step.

    With each token it stores the set that top-k and top-p kept when it was drawn (see
    :class:`textgym.lm.Sampling`), so that updates and the KL to the reference use the distribution
    that the token was drawn from.

    ``batch_size`` is approximate: a text is never split, and minibatches are balanced in decisions.

    A rollout ends in the middle of most rows' episodes. SB3 trains on the first part of such an
    episode at once, and bootstraps the reward at its end from the value function. So does this
    buffer, unless `whole_episodes` is true. Then all decisions of an episode are yielded by the
    rollout in which it ends, with the rewards that were paid. Decisions of earlier rollouts have
    the log-probabilities of the policy that drew them, so that PPO's ratio accounts for the updates
    since then; A2C, which has no ratio, takes them as they are. Rollouts about as long as an
    episode, or longer, are best. Where the decisions of whole episodes are fewer than half of the
    rollout's, everything is yielded as without the option: episodes that end early are not typical,
    and an update on a few of them does harm.

    SB3 saves an algorithm without its buffer, but with ``rollout_buffer_kwargs``. The callback
    :class:`textgym.sb3.Checkpoints`, or :func:`textgym.sb3.keep_kl_coef` before ``model.save``,
    stores an adapted coefficient there. Without them, do it by hand::

        model.rollout_buffer_kwargs["kl_coef"] = model.rollout_buffer.kl.coef

    Args:
        buffer_size: Timesteps T per rollout.
        observation_space: The environment's.
        action_space: The environment's.
        device: Device of the minibatches and of the reference model.
        gae_lambda: Lambda of generalised advantage estimation.
        gamma: Discount.
        n_envs: Number of environments N.
        kl_coef: Coefficient of the per-token penalty (see :class:`textgym.lm.kl.KLPenalty`);
            with 0 the KL is only measured.
        kl_target: Mean KL per token that the coefficient adapts to; None keeps it fixed.
        reference: Name or path of the reference model, or ``"base"``: the policy's own model with
            its adapter switched off (``policy_kwargs=dict(lora=...)``), without a second copy.
        reference_dtype: Dtype of the reference's weights; ``"auto"`` is float32 on a CPU and
            bfloat16 on a GPU that has it.
        whole_episodes: Yield decisions when their episode is over, however many rollouts later.
        **others: Arguments of other buffers, which are refused with an alternative.

    Attributes:
        kl: The penalty, with its current coefficient ``kl.coef``; None without a reference.
        stats: Figures of the last rollout, for logs: ``kl`` (mean nats per token that is yielded),
            ``kl_coef`` (of this rollout), ``kl_penalty`` (mean per token) and ``task_reward`` (mean
            per token, without the penalty). Empty without a reference.
        task_rewards: ``[T, N]`` rewards before the penalty, once advantages are estimated.
        waiting_kl_scale: Factor of the penalty of decisions of earlier rollouts, for algorithms
            that scale the rewards of a rollout when it is over.

    Raises:
        SettingsError: If the arguments of the penalty contradict each other.
        ModelError: If the reference cannot be loaded or does not fit the environment.
    """

    task_rewards: np.ndarray
    waiting_kl_scale: float = 1.0
    _waiting_columns: tuple[str, ...] = (
        "actions", "rewards", "values", "log_probs", "_fragment", "_length",
    )  # fmt: skip
    """The columns that are stored of decisions that wait for the end of their episode."""

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device | str = "auto",
        gae_lambda: float = 1,
        gamma: float = 0.99,
        n_envs: int = 1,
        kl_coef: float = 0.0,
        kl_target: float | None = None,
        reference: str | None = None,
        reference_dtype: str = "auto",
        whole_episodes: bool = False,
        **others: Any,
    ) -> None:
        refuse_arguments(LMRolloutBuffer, others, FOR_ROLLOUTS)
        view = text_view(observation_space)
        if view is None:
            raise SettingsError(
                f"LMRolloutBuffer stores token ids [L] and pictures, but the observations are "
                f"{observation_space}; use SB3's RolloutBuffer for this environment"
            )
        self.stats: dict[str, float] = {}
        self.whole_episodes = whole_episodes
        self._before: Unfinished | None = None
        self._waits: np.ndarray | None = None
        self._begun = False
        self._fragments = FragmentStore(n_envs, view.width, view.image_shape)
        super().__init__(
            buffer_size, observation_space, action_space, device, gae_lambda, gamma, n_envs
        )
        self._begun = False
        self.kl: KLPenalty | None = None
        if reference is not None:
            self.kl = KLPenalty(kl_coef, kl_target, reference, self.device, reference_dtype)
        elif kl_coef or kl_target is not None:
            raise SettingsError(
                f"kl_coef is {kl_coef} and kl_target {kl_target}, but there is no reference model; "
                "give reference=NAME_OR_PATH, usually the policy's own lm"
            )
        if self.kl is not None and self.kl.model is not None:
            assert isinstance(action_space, spaces.Discrete)
            tokenizer_hash = getattr(action_space, "tokenizer_hash", None)
            self.kl.model.check_fits(view.width, int(action_space.n), tokenizer_hash)

    def reset(self) -> None:
        """Empty the buffer, except for decisions that wait for the end of their episode."""
        # A rollout that was begun and is still empty was ended in its first step, which was not
        # added.
        self._before = None if self._begun and self.pos == 0 else self.unfinished()
        self._begun = True
        self._waits = None
        shape = (self.buffer_size, self.n_envs)
        self.actions = np.zeros((*shape, self.action_dim), dtype=np.int64)
        for name in ("rewards", "returns", "episode_starts", "values", "log_probs", "advantages"):
            setattr(self, name, np.zeros(shape, dtype=np.float32))
        self._fragment = np.zeros(shape, dtype=np.int64)
        self._length = np.zeros(shape, dtype=np.int64)
        if self._before is None:
            self._fragments.clear()
        else:
            waiting = self._before
            self._fragments.start_with(waiting.tokens, waiting.images, waiting.current)
        self._decision: Decision | None = None
        self._sets: list[KeptSets] = []
        self._kept: KeptSets | None = None
        self.generator_ready = False
        self._charged = False
        BaseBuffer.reset(self)

    @property
    def observations(self) -> Any:  # type: ignore[override]
        """The observations ``[T, N, L]`` int32, put together from the fragments.

        With pictures they are a dictionary of ``tokens`` and ``image``.
        """
        texts = self._fragments.tokens[self._fragment]
        written = np.arange(texts.shape[-1]) < self._length[..., None]
        tokens = np.where(written, texts, -1)
        images = self._fragments.images
        return tokens if images is None else {"tokens": tokens, "image": images[self._fragment]}

    def add(
        self,
        obs: np.ndarray | dict[str, np.ndarray],
        action: np.ndarray,
        reward: np.ndarray,
        episode_start: np.ndarray,
        value: Tensor,
        log_prob: Tensor,
    ) -> None:
        """Add one timestep of all environments (as in SB3).

        Args:
            obs: ``[N, L]`` token ids, or a dictionary of them and of pictures.
            action: ``[N]`` or ``[N, 1]``.
            reward: ``[N]``.
            episode_start: ``[N]``, whether ``obs`` begins an episode.
            value: ``[N, 1]``.
            log_prob: ``[N]``, the tensor that the policy returned, with its
                :class:`textgym.lm.Decision`.

        Raises:
            SettingsError: If the log-probabilities are not those that the policy returned.
        """
        at = self.pos
        self._decision = Decision.of(log_prob)
        if self._decision is None:
            raise SettingsError(
                f"{type(self).__name__} is for LMPolicy, and these log-probabilities came without "
                "its record of how tokens were drawn; use LMPolicy, and pass its tensor itself, "
                "not a copy; with another policy leave rollout_buffer_class out"
            )
        if self._decision.kept is not None:
            self._sets.append(self._decision.kept.to("cpu"))
        starts = np.asarray(episode_start, dtype=bool)
        tokens, images = split_observation(obs)
        self._fragment[at], self._length[at] = self._fragments.add(tokens, starts, images)
        self.actions[at] = np.asarray(action).reshape(self.n_envs, self.action_dim)
        self.rewards[at] = reward
        self.episode_starts[at] = episode_start
        self.values[at] = value.detach().cpu().numpy().flatten()
        self.log_probs[at] = log_prob.detach().cpu().numpy().flatten()
        self.pos += 1
        self.full = self.pos == self.buffer_size

    def compute_returns_and_advantage(self, last_values: Tensor, dones: np.ndarray) -> None:
        """Subtract the KL penalty, then estimate advantages and returns (as in SB3).

        The penalty of a decision is subtracted once, in the rollout that yields it. A callback that
        changes ``rewards`` afterwards may call this again, to repeat the estimate.
        """
        if not self._charged:
            self._charged = True
            self._join()
            self._select(np.asarray(dones, dtype=bool))
            self.task_rewards = self.rewards.copy()
            if self.kl is not None:
                self._charge(self.kl)
        super().compute_returns_and_advantage(last_values, dones)
        if (waited := self._before) is not None:
            first = (self.advantages[0], self.values[0])
            self._waited = waited.advantages(*first, self.gamma, self.gae_lambda)

    def unfinished(self) -> Unfinished | None:
        """The decisions that wait for the end of their episode.

        None without `whole_episodes`, if all episodes are over, or after a rollout that a callback
        ended, since the rest of its episodes is not known.
        """
        if not self.whole_episodes:
            return None
        if not self.full:
            return self._before if self.pos == 0 else None
        if self._waits is None:  # Interrupted before the advantages were estimated.
            return None
        columns = {name: self._all(name) for name in self._waiting_columns}
        texts = self._fragments
        return Unfinished.of(self._waits, columns, self._kept, texts.tokens, texts.images)

    def waiting_state(self) -> dict[str, Any] | None:
        """The result of `unfinished`, as a checkpoint holds it."""
        unfinished = self.unfinished()
        return None if unfinished is None else unfinished.state()

    def set_waiting_state(self, state: dict[str, Any] | None) -> None:
        """Empty the buffer, and let the next rollout continue the episodes of another one."""
        self.pos, self.full, self._begun = 0, False, False
        self._before = None if state is None else Unfinished.of_state(state)
        self.reset()
        self._begun = False

    def get(self, batch_size: int | None = None) -> Generator[RolloutBufferSamples, None, None]:
        """Yield every decision once, in minibatches of whole sequences.

        Args:
            batch_size: About this many decisions each; None is everything at once.

        Yields:
            SB3's samples: flat vectors of the ``n`` decisions, and a :class:`SequenceBatch` as
            ``observations``.
        """
        assert self.full, "the rollout is not complete"
        actions = self._all("actions").reshape(-1, self.action_dim)
        values, log_probs = (self._all(name).reshape(-1) for name in ("values", "log_probs"))
        advantages, returns = self.advantages.reshape(-1), self.returns.reshape(-1)
        if self._before is not None:
            waited = self._waited.reshape(-1)
            advantages = np.r_[waited, advantages]
            returns = np.r_[waited + values[: len(waited)], returns]
        columns = (values, log_probs, advantages, returns)
        batches = 1 if batch_size is None else max(1, round(len(self._decisions) / batch_size))
        for fragments in deal(self._counts, batches):
            batch, which = self._sequences(fragments)
            yield RolloutBufferSamples(
                batch.to(self.device),  # type: ignore[arg-type]
                self.to_torch(actions[which]),
                *(self.to_torch(column[which]) for column in columns),
            )

    def _all(self, name: str) -> np.ndarray:
        """A column of all decisions, starting with those that waited: ``[C + T, N, ...]``."""
        column: np.ndarray = getattr(self, name)
        return column if self._before is None else np.r_[self._before.columns[name], column]

    def _join(self) -> None:
        """Put the decisions that waited before those of the rollout, and choose the latter."""
        # Incomplete if the log-probabilities were copies, without the record: then scoring refuses.
        before = self._before
        complete = len(self._sets) == self.buffer_size
        complete &= before is None or before.kept is not None
        sets = [] if before is None or before.kept is None else [before.kept]
        self._kept = KeptSets.join([*sets, *self._sets]) if complete else None
        self._sets = []
        texts, images = self._fragments.tokens, self._fragments.images
        self._texts = SequenceBatch(
            torch.from_numpy(texts),
            torch.from_numpy(self._all("_fragment").reshape(-1)),
            torch.from_numpy(self._all("_length").reshape(-1) - 1),
            self._kept,
            None if images is None else torch.from_numpy(images),
        )

    def _choose(self, chosen: np.ndarray) -> None:
        """List the chosen decisions of each fragment, in the order of time.

        Args:
            chosen: bool for each decision, including those that waited.
        """
        which = np.flatnonzero(chosen)
        fragments = self._texts.rows.numpy()[which]
        # An observation grows with each decision.
        self._decisions = which[np.lexsort((self._texts.positions.numpy()[which], fragments))]
        self._counts = np.bincount(fragments, minlength=len(self._fragments.tokens))
        self._stops = self._counts.cumsum()

    def _select(self, dones: np.ndarray) -> None:
        """Choose the decisions that are yielded."""
        starts = self.episode_starts.astype(bool)
        over, there = finished(starts, dones), np.ones_like(starts)
        if (waited := self._before) is not None:
            # A row that was reset between the rollouts never ends its episode.
            known = waited.there & ~starts[0]
            over, there = np.r_[known & over[0], over], np.r_[known, there]
        # Those that end first are the short ones: an update on a few of them teaches to stop early.
        if not self.whole_episodes or over.sum() < max(2, _ENOUGH * starts.size):
            over = there
        self._waits = there & ~over
        self._choose(over.reshape(-1))

    def _sequences(self, fragments: Ints) -> tuple[SequenceBatch, Ints]:
        """The texts of some fragments, and the flat indices ``[n]`` of their decisions."""
        stops = self._stops[fragments]
        spans = zip(stops - self._counts[fragments], stops, strict=True)
        which = np.concatenate([self._decisions[first:stop] for first, stop in spans])
        return self._texts.take(torch.from_numpy(fragments), torch.from_numpy(which)), which

    def _charge(self, kl: KLPenalty) -> None:
        """Subtract the penalty of the chosen decisions, in a few passes of the reference model.

        A decision that waits is charged when its episode is over: then all decisions of a text
        share one pass.
        """
        actions = self._all("actions").reshape(-1)
        log_probs = self._all("log_probs").reshape(-1)
        ratios = np.zeros(len(actions), dtype=np.float32)
        decision = self._decision
        assert decision is not None, "add() refuses log-probabilities without the record"
        known = np.flatnonzero(self._counts)
        passes = (self._stops[known] - 1) // _KL_CHUNK
        for fragments in np.split(known, np.flatnonzero(np.diff(passes)) + 1):
            batch, which = self._sequences(fragments)
            parts = torch.from_numpy(actions[which]), torch.from_numpy(log_probs[which])
            ratios[which] = kl.log_ratios(batch, *parts, decision.sampler, decision.lm).numpy()
        coef = kl.coef
        mean = kl.adapt(ratios[self._decisions])
        penalties = np.float32(coef) * ratios.reshape(-1, self.n_envs)
        self.rewards = self.task_rewards - penalties[-self.buffer_size :]
        if self._before is not None:
            own = penalties[: -self.buffer_size] * np.float32(self.waiting_kl_scale)
            self._before.columns["rewards"][...] -= own
        self.stats = {
            "kl": mean,
            "kl_coef": coef,
            "kl_penalty": coef * mean,
            "task_reward": float(self.task_rewards.mean()),
        }

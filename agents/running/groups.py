"""Groups of responses to one prompt: the rollout that GRPO and RLOO share.

Both compare a response with others to the same prompt, so they need no value function, but whole
episodes, and rows of the batch end at different times. So each row writes `n_episodes` responses,
no more and no fewer, and the rollout is over with the last of them:

* Which episodes count does not depend on how long they are. A rollout of so many steps, as
  Stable-Baselines3 makes them, cuts texts in two: to drop these, and with them their groups, would
  favour short texts; to end them after the update would mix two policies in one text.
* All tokens are from the present weights, so the probability ratio starts at 1.
* A row that has written its share rests: it shows the model the text that it has just read, of
  which nothing is to be computed anew (:class:`textgym.lm.decoding.MemoDecoder`). The environment
  has to step on: it gets a filler token, and what comes of it is seen neither by the algorithm nor
  by callbacks. With one episode a row, no filler text lives long enough to be judged, unless the
  filler is a stop string. Rest counts as timesteps; ``rollout/writing`` is the share of the others.
* A rollout begins with a reset, which brings the rows of a group to one prompt again. No text is
  under way then, so none is lost.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from agents.running.training import PolicyGradientSettings
from agents.running.validation import at_least, cut_off
from textgym.data.observations import split_observation
from textgym.errors import SettingsError
from textgym.lm.kl import KLPenalty
from textgym.lm.sampling.decision import Decision
from textgym.lm.sampling.kept_sets import KeptSets
from textgym.lm.scoring import SequenceBatch
from textgym.sb3 import LMPolicy, LMRolloutBuffer

Floats = NDArray[np.float64]

# About so many tokens the reference model scores at once.
_CHUNK = 4096


@dataclass
class GroupSettings(PolicyGradientSettings):
    """Settings of the agents that compare the responses to one prompt."""

    group_size: int = 8
    """Responses to each prompt that are compared: so many neighbouring rows share their prompts."""
    n_episodes: int = 1
    """Responses of each row in a rollout: an update sees n_episodes * n_envs."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""

    def __post_init__(self) -> None:
        """Refuse impossible numbers."""
        super().__post_init__()
        at_least(2, group_size=self.group_size)
        at_least(1, n_episodes=self.n_episodes)

    @property
    def train_kwargs(self) -> dict[str, Any]:
        """Arguments of the training environment alone: an evaluation has a prompt for each row."""
        return {"group_size": self.group_size}

    def arguments(self, lm: str) -> dict[str, Any]:
        """What a `GroupAlgorithm` is made with.

        Args:
            lm: The language model to train, from which the KL divergence is measured.
        """
        return {
            "learning_rate": self.lr,
            "group_size": self.group_size,
            "n_episodes": self.n_episodes,
            "max_grad_norm": self.max_grad_norm,
            "policy_kwargs": {"lm": lm},
            "rollout_buffer_kwargs": self.penalty(lm),
            "device": self.device,
        }


class Minibatch(NamedTuple):
    """The n tokens of m whole episodes.

    Attributes:
        sequences: The texts, and where in them the tokens were chosen.
        actions: ``[n]`` int64, the tokens.
        log_probs: ``[n]``, log-probabilities when they were written.
        reference: ``[n]``, those of the reference model; None without one.
        episodes: ``[n]`` int64, the episode of each token: 0 to m - 1.
        advantages: ``[m]``, of each episode.
    """

    sequences: SequenceBatch
    actions: Tensor
    log_probs: Tensor
    reference: Tensor | None
    episodes: Tensor
    advantages: Tensor


class GroupBuffer(LMRolloutBuffer):
    """A rollout of whole episodes: E of each of N rows, in lists instead of a grid of steps.

    Args:
        *args: As in :class:`textgym.sb3.LMRolloutBuffer`; the size is the most steps there can be.
        group_size: Neighbouring rows that share their prompts, G.
        n_episodes: Episodes of each row, E.
        **kwargs: As in :class:`textgym.sb3.LMRolloutBuffer`: the KL penalty.

    Attributes:
        kl_coef: The coefficient of the KL in this rollout; that of the next one is ``kl.coef``.
        returns: ``[E, N]`` float64, the sum of each episode's rewards.
        divergences: ``[E, N]`` float64, the sum of ``log pi - log ref`` over each one's tokens.
        advantages: ``[E, N]`` float64, set by the algorithm.
        stats: What a callback may log about the rollout.

    Raises:
        SettingsError: If there are no groups of this size.
    """

    def __init__(self, *args: Any, group_size: int = 2, n_episodes: int = 1, **kwargs: Any) -> None:
        self.group_size = group_size
        self.n_episodes = n_episodes
        super().__init__(*args, **kwargs)
        if group_size < 2 or self.n_envs % group_size:
            raise SettingsError(
                f"group_size={group_size} has to be at least 2, as a response is compared with "
                f"others to its prompt, and to divide n_envs={self.n_envs}, the number of rows"
            )
        if n_episodes < 1:
            raise SettingsError(f"n_episodes={n_episodes} has to be at least 1")

    def reset(self) -> None:
        """Empty the buffer."""
        super().reset()
        self._steps: list[tuple[NDArray[Any], ...]] = []

    def add_step(
        self,
        obs: Any,
        actions: NDArray[Any],
        rewards: NDArray[Any],
        finished: NDArray[np.int64],
        starts: NDArray[np.bool_],
        log_probs: Tensor,
    ) -> None:
        """Add a step.

        Args:
            obs: What the policy saw, ``[N, L]``, or a dictionary of that and of pictures.
            actions: ``[N]``.
            rewards: ``[N]``.
            finished: ``[N]``, the episodes that each row had finished before; a row with
                `n_episodes` of them rests, and nothing of it is kept.
            starts: ``[N]``, whether ``obs`` begins an episode.
            log_probs: ``[N]``, the tensor that the policy returned.
        """
        tokens, images = split_observation(obs)
        fragments, lengths = self._fragments.add(tokens, starts, images)
        rows = np.flatnonzero(finished < self.n_episodes)
        columns = (fragments, lengths, actions, rewards, log_probs.cpu().numpy())
        episodes = finished[rows] * self.n_envs + rows
        self._steps.append((episodes, *(column[rows] for column in columns)))
        self._decision = Decision.of(log_probs)
        if self._decision is not None and self._decision.kept is not None:
            self._sets.append(self._decision.kept.to("cpu").take(torch.from_numpy(rows)))
        self.pos += 1

    def finish(self) -> None:
        """Add up the returns of all episodes, which are complete, and ask the reference."""
        columns = [np.concatenate(column) for column in zip(*self._steps, strict=True)]
        self._episode, self._fragment, self._length, self._action, rewards, self._log_prob = columns
        self._kept = KeptSets.join(self._sets) if self._sets else None
        # Where the tokens of each episode are, in the order of time.
        order, stops = self._episode.argsort(kind="stable"), np.bincount(self._episode).cumsum()
        self._places = np.split(order, stops[:-1])
        self.returns = self._sums(rewards)
        grouped = self.groups(self.returns)
        self.stats = {
            "writing": len(rewards) / (self.pos * self.n_envs),
            "tied_groups": float((grouped == grouped[..., :1]).all(-1).mean()),
        }
        self._log_ratio = np.zeros(len(rewards), dtype=np.float32)
        self.kl_coef = 0.0
        if self.kl is not None:
            self.kl_coef = self.kl.coef
            self._compare(self.kl)
            self.stats["kl"] = self.kl.adapt(self._log_ratio)
            self.stats["kl_coef"] = self.kl_coef
        self.divergences = self._sums(self._log_ratio)
        self.pos, self.full = self.buffer_size, True  # Complete, however few its steps were.

    def groups(self, values: Floats) -> Floats:
        """Values of the episodes ``[E, N]`` by groups ``[E, N / G, G]``."""
        return values.reshape(self.n_episodes, -1, self.group_size)

    def minibatches(self, count: int) -> Iterator[Minibatch]:
        """Deal the episodes out at random, each once.

        Args:
            count: Number of minibatches; they differ by one episode at most.
        """
        episodes = np.random.permutation(self.n_episodes * self.n_envs)
        for chosen in np.array_split(episodes, min(count, len(episodes))):
            batch, which, owners = self._texts_of(chosen)
            reference = self._log_prob[which] - self._log_ratio[which]
            yield Minibatch(
                batch.to(self.device),
                self._tensor(self._action[which].astype(np.int64)),
                self._tensor(self._log_prob[which]),
                None if self.kl is None else self._tensor(reference),
                self._tensor(owners),
                self._tensor(self.advantages.reshape(-1)[chosen].astype(np.float32)),
            )

    def _sums(self, values: NDArray[np.float32]) -> Floats:
        """Sums ``[E, N]`` over the tokens of each episode."""
        sums = np.bincount(self._episode, weights=values.astype(np.float64))
        return sums.astype(np.float64).reshape(self.n_episodes, self.n_envs)

    def _texts_of(
        self, episodes: NDArray[np.int64]
    ) -> tuple[SequenceBatch, NDArray[np.int64], NDArray[np.int64]]:
        """The texts of some episodes, the places ``[n]`` of their tokens, and whose these are."""
        parts = [self._places[episode] for episode in episodes]
        which = np.concatenate(parts)
        owners = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        # One text an episode, unless the environment rewrote it.
        fragments, rows = np.unique(self._fragment[which], return_inverse=True)
        positions = self._length[which] - 1
        tokens = self._fragments.tokens[fragments, : int(positions.max()) + 1]
        images = self._fragments.images
        kept = None if self._kept is None else self._kept.take(torch.from_numpy(which))
        shown = None if images is None else torch.from_numpy(images[fragments])
        texts, at, ends = (torch.from_numpy(part) for part in (tokens, rows, positions))
        return SequenceBatch(texts, at, ends, kept, shown), which, owners

    def _compare(self, kl: KLPenalty) -> None:
        """Fill in the log-ratios to the reference, in few batched passes."""
        if self._decision is None:
            raise SettingsError("the KL to a reference needs a policy that records its sampling")
        passes = -(-len(self._episode) // _CHUNK)
        for episodes in np.array_split(np.arange(len(self._places)), passes):
            batch, which, _ = self._texts_of(episodes)
            actions = torch.from_numpy(self._action[which].astype(np.int64))
            log_probs = torch.from_numpy(self._log_prob[which])
            made_by = self._decision.sampler, self._decision.lm
            ratios = kl.log_ratios(batch, actions, log_probs, *made_by)
            self._log_ratio[which] = ratios.numpy()

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(self.device)


class GroupAlgorithm(OnPolicyAlgorithm, ABC):
    """What GRPO and RLOO have in common: all but the advantages and the update.

    The policy's value head stays as it is: it has no part in any loss.

    Args:
        policy: :class:`textgym.sb3.LMPolicy`.
        env: Environment of ``make_vec_env(..., group_size=G)``.
        learning_rate: Learning rate, or a schedule of it.
        group_size: Neighbouring rows that share their prompts, G.
        n_episodes: Episodes of each row in a rollout.
        max_grad_norm: Gradients are scaled down to this norm.
        rollout_buffer_kwargs: ``kl_coef``, ``kl_target`` and ``reference`` of :class:`GroupBuffer`.
        **others: As in Stable-Baselines3: ``policy_kwargs``, ``seed``, ``device``, ...

    Attributes:
        max_tokens: Longest response in tokens.

    Raises:
        SettingsError: If groups of this size are not to be had.
    """

    rollout_buffer: GroupBuffer

    def __init__(
        self,
        policy: Any,
        env: Any,
        learning_rate: float | Schedule = 5e-4,
        *,
        group_size: int = 8,
        n_episodes: int = 1,
        max_grad_norm: float = 1.0,
        rollout_buffer_kwargs: dict[str, Any] | None = None,
        **others: Any,
    ) -> None:
        self.max_tokens = 1
        groups = {"group_size": group_size, "n_episodes": n_episodes}
        super().__init__(
            policy,
            env,
            learning_rate,
            n_steps=n_episodes,
            gamma=1.0,
            gae_lambda=1.0,
            ent_coef=0.0,
            vf_coef=0.0,
            max_grad_norm=max_grad_norm,
            use_sde=False,
            sde_sample_freq=-1,
            rollout_buffer_class=GroupBuffer,
            rollout_buffer_kwargs={**(rollout_buffer_kwargs or {}), **groups},
            supported_action_spaces=(spaces.Discrete,),
            **others,
        )

    def _setup_model(self) -> None:
        name = type(self).__name__
        if self.env is not None:  # A saved agent that only predicts has none, but knows it.
            if not self.env.has_attr("settings"):
                raise SettingsError(f"{name} compares texts; use textgym.sb3.make_vec_env")
            self.max_tokens = self.env.get_attr("settings")[0].max_new_tokens
            # The most that a rollout can have: callbacks and progress bars ask for it.
            self.n_steps = self.rollout_buffer_kwargs["n_episodes"] * self.max_tokens
        super()._setup_model()
        if not isinstance(self.policy, LMPolicy):
            raise SettingsError(f"{name} trains textgym.sb3.LMPolicy, not {type(self.policy)}")
        self.policy.value_net.requires_grad_(False)

    @abstractmethod
    def advantages(self, buffer: GroupBuffer) -> Floats:
        """The advantage of each episode ``[E, N]``, from a buffer's returns."""

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """Let each row write `n_episodes` responses.

        Returns:
            False if a callback ended the training.

        Raises:
            SettingsError: If rows of a group have different prompts, or a step limit cuts a text
                off.
        """
        buffer = self.rollout_buffer
        self.policy.set_training_mode(False)
        buffer.reset()
        callback.on_rollout_start()
        # Only now: a checkpoint is taken before, and whoever goes on from it comes by here too.
        obs: Any = env.reset()
        _check_prompts(obs, buffer.group_size)
        # A token that does not end a text, so that resting rows ask for no verdicts.
        filler = int(env.get_attr("tokenizer")[0].eos_id == 0)
        finished = np.zeros(env.num_envs, dtype=np.int64)
        starts = np.ones(env.num_envs, dtype=np.bool_)
        writing = np.ones(env.num_envs, dtype=np.bool_)
        while writing.any():
            with torch.no_grad():
                actions, _, log_probs = self.policy(obs_as_tensor(obs, self.device))
            chosen = np.where(writing, actions.cpu().numpy(), filler)
            new_obs: Any
            new_obs, rewards, dones, infos = env.step(chosen)
            self.num_timesteps += env.num_envs
            ended = np.flatnonzero(dones & writing)
            cut_off((infos[row] for row in ended), type(self).__name__)
            # What happens to a resting row has not happened.
            dones = dones & writing
            infos = [info if awake else {} for info, awake in zip(infos, writing, strict=True)]
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            self._update_info_buffer(infos, dones)
            buffer.add_step(obs, chosen, rewards, finished, starts, log_probs)
            self._last_obs, self._last_episode_starts = new_obs, dones
            finished = finished + dones
            writing = finished < buffer.n_episodes
            obs, starts = _where(writing, new_obs, obs), dones & writing
        buffer.finish()
        buffer.advantages = self.advantages(buffer)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def descend(self, loss: Tensor) -> None:
        """Take one step of the optimizer."""
        self.policy.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        self.policy.optimizer.step()


def _where(rows: NDArray[np.bool_], new: Any, old: Any) -> Any:
    """The new observations of some rows, and the old ones of the others."""
    if isinstance(new, dict):
        return {key: _where(rows, new[key], old[key]) for key in new}
    return np.where(rows.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def _check_prompts(obs: Any, group_size: int) -> None:
    """Refuse an environment whose neighbouring rows do not start alike."""
    for part in split_observation(obs):
        if part is None:
            continue
        grouped = part.reshape(-1, group_size, *part.shape[1:])
        if (grouped != grouped[:, :1]).any():
            raise SettingsError(
                f"the {group_size} rows of a group have different prompts; make the environment "
                f"with make_vec_env(..., group_size={group_size})"
            )

"""Expert iteration: write several texts a prompt, keep the best, learn to write those, repeat.

    python -m agents.expert_iteration --env TextGen/Sentiment-v0
    python -m agents.expert_iteration --env TextGen/QA-v0 --threshold 1 --restart

The expert is best-of-n with the present policy (Anthony et al. 2017, "Thinking fast and slow with
deep learning and tree search", https://arxiv.org/abs/1705.08439). Its variants differ in the texts
that are learned:

* the best share of each prompt's texts (`--keep`): best-of-n distillation;
* all texts with at least some reward (`--threshold`): ReST (Gulcehre et al. 2023,
  https://arxiv.org/abs/2308.08998);
* the same, learned from the first model's weights in each iteration (`--threshold --restart`): STaR
  (Zelikman et al. 2022, https://arxiv.org/abs/2203.14465).

It uses neither the gradient of the reward nor a value function nor a KL penalty, only cross-entropy
on texts that the policy wrote.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from agents.running.command_line import check_flags, command_line
from agents.running.run import LMSettings, run
from agents.running.word_model import starting_model
from textgym.errors import SettingsError


@dataclass
class Settings(LMSettings):
    """Settings of expert iteration."""

    lm: str | None = None
    """Language model to train, a folder or hub name; the environment uses its tokenizer too.
    Default: textgym/tiny, or for a closed vocabulary a small new model of its words."""
    lr: float = 5e-4
    """Learning rate of Adam."""
    k: int = 8
    """Texts per prompt; it divides --n-envs."""
    rounds: int = 1
    """An iteration learns from rounds * n_envs texts."""
    keep: float = 0.25
    """Share of each prompt's texts that is learned: the best ones, if better than its mean."""
    threshold: float | None = None
    """Learn all texts with at least this reward instead."""
    restart: bool = False
    """Learn each iteration's texts with the first model (STaR), not with the present one.
    There have to be many of them then: see --rounds."""
    n_epochs: int = 2
    """Passes over the texts that are kept."""
    batch_size: int = 16
    """Texts per gradient step."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""


if __name__ == "__main__":
    check_flags("agents.expert_iteration", Settings(), __doc__)  # Before the slow imports.

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import MaybeCallback, Schedule
from stable_baselines3.common.vec_env import VecEnv

from agents.running.lm_agent import LMAgent
from agents.running.planning import batch_of
from agents.running.supervised import gradient_step
from textgym.lm.weights import weights_hash
from textgym.rollouts import Episodes, collect
from textgym.sb3 import LMPolicy

Self = TypeVar("Self", bound="ExpertIteration")


def chosen(rewards: NDArray[np.float64], keep: float, threshold: float | None) -> NDArray[np.bool_]:
    """Which texts are learned.

    Args:
        rewards: ``[prompts, k]``; NaN for a text that was not judged, which is never chosen.
        keep: Share of each prompt's texts, rounded up; only those above the prompt's mean, so that
            nothing is learned where all are alike.
        threshold: Take all with at least this reward instead.

    Returns:
        Whether each is, ``[prompts, k]``.
    """
    if threshold is not None:
        return rewards >= threshold  # NaN is not.
    known = ~np.isnan(rewards)
    counts = known.sum(1)
    values = np.where(known, rewards, -np.inf)
    ranks = (-values).argsort(1, kind="stable").argsort(1)
    means = np.where(known, rewards, 0.0).sum(1) / np.maximum(counts, 1)
    # Rounding must not put a text above the mean of its equals.
    better = values > means[:, None] + 1e-9 * (1 + np.abs(means[:, None]))
    among = ranks < np.ceil(keep * counts)[:, None]
    best: NDArray[np.bool_] = known & better & among
    return best


class ExpertIteration(LMAgent):
    """Expert iteration with the interface of Stable-Baselines3, ``save`` and ``load`` included.

    Checkpoints can be taken and resumed, as PPO's (:mod:`textgym.sb3.checkpoints`).

    Args:
        policy: :class:`textgym.sb3.LMPolicy`.
        env: The environment.
        learning_rate: Learning rate, or a schedule.
        k: Texts per prompt; it divides the number of rows of `env`.
        rounds: Rounds of one text a row, per iteration.
        keep: See :func:`chosen`.
        threshold: See :func:`chosen`.
        restart: Learn from the first weights in each iteration.
        n_epochs: Passes over the texts that are kept.
        batch_size: Texts per gradient step.
        max_grad_norm: Gradients are scaled down to this norm.
        **others: See :class:`agents.running.lm_agent.LMAgent`.

    Raises:
        SettingsError: If a number is impossible, or the environment is not one of texts.
    """

    learns = True

    def __init__(
        self,
        policy: type[LMPolicy] = LMPolicy,
        env: VecEnv | None = None,
        learning_rate: float | Schedule = 5e-4,
        k: int = 8,
        rounds: int = 1,
        keep: float = 0.25,
        threshold: float | None = None,
        restart: bool = False,
        n_epochs: int = 2,
        batch_size: int = 16,
        max_grad_norm: float = 1.0,
        **others: Any,
    ) -> None:
        if k < 2 and threshold is None:
            raise SettingsError(
                f"expert iteration: with k={k} no text is better than the mean of its prompt's, so "
                "that none would be learned; write more, or give a threshold"
            )
        counts = {"k": k, "rounds": rounds, "n_epochs": n_epochs, "batch_size": batch_size}
        for name, value in counts.items():
            if value < 1:
                raise SettingsError(f"expert iteration: {name}={value} has to be at least 1")
        if not 0 < keep <= 1:
            raise SettingsError(f"expert iteration: keep={keep} has to be above 0, and up to 1")
        if env is not None:
            batch_of(env)
        self.k = k
        self.rounds = rounds
        self.keep = keep
        self.threshold = threshold
        self.restart = restart
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.max_grad_norm = max_grad_norm
        super().__init__(policy, env, learning_rate, **others)

    def _setup_model(self) -> None:
        super()._setup_model()
        self._rng = np.random.default_rng(self.seed)
        self._first, self._first_name = None, None
        if self.restart:
            self._first_name = weights_hash(self.policy.lm)
            weights = self.policy.lm.state_dict()
            self._first = {name: weight.detach().clone() for name, weight in weights.items()}

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_first", "_rng"]

    def describe(self) -> dict[str, Any]:
        """The settings that another agent must share to continue this training."""
        return {"first": self._first_name}

    def get_state(self) -> dict[str, Any]:
        """The state of the shuffling, for checkpoints."""
        return {"shuffling": self._rng.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state of `get_state`."""
        self._rng.bit_generator.state = state["shuffling"]

    def learn(
        self: Self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "expert_iteration",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Iterate until this many tokens are written; an iteration is never cut short.

        Raises:
            SettingsError: If `k` does not divide the number of rows.
        """
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        assert self.env is not None
        if self.env.num_envs % self.k:
            raise SettingsError(
                f"expert iteration writes k={self.k} texts a prompt side by side, which does not "
                f"divide the {self.env.num_envs} rows (--n-envs); change one of the two"
            )
        callback.on_training_start(locals(), globals())
        iteration = 0
        while self.num_timesteps < total_timesteps:
            written, kept = [], []
            callback.on_rollout_start()
            for _ in range(self.rounds):
                episodes = self._write(self.env, callback)
                if episodes is None:
                    callback.on_training_end()
                    return self
                written.append(episodes)
                kept.append(self._kept(episodes))
            callback.update_locals(
                {"episodes": Episodes.concatenate(written), "group_size": self.k}
            )
            callback.on_rollout_end()
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            self._train(Episodes.concatenate(kept))
            iteration += 1
            if iteration % log_interval == 0:
                self.logger.dump(self.num_timesteps)
        callback.on_training_end()
        return self

    def _write(self, venv: VecEnv, callback: BaseCallback) -> Episodes | None:
        """One text per row, k neighbouring rows with one prompt; None if a callback stops it."""
        # The environment's next prompts, of which every k-th is written to k times.
        venv.reset()
        found = batch_of(venv).rows
        venv.set_options([{"row": found[row - row % self.k]} for row in range(venv.num_envs)])
        return collect(venv, self.policy, rest=False, on_step=self.on_step(callback))

    def _kept(self, episodes: Episodes) -> Episodes:
        """The texts to learn."""
        rewards = np.where(episodes.truncated, np.nan, episodes.returns)  # Cut off: not judged.
        which = chosen(rewards.reshape(-1, self.k), self.keep, self.threshold).flatten()
        self.logger.record_mean("train/kept", float(which.mean()))
        if which.any():
            self.logger.record_mean("train/kept_reward", float(rewards[which].mean()))
        return episodes.select(np.flatnonzero(which))

    def _train(self, texts: Episodes) -> None:
        """Learn the texts that were kept."""
        if not len(texts):
            return  # The texts of each prompt were equally good: write again.
        if self._first is not None:
            self.policy.lm.load_state_dict(self._first)
            self.policy.optimizer.state.clear()
        self._update_learning_rate(self.policy.optimizer)
        losses = []
        for _ in range(self.n_epochs):
            order = self._rng.permutation(len(texts))
            for at in range(0, len(order), self.batch_size):
                batch = texts.select(order[at : at + self.batch_size])
                losses.append(gradient_step(self.policy, batch, self.max_grad_norm)[0])
                self._n_updates += 1
        self.logger.record("train/loss", float(np.mean(losses)))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")


def make_agent(venv: VecEnv, seed: int, settings: Settings | None = None) -> ExpertIteration:
    """Build the agent.

    Args:
        venv: Environment of token ids, from `textgym.sb3.make_vec_env`.
        seed: Seed of prompts and sampling, and of a new model's weights.
        settings: Settings; the defaults if None.
    """
    s = settings or Settings()
    return ExpertIteration(
        LMPolicy,
        venv,
        learning_rate=s.learning_rate,
        k=s.k,
        rounds=s.rounds,
        keep=s.keep,
        threshold=s.threshold,
        restart=s.restart,
        n_epochs=s.n_epochs,
        batch_size=s.batch_size,
        max_grad_norm=s.max_grad_norm,
        policy_kwargs=s.policy_kwargs(starting_model(venv, s.lm, seed, s.out)),
        seed=seed,
        device=s.device,
    )


def main(settings: Settings) -> None:
    """Train and evaluate."""
    run("expert_iteration", settings, partial(make_agent, settings=settings))


if __name__ == "__main__":
    command_line("agents.expert_iteration", Settings(), __doc__, main)

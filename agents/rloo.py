r"""RLOO on tokens: REINFORCE, with the other responses to a prompt as the baseline.

    python -m agents.rloo --env TextGen/Sentiment-v0
    python -m agents.rloo --help

REINFORCE leave-one-out (Ahmadian et al. 2024, "Back to Basics", https://arxiv.org/abs/2402.14740;
the estimator is from Kool et al. 2019, https://openreview.net/forum?id=r1lgTGL5DE). G responses are
written to each prompt. A whole response is one action: with the return r_i of response i, lowered
by the KL divergence from the frozen initial model,

    R_i = r_i - beta * sum over its tokens of (log pi - log ref),
    A_i = R_i - mean of the other G - 1,

the loss is the mean over responses of -A_i * (sum of the log-probabilities of its tokens). The
baseline does not depend on the response, so the gradient is unbiased. One gradient step is taken on
each rollout, which is then thrown away: nothing is off-policy, so nothing is clipped.

The rollout is one whole response of each row (:func:`textgym.rollouts.collect`). Each rollout
begins with a reset, which brings the rows of a group to one prompt again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from agents.running.command_line import check_flags, command_line
from agents.running.run import LMSettings, run
from agents.running.validation import above, at_least, cut_off
from agents.running.word_model import starting_model


@dataclass
class Settings(LMSettings):
    """Settings of RLOO."""

    lm: str | None = None
    """Language model to train, a folder or hub name; the environment uses its tokenizer too.
    Default: textgym/tiny, or for a closed vocabulary a small new model of its words."""
    lr: float = 1e-3
    """Learning rate of Adam."""
    group_size: int = 8
    """Responses to each prompt that are compared: the number of neighbouring rows that share it."""
    n_episodes: int = 1
    """Responses of each row in a rollout: an update sees n_episodes * n_envs."""
    kl_coef: float = 0.02
    """Weight of the KL penalty, in reward per nat; the initial weight if --kl-target is given.
    With 0 the penalty is off, and the reference model is not loaded."""
    kl_target: float | None = 0.3
    """Adapt the weight to keep the KL near this many nats per token. None keeps it fixed."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""

    def __post_init__(self) -> None:
        """Refuse impossible numbers."""
        super().__post_init__()
        at_least(0, kl_coef=self.kl_coef)
        above(0, kl_target=self.kl_target)
        at_least(2, group_size=self.group_size)
        at_least(1, n_episodes=self.n_episodes)

    @property
    def train_kwargs(self) -> dict[str, Any]:
        """Arguments of the training environment alone: an evaluation has a prompt for each row."""
        return {"group_size": self.group_size}


if __name__ == "__main__":
    check_flags("agents.rloo", Settings(), __doc__)  # Before the slow imports.

import torch
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from agents.running.groups import Floats, GroupAgent
from textgym.rollouts import Episodes, collect
from textgym.sb3 import LMPolicy

Self = TypeVar("Self", bound="RLOO")


class RLOO(GroupAgent):
    """REINFORCE leave-one-out; for its arguments see :class:`agents.running.groups.GroupAgent`.

    Checkpoints can be taken and resumed, as PPO's (:mod:`textgym.sb3.checkpoints`).
    """

    def learn(
        self: Self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "rloo",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Train for about this many environment steps: to the end of the responses under way.

        Raises:
            SettingsError: If rows of a group have different prompts, or a step limit cuts a text
                off.
        """
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        callback.on_training_start(locals(), globals())
        assert self.env is not None
        iteration = 0
        while self.num_timesteps < total_timesteps:
            callback.on_rollout_start()
            before = self.num_timesteps
            episodes = collect(
                self.env,
                self.policy,
                group_size=self.group_size,
                episodes_per_row=self.n_episodes,
                on_step=self.on_step(callback),
            )
            if episodes is None:
                break
            cut_off(episodes.infos, "RLOO")
            kl_coef = self.kl_coef  # It adapts to this rollout, for the next one.
            divergences = episodes.sums(self.log_ratios(episodes))
            returns = self.grouped(episodes.returns - kl_coef * divergences)
            advantages = torch.from_numpy(leave_one_out(returns).flatten()).float()
            episodes = episodes.with_extra(advantages=advantages[episodes.owners])
            callback.update_locals({"episodes": episodes, "group_size": self.group_size})
            callback.on_rollout_end()
            iteration += 1
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            if iteration % log_interval == 0:
                self.log_rollout(iteration, episodes, self.num_timesteps - before)
            self.update(episodes)
        callback.on_training_end()
        return self

    def update(self, episodes: Episodes) -> None:
        """Take one gradient step on a rollout, with ``advantages`` of each token as extra."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        (minibatch,) = episodes.minibatches(1)
        batch = minibatch.to(self.device)
        assert batch.sequences is not None
        _, log_probs, _ = self.policy.evaluate_actions(batch.sequences, batch.actions)
        loss = reinforce(batch, log_probs)
        self.descend(loss)
        self._n_updates += 1
        self.logger.record("train/loss", loss.item())
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")


def leave_one_out(returns: Floats) -> Floats:
    """Each return of a group ``[..., G]`` minus the mean of the others; 0 where all are equal."""
    # Relative to the first one, so that equal returns have no rounding error.
    shifted = returns - returns[..., :1]
    others = returns.shape[-1] - 1
    baseline: Floats = (shifted.sum(-1, keepdims=True) - shifted) / others
    return shifted - baseline


def reinforce(batch: Episodes, log_probs: Tensor) -> Tensor:
    """The mean over responses of minus advantage times log-probability, from tokens' ``[n]``."""
    return -(batch.extra["advantages"] * log_probs).sum() / len(batch)


def make_agent(venv: VecEnv, seed: int, settings: Settings | None = None) -> RLOO:
    """Build the agent: `learn` trains it, `predict` writes tokens.

    Args:
        venv: Environment of ``textgym.sb3.make_vec_env(..., group_size=G)``.
        seed: Seed of initial weights and sampling.
        settings: Settings; the defaults if None.
    """
    s = settings or Settings()
    return RLOO(
        LMPolicy,
        venv,
        learning_rate=s.learning_rate,
        group_size=s.group_size,
        n_episodes=s.n_episodes,
        kl_coef=s.kl_coef,
        kl_target=s.kl_target if s.kl_coef else None,
        reference_dtype=s.reference_dtype,
        max_grad_norm=s.max_grad_norm,
        policy_kwargs=s.policy_kwargs(starting_model(venv, s.lm, seed, s.out)),
        seed=seed,
        device=s.device,
    )


def main(settings: Settings) -> None:
    """Train and evaluate."""
    run("rloo", settings, partial(make_agent, settings=settings))


if __name__ == "__main__":
    command_line("agents.rloo", Settings(), __doc__, main)

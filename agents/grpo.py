r"""GRPO on tokens: group-relative policy optimisation, with a language model as its policy.

    python -m agents.grpo --env TextGen/Sentiment-v0
    python -m agents.grpo --env TextGen/Sentiment-v0 --loss-type dr_grpo --no-scale-rewards
    python -m agents.grpo --help

PPO without a value function (Shao et al. 2024, "DeepSeekMath", https://arxiv.org/abs/2402.03300):
G responses are written to each prompt, and the advantage of a response is how much better it is
than the others. With the return r_i of response i (the sum of its rewards), every token of it has
the advantage

    A_i = (r_i - mean(r)) / (std(r) + 1e-4),

and with the ratio w = pi(token) / pi_old(token) the loss of a token is

    -min(w A_i, clip(w, 1 - eps, 1 + eps) A_i) + beta (ref / pi - log(ref / pi) - 1).

The last term estimates the KL divergence from the frozen initial model as in the paper: in the
loss, not in the reward, so that it does not affect the comparison. It is never negative (Schulman
2020, http://joschu.net/blog/kl-approx.html). Unlike in the paper, beta may follow a target.

`--loss-type` says how the losses of tokens are averaged: "grpo" averages over each response, then
over responses; "dapo" over all tokens alike (Yu et al. 2025, https://arxiv.org/abs/2503.14476);
"dr_grpo" divides their sum by the token budget of the responses, so that the weight of a response
grows with its length, and is used with `--no-scale-rewards`, which leaves out the division by
std(r) (Liu et al. 2025, https://arxiv.org/abs/2503.20783).

The rollout is one whole response of each row (:func:`textgym.rollouts.collect`). Each rollout
begins with a reset, which brings the rows of a group to one prompt again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar, get_args

from agents.running.command_line import check_flags, command_line
from agents.running.run import LMSettings, run
from agents.running.validation import above, at_least, cut_off
from agents.running.word_model import starting_model
from textgym.errors import SettingsError

LossType = Literal["grpo", "dapo", "dr_grpo"]


@dataclass
class Settings(LMSettings):
    """Settings of GRPO."""

    lm: str | None = None
    """Language model to train, a folder or hub name; the environment uses its tokenizer too.
    Default: textgym/tiny, or for a closed vocabulary a small new model of its words."""
    lr: float = 3e-4
    """Learning rate of Adam."""
    group_size: int = 8
    """Responses to each prompt that are compared: the number of neighbouring rows that share it."""
    n_episodes: int = 1
    """Responses of each row in a rollout: an update sees n_episodes * n_envs."""
    minibatches: int = 2
    """Gradient steps per pass over a rollout. Minibatches hold whole responses."""
    n_epochs: int = 2
    """Passes over each rollout."""
    clip_range: float = 0.2
    """The probability ratio of a token is clipped to 1 - clip_range and 1 + clip_range."""
    loss_type: LossType = "grpo"
    """How tokens are averaged: per response first, all alike (dapo), or by the token budget."""
    scale_rewards: bool = True
    """Divide advantages by the standard deviation of their group."""
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
        at_least(0, kl_coef=self.kl_coef, clip_range=self.clip_range)
        above(0, kl_target=self.kl_target)
        at_least(2, group_size=self.group_size)
        at_least(1, n_episodes=self.n_episodes, minibatches=self.minibatches)
        at_least(1, n_epochs=self.n_epochs)

    @property
    def train_kwargs(self) -> dict[str, Any]:
        """Arguments of the training environment alone: an evaluation has a prompt for each row."""
        return {"group_size": self.group_size}


if __name__ == "__main__":
    check_flags("agents.grpo", Settings(), __doc__)  # Before the slow imports.

import numpy as np
import torch
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from agents.running.groups import Floats, GroupAgent
from textgym.rollouts import Episodes, collect
from textgym.sb3 import LMPolicy

Self = TypeVar("Self", bound="GRPO")


class GRPO(GroupAgent):
    """Group-relative policy optimisation, with the interface of Stable-Baselines3.

    Checkpoints can be taken and resumed, as PPO's (:mod:`textgym.sb3.checkpoints`).

    Args:
        policy: As in :class:`agents.running.groups.GroupAgent`, like `env`.
        env: The environment.
        n_epochs: Passes over each rollout.
        minibatches: Gradient steps per pass.
        clip_range: Clips the ratio to 1 - clip_range and 1 + clip_range.
        loss_type: "grpo", "dapo" or "dr_grpo".
        scale_rewards: Whether advantages are divided by the standard deviation of their group.
        **others: As in :class:`agents.running.groups.GroupAgent`.

    Raises:
        SettingsError: If the loss type is unknown, or groups of this size are impossible.
    """

    def __init__(
        self,
        policy: type[LMPolicy] = LMPolicy,
        env: VecEnv | None = None,
        *,
        n_epochs: int = 2,
        minibatches: int = 2,
        clip_range: float = 0.2,
        loss_type: LossType = "grpo",
        scale_rewards: bool = True,
        **others: Any,
    ) -> None:
        if loss_type not in get_args(LossType):
            raise SettingsError(f"loss_type={loss_type!r} has to be one of {get_args(LossType)}")
        self.n_epochs = n_epochs
        self.minibatches = minibatches
        self.clip_range = clip_range
        self.loss_type = loss_type
        self.scale_rewards = scale_rewards
        super().__init__(policy, env, **others)

    def learn(
        self: Self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "grpo",
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
            cut_off(episodes.infos, "GRPO")
            kl_coef = self.kl_coef  # It adapts to this rollout, for the next one.
            log_ratios = self.log_ratios(episodes)
            returns = self.grouped(episodes.returns)
            advantages = torch.from_numpy(relative(returns, self.scale_rewards).flatten()).float()
            episodes = episodes.with_extra(
                advantages=advantages[episodes.owners],
                reference=episodes.log_probs - log_ratios,
            )
            callback.update_locals({"episodes": episodes, "group_size": self.group_size})
            callback.on_rollout_end()
            iteration += 1
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            if iteration % log_interval == 0:
                self.log_rollout(iteration, episodes, self.num_timesteps - before)
            self.update(episodes, kl_coef)
        callback.on_training_end()
        return self

    def update(self, episodes: Episodes, kl_coef: float) -> None:
        """Descend the clipped loss on a rollout, in several passes.

        Args:
            episodes: The rollout, with ``advantages`` and ``reference`` (log-probabilities) of
                each token as extra values.
            kl_coef: Weight of the KL divergence from the reference.
        """
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        losses, clipped = [], []
        for _ in range(self.n_epochs):
            for minibatch in episodes.minibatches(self.minibatches):
                batch = minibatch.to(self.device)
                assert batch.sequences is not None
                _, log_probs, _ = self.policy.evaluate_actions(batch.sequences, batch.actions)
                weights = token_weights(batch, self.loss_type, self.max_tokens)
                loss = (weights * self.token_losses(batch, log_probs, kl_coef)).sum()
                self.descend(loss)
                away = (log_probs - batch.log_probs).exp().sub(1).abs() > self.clip_range
                losses.append(loss.item())
                clipped.append(away.float().mean().item())
            self._n_updates += 1
        self.logger.record("train/loss", np.mean(losses))
        self.logger.record("train/clip_fraction", np.mean(clipped))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def token_losses(self, batch: Episodes, log_probs: Tensor, kl_coef: float) -> Tensor:
        """The loss of each token ``[n]``, from its present log-probability ``[n]``."""
        advantages = batch.extra["advantages"]
        ratio = torch.exp(log_probs - batch.log_probs)
        clipped = ratio.clamp(1 - self.clip_range, 1 + self.clip_range)
        loss = -torch.min(ratio * advantages, clipped * advantages)
        if self.kl is not None:
            log_ratio = batch.extra["reference"] - log_probs
            loss = loss + kl_coef * (log_ratio.exp() - log_ratio - 1)
        return loss


def relative(returns: Floats, scale: bool) -> Floats:
    """Advantages within groups ``[..., G]``; exactly 0 where all returns are equal."""
    # Relative to the first one, so that equal returns have no rounding error to be scaled up.
    shifted = returns - returns[..., :1]
    advantages = shifted - shifted.mean(-1, keepdims=True)
    if scale:
        advantages = advantages / (shifted.std(-1, ddof=1, keepdims=True) + 1e-4)
    return np.asarray(advantages)


def token_weights(batch: Episodes, loss_type: LossType, max_tokens: int) -> Tensor:
    """The weight of each token in the loss, ``[n]``."""
    count, tokens = len(batch), len(batch.actions)
    if loss_type == "grpo":
        lengths = torch.from_numpy(batch.lengths).to(batch.actions.device)
        return 1 / (count * lengths[batch.owners])
    every = tokens if loss_type == "dapo" else count * max_tokens
    return torch.full((tokens,), 1 / every, device=batch.actions.device)


def make_agent(venv: VecEnv, seed: int, settings: Settings | None = None) -> GRPO:
    """Build the agent: `learn` trains it, `predict` writes tokens.

    Args:
        venv: Environment of ``textgym.sb3.make_vec_env(..., group_size=G)``.
        seed: Seed of initial weights and sampling.
        settings: Settings; the defaults if None.
    """
    s = settings or Settings()
    return GRPO(
        LMPolicy,
        venv,
        learning_rate=s.learning_rate,
        group_size=s.group_size,
        n_episodes=s.n_episodes,
        minibatches=s.minibatches,
        n_epochs=s.n_epochs,
        clip_range=s.clip_range,
        loss_type=s.loss_type,
        scale_rewards=s.scale_rewards,
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
    run("grpo", settings, partial(make_agent, settings=settings))


if __name__ == "__main__":
    command_line("agents.grpo", Settings(), __doc__, main)

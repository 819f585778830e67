r"""GRPO on tokens: group-relative policy optimisation, with a language model as its policy.

    python -m agents.grpo --env TextGen/Sentiment-v0
    python -m agents.grpo --env TextGen/Sentiment-v0 --loss-type dr_grpo --no-scale-rewards
    python -m agents.grpo --help

PPO without a value function (Shao et al. 2024, "DeepSeekMath", https://arxiv.org/abs/2402.03300):
G responses are written to each prompt, and a response is as good as it is better than the others.
With the return r_i of response i (the sum of its rewards), every token of it has the advantage

    A_i = (r_i - mean(r)) / (std(r) + 1e-4),

and with the ratio w = pi(token) / pi_old(token) the loss of a token is

    -min(w A_i, clip(w, 1 - eps, 1 + eps) A_i) + beta (ref / pi - log(ref / pi) - 1).

The last term estimates the KL divergence from the frozen initial model as in the paper: in the
loss, not in the reward, so that it takes no part in the comparison. It is never negative (Schulman
2020, http://joschu.net/blog/kl-approx.html). What differs from the paper: beta may follow a target.

How tokens are averaged is `--loss-type`: "grpo" averages over each response, then over responses;
"dapo" over all tokens alike (Yu et al. 2025, https://arxiv.org/abs/2503.14476); "dr_grpo" divides
the sum by the token budget of the responses, so that long ones weigh as much as they are long, and
goes with `--no-scale-rewards`, which leaves out the division by std(r) (Liu et al. 2025,
https://arxiv.org/abs/2503.20783). The rollout of whole episodes is in agents/running/groups.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from agents.running.command_line import command_line
from agents.running.groups import Floats, GroupAlgorithm, GroupBuffer, GroupSettings, Minibatch
from agents.running.run import run
from agents.running.validation import at_least
from agents.running.word_model import starting_model
from textgym.errors import SettingsError
from textgym.sb3 import LMPolicy

LossType = Literal["grpo", "dapo", "dr_grpo"]


@dataclass
class Settings(GroupSettings):
    """Settings of GRPO."""

    minibatches: int = 2
    """Gradient steps per pass over a rollout. Minibatches hold whole responses."""
    n_epochs: int = 2
    """Passes over each rollout."""
    clip_range: float = 0.2
    """How far the probability ratio of a token may move before its gradient is cut."""
    loss_type: LossType = "grpo"
    """How tokens are averaged: per response first, all alike (dapo), or by the token budget."""
    scale_rewards: bool = True
    """Divide advantages by the standard deviation of their group."""

    def __post_init__(self) -> None:
        """Refuse impossible numbers."""
        super().__post_init__()
        at_least(1, minibatches=self.minibatches, n_epochs=self.n_epochs)
        at_least(0, clip_range=self.clip_range)


class GRPO(GroupAlgorithm):
    """Group-relative policy optimisation.

    Checkpoints can be taken and resumed, as PPO's (:mod:`textgym.sb3.checkpoints`).

    Args:
        policy: As in :class:`agents.running.groups.GroupAlgorithm`, like `env`.
        env: The environment.
        n_epochs: Passes over each rollout.
        minibatches: Gradient steps a pass.
        clip_range: Clips the ratio to 1 - clip_range and 1 + clip_range.
        loss_type: "grpo", "dapo" or "dr_grpo".
        scale_rewards: Whether advantages are divided by the standard deviation of their group.
        **others: As in :class:`agents.running.groups.GroupAlgorithm`.

    Raises:
        SettingsError: If the loss type is unknown, or there are no groups of this size.
    """

    def __init__(
        self,
        policy: Any,
        env: Any,
        *,
        n_epochs: int = 2,
        minibatches: int = 2,
        clip_range: float = 0.2,
        loss_type: LossType = "grpo",
        scale_rewards: bool = True,
        **others: Any,
    ) -> None:
        if loss_type not in get_args(LossType):
            raise SettingsError(f"loss_type={loss_type!r} is none of {get_args(LossType)}")
        self.n_epochs = n_epochs
        self.minibatches = minibatches
        self.clip_range = clip_range
        self.loss_type = loss_type
        self.scale_rewards = scale_rewards
        super().__init__(policy, env, **others)

    def advantages(self, buffer: GroupBuffer) -> Floats:
        """Returns relative to their groups ``[E, N]``."""
        grouped = buffer.groups(buffer.returns)
        return relative(grouped, self.scale_rewards).reshape(buffer.returns.shape)

    def train(self) -> None:
        """Descend the clipped loss on the rollout, in some passes."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        losses, clipped, entropies = [], [], []
        for _ in range(self.n_epochs):
            for batch in self.rollout_buffer.minibatches(self.minibatches):
                _, log_probs, entropy = self.policy.evaluate_actions(
                    batch.sequences,  # type: ignore[arg-type]
                    batch.actions,
                )
                loss = (token_weights(batch, self.loss_type, self.max_tokens) * self.token_losses(
                    batch, log_probs
                )).sum()  # fmt: skip
                self.descend(loss)
                away = (log_probs - batch.log_probs).exp().sub(1).abs() > self.clip_range
                losses.append(loss.item())
                clipped.append(away.float().mean().item())
                entropies.append(0.0 if entropy is None else entropy.mean().item())
            self._n_updates += 1
        self.logger.record("train/loss", np.mean(losses))
        self.logger.record("train/clip_fraction", np.mean(clipped))
        self.logger.record("train/entropy", np.mean(entropies))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def token_losses(self, batch: Minibatch, log_probs: Tensor) -> Tensor:
        """The loss of each token ``[n]``, from its present log-probability ``[n]``."""
        ratio = torch.exp(log_probs - batch.log_probs)
        advantages = batch.advantages[batch.episodes]
        clipped = ratio.clamp(1 - self.clip_range, 1 + self.clip_range)
        loss = -torch.min(ratio * advantages, clipped * advantages)
        if batch.reference is not None:
            log_ratio = batch.reference - log_probs
            loss = loss + self.rollout_buffer.kl_coef * (log_ratio.exp() - log_ratio - 1)
        return loss


def relative(returns: Floats, scale: bool) -> Floats:
    """Advantages within groups ``[..., G]``; exactly 0 where all returns are equal."""
    # From the first one on, so that equal returns have no rounding error to be scaled up.
    shifted = returns - returns[..., :1]
    advantages = shifted - shifted.mean(-1, keepdims=True)
    if scale:
        advantages = advantages / (shifted.std(-1, ddof=1, keepdims=True) + 1e-4)
    return np.asarray(advantages)


def token_weights(batch: Minibatch, loss_type: LossType, max_tokens: int) -> Tensor:
    """The weight of each token in the loss, ``[n]``."""
    count, tokens = len(batch.advantages), len(batch.actions)
    if loss_type == "grpo":
        lengths = torch.bincount(batch.episodes, minlength=count)
        return 1 / (count * lengths[batch.episodes])
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
    lm = starting_model(venv, s.lm, seed, s.out)
    return GRPO(
        LMPolicy,
        venv,
        n_epochs=s.n_epochs,
        minibatches=s.minibatches,
        clip_range=s.clip_range,
        loss_type=s.loss_type,
        scale_rewards=s.scale_rewards,
        seed=seed,
        **s.arguments(lm),
    )


def main(settings: Settings) -> None:
    """Train and evaluate."""
    run("grpo", settings, partial(make_agent, settings=settings))


if __name__ == "__main__":
    command_line("agents.grpo", Settings(), __doc__, main)

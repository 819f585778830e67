r"""RLOO on tokens: REINFORCE, with the other responses to a prompt as the baseline.

    python -m agents.rloo --env TextGen/Sentiment-v0
    python -m agents.rloo --help

REINFORCE leave-one-out (Ahmadian et al. 2024, "Back to Basics", https://arxiv.org/abs/2402.14740;
the estimator is of Kool et al. 2019, https://openreview.net/forum?id=r1lgTGL5DE). G responses are
written to each prompt. A whole response is one action: with the return r_i of response i, lowered
by the KL divergence from the frozen initial model,

    R_i = r_i - beta * sum over its tokens of (log pi - log ref),
    A_i = R_i - mean of the other G - 1,

the loss is the mean over responses of -A_i * (sum of the log-probabilities of its tokens). The
baseline does not depend on the response, so the gradient is unbiased. One gradient step is taken on
each rollout, which is then thrown away: nothing is off-policy, so nothing is clipped. The rollout
of whole episodes is in agents/running/groups.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from agents.running.command_line import command_line
from agents.running.groups import Floats, GroupAlgorithm, GroupBuffer, GroupSettings, Minibatch
from agents.running.run import run
from agents.running.word_model import starting_model
from textgym.sb3 import LMPolicy


@dataclass
class Settings(GroupSettings):
    """Settings of RLOO."""

    lr: float = 1e-3
    """Learning rate of Adam."""


class RLOO(GroupAlgorithm):
    """REINFORCE leave-one-out; for its arguments see :class:`agents.running.groups.GroupAlgorithm`.

    Checkpoints can be taken and resumed, as PPO's (:mod:`textgym.sb3.checkpoints`).
    """

    def advantages(self, buffer: GroupBuffer) -> Floats:
        """Penalised returns relative to those of the others in their groups ``[E, N]``."""
        penalised = buffer.returns - buffer.kl_coef * buffer.divergences
        return leave_one_out(buffer.groups(penalised)).reshape(penalised.shape)

    def train(self) -> None:
        """Take one gradient step on the rollout."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        (batch,) = self.rollout_buffer.minibatches(1)
        _, log_probs, entropy = self.policy.evaluate_actions(
            batch.sequences,  # type: ignore[arg-type]
            batch.actions,
        )
        loss = reinforce(batch, log_probs)
        self.descend(loss)
        self._n_updates += 1
        self.logger.record("train/loss", loss.item())
        self.logger.record("train/entropy", 0.0 if entropy is None else entropy.mean().item())
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")


def leave_one_out(returns: Floats) -> Floats:
    """Each return of a group ``[..., G]`` minus the mean of the others; 0 where all are equal."""
    # From the first one on, so that equal returns have no rounding error.
    shifted = returns - returns[..., :1]
    others = returns.shape[-1] - 1
    baseline: Floats = (shifted.sum(-1, keepdims=True) - shifted) / others
    return shifted - baseline


def reinforce(batch: Minibatch, log_probs: Tensor) -> Tensor:
    """The mean over responses of minus advantage times log-probability, from tokens' ``[n]``."""
    return -(batch.advantages[batch.episodes] * log_probs).sum() / len(batch.advantages)


def make_agent(venv: VecEnv, seed: int, settings: Settings | None = None) -> RLOO:
    """Build the agent: `learn` trains it, `predict` writes tokens.

    Args:
        venv: Environment of ``textgym.sb3.make_vec_env(..., group_size=G)``.
        seed: Seed of initial weights and sampling.
        settings: Settings; the defaults if None.
    """
    s = settings or Settings()
    lm = starting_model(venv, s.lm, seed, s.out)
    return RLOO(LMPolicy, venv, seed=seed, **s.arguments(lm))


def main(settings: Settings) -> None:
    """Train and evaluate."""
    run("rloo", settings, partial(make_agent, settings=settings))


if __name__ == "__main__":
    command_line("agents.rloo", Settings(), __doc__, main)

"""A2C on tokens: Stable-Baselines3's own A2C, with a language model as its policy.

    python -m agents.a2c --env TextGen/Sentiment-v0
    python -m agents.a2c --help

Synchronous advantage actor-critic (Mnih et al. 2016, https://arxiv.org/abs/1602.01783): one
gradient step on each rollout. Simpler than PPO, and it makes less of each token. The KL penalty is
the one of agents/ppo.py. With `--whole-episodes`, tokens that waited for the end of their text are
of weights some steps ago, which the gradient does not know; `--no-whole-episodes` is on-policy to
the letter, and learns from the value function's guesses instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from stable_baselines3 import A2C
from stable_baselines3.common.vec_env import VecEnv

from agents.running.command_line import command_line
from agents.running.run import run
from agents.running.training import ActorCriticSettings
from agents.running.validation import at_least
from agents.running.word_model import starting_model
from textgym.sb3 import LMPolicy


@dataclass
class Settings(ActorCriticSettings):
    """Settings of A2C."""

    gae_lambda: float = 1.0
    """Trade-off of the advantage estimate: 1 is Monte Carlo, 0 trusts the value function."""
    ent_coef: float = 0.0
    """Weight of the entropy bonus."""
    vf_coef: float = 0.1
    """Weight of the value loss."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""

    def __post_init__(self) -> None:
        """Refuse impossible numbers."""
        super().__post_init__()
        at_least(0, ent_coef=self.ent_coef, vf_coef=self.vf_coef)


def make_agent(venv: VecEnv, seed: int, settings: Settings | None = None) -> A2C:
    """Build the agent: `learn` trains it, `predict` writes tokens.

    Args:
        venv: Environment of token ids, from `textgym.sb3.make_vec_env`.
        seed: Seed of initial weights and sampling.
        settings: Settings; the defaults if None.
    """
    s = settings or Settings()
    lm = starting_model(venv, s.lm, seed, s.out)
    return A2C(
        LMPolicy,
        venv,
        ent_coef=s.ent_coef,
        vf_coef=s.vf_coef,
        max_grad_norm=s.max_grad_norm,
        # RMSprop, A2C's default, is tuned for small convolutional networks.
        use_rms_prop=False,
        normalize_advantage=True,
        policy_kwargs={"lm": lm},
        seed=seed,
        **s.rollouts(lm),
    )


def main(settings: Settings) -> None:
    """Train and evaluate."""
    run("a2c", settings, partial(make_agent, settings=settings))


if __name__ == "__main__":
    command_line("agents.a2c", Settings(), __doc__, main)

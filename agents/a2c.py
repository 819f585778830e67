"""A2C on tokens: Stable-Baselines3's own A2C, with a language model as its policy.

    python -m agents.a2c --env TextGen/Sentiment-v0
    python -m agents.a2c --help

Synchronous advantage actor-critic (Mnih et al. 2016, https://arxiv.org/abs/1602.01783): one
gradient step on each rollout. Simpler than PPO, and it makes less of each token. The
penalty on the KL divergence from the initial model is the same as in agents/ppo.py.

With `--whole-episodes`, tokens that waited for the end of their text come from weights of some
steps ago, which the gradient does not account for. `--no-whole-episodes` is strictly on-policy, and
bootstraps from the value function instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from agents.running.command_line import command_line
from agents.running.run import CriticSettings, StepSettings, run
from agents.running.validation import above, at_least, within
from agents.running.word_model import starting_model

if TYPE_CHECKING:
    from stable_baselines3 import A2C
    from stable_baselines3.common.vec_env import VecEnv


@dataclass
class Settings(CriticSettings, StepSettings):
    """Settings of A2C, on top of those of every run."""

    lm: str | None = None
    """Language model to train, a folder or hub name; the environment uses its tokenizer too.
    Default: textgym/tiny, or for a closed vocabulary a small new model of its words."""
    lr: float = 5e-4
    """Learning rate of Adam."""
    n_steps: int = 32
    """Tokens per row and rollout: a rollout has n_steps * n_envs tokens."""
    gamma: float = 1.0
    """Discount. A text is judged as a whole, so its first token counts as much as its last."""
    gae_lambda: float = 1.0
    """Trade-off of the advantage estimate: 1 is Monte Carlo, 0 trusts the value function."""
    ent_coef: float = 0.0
    """Weight of the entropy bonus."""
    vf_coef: float = 0.1
    """Weight of the value loss."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    kl_coef: float = 0.02
    """Weight of the KL penalty, in reward per nat; the initial weight if --kl-target is given.
    With 0 there is no penalty and no reference model."""
    kl_target: float | None = 0.3
    """Adapt the weight to keep the KL near this many nats per token. None keeps it fixed."""
    whole_episodes: bool = True
    """Learn from a text when it is over, including the tokens that earlier rollouts wrote.
    Otherwise each rollout learns from its own tokens, and bootstraps the rest of the text."""

    def __post_init__(self) -> None:
        """Refuse impossible numbers."""
        super().__post_init__()
        at_least(0, kl_coef=self.kl_coef)
        at_least(0, ent_coef=self.ent_coef, vf_coef=self.vf_coef)
        at_least(1, n_steps=self.n_steps)
        within(0, 1, gamma=self.gamma, gae_lambda=self.gae_lambda)
        above(0, kl_target=self.kl_target)


def make_agent(venv: VecEnv, seed: int, settings: Settings | None = None) -> A2C:
    """Build the agent: `learn` trains it, `predict` writes tokens.

    Args:
        venv: Environment of token ids, from `textgym.sb3.make_vec_env`.
        seed: Seed of initial weights and sampling.
        settings: Settings; the defaults if None.
    """
    # Imported here, so that --help does not wait for torch.
    from stable_baselines3 import A2C

    from textgym.sb3 import LMPolicy, LMRolloutBuffer

    s = settings or Settings()
    lm = starting_model(venv, s.lm, seed, s.out)
    return A2C(
        LMPolicy,
        venv,
        learning_rate=s.learning_rate,
        n_steps=s.n_steps,
        gamma=s.gamma,
        gae_lambda=s.gae_lambda,
        ent_coef=s.ent_coef,
        vf_coef=s.vf_coef,
        max_grad_norm=s.max_grad_norm,
        # RMSprop, A2C's default, is tuned for small convolutional networks.
        use_rms_prop=False,
        normalize_advantage=True,
        rollout_buffer_class=LMRolloutBuffer,
        rollout_buffer_kwargs={
            "kl_coef": s.kl_coef,
            "kl_target": s.kl_target if s.kl_coef else None,
            "reference": s.reference(lm) if s.kl_coef else None,
            "reference_dtype": s.reference_dtype,
            "whole_episodes": s.whole_episodes,
        },
        policy_kwargs=s.policy_kwargs(lm),
        seed=seed,
        device=s.device,
    )


def main(settings: Settings) -> None:
    """Train and evaluate."""
    run("a2c", settings, partial(make_agent, settings=settings))


if __name__ == "__main__":
    command_line("agents.a2c", Settings(), __doc__, main)

"""PPO on tokens: Stable-Baselines3's own PPO, with a language model as its policy.

    python -m agents.ppo --env TextGen/Sentiment-v0
    python -m agents.ppo --prompts my.jsonl --reward my_module:my_reward
    python -m agents.ppo --env TextGen/Story-v0 --warm-start 60_000    # references first
    python -m agents.ppo --help

Proximal policy optimization (Schulman et al. 2017, https://arxiv.org/abs/1707.06347) with a penalty
on the KL divergence from the frozen initial model (Ziegler et al. 2019,
https://arxiv.org/abs/1909.08593), which keeps the text fluent while the reward rises.

In the first pass over a rollout the probability ratio is 1 for every token that the current weights
have written, but for rounding in bfloat16. With `--whole-episodes`, tokens of earlier rollouts wait
for the end of their text; their ratio is to the weights that wrote them, as in later passes.

This file has all hyperparameters, and stable_baselines3/ppo/ppo.py the algorithm. For single
environments agents/settings/ppo.yaml has better defaults (`--no-tuned` ignores them). The run
around it (evaluation, logs, checkpoints) is in agents/running/.
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
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import VecEnv


@dataclass
class Settings(CriticSettings, StepSettings):
    """Settings of PPO, on top of those of every run."""

    lm: str | None = None
    """Language model to train, a folder or hub name; the environment uses its tokenizer too.
    Default: textgym/tiny, or for a closed vocabulary a small new model of its words."""
    lr: float = 6e-4
    """Learning rate of Adam."""
    n_steps: int = 32
    """Tokens per row and rollout: a rollout has n_steps * n_envs tokens."""
    n_epochs: int = 1
    """Passes over each rollout."""
    minibatches: int = 2
    """Gradient steps per pass over a rollout. Minibatches hold whole sequences."""
    gamma: float = 1.0
    """Discount. A text is judged as a whole, so its first token counts as much as its last."""
    gae_lambda: float = 0.97
    """Trade-off of the advantage estimate: 1 is Monte Carlo, 0 trusts the value function."""
    clip_range: float = 0.2
    """The probability ratio of a token is clipped to 1 - clip_range and 1 + clip_range."""
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
        at_least(0, clip_range=self.clip_range, ent_coef=self.ent_coef, vf_coef=self.vf_coef)
        at_least(1, n_steps=self.n_steps, n_epochs=self.n_epochs, minibatches=self.minibatches)
        within(0, 1, gamma=self.gamma, gae_lambda=self.gae_lambda)
        above(0, kl_target=self.kl_target)


def make_agent(venv: VecEnv, seed: int, settings: Settings | None = None) -> PPO:
    """Build the agent: `learn` trains it, `predict` writes tokens.

    Args:
        venv: Environment of token ids, from `textgym.sb3.make_vec_env`.
        seed: Seed of initial weights and sampling.
        settings: Settings; the defaults if None.
    """
    # Imported here, so that --help does not wait for torch.
    from stable_baselines3 import PPO

    from textgym.sb3 import LMPolicy, LMRolloutBuffer

    s = settings or Settings()
    lm = starting_model(venv, s.lm, seed, s.out)
    return PPO(
        LMPolicy,
        venv,
        learning_rate=s.learning_rate,
        n_steps=s.n_steps,
        batch_size=max(2, s.n_steps * venv.num_envs // s.minibatches),
        n_epochs=s.n_epochs,
        gamma=s.gamma,
        gae_lambda=s.gae_lambda,
        clip_range=s.clip_range,
        ent_coef=s.ent_coef,
        vf_coef=s.vf_coef,
        max_grad_norm=s.max_grad_norm,
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
    run("ppo", settings, partial(make_agent, settings=settings))


if __name__ == "__main__":
    command_line("agents.ppo", Settings(), __doc__, main)

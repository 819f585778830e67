"""PPO on tokens: Stable-Baselines3's own PPO, with a language model as its policy.

    python -m agents.ppo --env TextGen/Sentiment-v0
    python -m agents.ppo --prompts my.jsonl --reward my_module:my_reward
    python -m agents.ppo --help

Proximal policy optimisation (Schulman et al. 2017, https://arxiv.org/abs/1707.06347) with a penalty
on the KL divergence from the frozen initial model (Ziegler et al. 2019,
https://arxiv.org/abs/1909.08593), which keeps the text fluent while the reward rises.

In the first pass the probability ratio is 1 for every token that the present weights have written.
With `--whole-episodes`, tokens of earlier rollouts that waited for the end of their text have the
ratio to the weights that wrote them, as in later passes: that is what it is for.

Nothing is hidden elsewhere: `make_agent` and `arguments` are all it takes, and `agents.running.run`
around them evaluates, logs and saves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from agents.running.command_line import command_line
from agents.running.run import run
from agents.running.training import ActorCriticSettings
from agents.running.validation import at_least
from agents.running.word_model import starting_model
from textgym.sb3 import LMPolicy


@dataclass
class Settings(ActorCriticSettings):
    """Settings of PPO."""

    minibatches: int = 2
    """Gradient steps per pass over a rollout. Minibatches hold whole sequences."""
    n_epochs: int = 2
    """Passes over each rollout."""
    clip_range: float = 0.2
    """How far the probability ratio of a token may move before its gradient is cut."""
    ent_coef: float = 0.0
    """Weight of the entropy bonus."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""

    def __post_init__(self) -> None:
        """Refuse impossible numbers."""
        super().__post_init__()
        at_least(1, minibatches=self.minibatches, n_epochs=self.n_epochs)
        at_least(0, clip_range=self.clip_range, ent_coef=self.ent_coef, vf_coef=self.vf_coef)


def make_agent(venv: VecEnv, seed: int, settings: Settings | None = None) -> PPO:
    """Build the agent: `learn` trains it, `predict` writes tokens.

    Args:
        venv: Environment of token ids, from `textgym.sb3.make_vec_env`.
        seed: Seed of initial weights and sampling.
        settings: Settings; the defaults if None.
    """
    s = settings or Settings()
    lm = starting_model(venv, s.lm, seed, s.out)
    return PPO(LMPolicy, venv, policy_kwargs={"lm": lm}, seed=seed, **arguments(s, lm, venv))


def arguments(s: Settings, lm: str, venv: VecEnv) -> dict[str, Any]:
    """What PPO is made with, and so are its relatives beside this file.

    Args:
        s: Settings.
        lm: The language model to train, from which the KL divergence is measured.
        venv: The environment.
    """
    return {
        **s.rollouts(lm),
        "batch_size": max(2, s.n_steps * venv.num_envs // s.minibatches),
        "n_epochs": s.n_epochs,
        "clip_range": s.clip_range,
        "ent_coef": s.ent_coef,
        "vf_coef": s.vf_coef,
        "max_grad_norm": s.max_grad_norm,
    }


def main(settings: Settings) -> None:
    """Train and evaluate."""
    run("ppo", settings, partial(make_agent, settings=settings))


if __name__ == "__main__":
    command_line("agents.ppo", Settings(), __doc__, main)

"""TRPO: sb3-contrib's own, with a language model as policy.

    python -m agents.trpo --env TextGen/Sentiment-v0
    python -m agents.trpo --target-kl 0.02 --steps 200_000
    python -m agents.trpo --help

Trust region policy optimization (Schulman et al. 2015, https://arxiv.org/abs/1502.05477): one long
step an update, in the direction of the natural gradient, as long as the mean KL divergence a token
from the policy before stays below a limit. PPO's clipping is its cheaper successor: a direction
takes `--cg-max-steps` derivatives of second order, each dearer than one of PPO's gradient steps.

As in agents/ppo.py, a penalty on the KL divergence from the *initial* model keeps texts fluent; the
trust region knows nothing of that one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from agents.cli import command_line
from agents.common import RunSettings, run
from agents.word_model import starting_model
from textgym.errors import SettingsError, require
from textgym.sb3 import LMPolicy, LMRolloutBuffer

require("sb3_contrib", "contrib")
from sb3_contrib import TRPO  # noqa: E402


@dataclass
class Settings(RunSettings):
    """Settings of TRPO."""

    lm: str | None = None
    """Language model to train, a folder or hub name; the environment uses its tokenizer too.
    Default: textgym/tiny, or for a closed vocabulary a small new model of its words."""
    n_steps: int = 32
    """Tokens per row and rollout: an update sees n_steps * n_envs tokens, all at once."""
    target_kl: float = 0.01
    """Limit of the KL divergence between the policies before and after an update, a token."""
    cg_max_steps: int = 10
    """Iterations of conjugate gradients, which find the direction."""
    cg_damping: float = 0.01
    """Added to the diagonal of the Fisher matrix, so that it can be inverted."""
    n_critic_updates: int = 2
    """Passes over a rollout for the value function, which has no part in the language model."""
    minibatches: int = 2
    """Gradient steps per pass of the value function."""
    lr: float = 1e-3
    """Learning rate of the value function; the policy's step is as long as the limit allows."""
    gamma: float = 1.0
    """Discount. A text is judged as a whole, so its first token counts as much as its last."""
    gae_lambda: float = 0.97
    """Trade-off of the advantage estimate: 1 is Monte Carlo, 0 trusts the value function."""
    kl_coef: float = 0.02
    """Weight of the KL penalty; the first one if --kl-target is given."""
    kl_target: float | None = 0.3
    """Adapt the weight so that the KL per token to the initial model stays near this value."""
    whole_episodes: bool = True
    """Learn from a text when it is over, from all its tokens at once; or from what each rollout has
    of it, with the value function's guess in place of the end."""


class LanguageTRPO(TRPO):
    """TRPO whose actor is the language model, whole."""

    policy: LMPolicy

    def _setup_model(self) -> None:
        """Build the policy.

        Raises:
            SettingsError: If it excludes tokens, for which the KL has no derivatives.
        """
        super()._setup_model()
        sampler = self.policy.sampler
        if sampler.truncates or sampler.banned or sampler.required:
            raise SettingsError(
                "TRPO takes derivatives of a KL divergence that is not defined where tokens are "
                "excluded; leave top_k, top_p, banned_tokens and required_tokens out of sampling"
            )

    def train(self) -> None:
        """Update the policy and the value function."""
        # The one way of computing attention that has derivatives of second order.
        with sdpa_kernel(SDPBackend.MATH):
            super().train()

    def _compute_actor_grad(
        self, kl_div: Tensor, policy_objective: Tensor
    ) -> tuple[list[nn.Parameter], Tensor, Tensor, list[tuple[int, ...]]]:
        """The language model's gradients; one pass for all, where TRPO takes one for each weight.

        TRPO finds the actor's weights by their names, which are any in a language model.
        """
        weights = [weight for weight in self.policy.lm.parameters() if weight.requires_grad]
        of_kl = torch.autograd.grad(kl_div, weights, create_graph=True, allow_unused=True)
        used = [(w, g) for w, g in zip(weights, of_kl, strict=True) if g is not None]
        weights = [weight for weight, _ in used]
        of_gain = torch.autograd.grad(policy_objective, weights, retain_graph=True)
        shapes: list[tuple[int, ...]] = [weight.shape for weight in weights]
        flat = torch.cat([gradient.reshape(-1) for gradient in of_gain])
        return weights, flat, torch.cat([gradient.reshape(-1) for _, gradient in used]), shapes


def make_agent(venv: VecEnv, seed: int, settings: Settings | None = None) -> LanguageTRPO:
    """Build the agent: `learn` trains it, `predict` writes tokens.

    Args:
        venv: Environment of token ids, from `textgym.sb3.make_vec_env`.
        seed: Seed of initial weights and sampling.
        settings: Settings; the defaults if None.
    """
    s = settings or Settings()
    lm = starting_model(venv, s.lm, seed, s.out)
    return LanguageTRPO(
        LMPolicy,
        venv,
        learning_rate=s.lr,
        n_steps=s.n_steps,
        batch_size=s.n_steps * venv.num_envs // s.minibatches,
        gamma=s.gamma,
        gae_lambda=s.gae_lambda,
        target_kl=s.target_kl,
        cg_max_steps=s.cg_max_steps,
        cg_damping=s.cg_damping,
        n_critic_updates=s.n_critic_updates,
        policy_kwargs={"lm": lm},
        rollout_buffer_class=LMRolloutBuffer,
        rollout_buffer_kwargs={
            "kl_coef": s.kl_coef,
            "kl_target": s.kl_target,
            "reference": lm,
            "whole_episodes": s.whole_episodes,
        },
        seed=seed,
        device=s.device,
    )


def main(settings: Settings) -> None:
    """Train and evaluate."""
    run("trpo", settings, partial(make_agent, settings=settings))


if __name__ == "__main__":
    command_line("agents.trpo", Settings(), __doc__, main)

"""TRPO on tokens: sb3-contrib's own TRPO, with a language model as its policy.

    python -m agents.trpo --env TextGen/Sentiment-v0
    python -m agents.trpo --target-kl 0.01 --steps 200_000
    python -m agents.trpo --help

Trust region policy optimization (Schulman et al. 2015, https://arxiv.org/abs/1502.05477): each
update is one step in the direction of the natural gradient, as long as the mean KL divergence per
token from the policy before the update stays below a limit. PPO's clipping is the cheaper
successor: a direction takes `--cg-max-steps` second-order derivatives, each of which costs more
than a gradient step of PPO. They are computed on some of the texts only, as in appendix C of the
paper; the limit holds on all texts.

As in agents/ppo.py, a penalty on the KL divergence from the *initial* model keeps texts fluent. It
is independent of the trust region.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

from agents.running.command_line import check_flags, command_line
from agents.running.run import LMSettings, StepSettings, run
from agents.running.validation import above, at_least, within
from agents.running.word_model import starting_model
from textgym.errors import SettingsError, require


@dataclass
class Settings(LMSettings, StepSettings):
    """Settings of TRPO, on top of those of every run."""

    lm: str | None = None
    """Language model to train, a folder or hub name; the environment uses its tokenizer too.
    Default: textgym/tiny, or for a closed vocabulary a small new model of its words."""
    lr: float = 1e-3
    """Learning rate of the value function; the policy's step is as long as the limit allows."""
    n_steps: int = 32
    """Tokens per row and rollout: a rollout has n_steps * n_envs tokens."""
    target_kl: float = 0.03
    """Limit of the KL divergence between the policies around an update, in nats per token."""
    cg_max_steps: int = 5
    """Iterations of the conjugate gradient method, which finds the direction."""
    cg_damping: float = 0.01
    """Added to the diagonal of the Fisher matrix, so that it can be inverted."""
    fisher_parts: int = 2
    """The Fisher matrix is estimated from one of this many equal parts of a rollout's texts."""
    n_critic_updates: int = 2
    """Passes over a rollout for the value function, which shares no weights with the policy."""
    minibatches: int = 2
    """Gradient steps per pass of the value function."""
    gamma: float = 1.0
    """Discount. A text is judged as a whole, so its first token counts as much as its last."""
    gae_lambda: float = 0.97
    """Trade-off of the advantage estimate: 1 is Monte Carlo, 0 trusts the value function."""
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
        above(0, target_kl=self.target_kl, kl_target=self.kl_target)
        at_least(0, kl_coef=self.kl_coef)
        at_least(0, cg_damping=self.cg_damping, n_critic_updates=self.n_critic_updates)
        at_least(1, n_steps=self.n_steps, minibatches=self.minibatches)
        at_least(1, cg_max_steps=self.cg_max_steps, fisher_parts=self.fisher_parts)
        within(0, 1, gamma=self.gamma, gae_lambda=self.gae_lambda)


if __name__ == "__main__":
    check_flags("agents.trpo", Settings(), __doc__)  # Before the slow imports.

import torch
from stable_baselines3.common.distributions import kl_divergence
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from textgym.sb3 import LMPolicy, LMRolloutBuffer

require("sb3_contrib", "contrib")
from sb3_contrib import TRPO


class LanguageTRPO(TRPO):
    """TRPO whose actor is all of the language model.

    Args:
        *args: As in sb3-contrib.
        fisher_parts: The Fisher matrix is estimated from one of this many parts of a rollout's
            texts, with about the same number of tokens each.
        **kwargs: As in sb3-contrib.
    """

    policy: LMPolicy

    def __init__(self, *args: Any, fisher_parts: int = 1, **kwargs: Any) -> None:
        if fisher_parts < 1:
            raise SettingsError(f"fisher_parts={fisher_parts} has to be at least 1")
        self.fisher_parts = fisher_parts
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        """Build the policy.

        Raises:
            SettingsError: If its sampling excludes tokens, where the KL has no derivatives.
        """
        super()._setup_model()
        sampler = self.policy.sampler
        if sampler.truncates or sampler.banned or sampler.required:
            raise SettingsError(
                "TRPO takes derivatives of a KL divergence that is not defined where tokens are "
                "excluded; leave top_k, top_p, banned_tokens and required_tokens out of sampling"
            )

    def _compute_actor_grad(
        self, kl_div: Tensor, policy_objective: Tensor
    ) -> tuple[list[nn.Parameter], Tensor, Tensor, list[tuple[int, ...]]]:
        """The language model's gradients, in one pass; TRPO's own method takes one per weight.

        TRPO's own method finds the actor's weights by their names, which vary between models.
        """
        whole = self.fisher_parts == 1
        if not whole:
            kl_div = self._divergence_of_some()
        weights = [weight for weight in self.policy.lm.parameters() if weight.requires_grad]
        of_kl = torch.autograd.grad(kl_div, weights, create_graph=True, allow_unused=True)
        used = [(w, g) for w, g in zip(weights, of_kl, strict=True) if g is not None]
        weights = [weight for weight, _ in used]
        of_gain = torch.autograd.grad(policy_objective, weights, retain_graph=whole)
        shapes: list[tuple[int, ...]] = [weight.shape for weight in weights]
        flat = torch.cat([gradient.reshape(-1) for gradient in of_gain])
        return weights, flat, torch.cat([gradient.reshape(-1) for _, gradient in used]), shapes

    def _divergence_of_some(self) -> Tensor:
        """The mean KL divergence from the current policy on some texts.

        Its value and gradient are 0; TRPO needs its second derivative.
        """
        tokens = len(next(self.rollout_buffer.get(None)).actions)
        size = -(-tokens // self.fisher_parts)
        observations = next(self.rollout_buffer.get(size)).observations
        with torch.no_grad():
            # A copy, because the policy reuses one distribution object.
            old = copy(self.policy.get_distribution(observations))
        return kl_divergence(self.policy.get_distribution(observations), old).mean()


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
        learning_rate=s.learning_rate,
        n_steps=s.n_steps,
        batch_size=max(2, s.n_steps * venv.num_envs // s.minibatches),
        gamma=s.gamma,
        gae_lambda=s.gae_lambda,
        target_kl=s.target_kl,
        cg_max_steps=s.cg_max_steps,
        cg_damping=s.cg_damping,
        fisher_parts=s.fisher_parts,
        n_critic_updates=s.n_critic_updates,
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
    run("trpo", settings, partial(make_agent, settings=settings))


if __name__ == "__main__":
    command_line("agents.trpo", Settings(), __doc__, main)

"""NLPO on tokens: PPO with a top-p mask from an older copy of the policy.

    python -m agents.nlpo --env TextGen/Sentiment-v0
    python -m agents.nlpo --top-p 0.8 --target-update 10
    python -m agents.nlpo --help

Natural language policy optimization (Ramamurthy et al. 2023, https://arxiv.org/abs/2210.01241). A
vocabulary is a large set of actions, most of which are wrong everywhere. A mask policy, a copy of
the policy from some rollouts ago, keeps the likeliest tokens that together reach the probability
top_p; the policy samples among them, renormalized. The rest is PPO with a KL penalty, as in
agents/ppo.py, and with `--top-p 1` it is that algorithm.

The mask is recorded when a token is sampled and reused in the update, so that the probability ratio
compares two distributions over the same tokens: it starts at 1 for every token of the rollout.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from agents.running.command_line import check_flags, command_line
from agents.running.run import CriticSettings, StepSettings, run
from agents.running.validation import above, at_least, within
from agents.running.word_model import starting_model


@dataclass
class Settings(CriticSettings, StepSettings):
    """Settings of NLPO, on top of those of every run: its mask's, then PPO's."""

    top_p: float = 0.9
    """The mask keeps the likeliest tokens that reach this probability; 1 masks nothing."""
    min_tokens: int = 1
    """The mask keeps at least this many tokens."""
    target_update: int = 5
    """Rollouts between two updates of the mask policy, which is a copy of the policy."""
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
        if self.sampling_top_p is not None or self.sampling_top_k is not None:
            raise SettingsError(
                "--sampling.top-p and --sampling.top-k: NLPO has its own mask; give --top-p"
            )
        at_least(0, kl_coef=self.kl_coef)
        at_least(0, clip_range=self.clip_range, ent_coef=self.ent_coef, vf_coef=self.vf_coef)
        at_least(1, n_steps=self.n_steps, n_epochs=self.n_epochs, minibatches=self.minibatches)
        within(0, 1, gamma=self.gamma, gae_lambda=self.gae_lambda)
        above(0, kl_target=self.kl_target)


if __name__ == "__main__":
    check_flags("agents.nlpo", Settings(), __doc__)  # Before the slow imports.

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from textgym.data.observations import split_observation
from textgym.errors import SettingsError
from textgym.lm.decoding.memo import MemoDecoder
from textgym.lm.engine import prepare_training
from textgym.lm.model import LanguageModel
from textgym.lm.sampling.draw import sample_tokens
from textgym.lm.sampling.kept_sets import KeptSets
from textgym.lm.scoring import MAX_LOGITS, SequenceBatch, last_hidden, observation_batch
from textgym.sb3 import LMPolicy, LMRolloutBuffer


class NLPOPolicy(LMPolicy):
    """A language-model policy that samples among the tokens that a mask model finds likely.

    The mask model is a frozen copy of the policy's language model, until :meth:`refresh_mask`
    copies the weights again. ``top_p`` (or ``top_k``) in ``sampling`` applies to the *mask model's*
    probabilities, after the same temperature, penalties and bans as the policy's. Without top-p or
    top-k nothing is masked.

    Special tokens: eos is never masked, since a text must be able to end; it is impossible only
    where ``sampling`` forbids it (``banned_tokens``, ``required_tokens``). All others (bos,
    padding) are treated like any other token.

    The mask model is saved with the policy, but not by ``policy.lm.save_pretrained``: for texts
    like the agent's, generate with top-p.

    Args:
        args: As for :class:`LMPolicy`.
        min_tokens: The mask keeps at least this many of the mask model's likeliest tokens.
        target_update: Rollouts between two refreshes, which the algorithm (`NLPO`) does.
        kwargs: As for :class:`LMPolicy`.

    Attributes:
        mask_model: The mask model.

    Raises:
        SettingsError: If `min_tokens` exceeds the vocabulary, or the environment has pictures.
    """

    def __init__(
        self, *args: Any, min_tokens: int = 1, target_update: int = 5, **kwargs: Any
    ) -> None:
        for name, value in (("min_tokens", min_tokens), ("target_update", target_update)):
            if value < 1:
                raise SettingsError(f"{name} is {value}; give a whole number of at least 1")
        self.min_tokens = min_tokens
        self.target_update = target_update
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        if self.view.image_shape is not None:
            raise SettingsError(
                "the mask of NLPO reads text alone, and this environment has pictures; use "
                "agents/ppo.py"
            )
        if self.min_tokens > self.lm.vocab_size:
            raise SettingsError(
                f"min_tokens is {self.min_tokens}, but there are {self.lm.vocab_size} tokens"
            )
        # After the optimizer, which must not train it. A new LoRA adapter draws random numbers; the
        # fork keeps the other random numbers as they are without a mask.
        with torch.random.fork_rng(devices=[]):
            self.mask_model = LanguageModel.load(self.lm_name, device="cpu")
            prepare_training(self.mask_model, self.engine["dtype"], self.engine["lora"])
        self.mask_model.requires_grad_(False)
        self.mask_decoder = MemoDecoder(self.mask_model, self.view.width) if self.decoder else None
        self.refresh_mask()

    def refresh_mask(self) -> None:
        """Copy the current weights of the policy's language model to the mask model."""
        self.mask_model.load_state_dict(self.lm.state_dict())
        if self.mask_decoder is not None:
            self.mask_decoder.invalidate()

    @torch.no_grad()
    def mask(self, tokens: Tensor) -> KeptSets:
        """The tokens that may follow each text.

        Args:
            tokens: ``[B, L]`` token ids, padded on the right with -1.

        Returns:
            B sets: the mask model's nucleus, its `min_tokens` likeliest tokens, and eos.
        """
        lm, parts = self.mask_model, []
        decode = self.mask_decoder
        hidden = last_hidden(lm, tokens) if decode is None else decode(tokens)
        step = max(1, MAX_LOGITS // lm.vocab_size)
        for at in range(0, len(hidden), step):
            logits = lm.logits(hidden[at : at + step])
            logits = self.sampler.process(logits, tokens[at : at + step])
            nucleus = self.sampler.kept(logits)
            assert nucleus is not None, "without top-p there is no mask"
            keep = nucleus.mask()
            keep.scatter_(1, logits.topk(self.min_tokens).indices, True)
            keep[:, list(lm.tokenizer.ends)] = True
            # Banned tokens stay banned.
            parts.append(KeptSets.of_mask(keep & (logits > -torch.inf)))
        return KeptSets.join(parts)

    @torch.no_grad()
    def _draw(
        self, hidden: Tensor, obs: Tensor, deterministic: bool
    ) -> tuple[Tensor, Tensor, KeptSets | None]:
        """Actions ``[B]`` among the tokens in the mask, their log-probabilities, and the mask."""
        if not self.sampler.truncates:
            return super()._draw(hidden, obs, deterministic)
        kept = self.mask(obs)
        step = max(1, MAX_LOGITS // self.lm.vocab_size)
        parts = []
        for at in range(0, len(hidden), step):
            logits = self.lm.logits(hidden[at : at + step])
            some = kept.take(torch.arange(at, at + len(logits), device=logits.device))
            masked = self.sampler.process(logits, obs[at : at + step], some)
            parts.append(sample_tokens(masked, deterministic))
        actions, log_probs = zip(*parts, strict=True)
        return torch.cat(actions), torch.cat(log_probs), kept

    def get_distribution(self, obs: Any) -> Distribution:
        """The masked categorical distribution over tokens after each observation.

        For sequences from the buffer, the masks are those with which their tokens were sampled.
        """
        batch = obs
        if not isinstance(obs, SequenceBatch):
            batch = observation_batch(split_observation(obs)[0])
        if self.sampler.truncates and batch.kept is None:
            batch = batch._replace(kept=self.mask(batch.observations(0, len(batch.rows))))
        return super().get_distribution(batch)

    def train(self, mode: bool = True) -> NLPOPolicy:
        """Switch between training and evaluation mode.

        Training clears the mask model's cache, although its weights do not change: a resumed run
        then computes the same as one that was not interrupted.
        """
        super().train(mode)
        if mode and self.mask_decoder is not None:
            self.mask_decoder.invalidate()
        return self

    def _get_constructor_parameters(self) -> dict[str, Any]:
        own = {"min_tokens": self.min_tokens, "target_update": self.target_update}
        return {**super()._get_constructor_parameters(), **own}


class NLPO(PPO):
    """Stable-Baselines3's PPO, which also refreshes the mask of an :class:`NLPOPolicy`.

    The number of rollouts follows from the timesteps, so that a resumed run refreshes the mask at
    the same rollouts as one that was not interrupted.
    """

    policy: NLPOPolicy

    def train(self) -> None:
        """Update the policy, and after every ``target_update`` rollouts the mask."""
        super().train()
        rollouts = self.num_timesteps // (self.n_steps * self.n_envs)
        if rollouts % self.policy.target_update == 0:
            self.policy.refresh_mask()


def make_agent(venv: VecEnv, seed: int, settings: Settings | None = None) -> NLPO:
    """Build the agent: `learn` trains it, `predict` writes tokens.

    Args:
        venv: Environment of token ids, from `textgym.sb3.make_vec_env`.
        seed: Seed of initial weights and sampling.
        settings: Settings; the defaults if None.
    """
    s = settings or Settings()
    lm = starting_model(venv, s.lm, seed, s.out)
    policy_kwargs = s.policy_kwargs(lm)
    return NLPO(
        NLPOPolicy,
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
        policy_kwargs={
            **policy_kwargs,
            "sampling": {**policy_kwargs.get("sampling", {}), "top_p": s.top_p},
            "min_tokens": s.min_tokens,
            "target_update": s.target_update,
        },
        seed=seed,
        device=s.device,
    )


def main(settings: Settings) -> None:
    """Train and evaluate."""
    run("nlpo", settings, partial(make_agent, settings=settings))


if __name__ == "__main__":
    command_line("agents.nlpo", Settings(), __doc__, main)

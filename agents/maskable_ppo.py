"""PPO with action masks: sb3-contrib's own MaskablePPO, with a language model as its policy.

    python -m agents.maskable_ppo --env TextGen/Sentiment-v0 --no-repeat-ngram 3
    python -m agents.maskable_ppo --banned " not" " never"
    python -m agents.maskable_ppo --mask my_module:my_mask
    python -m agents.maskable_ppo --help

Invalid action masking (Huang and Ontañón 2020, https://arxiv.org/abs/2006.14171): tokens that are
not allowed after a text have probability 0, in sampling and in the update, so the agent does not
have to try them to avoid them. The rest is as in agents/ppo.py: PPO with a penalty on the KL
divergence from the initial model, whose distribution is masked in the same way.

Masks are for rules that depend on the text. For tokens that are always forbidden, `LMPolicy` with
`sampling=dict(banned_tokens=...)` suffices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from agents.running.command_line import check_flags, command_line
from agents.running.run import CriticSettings, StepSettings, run
from agents.running.validation import above, at_least, within
from agents.running.word_model import starting_model

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv


@dataclass
class Settings(CriticSettings, StepSettings):
    """Settings of MaskablePPO, on top of those of every run: the masks, then PPO's."""

    banned: tuple[str, ...] = ()
    """Tokens that are never written."""
    allowed: tuple[str, ...] = ()
    """The only tokens that may be written. Default: all."""
    no_repeat_ngram: int | None = None
    """Forbid that a sequence of this many tokens occurs twice in a text, including the prompt."""
    mask: str | None = None
    """Your own masks, as module:function (also of this folder).
    From texts, int32 [n, L] padded with -1, to the allowed next tokens, bool [n, V]."""
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

    def wrap(self, envs: VectorEnv[Any, Any, Any]) -> VectorEnv[Any, Any, Any]:
        """Add the masks of the settings."""
        if self.no_repeat_ngram is not None:
            envs = ActionMasks(envs, mask=no_repeats(envs, self.no_repeat_ngram))
        mask = None if self.mask is None else load_mask(self.mask)
        return ActionMasks(envs, self.banned, self.allowed or None, mask)


if __name__ == "__main__":
    check_flags("agents.maskable_ppo", Settings(), __doc__)  # Before the slow imports.

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from agents.running.environments import load_function
from textgym.data.observations import split_observation
from textgym.errors import SettingsError, require
from textgym.sb3 import TextVecEnv
from textgym.sb3.maskable import MaskableLMPolicy, MaskableLMRolloutBuffer
from textgym.wrappers import ActionMasks
from textgym.wrappers.lookahead_masks import masks_after
from textgym.wrappers.masks import Mask, MaskFunction
from textgym.wrappers.nesting import layers

require("sb3_contrib", "contrib")
from sb3_contrib import MaskablePPO


def no_repeats(envs: VectorEnv[Any, Any, Any], size: int) -> MaskFunction:
    """A mask that forbids to repeat a sequence of `size` tokens; eos stays allowed.

    Raises:
        SettingsError: If the size is below 1.
    """
    if size < 1:
        raise SettingsError(f"--no-repeat-ngram {size}: it has to be at least 1")
    tokenizer = envs.unwrapped.tokenizer  # type: ignore[attr-defined]

    def mask(texts: NDArray[np.int32]) -> Mask:
        allowed = np.ones((len(texts), tokenizer.vocab_size), np.bool_)
        if texts.shape[1] < size:
            return allowed
        lengths = (texts >= 0).sum(1)
        # The last size - 1 tokens, and all places where they occur before another token.
        last = lengths[:, None] - np.arange(size - 1, 0, -1)
        ends = np.take_along_axis(texts, last.clip(min=0), 1)
        runs = sliding_window_view(texts, size, axis=1)
        same = (runs[..., :-1] == ends[:, None]).all(-1)
        same &= (runs[..., -1] >= 0) & (lengths >= size - 1)[:, None]
        rows, places = same.nonzero()
        allowed[rows, runs[rows, places, -1]] = False
        allowed[:, list(tokenizer.ends)] = True
        return allowed

    return mask


def load_mask(spec: str) -> MaskFunction:
    """Import a mask function given as ``module:function``.

    Raises:
        SettingsError: If there is no such module or function.
    """
    try:
        function: MaskFunction = load_function(spec)
    except SettingsError as error:
        raise SettingsError(f"--mask {error}") from None
    return function


class MaskedWriter(MaskablePPO):
    """MaskablePPO whose ``predict`` computes the masks by the rules of its environment.

    MaskablePPO expects them as an argument, which the evaluation of agents does not pass. An agent
    that was made with masks and has no environment with masks (after ``load``, say) still needs
    the argument.

    Attributes:
        masked: Whether it was made in an environment with `ActionMasks`.
    """

    masked = False

    def _setup_model(self) -> None:
        self.masked = self.masked or self._has_masks()
        super()._setup_model()

    def _has_masks(self) -> bool:
        """Whether the environment has masks."""
        inner = None if self.env is None else self.env.unwrapped
        if not isinstance(inner, TextVecEnv):
            return False
        return any(isinstance(layer, ActionMasks) for layer in layers(inner.envs))

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
        action_masks: Mask | None = None,
    ) -> tuple[NDArray[Any], Any]:
        """Write one token per row, among those that are allowed after its text.

        Raises:
            SettingsError: If the agent was made with masks, and there are none now.
        """
        if action_masks is None and self.masked and not self._has_masks():
            raise SettingsError(
                "this agent was trained with action masks, and has no environment to compute them; "
                "load it with env=..., an environment with ActionMasks, or give action_masks"
            )
        inner = None if self.env is None else self.env.unwrapped
        if action_masks is None and isinstance(inner, TextVecEnv):
            after = masks_after(inner.envs)
            texts, _ = split_observation(observation)
            action_masks = None if after is None else after(np.atleast_2d(texts))
        found: tuple[NDArray[Any], Any] = super().predict(
            observation, state, episode_start, deterministic, action_masks
        )
        return found


def make_agent(venv: VecEnv, seed: int, settings: Settings | None = None) -> MaskedWriter:
    """Build the agent: `learn` trains it, `predict` writes tokens.

    Args:
        venv: Environment of token ids, from `textgym.sb3.make_vec_env`; it has masks if it is made
            with ``wrapper=textgym.wrappers.ActionMasks``.
        seed: Seed of initial weights and sampling.
        settings: Settings; the defaults if None.
    """
    s = settings or Settings()
    lm = starting_model(venv, s.lm, seed, s.out)
    return MaskedWriter(
        MaskableLMPolicy,  # type: ignore[arg-type]  # Its annotation is too narrow.
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
        rollout_buffer_class=MaskableLMRolloutBuffer,
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
    run("maskable_ppo", settings, partial(make_agent, settings=settings))


if __name__ == "__main__":
    command_line("agents.maskable_ppo", Settings(), __doc__, main)

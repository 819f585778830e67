"""PPO among the tokens that are allowed: sb3-contrib's own MaskablePPO, with a language model.

    python -m agents.maskable_ppo --env TextGen/Sentiment-v0 --no-repeat-ngram 3
    python -m agents.maskable_ppo --banned " not" " never"
    python -m agents.maskable_ppo --mask my_module:my_mask
    python -m agents.maskable_ppo --help

Invalid action masking (Huang and Ontañón 2020, https://arxiv.org/abs/2006.14171): tokens that are
not allowed after a text have probability 0, when tokens are drawn and when they are learned from.
They need not be tried to be avoided. The rest is agents/ppo.py: PPO with a penalty on the KL
divergence from the initial model, which here is compared with within the same masks.

Tokens that are always forbidden need no masks: LMPolicy's `sampling=dict(banned_tokens=...)` does
it alone. Masks are for what depends on the text.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from agents import ppo
from agents.running.command_line import command_line
from agents.running.environments import load_function
from agents.running.run import run
from agents.running.word_model import starting_model
from textgym.data.observations import split_observation
from textgym.errors import SettingsError, require
from textgym.sb3 import TextVecEnv
from textgym.sb3.maskable import MaskableLMPolicy, MaskableLMRolloutBuffer
from textgym.wrappers import ActionMasks
from textgym.wrappers.lookahead_masks import masks_after
from textgym.wrappers.masks import Mask, MaskFunction
from textgym.wrappers.nesting import layers

require("sb3_contrib", "contrib")
from sb3_contrib import MaskablePPO  # noqa: E402


@dataclass
class Settings(ppo.Settings):
    """Settings of MaskablePPO."""

    banned: tuple[str, ...] = ()
    """Tokens that are never written."""
    allowed: tuple[str, ...] = ()
    """The only tokens that may be written. Default: all."""
    no_repeat_ngram: int | None = None
    """Let no run of so many tokens come twice in a text, its prompt included."""
    mask: str | None = None
    """Your own masks, module:function (looked up from this folder).
    From texts, int32 [n, L] with -1 behind their ends, to what may come next, bool [n, V]."""

    def wrap(self, envs: VectorEnv[Any, Any, Any]) -> VectorEnv[Any, Any, Any]:
        """Forbid what the settings forbid."""
        if self.no_repeat_ngram is not None:
            envs = ActionMasks(envs, mask=no_repeats(envs, self.no_repeat_ngram))
        mask = None if self.mask is None else load_mask(self.mask)
        return ActionMasks(envs, self.banned, self.allowed or None, mask)


def no_repeats(envs: VectorEnv[Any, Any, Any], size: int) -> MaskFunction:
    """A mask that forbids to write a run of tokens a second time; eos stays allowed.

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
        # The last size - 1 tokens, and all places where they stand before another one.
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
    """Turn ``module:function`` into the function.

    Raises:
        SettingsError: If there is no such module or function.
    """
    try:
        function: MaskFunction = load_function(spec)
    except SettingsError as error:
        raise SettingsError(f"--mask {error}") from None
    return function


class MaskedWriter(MaskablePPO):
    """MaskablePPO whose ``predict`` finds the masks itself, in the rules of its environment.

    MaskablePPO is given them with each observation, which no evaluation of other agents does.
    Where the environment has none (after ``load``, say) they have to be given, if it was made with
    some.

    Attributes:
        masked: Whether it was made in an environment with `ActionMasks`.
    """

    masked = False

    def _setup_model(self) -> None:
        self.masked = self.masked or self._has_masks()
        super()._setup_model()

    def _has_masks(self) -> bool:
        """Whether the environment narrows what may be written."""
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
        """Write one token a row, among those that are allowed after its text.

        Raises:
            SettingsError: If it was made with masks, and now there are none.
        """
        if action_masks is None and self.masked and not self._has_masks():
            raise SettingsError(
                "this agent has learned among allowed tokens alone, and does not know which they "
                "are; load it with env=..., an environment with ActionMasks, or give action_masks"
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
        venv: Environment of token ids, from `textgym.sb3.make_vec_env`; with masks, if it has the
            argument ``wrapper=textgym.wrappers.ActionMasks``.
        seed: Seed of initial weights and sampling.
        settings: Settings; the defaults if None.
    """
    s = settings or Settings()
    lm = starting_model(venv, s.lm, seed, s.out)
    return MaskedWriter(
        MaskableLMPolicy,  # type: ignore[arg-type]  # MaskablePPO's word for it is a base class.
        venv,
        policy_kwargs={"lm": lm},
        seed=seed,
        **{**ppo.arguments(s, lm, venv), "rollout_buffer_class": MaskableLMRolloutBuffer},
    )


def main(settings: Settings) -> None:
    """Train and evaluate."""
    run("maskable_ppo", settings, partial(make_agent, settings=settings))


if __name__ == "__main__":
    command_line("agents.maskable_ppo", Settings(), __doc__, main)

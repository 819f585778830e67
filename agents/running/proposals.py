"""The environment of the agents that choose among a language model's proposals."""

from __future__ import annotations

from typing import Any

from gymnasium.vector import VectorEnv

from agents.running.run import RunSettings
from agents.running.word_model import starting_model


def with_proposals(
    envs: VectorEnv[Any, Any, Any], settings: RunSettings, k: int
) -> VectorEnv[Any, Any, Any]:
    """Let a language model propose its k likeliest tokens, among which actions choose.

    Args:
        envs: Environment of token ids.
        settings: Name the language model, and its device.
        k: Number of proposals; all words where a closed vocabulary has fewer.
    """
    from textgym.sb3 import TextVecEnv
    from textgym.wrappers import TopKActions

    lm = starting_model(TextVecEnv(envs), settings.lm, settings.seed, settings.out)
    words = int(envs.single_action_space.n)  # type: ignore[attr-defined]
    return TopKActions(envs, lm=lm, k=min(k, words), device=settings.device)

"""The environment of the agents that choose among a language model's proposals."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

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


def choice_entropy(logits: NDArray[np.float64], uniform: float) -> float:
    """Mean entropy, in nats, of choices among proposals.

    Args:
        logits: ``[N, k]``; ``-inf`` for proposals that are never chosen.
        uniform: Probability of a uniform choice among the others instead of one by the logits.
    """
    possible = np.isfinite(logits)
    probs = np.exp(logits - logits.max(1, keepdims=True))
    probs /= probs.sum(1, keepdims=True)
    probs = (1 - uniform) * probs + uniform * possible / possible.sum(1, keepdims=True)
    terms = -probs * np.log(np.where(probs > 0, probs, 1.0))
    return float(terms.sum(1).mean())

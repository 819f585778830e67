"""Settings of the agents that choose among a language model's proposals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gymnasium.vector import VectorEnv

from agents.running.run import RunSettings
from agents.running.validation import at_least
from agents.running.word_model import starting_model
from textgym.sb3 import TextVecEnv
from textgym.wrappers import TopKActions


@dataclass
class ProposalSettings(RunSettings):
    """Settings of a run in which the actions are the language model's likeliest tokens."""

    lm: str | None = None
    """Language model that proposes, a folder or hub name; the environment uses its tokenizer too.
    It is not trained. Default: textgym/tiny, or for a closed vocabulary a small new model."""
    k: int = 8
    """Number of proposals; all words where a closed vocabulary has fewer."""
    n_envs: int = 64
    """Number of episodes that are written side by side."""

    def __post_init__(self) -> None:
        """Refuse impossible numbers."""
        super().__post_init__()
        at_least(1, k=self.k)

    def wrap(self, envs: VectorEnv[Any, Any, Any]) -> VectorEnv[Any, Any, Any]:
        """Let the language model propose."""
        lm = starting_model(TextVecEnv(envs), self.lm, self.seed, self.out)
        words = int(envs.single_action_space.n)  # type: ignore[attr-defined]
        return TopKActions(envs, lm=lm, k=min(self.k, words), device=self.device)

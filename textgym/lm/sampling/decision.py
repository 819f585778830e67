"""The record of how tokens were sampled, passed from the policy to the buffer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from textgym.lm.model import LanguageModel
from textgym.lm.sampling.kept_sets import KeptSets
from textgym.lm.sampling.processing import Sampler


@dataclass(frozen=True)
class Decision:
    """How a batch of tokens was sampled, for the rollout to record with their log-probabilities.

    It is an attribute of the tensor of log-probabilities, because agents such as
    Stable-Baselines3's pass that tensor, and nothing else, from the policy to the buffer.

    Attributes:
        lm: The language model that the policy acts with.
        sampler: The policy's sampling.
        kept: The support of top-k and top-p for each token; None without them.
    """

    lm: LanguageModel
    sampler: Sampler
    kept: KeptSets | None

    def attach(self, log_probs: Tensor) -> None:
        """Attach the record to the tensor of the tokens' log-probabilities."""
        log_probs.decision = self  # type: ignore[attr-defined]

    @staticmethod
    def of(log_probs: Tensor) -> Decision | None:
        """The record of a tensor; None for another policy, or for a copy of the tensor."""
        found = getattr(log_probs, "decision", None)
        return found if isinstance(found, Decision) else None

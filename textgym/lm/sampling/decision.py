"""The record of how tokens were drawn, on its way from the policy to the buffer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from textgym.lm.model import LanguageModel
from textgym.lm.sampling.kept_sets import KeptSets
from textgym.lm.sampling.processing import Sampler


@dataclass(frozen=True)
class Decision:
    """How a batch of tokens was drawn: what a rollout has to record beside their log-probabilities.

    It travels as an attribute of the tensor of log-probabilities, because agents such as
    Stable-Baselines3's hand that very tensor from the policy to the buffer, and nothing else.

    Attributes:
        lm: The language model that the policy acts with.
        sampler: The policy's sampling.
        kept: The sets that top-k and top-p kept, one for each token; None where neither is on.
    """

    lm: LanguageModel
    sampler: Sampler
    kept: KeptSets | None

    def attach(self, log_probs: Tensor) -> None:
        """Put the record on the tensor of the tokens' log-probabilities."""
        log_probs.decision = self  # type: ignore[attr-defined]

    @staticmethod
    def of(log_probs: Tensor) -> Decision | None:
        """The record on a tensor, or None: the policy is of another kind, or copied the tensor."""
        found = getattr(log_probs, "decision", None)
        return found if isinstance(found, Decision) else None

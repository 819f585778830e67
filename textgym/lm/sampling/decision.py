"""Sampling from hidden states, and the record of it, passed from the policy to the buffer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from textgym.lm.model import LanguageModel
from textgym.lm.sampling.kept_sets import KeptSets
from textgym.lm.sampling.processing import Sampler
from textgym.lm.scoring import MAX_LOGITS


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


@torch.no_grad()
def draw(
    lm: LanguageModel, sampler: Sampler, hidden: Tensor, texts: Tensor, deterministic: bool = False
) -> tuple[Tensor, Tensor, KeptSets | None]:
    """Sample one token per row, with a limited number of logits in memory at once.

    Args:
        lm: The language model.
        sampler: The sampling.
        hidden: ``[n, d]``, the hidden states after the texts.
        texts: The observations ``[n, L]``, padded on the right with -1.
        deterministic: Take the likeliest token instead.

    Returns:
        As :meth:`Sampler.sample`.
    """
    step = max(1, MAX_LOGITS // lm.vocab_size)
    parts = [
        sampler.sample(lm.logits(hidden[at : at + step]), texts[at : at + step], deterministic)
        for at in range(0, len(hidden), step)
    ]
    if len(parts) == 1:
        return parts[0]
    tokens, log_probs, kept = zip(*parts, strict=True)
    sets = [part for part in kept if part is not None]
    return torch.cat(tokens), torch.cat(log_probs), KeptSets.join(sets) if sets else None


def to_host(actions: Tensor, values: Tensor, log_probs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Copy all to the host in one transfer, because each one synchronizes."""
    # float64 holds token ids and float32 exactly.
    columns = torch.stack([actions.double(), values[:, 0].double(), log_probs.double()]).cpu()
    return columns[0].long(), columns[1].float()[:, None], columns[2].float()

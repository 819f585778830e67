"""The losses of DPO, IPO and KTO, of log-ratios ``log pi(y|x) - log ref(y|x)`` of judged texts.

``agents/dpo.py`` has the formulas and the papers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from agents.running.judged import Judged
from agents.running.preferences import Scores

Loss = Literal["dpo", "ipo", "kto"]


def dpo_loss(
    chosen: Tensor, rejected: Tensor, preference: Tensor, beta: float, margin: Tensor
) -> Tensor:
    """The loss of each pair, ``[B]``, from log-ratios, preferences and margins, ``[B]`` each."""
    logits = beta * (chosen - rejected) - margin
    # -log sigmoid(x) = softplus(-x).
    return preference * softplus(-logits) + (1 - preference) * softplus(logits)


def ipo_loss(chosen: Tensor, rejected: Tensor, preference: Tensor, beta: float) -> Tensor:
    """The loss of each pair, ``[B]``, from log-ratios and preferences, ``[B]`` each."""
    gap, aim = chosen - rejected, 1 / (2 * beta)
    return preference * (gap - aim).square() + (1 - preference) * (gap + aim).square()


def kto_loss(
    ratio: Tensor, kl: Tensor, label: Tensor, beta: float, desirable: float, undesirable: float
) -> Tensor:
    """The loss of each text, ``[B]``.

    Args:
        ratio: Log-ratios ``[B]``.
        kl: The estimate z of the KL divergence, a scalar without a gradient.
        label: 1 for desirable texts, 0 for undesirable ones, ``[B]``.
        beta: Weight of the KL divergence.
        desirable: Weight of desirable texts.
        undesirable: Weight of undesirable texts.
    """
    surprise = beta * (ratio - kl)
    # 1 - sigmoid(x) = sigmoid(-x).
    good, bad = torch.sigmoid(-surprise), torch.sigmoid(surprise)
    return label * desirable * good + (1 - label) * undesirable * bad


@dataclass(frozen=True)
class Objective:
    """The loss of judgements; its fields are settings of ``agents/dpo.py``."""

    loss: Loss = "dpo"
    beta: float = 0.1
    label_smoothing: float = 0.0
    sft_coef: float = 0.0
    length_normalize: bool = False
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0

    def __call__(self, judged: Judged, scores: Scores) -> tuple[Tensor, dict[str, float]]:
        """The mean loss of some judgements by their weights, and values to log.

        Args:
            judged: The judgements.
            scores: The scores of their texts.
        """
        target, margin, weight = (
            torch.from_numpy(values).to(scores.first.device)
            for values in (judged.target, judged.margin, judged.weight)
        )
        target = (1 - self.label_smoothing) * target + self.label_smoothing * (1 - target)
        kl = None
        if self.loss == "dpo":
            losses = dpo_loss(scores.first, scores.second, target, self.beta, margin)
        elif self.loss == "ipo":
            losses = ipo_loss(scores.first, scores.second, target, self.beta)
        else:
            kl = scores.second.detach().mean().clamp(min=0)
            weights = (self.desirable_weight, self.undesirable_weight)
            losses = kto_loss(scores.first, kl, target, self.beta, *weights)
        if self.sft_coef:
            losses = losses + self.sft_coef * target * scores.nll
        loss = (weight * losses).sum() / weight.sum()
        values = statistics(judged, scores, self.beta, None if kl is None else float(kl))
        return loss, {"loss": float(loss.detach()), **values}


def statistics(judged: Judged, scores: Scores, beta: float, kl: float | None) -> dict[str, float]:
    """Values to log.

    Args:
        judged: The judgements.
        scores: The scores of their texts.
        beta: Reward per nat.
        kl: With single texts, the estimate of the KL divergence.

    Returns:
        ``accuracy``: the share of judgements that the log-ratios agree with, without ties;
        ``chosen_log_ratio`` and ``rejected_log_ratio``: mean log-ratios of chosen (desirable) and
        rejected (undesirable) texts; ``margin``: beta times their difference; ``kl``: as given.
    """
    first, second = (values.detach().double().cpu().numpy() for values in scores[:2])
    prefers = judged.target > 0.5
    decided = judged.target != 0.5
    found: dict[str, float] = {}
    if kl is None:
        gap, chosen, rejected = first - second, first, second
    else:
        found["kl"] = kl
        gap, chosen, rejected = first - kl, first[prefers], first[decided & ~prefers]
    right = np.where(prefers, gap > 0, gap < 0)[decided]
    if len(right):
        found["accuracy"] = float(right.mean())
    for name, values in (("chosen_log_ratio", chosen), ("rejected_log_ratio", rejected)):
        if len(values):
            found[name] = float(values.mean())
    if "chosen_log_ratio" in found and "rejected_log_ratio" in found:
        found["margin"] = beta * (found["chosen_log_ratio"] - found["rejected_log_ratio"])
    return found

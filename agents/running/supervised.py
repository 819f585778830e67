"""Supervised learning on episodes: cross-entropy on the tokens that the agent wrote.

The token ids are those of the episode, so that nothing is tokenised again: the prompt is the
environment's, truncated as it truncates prompts, and the loss is on the agent's own tokens, the eos
included. Prompts, and the other side's turns of a conversation, are read and not learned.
"""

from __future__ import annotations

import torch
from torch import Tensor

from textgym.lm.model import LanguageModel
from textgym.lm.scoring import score_actions, sequence_hidden
from textgym.rollouts import Episodes
from textgym.sb3 import LMPolicy


def cross_entropy(lm: LanguageModel, episodes: Episodes) -> Tensor:
    """Mean negative log-probability, in nats, of the actions of some episodes.

    It is a mean over tokens, so long texts have more weight. The full softmax is taken, whatever
    the sampling is.
    """
    return _scored(lm, episodes)[0]


def _scored(lm: LanguageModel, episodes: Episodes) -> tuple[Tensor, Tensor]:
    """The cross-entropy, and the mean entropy of the model's distributions at these actions."""
    batch = episodes.to(lm.device)
    assert batch.sequences is not None
    log_probs, entropy = score_actions(lm, sequence_hidden(lm, batch.sequences), batch.actions)
    return -log_probs.mean(), entropy.detach().mean()


def gradient_step(
    policy: LMPolicy, episodes: Episodes, max_grad_norm: float
) -> tuple[float, float]:
    """One step of the policy's optimizer on some episodes.

    Returns:
        Before it, their cross-entropy, and the mean entropy of the model's distributions there.
    """
    policy.set_training_mode(True)  # It empties the cache, which is of the old weights.
    policy.optimizer.zero_grad()
    loss, entropy = _scored(policy.lm, episodes)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(policy.lm.parameters(), max_grad_norm)
    policy.optimizer.step()
    policy.set_training_mode(False)
    return float(loss.detach()), float(entropy)

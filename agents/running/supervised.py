"""Supervised learning on texts that were written in an environment: cross-entropy on them.

A text is taken down as it was written, token by token, so that nothing is ever tokenised again: the
prompt is the environment's own ids, cut to size as it cuts them, and the loss is on the agent's own
tokens, the eos included. Prompts, and in a conversation what the other side says, are read and not
learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textgym.data.observations import split_observation
from textgym.lm.model import LanguageModel
from textgym.lm.scoring import SequenceBatch, score_actions, sequence_hidden
from textgym.sb3 import LMPolicy


class Text(NamedTuple):
    """One episode.

    Attributes:
        tokens: ``[L]``, the prompt and all that was written behind it.
        places: ``[n]``, where the agent's own tokens stand.
        image: ``[3, H, W]`` uint8, the picture before the text; None where there is none.
    """

    tokens: NDArray[np.int64]
    places: NDArray[np.int64]
    image: NDArray[np.uint8] | None = None


class Recorder:
    """Takes down the episodes of a vector environment while somebody plays them.

    Args:
        rows: Number of rows N.

    Attributes:
        places: Where the agent's own tokens stand, so far, in each row.
    """

    def __init__(self, rows: int) -> None:
        self.places: list[list[int]] = [[] for _ in range(rows)]

    def step(
        self, before: Any, dones: NDArray[np.bool_], infos: Sequence[dict[str, Any]]
    ) -> dict[int, Text]:
        """Take one step down.

        Args:
            before: The observations ``[N, L]`` that the agent answered.
            dones: What `step` returned.
            infos: What `step` returned.

        Returns:
            The texts that are complete now, by row.
        """
        tokens, _ = split_observation(before)
        for places, length in zip(self.places, (tokens >= 0).sum(1).tolist(), strict=True):
            places.append(length)
        ended = {}
        for row in np.flatnonzero(dones).tolist():
            whole, image = split_observation(infos[row]["terminal_observation"])
            own = np.array(self.places[row], np.int64)
            ended[row] = Text(whole[: own[-1] + 1].astype(np.int64), own, image)
            self.places[row] = []
        return ended


def cross_entropy(lm: LanguageModel, texts: Sequence[Text]) -> Tensor:
    """Mean negative log-probability, in nats, of the agent's own tokens in some texts.

    Long texts count by their tokens. The full softmax is taken, whatever the sampling is.
    """
    width = max(len(text.tokens) for text in texts)
    tokens = np.full((len(texts), width), -1, np.int64)
    for row, text in enumerate(texts):
        tokens[row, : len(text.tokens)] = text.tokens
    counts = [len(text.places) for text in texts]
    places = np.concatenate([text.places for text in texts])
    rows = np.repeat(np.arange(len(texts)), counts)
    images = None
    if texts[0].image is not None:
        images = torch.from_numpy(
            np.stack([text.image for text in texts if text.image is not None])
        )
    # A token is predicted where the text before it ends.
    batch = SequenceBatch(
        torch.from_numpy(tokens), torch.from_numpy(rows), torch.from_numpy(places - 1), None, images
    ).to(lm.device)
    targets = torch.from_numpy(tokens[rows, places]).to(lm.device)
    log_probs, _ = score_actions(lm, sequence_hidden(lm, batch), targets)
    return -log_probs.mean()


def gradient_step(policy: LMPolicy, texts: Sequence[Text], max_grad_norm: float) -> float:
    """One step of the policy's optimizer on some texts; returns their loss before it."""
    policy.set_training_mode(True)  # What was decoded with these weights is forgotten.
    policy.optimizer.zero_grad()
    loss = cross_entropy(policy.lm, texts)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(policy.lm.parameters(), max_grad_norm)
    policy.optimizer.step()
    policy.set_training_mode(False)
    return float(loss.detach())

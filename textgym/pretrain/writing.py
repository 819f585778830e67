"""Sampling from a language model without an agent, at temperature 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray

from textgym.data.observations import Observation, split_observation
from textgym.lm.decoding.memo import MemoDecoder
from textgym.lm.model import LanguageModel
from textgym.lm.sampling.draw import sample_tokens
from textgym.tokenization import Tokenizer


def writer(
    lm: str | LanguageModel,
) -> tuple[Callable[[Observation], NDArray[Any]], Tokenizer]:
    """A function from observations ``[N, L]`` to sampled tokens ``[N]``, and the tokenizer.

    It ignores pictures.

    Args:
        lm: The model, or its name or path.
    """
    model = LanguageModel.load(lm) if isinstance(lm, str) else lm
    decoder: MemoDecoder | None = None

    def act(observations: Observation) -> NDArray[Any]:
        nonlocal decoder
        texts, _ = split_observation(observations)
        decoder = decoder or MemoDecoder(model, texts.shape[1])
        with torch.no_grad():
            logits = model.logits(decoder(torch.from_numpy(texts)))
        actions, _ = sample_tokens(logits, deterministic=False)
        return actions.cpu().numpy()

    return act, model.tokenizer

"""Writing with a language model without an agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray

from textgym.data.observations import Observation, split_observation
from textgym.lm.decoding.memo import MemoDecoder
from textgym.lm.model import LanguageModel
from textgym.lm.pictures import PictureEncoder
from textgym.lm.sampling.draw import sample_tokens
from textgym.tokenization import Tokenizer


def writer(
    lm: str | LanguageModel, deterministic: bool = False
) -> tuple[Callable[[Observation], NDArray[Any]], Tokenizer]:
    """A function from observations of N rows to tokens ``[N]``, and the tokenizer.

    Args:
        lm: The model, or its name or path. Pictures are read by the encoder in its checkpoint, and
            ignored if it has none.
        deterministic: Whether to take the likeliest token instead of sampling at temperature 1.
    """
    model = LanguageModel.load(lm) if isinstance(lm, str) else lm
    decoder: MemoDecoder | None = None

    def act(observations: Observation) -> NDArray[Any]:
        nonlocal decoder
        texts, images = split_observation(observations)
        if decoder is None:
            decoder = _decoder(model, texts.shape[1], images)
        with torch.no_grad():
            seen = None if decoder.image_shape is None else torch.from_numpy(images)
            logits = model.logits(decoder(torch.from_numpy(texts), seen))
        actions, _ = sample_tokens(logits, deterministic=deterministic)
        return actions.cpu().numpy()

    return act, model.tokenizer


def _decoder(model: LanguageModel, width: int, images: NDArray[Any] | None) -> MemoDecoder:
    if images is None or not model.has_picture_encoder:
        return MemoDecoder(model, width)
    # A model with an encoder needs a picture before every text, so this one is a copy.
    model = LanguageModel.load(model.name, device=model.device)
    shape = images.shape[1:]
    model.attach_pictures(PictureEncoder(shape, model.hidden_size))
    return MemoDecoder(model, width, shape)

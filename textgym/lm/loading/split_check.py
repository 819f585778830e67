"""The check that a model is causal, and consists of a body and a head."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from textgym.errors import ModelError
from textgym.lm.seq2seq import Seq2Seq


class _BodyAndHead(Protocol):
    """The parts of :class:`textgym.lm.LanguageModel` that are checked."""

    model: PreTrainedModel
    name: str
    context_length: int | None
    vocab_size: int
    seq2seq: Seq2Seq | None

    @property
    def device(self) -> torch.device: ...
    @property
    def compute_dtype(self) -> torch.dtype: ...
    def hidden(self, tokens: Tensor) -> Tensor: ...
    def logits(self, hidden: Tensor) -> Tensor: ...


@torch.no_grad()
def check_split(lm: _BodyAndHead) -> None:
    """Compare head(body(x)) with the model on a few tokens, and with one token less.

    Raises:
        ModelError: If the logits differ, or depend on later tokens.
    """
    kind = type(lm.model).__name__
    try:
        if lm.seq2seq is not None:
            expected, split, prefix = _encoder_decoder_logits(lm, lm.seq2seq)
        else:
            expected, split, prefix = _decoder_logits(lm)
    except Exception as error:
        raise ModelError(
            f"{lm.name!r} is a {kind}, which cannot be run as body and head ({error}); "
            "use a decoder such as GPT-2, Llama or Qwen2"
        ) from error
    exact = expected.abs().max() < 50 and lm.compute_dtype == torch.float32
    tolerance = 1e-3 if exact else 0.1
    if not torch.allclose(split, expected, atol=tolerance, rtol=tolerance):
        raise ModelError(
            f"{lm.name!r} is a {kind}, whose logits are not a head on its last hidden state; "
            "use a decoder such as GPT-2, Llama or Qwen2"
        )
    if not torch.allclose(split[:, :-1], prefix, atol=tolerance, rtol=tolerance):
        raise ModelError(
            f"{lm.name!r} is a {kind}, which is not causal: its logits depend on later tokens; "
            "use a decoder such as GPT-2, Llama or Qwen2"
        )


def _decoder_logits(lm: _BodyAndHead) -> tuple[Tensor, Tensor, Tensor]:
    """Logits ``[1, L, V]`` of the model, of body and head, and ``[1, L - 1, V]`` of a prefix."""
    length = min(5, lm.context_length or 5)
    tokens = torch.arange(length, device=lm.device)[None] % lm.vocab_size
    expected = lm.model(input_ids=tokens, use_cache=False).logits[..., : lm.vocab_size].float()
    return expected, lm.logits(lm.hidden(tokens)), lm.logits(lm.hidden(tokens[:, :-1]))


def _encoder_decoder_logits(lm: _BodyAndHead, reader: Seq2Seq) -> tuple[Tensor, Tensor, Tensor]:
    """The same for two prompts of different lengths with responses of two tokens.

    Returns:
        ``[2, 3, V]``, ``[2, 3, V]`` and ``[2, 2, V]``.
    """
    device, size = lm.device, lm.vocab_size
    # Three tokens other than eos; repeated if the vocabulary has fewer.
    others = [token for token in range(size) if token != reader.eos_id][:3] or [reader.eos_id]
    a, b, c = (others * 3)[:3]
    prompts = [[a, b, reader.eos_id], [c, reader.eos_id]]
    texts = torch.full((2, 5), -1, device=device)
    expected = []
    for row, prompt in enumerate(prompts):
        texts[row, : len(prompt) + 2] = torch.tensor([*prompt, b, c], device=device)
        output = lm.model(
            input_ids=torch.tensor([prompt], device=device),
            decoder_input_ids=torch.tensor([[*reader.prefix, b, c]], device=device),
            use_cache=False,
        )
        expected.append(output.logits[0, reader.first :, :size].float())
    rows = torch.arange(2, device=device)[:, None]
    places = torch.tensor([len(prompt) - 1 for prompt in prompts], device=device)[:, None]
    places = places + torch.arange(3, device=device)
    split = lm.logits(lm.hidden(texts)[rows, places])
    texts[rows[:, 0], places[:, -1]] = -1
    shorter = lm.logits(lm.hidden(texts)[rows, places[:, :-1]])
    return torch.stack(expected), split, shorter

"""Encoder-decoders (T5, BART, ...) as language models of one array of tokens.

An observation is prompt and response in one array, which an encoder-decoder reads separately. The
boundary is the first end-of-sequence token: the tokenizers of these models end a prompt with it,
and so do environments made with such a tokenizer. The encoder reads the prompt with its eos, the
decoder its start token and then the response so far.

The cache is in :mod:`textgym.lm.decoding.encoder_decoder`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from textgym.errors import ModelError


class Seq2Seq:
    """Splits texts for an encoder-decoder, and runs it on them.

    Args:
        model: A transformers encoder-decoder with a language-model head.
        eos_id: The tokenizer's end-of-sequence token.
        name: Name of the model, for messages.

    Attributes:
        prefix: Tokens of the decoder before a response: its start token, and the forced first
            token, if there is one (mBART's language).
        limit: Longest prompt, and longest prefix with response, in tokens; None without a limit.

    Raises:
        ModelError: If the model has no decoder start token, or the tokenizer no eos.
    """

    def __init__(self, model: PreTrainedModel, eos_id: int | None, name: str) -> None:
        self.name = name
        self.encoder: Any = model.get_encoder()
        self.decoder: Any = model.get_decoder()  # type: ignore[no-untyped-call]
        start = _setting(model, "decoder_start_token_id")
        forced = _setting(model, "forced_bos_token_id")
        if start is None or eos_id is None:
            missing = "tokenizer has no eos" if eos_id is None else "decoder has no start"
            raise ModelError(
                f"{name!r} is an encoder-decoder whose {missing} token; set "
                "config.decoder_start_token_id and tokenizer.eos_token: generation needs both"
            )
        self.eos_id = eos_id
        self.prefix = [start] if forced is None else [start, forced]
        self.limit: int | None = getattr(model.config, "max_position_embeddings", None)

    @property
    def first(self) -> int:
        """Position of the prefix's last token, which replaces the end of the prompt."""
        return len(self.prefix) - 1

    def no_end(self) -> ModelError:
        """The error that a text has no eos."""
        return ModelError(
            f"a text has no eos token ({self.eos_id}), but {self.name!r} is an encoder-decoder, "
            "whose prompt ends at the first eos; make the environment with its tokenizer "
            f"(tokenizer={self.name!r}), which ends prompts with eos, not with a list of words"
        )

    def too_long(self, side: str) -> ModelError:
        """The error that a prompt or a response is too long."""
        return ModelError(
            f"{self.name!r} reads at most {self.limit} tokens per side, but a {side} has more; "
            "make max_prompt_tokens or max_new_tokens of the environment smaller"
        )

    def ends(self, tokens: Tensor) -> Tensor:
        """Position of the first eos of each text, ``[B]``: the end of the prompt.

        Args:
            tokens: ``[B, L]``, padded on the right with -1.

        Raises:
            ModelError: If a text has no eos, or a prompt is too long.
        """
        closed = tokens == self.eos_id
        if not bool(closed.any(1).all()):
            raise self.no_end()
        ends = closed.int().argmax(1)
        if self.limit is not None and int(ends.max()) >= self.limit:
            raise self.too_long("prompt")
        return ends

    def encode(self, tokens: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
        """Run the encoder over the prompts.

        Returns:
            Hidden states ``[B, S, d]``, and a mask ``[B, S]`` that is False at padding.
        """
        width = int(ends.max()) + 1
        inside = torch.arange(width, device=tokens.device) <= ends[:, None]
        prompts = tokens[:, :width].clamp(min=0)
        output = self.encoder(input_ids=prompts, attention_mask=inside.long())
        return output.last_hidden_state, inside

    def responses(self, tokens: Tensor, ends: Tensor) -> Tensor:
        """The decoder's input: prefix and response ``[B, T]``, padded on the right with -1.

        Raises:
            ModelError: If a response is too long.
        """
        width = tokens.shape[1]
        count = int(((tokens >= 0).sum(1) - ends).max())
        places = ends[:, None] + torch.arange(1, count, device=tokens.device)
        written = tokens.gather(1, places.clamp(max=width - 1))
        written = written.masked_fill(places >= width, -1)
        prefix = torch.tensor(self.prefix, device=tokens.device).expand(len(tokens), -1)
        read = torch.cat([prefix, written.to(prefix.dtype)], 1)
        if self.limit is not None and read.shape[1] > self.limit:
            if bool((read[:, self.limit :] >= 0).any()):
                raise self.too_long("response")
            read = read[:, : self.limit]
        return read

    def hidden(self, tokens: Tensor) -> Tensor:
        """Hidden states of whole texts; differentiable.

        Args:
            tokens: ``[B, L]``, padded on the right with -1 or any valid id.

        Returns:
            ``[B, L, d]``: at position p, the decoder's hidden state after the text that ends at p;
            NaN before the end of the prompt, where the decoder has no state; undefined at padding.

        Raises:
            ModelError: If a text has no eos, or a prompt or response is too long.
        """
        ends = self.ends(tokens)
        encoded, inside = self.encode(tokens, ends)
        read = self.responses(tokens, ends)
        output = self.decoder(
            input_ids=read.clamp(min=0),
            encoder_hidden_states=encoded,
            encoder_attention_mask=inside.long(),
            use_cache=False,
        )
        states: Tensor = output.last_hidden_state
        places = torch.arange(tokens.shape[1], device=tokens.device) - ends[:, None] + self.first
        defined = (places >= self.first) & (places < states.shape[1])
        places = places.clamp(0, states.shape[1] - 1)[..., None].expand(-1, -1, states.shape[2])
        return states.gather(1, places).masked_fill(~defined[..., None], torch.nan)


def _setting(model: PreTrainedModel, name: str) -> int | None:
    """A token id from the generation settings of a model, else from its configuration."""
    for settings in (getattr(model, "generation_config", None), model.config):
        value = getattr(settings, name, None)
        if isinstance(value, int):
            return value
    return None

"""Encoder-decoders (T5, BART, ...) as language models of one array of tokens.

An observation holds prompt and response in one array, and an encoder-decoder reads the two apart.
The boundary is the first end-of-sequence token: these models' tokenizers close a prompt with it,
and so do environments that are made with such a tokenizer. The encoder reads the prompt with its
eos; the decoder reads its start token, and then the response so far.

Nothing here is kept from one call to the next (:mod:`textgym.lm.decoding.encoder_decoder` keeps
it).
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from textgym.errors import ModelError


class Seq2Seq:
    """How an encoder-decoder reads texts.

    Args:
        model: A transformers encoder-decoder with a language-model head.
        eos_id: The tokenizer's end-of-sequence token.
        name: Where the model comes from.

    Attributes:
        prefix: What the decoder reads before a response: its start token, and the first token that
            generation forces upon it, if it does (mBART: the language).
        limit: Longest prompt, and longest prefix with response, in tokens; None without a limit.

    Raises:
        ModelError: If the model does not say how its decoder starts, or there is no eos.
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
        """Where in the decoder's text the end of the prompt stands: behind the prefix."""
        return len(self.prefix) - 1

    def no_end(self) -> ModelError:
        """The error that a prompt does not end."""
        return ModelError(
            f"a text has no eos token ({self.eos_id}), but {self.name!r} is an encoder-decoder, "
            "which reads the prompt up to the first eos. Environments close prompts with it if the "
            "tokenizer does so itself: make the environment with the tokenizer of the model "
            f"(tokenizer={self.name!r}), and not with a list of words"
        )

    def too_long(self, side: str) -> ModelError:
        """The error that a prompt or a response does not fit."""
        return ModelError(
            f"{self.name!r} reads at most {self.limit} tokens a side, but a {side} has more; make "
            "max_prompt_tokens or max_new_tokens of the environment smaller"
        )

    def ends(self, tokens: Tensor) -> Tensor:
        """Where the prompts end: the first eos of each text, ``[B]``.

        Args:
            tokens: ``[B, L]``, padded on the right with -1.

        Raises:
            ModelError: If a text has none, or a prompt is too long.
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
            Its hidden states ``[B, S, d]``, and which of them are not padding ``[B, S]``.
        """
        width = int(ends.max()) + 1
        inside = torch.arange(width, device=tokens.device) <= ends[:, None]
        prompts = tokens[:, :width].clamp(min=0)
        output = self.encoder(input_ids=prompts, attention_mask=inside.long())
        return output.last_hidden_state, inside

    def responses(self, tokens: Tensor, ends: Tensor) -> Tensor:
        """What the decoder reads: ``[B, T]``, padded on the right with -1.

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
            ``[B, L, d]``: at position p, the decoder's hidden state after the text that ends at p.
            NaN where p lies before the end of the prompt: the decoder has not begun there. At
            padding it means nothing.

        Raises:
            ModelError: If a text has no eos, or a side is too long.
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
        known = (places >= self.first) & (places < states.shape[1])
        places = places.clamp(0, states.shape[1] - 1)[..., None].expand(-1, -1, states.shape[2])
        return states.gather(1, places).masked_fill(~known[..., None], torch.nan)


class _BodyAndHead(Protocol):
    """The parts of :class:`textgym.lm.model.LanguageModel` that `trial` compares."""

    model: PreTrainedModel

    @property
    def device(self) -> torch.device: ...
    @property
    def vocab_size(self) -> int: ...
    def hidden(self, tokens: Tensor) -> Tensor: ...
    def logits(self, hidden: Tensor) -> Tensor: ...


def trial(lm: _BodyAndHead, reader: Seq2Seq) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of two texts: of the model itself, of body and head, and of these with one token less.

    Returns:
        ``[2, 3, V]``, ``[2, 3, V]`` and ``[2, 2, V]``.
    """
    device, size = lm.device, lm.vocab_size
    # Three tokens other than eos, as far as there are so many.
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


def _setting(model: PreTrainedModel, name: str) -> int | None:
    """A token id from the generation settings of a model, else from its configuration."""
    for settings in (getattr(model, "generation_config", None), model.config):
        value = getattr(settings, name, None)
        if isinstance(value, int):
            return value
    return None

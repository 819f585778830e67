"""The model in training: on packed documents with pictures, its optimizers and a step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from textgym.lm.pictures import PictureEncoder
from textgym.pretrain.offset_heads import attend_to_offsets
from textgym.pretrain.packing import Batch
from textgym.pretrain.settings import TrainSettings
from textgym.tokenization import Tokenizer

_IMAGE_SHAPE = (3, 36, 36)


def make_model(tokenizer: Tokenizer, settings: TrainSettings) -> LlamaForCausalLM:
    """A Llama with random weights."""
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=tokenizer.vocab_size,
            max_position_embeddings=settings.context,
            hidden_size=settings.width,
            # A gated MLP of this size has as many weights as a plain one of 4 times the width.
            intermediate_size=8 * settings.width // 3 // 32 * 32,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.eos_id,
            eos_token_id=tokenizer.eos_id,
        )
    )
    # Compiled, and with a mask for packed texts, it is faster than PyTorch's flash attention.
    model.set_attn_implementation("eager")
    if settings.offsets:
        attend_to_offsets(model, settings.offsets)
    return model


class Learner(nn.Module):
    """The language model with its picture encoder, on packed documents.

    Args:
        model: The language model.
        compile: Whether to compile it.
    """

    def __init__(self, model: LlamaForCausalLM, compile: bool = False) -> None:
        super().__init__()
        self.model = model
        self.pictures = PictureEncoder(_IMAGE_SHAPE, model.config.hidden_size)
        self._losses: Callable[..., Tensor] = self._token_losses
        if compile:
            self._losses = torch.compile(self._token_losses)

    def forward(self, batch: Batch) -> Tensor:
        """Cross-entropy of each target in nats, ``[B, T]``."""
        embedded = self.model.get_input_embeddings()(batch.tokens)
        if batch.images is not None:
            seen = self.pictures(batch.images)
            embedded = embedded.index_put((batch.places[0], batch.places[1]), seen)
        return self._losses(embedded, batch.targets, batch.documents, batch.positions)

    def _token_losses(
        self, embedded: Tensor, targets: Tensor, documents: Tensor, positions: Tensor
    ) -> Tensor:
        length = targets.shape[1]
        order = torch.arange(length)
        seen = (documents[:, :, None] == documents[:, None]) & (order[:, None] >= order)
        mask = torch.zeros(seen.shape, dtype=embedded.dtype).masked_fill(~seen, -1e4)[:, None]
        hidden = self.model.model(
            inputs_embeds=embedded, attention_mask=mask, position_ids=positions, use_cache=False
        ).last_hidden_state
        logits = self.model.lm_head(hidden).float()
        losses = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        return losses.view(targets.shape)


def weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """The mean of losses ``[B, T]``, weighted."""
    return (losses * weights).sum() / weights.sum()


def make_optimizers(
    learner: nn.Module, settings: TrainSettings
) -> tuple[torch.optim.Muon, torch.optim.AdamW]:
    """Muon for the hidden matrices, AdamW for embeddings, norms and the picture encoder."""
    hidden: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, weight in learner.named_parameters():
        muon = weight.dim() == 2 and name.startswith("model.model.layers.")
        (hidden if muon else rest).append(weight)
    optimizer = torch.optim.Muon(
        hidden,
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        adjust_lr_fn="match_rms_adamw",  # One learning rate for both.
    )
    betas = (0.9, 0.98)
    return optimizer, torch.optim.AdamW(
        rest, lr=settings.learning_rate, betas=betas, weight_decay=0.0, fused=True
    )


def train_step(
    learner: Learner,
    optimizers: tuple[torch.optim.Optimizer, ...],
    batch: Batch,
    settings: TrainSettings,
) -> float:
    """Update the weights on a batch; returns the mean loss after prompts, in nats per token."""
    with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
        losses = learner(batch)
    weighted_mean(losses, batch.weights).backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return weighted_mean(losses.detach(), batch.weights == 1).item()


def sharpen(model: LlamaForCausalLM, factor: float) -> None:
    """Multiply all logits by a factor: temperature 1 is then 1 / factor of before.

    A small model gives a few percent of probability to wrong words at every step, which add up over
    a text, and make the initial policy less fluent than necessary.
    """
    with torch.no_grad():
        model.model.norm.weight.mul_(factor)

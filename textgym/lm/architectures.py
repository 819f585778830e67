"""Differences between the architectures of transformers that are not in a common interface."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.activations import NewGELUActivation
from transformers.cache_utils import LinearAttentionLayer

from textgym.lm.matmul import linear


def head_logits(model: PreTrainedModel, hidden: Tensor, vocab_size: int) -> Tensor:
    """Float32 logits ``[..., V]`` of hidden states ``[..., d]``, without the vocabulary's padding.

    The arithmetic around the head is that of each architecture's own ``forward``.
    """
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    config = model.config
    # T5 with tied embeddings.
    if getattr(config, "scale_decoder_outputs", config.model_type == "umt5"):
        hidden = hidden * config.d_model**-0.5
    if type(head) is nn.Linear and not (head._forward_hooks or head._forward_pre_hooks):
        bias = None if head.bias is None else head.bias[:vocab_size]
        logits = linear(hidden, head.weight[:vocab_size], bias).float()
    else:
        logits = cast(Tensor, head(hidden))[..., :vocab_size].float()
    if (offset := getattr(model, "final_logits_bias", None)) is not None:  # BART
        logits = logits + offset[..., :vocab_size]
    # Gemma 2 caps logits; Granite and Cohere scale them.
    if cap := getattr(config, "final_logit_softcapping", None):
        logits = torch.tanh(logits / cap) * cap
    if divisor := getattr(config, "logits_scaling", None):
        logits = logits / divisor
    if factor := getattr(config, "logit_scale", None):
        logits = logits * factor
    return logits


def is_recurrent(model: PreTrainedModel) -> bool:
    """Whether all layers are recurrent; hybrids have attention layers too."""
    layers = DynamicCache(config=model.config).layers
    return all(type(layer) is LinearAttentionLayer for layer in layers)


def fuse_activations(model: nn.Module) -> None:
    """Replace GPT-2's activation, eight elementwise operations, by the same in one kernel."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is NewGELUActivation:
                setattr(module, name, nn.GELU(approximate="tanh"))


def silence_padding_warning(body: Any) -> None:
    """Turn off a warning about padding without a mask, which is harmless on the right."""
    if hasattr(body, "warn_if_padding_and_no_attention_mask"):
        body.warn_if_padding_and_no_attention_mask = _do_nothing


def _do_nothing(*_: Any, **__: Any) -> None:
    """A function rather than a lambda, so that models can be pickled."""

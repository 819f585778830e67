"""One set of weights that generates and trains.

Trainers of language models often keep two copies, one in an inference engine and one in a training
engine, and ship weights from one to the other. Here both work on the same tensors: decoding reads
them through the slot cache (:class:`textgym.lm.decoding.MemoDecoder`), training differentiates
through whole sequences (:func:`textgym.lm.scoring.sequence_hidden`), and the cache notices when an
update has changed them. This is the hybrid engine of DeepSpeed-Chat (Yao et al. 2023,
https://arxiv.org/abs/2308.01320) without the switching.

This module says how the training half computes: precision, adapter, memory, compilation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from textgym.errors import ModelError, SettingsError
from textgym.lm.loading.dtypes import as_dtype
from textgym.lm.lora import add_lora
from textgym.lm.model import LanguageModel


def prepare_training(
    lm: LanguageModel,
    dtype: str = "auto",
    lora: Mapping[str, Any] | None = None,
    gradient_checkpointing: bool = False,
    compile: bool | str = False,
) -> None:
    """Choose how a model computes while it generates and trains.

    Args:
        lm: The language model, with float32 weights.
        dtype: What to compute in, while float32 weights are updated (mixed precision); ``"auto"``
            is bfloat16 on a GPU that has it, and the weights' own elsewhere.
        lora: Train a low-rank adapter instead of all weights (see :func:`add_lora`). An adapter
            that the model was loaded with becomes part of its weights first.
        gradient_checkpointing: Keep only the inputs of each layer for the backward pass and compute
            the rest again: less memory, about a third more time.
        compile: Compile the forward pass of training with ``torch.compile``: True, or the name of a
            backend.

    Raises:
        SettingsError: If there is no such dtype or setting.
        ModelError: If the architecture has no gradient checkpointing or takes no adapter.
        MissingDependencyError: If ``lora`` is given and peft is not installed.
    """
    if dtype != "auto" and as_dtype(dtype) == torch.float16:
        raise SettingsError(
            "gradients vanish in float16 without loss scaling; use dtype='bfloat16' or 'float32'"
        )
    lm.cast_to = dtype
    if lora is not None:
        # That of an adapter folder: the model that training begins with is the base of this one.
        lm.merge_adapter()
        add_lora(lm.model, lm.name, lora)
    if gradient_checkpointing:
        _checkpoint(lm)
    if compile:
        if lm.seq2seq is not None:
            raise ModelError(
                f"{lm.name!r} is an encoder-decoder, whose two passes are not compiled; leave "
                "compile out"
            )
        backend = "inductor" if compile is True else compile
        # The method and not the module, which would become a part of the model.
        lm.compiled = torch.compile(lm.body.forward, dynamic=True, backend=backend)


def _checkpoint(lm: LanguageModel) -> None:
    model: Any = lm.model
    if not model.supports_gradient_checkpointing:
        raise ModelError(
            f"{lm.name!r} ({model.config.model_type}) has no gradient checkpointing; leave "
            "gradient_checkpointing out"
        )
    # The older name, which transformers 5 still has in all its releases, warns in the newest.
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    enable({"use_reentrant": False, "preserve_rng_state": False})
    lm.checkpointed = [
        module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)
    ]
    for module in lm.checkpointed:
        # They count as training in a forward pass, but their own dropout stays off.
        for name in ("dropout", "dropout_rate", "activation_dropout", "layerdrop"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)

"""One set of weights that generates and trains.

Trainers of language models often have two copies, in an inference engine and a training engine, and
copy weights between them. Here both use the same tensors: decoding through the slot cache
(:class:`textgym.lm.decoding.MemoDecoder`), which detects updates, and training on whole sequences
(:func:`textgym.lm.scoring.sequence_hidden`). This is the hybrid engine of DeepSpeed-Chat (Yao et
al. 2023, https://arxiv.org/abs/2308.01320) without the switching.

This module configures the training: precision, adapter, memory, compilation.
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
    """Set the precision, adapter, memory use and compilation of a model.

    Args:
        lm: The language model, with float32 weights.
        dtype: The dtype to compute in while float32 weights are updated (mixed precision);
            ``"auto"`` is bfloat16 on a GPU that supports it, and elsewhere that of the weights.
        lora: Train a low-rank adapter instead of all weights (see :func:`add_lora`). An adapter
            that the model was loaded with is merged first.
        gradient_checkpointing: Store only the inputs of each layer for the backward pass, and
            recompute the rest: less memory, about a third more time.
        compile: Compile the forward pass of training with ``torch.compile``: True, or the name of a
            backend.

    Raises:
        SettingsError: If a dtype or setting is unknown.
        ModelError: If the architecture does not support checkpointing, compilation or the adapter.
        MissingDependencyError: If ``lora`` is given and peft is not installed.
    """
    if dtype != "auto" and as_dtype(dtype) == torch.float16:
        raise SettingsError(
            "dtype='float16' needs loss scaling, or gradients vanish; use 'bfloat16' or 'float32'"
        )
    lm.cast_to = dtype
    if lora is not None:
        # The initial model, adapter included, is the base of the new adapter.
        lm.merge_adapter()
        add_lora(lm.model, lm.name, lora)
    if gradient_checkpointing:
        _checkpoint(lm)
    if compile:
        if lm.seq2seq is not None:
            raise ModelError(
                f"compile={compile!r}: {lm.name!r} is an encoder-decoder, which cannot be compiled "
                "here; leave compile out"
            )
        backend = "inductor" if compile is True else compile
        # The method, because a compiled module would become a submodule.
        lm.compiled = torch.compile(lm.body.forward, dynamic=True, backend=backend)


def _checkpoint(lm: LanguageModel) -> None:
    model: Any = lm.model
    if not model.supports_gradient_checkpointing:
        raise ModelError(
            f"{lm.name!r} ({model.config.model_type}) has no gradient checkpointing; leave "
            "gradient_checkpointing out"
        )
    # gradient_checkpointing_enable warns in the newest transformers.
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    enable({"use_reentrant": False, "preserve_rng_state": False})
    lm.checkpointed = [
        module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)
    ]
    for module in lm.checkpointed:
        # In a forward pass they are in training mode, but their dropout stays off.
        for name in ("dropout", "dropout_rate", "activation_dropout", "layerdrop"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)

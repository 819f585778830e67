"""A transformers language model with its tokenizer, split into body and head.

The body maps token ids ``[B, L]`` to hidden states ``[B, L, d]``, the head maps hidden states to
logits. Agents need the two apart: prompts need no logits (with a vocabulary of 50,000, those are
most of the memory), and a value head reads the same hidden state.

Decoding with a cache is in :mod:`textgym.lm.decoding`, sampling in :mod:`textgym.lm.sampling`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from textgym.errors import ModelError
from textgym.lm.architectures import (
    fuse_activations,
    head_logits,
    is_recurrent,
    silence_padding_warning,
)
from textgym.lm.loading.adapters import ADAPTER_FILES, check_adapter, write_adapter
from textgym.lm.loading.dtypes import as_dtype, has_bfloat16
from textgym.lm.loading.files import (
    Origin,
    load_hf_tokenizer,
    load_parts,
    no_progress_bars,
    resolve,
)
from textgym.lm.loading.pretrained import saving_checkpoint
from textgym.lm.loading.split_check import check_split
from textgym.lm.lora import has_adapter, merge_in_place, merged
from textgym.lm.pictures import PictureEncoder, has_pictures, load_pictures, save_pictures
from textgym.lm.seq2seq import Seq2Seq
from textgym.tokenization import TINY, Tokenizer


class LanguageModel(nn.Module):
    """A causal language model or an encoder-decoder, and its tokenizer; see :meth:`load`.

    Always in evaluation mode: dropout would make the probabilities of a rollout differ from those
    of its update, and PPO's ratio would not start at 1.

    Args:
        model: A transformers model with a language-model head.
        tokenizer: The tokenizer of the model.
        name: Name or path of both, for messages.

    Attributes:
        model: The transformers model.
        tokenizer: The textgym tokenizer.
        name: The name or path that it was loaded from.
        origin: The files that it was loaded from; None for a model made in memory.
        vocab_size: Number of logits: the size of the tokenizer's vocabulary, without the padding
            of many models.
        hidden_size: Width d of the hidden states.
        context_length: Longest sequence in tokens, None without a limit. For an encoder-decoder,
            the limit of each side.
        start_id: The token that replaces an empty text (bos, else eos), or None.
        seq2seq: How an encoder-decoder splits texts; None for decoders.
        pictures: The encoder of pictures (:meth:`attach_pictures`); None for text alone.

    Raises:
        ModelError: If the model is not causal, or its logits are not a head on the hidden states
            of a body.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: Tokenizer, name: str) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.name = name
        self.vocab_size = tokenizer.vocab_size
        self.origin: Origin | None = None
        self._hf_tokenizer: Any = None
        # Set by textgym.lm.engine.prepare_training.
        self.cast_to: str | None = None
        self.compiled: Callable[..., Any] | None = None
        self.checkpointed: list[nn.Module] = []
        # Where a weight is registered: the property of transformers walks over all modules.
        self._weight = next(
            (module._parameters, key)
            for module in model.modules()
            for key, weight in module._parameters.items()
            if weight is not None and weight.is_floating_point()
        )
        config = model.config
        self.hidden_size = int(config.get_text_config(decoder=True).hidden_size)
        self.context_length: int | None = getattr(config, "max_position_embeddings", None)
        if int(config.vocab_size) < self.vocab_size:
            raise ModelError(
                f"{name!r} has {config.vocab_size} logits, but its tokenizer has "
                f"{self.vocab_size} tokens; resize the model's embeddings, or use the tokenizer "
                "that it was trained with"
            )
        self.seq2seq: Seq2Seq | None = None
        self.pictures: PictureEncoder | None = None
        bos = getattr(config, "bos_token_id", None)
        has_bos = isinstance(bos, int) and 0 <= bos < self.vocab_size
        self.start_id: int | None = bos if has_bos else tokenizer.eos_id
        if getattr(config, "is_encoder_decoder", False):
            self.seq2seq = Seq2Seq(model, tokenizer.eos_id, name)
            self.start_id = None
        body = model.base_model
        silence_padding_warning(body)
        fuse_activations(model)
        self.takes_positions = "position_ids" in inspect.signature(body.forward).parameters
        self.train(False)
        check_split(self)

    @staticmethod
    def load(
        name_or_path: str = TINY, device: str | torch.device = "auto", dtype: str = "auto"
    ) -> LanguageModel:
        """Load a causal language model or an encoder-decoder with its tokenizer.

        Only safetensors weights and GGUF files are read, and no code from a checkpoint is run.

        Args:
            name_or_path: ``"textgym/tiny"`` (built in), a checkpoint folder, a GGUF file or its
                folder (quantized weights are dequantized), a peft adapter folder (only the adapter
                is trained further), or a hub id.
            device: ``"auto"`` is the GPU if there is one.
            dtype: Dtype of the weights: ``"float32"``, ``"bfloat16"``, ...; ``"auto"`` is float32
                on a CPU, bfloat16 on a GPU that supports it, and else the checkpoint's. For mixed
                precision see :func:`textgym.lm.engine.prepare_training`.

        Raises:
            ModelError: If there is no such checkpoint, it has no safetensors weights, it is not a
                causal language model, or an adapter does not fit its base model.
            TokenizerError: If its tokenizer cannot be loaded.
            MissingDependencyError: If the extra ``gguf`` or ``lora`` is needed and not installed.
        """
        if not isinstance(name_or_path, (str, Path)):
            raise ModelError(
                f"name_or_path must be a path or a hub id, not a {type(name_or_path).__name__}; "
                "save a model with save_pretrained(folder) and give the folder"
            )
        name = str(name_or_path)
        if str(device) == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        device = torch.device(device)
        if dtype == "auto" and device.type == "cpu":
            dtype = "float32"
        elif dtype == "auto" and has_bfloat16(device):
            dtype = "bfloat16"
        if dtype != "auto":
            as_dtype(dtype)
        model, tokenizer, origin = load_parts(name, dtype)
        lm = LanguageModel(model, tokenizer, name)
        lm.origin = origin
        return lm.to(device)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        registry, key = self._weight
        return cast(Tensor, registry[key]).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        registry, key = self._weight
        return cast(Tensor, registry[key]).dtype

    @property
    def compute_dtype(self) -> torch.dtype:
        """The dtype that the model computes in; differs from :attr:`dtype` in mixed precision."""
        dtype = self.dtype
        if self.cast_to == "auto":
            return torch.bfloat16 if dtype == torch.float32 and has_bfloat16(self.device) else dtype
        return dtype if self.cast_to is None else as_dtype(self.cast_to)

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which the model computes in :attr:`compute_dtype`."""
        dtype = self.compute_dtype
        if dtype == self.dtype:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=dtype)

    def slot_cache_error(self, reason: str) -> ModelError:
        """The error that the slot cache does not support this architecture."""
        return ModelError(
            f"{self.name!r} ({self.model.config.model_type}) {reason}, which the slot cache does "
            "not support; turn the cache off: policy_kwargs=dict(lm=..., cache=False)"
        )

    @property
    def body(self) -> nn.Module:
        """The model without its language-model head."""
        return self.model.base_model

    @property
    def hf_tokenizer(self) -> Any:
        """The transformers tokenizer, loaded on first use."""
        if self._hf_tokenizer is None:
            place = resolve(self.name) if self.origin is None else self.origin.tokenizer
            self._hf_tokenizer = load_hf_tokenizer(place)
        return self._hf_tokenizer

    @property
    def prefix(self) -> int:
        """Number of embeddings before the first token: those of the picture."""
        return 0 if self.pictures is None else self.pictures.positions

    @property
    def has_picture_encoder(self) -> bool:
        """Whether the checkpoint has a trained picture encoder (:meth:`attach_pictures`)."""
        return self.origin is not None and has_pictures(self.origin.source)

    def attach_pictures(self, encoder: PictureEncoder) -> None:
        """Read pictures, as prefix embeddings before the text.

        Args:
            encoder: Computes the embeddings. It moves, trains and is saved with the model; its
                weights are loaded if the checkpoint has some.

        Raises:
            ModelError: If the architecture cannot take a prefix.
        """
        if self.seq2seq is not None or not self.takes_positions or is_recurrent(self.model):
            raise ModelError(
                f"{self.name!r} ({self.model.config.model_type}) cannot read a picture as prefix "
                "embeddings; use a decoder such as GPT-2, Llama or Qwen2"
            )
        loaded = self.origin is not None and load_pictures(encoder, self.origin.source)
        if not loaded and self.start_id is not None:
            start = torch.tensor([self.start_id], device=self.device)
            with torch.no_grad():
                encoder.offset.copy_(self.model.get_input_embeddings()(start))
        self.pictures = encoder.to(self.device)

    def embed(self, tokens: Tensor, images: Tensor) -> dict[str, Tensor]:
        """The body's inputs for a picture followed by a text.

        Args:
            tokens: Integer ids ``[B, L]``, padded on the right with -1 or any valid id.
            images: ``[B, 3, H, W]`` uint8.

        Returns:
            ``inputs_embeds`` ``[B, P + L, d]`` and ``position_ids`` ``[1, P + L]``.
        """
        assert self.pictures is not None
        words = self.model.get_input_embeddings()(tokens.clamp(min=0))
        prefix = self.pictures(images).to(words.dtype)
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        return {
            "inputs_embeds": torch.cat([prefix, words], 1),
            "position_ids": functional.pad(positions, (prefix.shape[1], 0))[None],
        }

    def train(self, mode: bool = True) -> LanguageModel:
        """Set the mode of the picture encoder; the model stays in evaluation mode."""
        super().train(mode)
        self.model.eval()  # type: ignore[no-untyped-call]
        return self

    def hidden(self, tokens: Tensor, images: Tensor | None = None) -> Tensor:
        """Hidden states of whole sequences, without a cache.

        Args:
            tokens: Integer ids ``[B, L]``, padded on the right with -1 or any valid id.
            images: ``[B, 3, H, W]`` uint8, the picture before each text; None for text alone.

        Returns:
            ``[B, L, d]``; undefined at padded positions.

        Raises:
            ModelError: If an encoder-decoder's text has no eos (:mod:`textgym.lm.seq2seq`).
        """
        for layer in self.checkpointed:
            # Transformers checkpoints layers in training mode, and does not cache in them.
            layer.training = torch.is_grad_enabled()
        try:
            with self.autocast():
                if self.seq2seq is not None:
                    return self.seq2seq.hidden(tokens)
                run = self.body if self.compiled is None else self.compiled
                if images is None:
                    output = run(input_ids=tokens.clamp(min=0), use_cache=False)
                    return cast(Tensor, output.last_hidden_state)
                fed = self.embed(tokens, images)
                # Without a mask, transformers treats equal positions as borders of packed texts.
                mask = torch.ones(fed["inputs_embeds"].shape[:2], device=tokens.device)
                output = run(**fed, attention_mask=mask, use_cache=False)
                return cast(Tensor, output.last_hidden_state[:, self.prefix :])
        finally:
            for layer in self.checkpointed:
                layer.training = False

    def logits(self, hidden: Tensor) -> Tensor:
        """Float32 logits ``[..., V]`` of hidden states ``[..., d]``."""
        with self.autocast():
            return head_logits(self.model, hidden, self.vocab_size)

    def save_pretrained(self, folder: str | Path, merge: bool = True) -> None:
        """Write a checkpoint that transformers loads: weights, configuration, tokenizer.

        The weights of a picture encoder go into a separate file, which transformers ignores.

        Args:
            folder: The folder; created if it does not exist.
            merge: Whether to merge an adapter into the weights. False writes the adapter alone with
                the name of its base model, as peft does; :meth:`load` reads that too.

        Raises:
            StorageError: If the files cannot be written; existing files stay intact.
            ModelError: If ``merge=False`` without an adapter, or its base model has no name.
        """
        base = None if merge else self._named_base()
        model = merged(self.model) if merge and has_adapter(self.model) else self.model
        with saving_checkpoint(folder) as scratch, no_progress_bars():
            if base is None:
                model.save_pretrained(str(scratch))
            else:
                write_adapter(model, scratch, base)
            self.hf_tokenizer.save_pretrained(str(scratch))
            if self.pictures is not None:
                save_pictures(self.pictures, scratch)
        # Files of an earlier checkpoint that would be read as part of this one.
        for stale in ADAPTER_FILES if base is None else ("config.json",):
            (Path(folder) / stale).unlink(missing_ok=True)

    def merge_adapter(self) -> None:
        """Merge the adapter, if the model has one, into the weights permanently."""
        if has_adapter(self.model):
            merge_in_place(self.model)
            if self.origin is not None:
                self.origin = replace(self.origin, base=None)

    @property
    def base_name(self) -> str | None:
        """The name of the model below an adapter; None if that was merged, or made in memory."""
        return None if self.origin is None else self.origin.base

    def _named_base(self) -> str:
        check_adapter(self.model)
        if self.base_name is None:
            raise ModelError(
                f"merge=False saves an adapter with the name of its base model, but the base of "
                f"{self.name!r} has none: it contains a merged adapter, or was made in memory; "
                "leave merge out"
            )
        return self.base_name

    def check_fits(self, width: int, vocab_size: int, tokenizer_hash: str | None = None) -> None:
        """Check that an environment has this model's tokens and fits into its context.

        Args:
            width: Longest text of the environment in tokens, prompt included.
            vocab_size: Number of the environment's actions.
            tokenizer_hash: ``agreement()`` of the environment's tokenizer, if it is known.

        Raises:
            ModelError: If it does not.
        """
        if vocab_size != self.vocab_size:
            raise ModelError(
                f"the environment has {vocab_size} actions, but the tokenizer of {self.name!r} has "
                f"{self.vocab_size} tokens; make the environment with tokenizer={self.name!r}, or, "
                "for a task with its own vocabulary, use a model of that vocabulary "
                "(agents.running.word_model.starting_model makes a small one)"
            )
        theirs, closed, _ = (tokenizer_hash or "").partition(" ")
        same = theirs == self.tokenizer.content_hash()
        if same and closed and tokenizer_hash != self.tokenizer.agreement():
            raise ModelError(
                f"the environment's prompts end with other special tokens than those of "
                f"{self.name!r} (an encoder-decoder's prompt ends with eos, a decoder's does not); "
                f"make the environment with tokenizer={self.name!r}"
            )
        if theirs and not same:
            eos = self.tokenizer.eos_id
            end = "none" if eos is None else repr(self.tokenizer.token(eos))
            raise ModelError(
                f"the tokenizers of the environment and of {self.name!r} have the same size, but "
                f"different vocabularies or eos tokens (the model's is {end}); make the "
                f"environment with tokenizer={self.name!r}, or, to end texts with another token, "
                "save a tokenizer with that eos_token in the model's folder"
            )
        room = self.context_length
        if room is not None and self.seq2seq is not None:
            room *= 2  # The limit of each side.
        if room is not None and width > room:
            raise ModelError(
                f"{self.name!r} has a context of {room} tokens, but the environment's texts have "
                f"up to {width} (max_prompt_tokens + max_new_tokens); make these smaller"
            )

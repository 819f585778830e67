"""A transformers language model with its tokenizer, split into body and head.

The body maps token ids ``[B, L]`` to hidden states ``[B, L, d]``, the head maps hidden states to
logits. Agents need the two apart: a prompt's positions never need logits (with a vocabulary of
50,000, those are most of the memory), and a value head reads the same hidden state.

What this module does not do: keep a cache (:mod:`textgym.lm.decoding.memo` does), or sample.
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
from transformers import DynamicCache, PreTrainedModel
from transformers.activations import NewGELUActivation
from transformers.cache_utils import LinearAttentionLayer

from textgym.errors import ModelError
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
from textgym.lm.lora import has_adapter, merge_in_place, merged
from textgym.lm.pictures import PictureEncoder, load_pictures, save_pictures
from textgym.lm.seq2seq import Seq2Seq, trial
from textgym.tokenization import TINY, Tokenizer


class LanguageModel(nn.Module):
    """A causal language model or an encoder-decoder, and its tokenizer; made by :meth:`load`.

    Always in evaluation mode: with dropout on, the probabilities of a rollout and of its update
    would differ, and the PPO ratio would not start at 1.

    Args:
        model: A transformers model with a language-model head.
        tokenizer: The tokenizer of the model.
        name: Where both come from.

    Attributes:
        model: The transformers model.
        tokenizer: The textgym tokenizer.
        name: The name or path that it was loaded from.
        origin: The files that it was loaded from; None for a model made in memory.
        vocab_size: Number of usable logits: the tokenizer's vocabulary. Models pad theirs; the
            padding is sliced off.
        hidden_size: Width d of the hidden states.
        context_length: Longest sequence in tokens, or None if the architecture has no limit. An
            encoder-decoder's is that of each side.
        start_id: The token that stands in for an empty text (bos, else eos), or None.
        seq2seq: How an encoder-decoder reads texts; None for all others.
        pictures: What makes prefix embeddings of pictures (:meth:`look_through`); None where the
            model reads text alone.

    Raises:
        ModelError: If the model is not a language model whose logits are a head on the
            hidden states of a body.
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
        # A weight by its place: asking transformers walks over the modules, in every step.
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
                f"{self.vocab_size} tokens; resize the model's embeddings, or load the tokenizer "
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
        if hasattr(body, "warn_if_padding_and_no_attention_mask"):
            # Padding stands on the right here, where causal attention never sees it.
            body.warn_if_padding_and_no_attention_mask = _no_warning  # type: ignore[assignment]
        _fuse_activations(model)
        self.takes_positions = "position_ids" in inspect.signature(body.forward).parameters
        self.train(False)
        self._check_split()

    @staticmethod
    def load(
        name_or_path: str = TINY, device: str | torch.device = "auto", dtype: str = "auto"
    ) -> LanguageModel:
        """Load a causal language model or an encoder-decoder with its tokenizer.

        Only safetensors weights and GGUF files are read, and no code that comes with a checkpoint
        is run.

        Args:
            name_or_path: ``"textgym/tiny"`` (built in); the folder of a checkpoint; a GGUF file, or
                a folder that holds one, whose quantized weights are unpacked; a folder that peft
                wrote (base model and adapter: the adapter alone is trained further); or a hub id.
            device: ``"auto"`` takes the GPU if there is one.
            dtype: Of the weights: ``"float32"``, ``"bfloat16"``, ...; ``"auto"`` is float32 on a
                CPU, bfloat16 on a GPU that has it, and else the checkpoint's own. For training in
                mixed precision see :func:`textgym.lm.engine.prepare_training`.

        Raises:
            ModelError: If there is no such checkpoint, it has no safetensors weights, or
                it is not a language model that writes from left to right; or an adapter does not
                fit its base model.
            TokenizerError: If it has no tokenizer that can be loaded.
            MissingDependencyError: If the extra ``gguf`` or ``lora`` is needed and not installed.
        """
        if not isinstance(name_or_path, (str, Path)):
            raise ModelError(
                f"a language model is named by a string (a path or a hub id), not by a "
                f"{type(name_or_path).__name__}; save a live model with save_pretrained(folder) "
                "and give the folder, so that saved agents can be loaded again"
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
        """Where the weights are."""
        registry, key = self._weight
        return cast(Tensor, registry[key]).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        registry, key = self._weight
        return cast(Tensor, registry[key]).dtype

    @property
    def compute_dtype(self) -> torch.dtype:
        """The dtype that the model computes in: that of its weights, or what it casts them to."""
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

    def no_slots(self, reason: str) -> ModelError:
        """The error that this architecture cannot be decoded from a cache of slots."""
        return ModelError(
            f"{self.name!r} ({self.model.config.model_type}) {reason}, which the slot cache cannot "
            "hold; use it without: policy_kwargs=dict(lm=..., cache=False)"
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
        """Number of embeddings in front of the first token: those of the picture."""
        return 0 if self.pictures is None else self.pictures.positions

    def look_through(self, encoder: PictureEncoder) -> None:
        """Read pictures beside texts from now on.

        Args:
            encoder: Makes their prefix embeddings. It moves, trains and is saved with the model;
                weights that :meth:`save_pretrained` wrote beside the checkpoint are taken over.

        Raises:
            ModelError: If the architecture cannot take a prefix.
        """
        if self.seq2seq is not None or not self.takes_positions or is_recurrent(self):
            raise ModelError(
                f"{self.name!r} ({self.model.config.model_type}) cannot read a picture as prefix "
                "embeddings; use a decoder such as GPT-2, Llama or Qwen2"
            )
        known = self.origin is not None and load_pictures(encoder, self.origin.source)
        if not known and self.start_id is not None:
            words = self.model.get_input_embeddings()
            start = torch.tensor([self.start_id], device=self.device)
            with torch.no_grad():
                encoder.offset.copy_(words(start))
        self.pictures = encoder.to(self.device)

    def embed(self, tokens: Tensor, images: Tensor) -> dict[str, Tensor]:
        """What the body is fed for a picture and a text behind it.

        Args:
            tokens: Integer ids ``[B, L]``, padded on the right with -1 or any valid id.
            images: ``[B, 3, H, W]`` uint8.

        Returns:
            ``inputs_embeds`` ``[B, P + L, d]`` and ``position_ids`` ``[1, P + L]``.
        """
        assert self.pictures is not None
        words = self.model.get_input_embeddings()(tokens.clamp(min=0))
        seen = self.pictures(images).to(words.dtype)
        places = torch.arange(tokens.shape[1], device=tokens.device)
        return {
            "inputs_embeds": torch.cat([seen, words], 1),
            "position_ids": functional.pad(places, (seen.shape[1], 0))[None],
        }

    def train(self, mode: bool = True) -> LanguageModel:
        """Keep the model in evaluation mode, whatever is asked for: dropout stays off."""
        super().train(mode)
        self.model.eval()  # type: ignore[no-untyped-call]
        return self

    def hidden(self, tokens: Tensor, images: Tensor | None = None) -> Tensor:
        """Hidden states of whole sequences, without a cache.

        Args:
            tokens: Integer ids ``[B, L]``, padded on the right with -1 or any valid id.
            images: ``[B, 3, H, W]`` uint8, the picture before each text; None reads the text alone.

        Returns:
            ``[B, L, d]``; what stands at padded positions means nothing.

        Raises:
            ModelError: If a prompt of an encoder-decoder does not end (:mod:`textgym.lm.seq2seq`).
        """
        for layer in self.checkpointed:
            # Transformers checkpoints what trains, and refuses to decode it from a cache.
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
                # Without a mask, transformers takes equal positions for borders of packed texts.
                everything = torch.ones(fed["inputs_embeds"].shape[:2], device=tokens.device)
                output = run(**fed, attention_mask=everything, use_cache=False)
                return cast(Tensor, output.last_hidden_state[:, self.prefix :])
        finally:
            for layer in self.checkpointed:
                layer.training = False

    def logits(self, hidden: Tensor) -> Tensor:
        """Float32 logits ``[..., V]`` of hidden states ``[..., d]``."""
        head = self.model.get_output_embeddings()  # type: ignore[no-untyped-call]
        size, config = self.vocab_size, self.model.config
        # T5, where its embeddings are the head.
        if getattr(config, "scale_decoder_outputs", config.model_type == "umt5"):
            hidden = hidden * config.d_model**-0.5
        with self.autocast():
            if type(head) is nn.Linear and head.out_features > size:
                bias = None if head.bias is None else head.bias[:size]
                logits = functional.linear(hidden, head.weight[:size], bias).float()
            else:
                logits = cast(Tensor, head(hidden))[..., :size].float()
        if (offset := getattr(self.model, "final_logits_bias", None)) is not None:  # BART
            logits = logits + offset[..., :size]
        # Gemma 2 bounds its logits; Granite and Cohere scale theirs.
        if cap := getattr(config, "final_logit_softcapping", None):
            logits = torch.tanh(logits / cap) * cap
        if divisor := getattr(config, "logits_scaling", None):
            logits = logits / divisor
        if factor := getattr(config, "logit_scale", None):
            logits = logits * factor
        return logits

    def save_pretrained(self, folder: str | Path, merge: bool = True) -> None:
        """Write a checkpoint that plain transformers loads: weights, configuration, tokenizer.

        A picture encoder's weights lie beside them, in a file that plain transformers does not look
        at.

        Args:
            folder: Where to.
            merge: Whether an adapter becomes part of the weights. False writes the adapter alone,
                as peft does (``PeftModel.from_pretrained`` reads it), with the name of its base
                model; :meth:`load` takes the folder.

        Raises:
            StorageError: If the files cannot be written; what was in the folder is then intact.
            ModelError: If an adapter alone is asked for, and there is none, or what it belongs to
                has no name.
        """
        base = None if merge else self._base_name()
        model = merged(self.model) if merge and has_adapter(self.model) else self.model
        with saving_checkpoint(folder) as scratch, no_progress_bars():
            if base is None:
                model.save_pretrained(str(scratch))
            else:
                write_adapter(model, scratch, base)
            self.hf_tokenizer.save_pretrained(str(scratch))
            if self.pictures is not None:
                save_pictures(self.pictures, scratch)
        # What was in the folder before must not be taken for a part of this.
        for stale in ADAPTER_FILES if base is None else ("config.json",):
            (Path(folder) / stale).unlink(missing_ok=True)

    def merge_adapter(self) -> None:
        """Make an adapter part of the weights, for good; does nothing if there is none."""
        if has_adapter(self.model):
            merge_in_place(self.model)
            if self.origin is not None:
                self.origin = replace(self.origin, base=None)

    def _base_name(self) -> str:
        """What the model is called without its adapter."""
        check_adapter(self.model)
        base = None if self.origin is None else self.origin.base
        if base is None:
            raise ModelError(
                f"merge=False saves an adapter alone, with the name of its base model, but the "
                f"weights below the adapter of {self.name!r} are in no file: they hold an earlier "
                "adapter, or were made in memory; leave merge out"
            )
        return base

    def check_fits(self, width: int, vocab_size: int, tokenizer_hash: str | None = None) -> None:
        """Check that an environment speaks this model's tokens and fits into its context.

        Args:
            width: Longest text of the environment in tokens, prompt included.
            vocab_size: Number of the environment's actions.
            tokenizer_hash: ``agreement()`` of the environment's tokenizer, where it is known.

        Raises:
            ModelError: If it does not.
        """
        if vocab_size != self.vocab_size:
            raise ModelError(
                f"the environment has {vocab_size} actions, but the tokenizer of {self.name!r} has "
                f"{self.vocab_size} tokens; make the environment with tokenizer={self.name!r}, or, "
                "for a task with words of its own, take a model of these words "
                "(agents.running.word_model.starting_model makes a small one)"
            )
        theirs, closed, _ = (tokenizer_hash or "").partition(" ")
        same = theirs == self.tokenizer.content_hash()
        if same and closed and tokenizer_hash != self.tokenizer.agreement():
            raise ModelError(
                f"the environment's prompts end with other special tokens than those of "
                f"{self.name!r} (a decoder's prompt is not closed with eos, an encoder-decoder's "
                f"is); make the environment with tokenizer={self.name!r}"
            )
        if theirs and not same:
            eos = self.tokenizer.eos_id
            end = "none" if eos is None else repr(self.tokenizer.token(eos))
            raise ModelError(
                f"the environment's tokenizer and that of {self.name!r} are of the same size, but "
                f"their vocabularies differ, or their end-of-sequence tokens do (the model's is "
                f"{end}); make the environment with tokenizer={self.name!r}, or, to end texts with "
                "another token, save a tokenizer with that eos_token in the model's folder"
            )
        room = self.context_length
        if room is not None and self.seq2seq is not None:
            room *= 2  # For each side as much.
        if room is not None and width > room:
            raise ModelError(
                f"{self.name!r} reads at most {room} tokens, but the environment's "
                f"texts have up to {width} (max_prompt_tokens + max_new_tokens); make them smaller"
            )

    @torch.no_grad()
    def _check_split(self) -> None:
        """Run a few tokens through: is head(body(x)) the model, and is it causal?"""
        length = min(5, self.context_length or 5)
        tokens = torch.arange(length, device=self.device)[None] % self.vocab_size
        kind = type(self.model).__name__
        try:
            if self.seq2seq is not None:
                expected, split, prefix = trial(self, self.seq2seq)
            else:
                expected = self.model(input_ids=tokens, use_cache=False).logits
                expected = expected[..., : self.vocab_size].float()
                split = self.logits(self.hidden(tokens))
                prefix = self.logits(self.hidden(tokens[:, :-1]))
        except Exception as error:
            raise ModelError(
                f"{self.name!r} is a {kind}, which cannot be run as body and head ({error}); "
                "use a decoder such as GPT-2, Llama or Qwen2"
            ) from error
        scale = 1e-3 if expected.abs().max() < 50 and self.compute_dtype == torch.float32 else 0.1
        if not torch.allclose(split, expected, atol=scale, rtol=scale):
            raise ModelError(
                f"{self.name!r} is a {kind}, whose logits are more than a head on the last hidden "
                "state; use a decoder such as GPT-2, Llama or Qwen2"
            )
        if not torch.allclose(split[:, :-1], prefix, atol=scale, rtol=scale):
            raise ModelError(
                f"{self.name!r} is a {kind} that looks ahead: it is not a causal language model; "
                "use a decoder such as GPT-2, Llama or Qwen2"
            )


def _no_warning(*_: Any, **__: Any) -> None:
    """Stand in for a warning about padding that does not apply."""


def _fuse_activations(model: nn.Module) -> None:
    """Replace GPT-2's activation, eight passes over memory in Python, by the same in one kernel."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is NewGELUActivation:
                setattr(module, name, nn.GELU(approximate="tanh"))


def is_recurrent(lm: LanguageModel) -> bool:
    """Whether all layers of a model are recurrent (hybrids have layers of attention as well)."""
    layers = DynamicCache(config=lm.model.config).layers
    return all(type(layer) is LinearAttentionLayer for layer in layers)

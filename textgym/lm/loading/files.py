"""Finding and reading the files of a checkpoint.

Only safetensors weights and GGUF files are read, and no code from a checkpoint is run.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedModel,
)
from transformers.utils import logging

import textgym.lm.lstm  # noqa: F401 (registers the type with transformers)
from textgym.errors import ModelError, TokenizerError
from textgym.gguf import find_gguf, gguf_config, gguf_tokenizer, is_gguf
from textgym.hub import find_on_hub
from textgym.lm.loading.adapters import AdapterFolder
from textgym.lm.loading.pretrained import load_pretrained
from textgym.tokenization import (
    TINY,
    TINY_DIR,
    Tokenizer,
    is_ours,
    load_tokenizer,
    looks_local,
)

_VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model")
_TOKENIZER_FILES = ("tokenizer_config.json", *_VOCABULARIES)


def resolve(name: str) -> str:
    """The folder, GGUF file or hub id of a name; local files are checked.

    Raises:
        ModelError: If there is no such folder, it has no safetensors weights, or a GGUF file is
            damaged.
        TokenizerError: If a folder has no tokenizer.
        MissingDependencyError: If it is a GGUF file, and the extra ``gguf`` is not installed.
    """
    if name == TINY:
        if not (TINY_DIR / "model.safetensors").is_file():
            raise ModelError(
                f"the built-in model {TINY!r} is missing from this installation ({TINY_DIR}); "
                "reinstall textgym, or train it with: python -m textgym.lm.train"
            )
        return str(TINY_DIR)
    path = Path(name).expanduser()
    if (file := find_gguf(path)) is not None:
        return str(file)
    if path.is_dir():
        if not (path / "config.json").is_file():
            inner = path / "lm"
            advice = "write one with save_pretrained(folder)"
            if (inner / "config.json").is_file():  # The folder of a run.
                advice = f"did you mean {str(inner)!r}?"
            elif (path / "adapter_config.json").is_file():
                advice = (
                    "it is a peft adapter, which only language models can be loaded from; "
                    "merge it: LanguageModel.load(name).save_pretrained(folder)"
                )
            raise ModelError(
                f"the folder {name!r} has no config.json, so it is not a transformers checkpoint; "
                f"{advice}"
            )
        if not any(path.glob("*.safetensors")):
            raise ModelError(
                f"the folder {name!r} has no *.safetensors weights, and pickled weights (.bin) "
                "are not read, because they can run code; convert the checkpoint with "
                "save_pretrained(folder)"
            )
        if not any(file for pattern in _TOKENIZER_FILES for file in path.glob(pattern)):
            # Transformers would create an empty tokenizer.
            raise TokenizerError(
                f"the folder {name!r} has no tokenizer (no tokenizer.json); save the one that the "
                "model was trained with there, with tokenizer.save_pretrained(folder)"
            )
        return str(path)
    if path.exists() or looks_local(name) or is_ours(name):
        raise ModelError(
            f"there is no model folder at {name!r}; give the folder of a transformers checkpoint, "
            f"a GGUF file, a hub id, or {TINY!r}"
        )
    try:
        return find_on_hub(name, known=(TINY,))
    except OSError as error:
        raise ModelError(
            f"no model could be loaded from {name!r}: it is not a folder here, and {error}"
        ) from error


@dataclass(frozen=True)
class Origin:
    """The files that a language model was loaded from.

    Attributes:
        source: Folder, GGUF file or hub id of the weights, without an adapter.
        tokenizer: Folder, GGUF file or hub id of the tokenizer.
        base: Name or path of the model without an adapter; None if it was not saved.
    """

    source: str
    tokenizer: str
    base: str | None


def load_parts(name: str, dtype: str) -> tuple[PreTrainedModel, Tokenizer, Origin]:
    """Load a language model, with an adapter if the name is that of an adapter folder.

    Args:
        name: The name as the user gave it.
        dtype: As in :func:`load_model`.

    Raises:
        ModelError: If there is no such model, or an adapter does not fit it.
        TokenizerError: If it has no tokenizer.
    """
    adapter = AdapterFolder.find(name)
    base = name if adapter is None else adapter.base
    source = resolve(base)
    model = load_model(base, source, dtype)
    place, spec = source, TINY if base == TINY else source
    if adapter is not None:
        model = adapter.put_into(model)
        if any(file for pattern in _VOCABULARIES for file in adapter.path.glob(pattern)):
            # It may have tokens that the base does not have.
            place = spec = str(adapter.path)
    try:
        tokenizer = load_tokenizer(spec)
    except TokenizerError as error:
        raise TokenizerError(f"the model {name!r} has no usable tokenizer: {error}") from error
    return model, tokenizer, Origin(source, place, base)


def load_hf_tokenizer(source: str) -> Any:
    """A new instance of a checkpoint's transformers tokenizer.

    Args:
        source: The folder, GGUF file or hub id, from :func:`resolve`.
    """
    if is_gguf(source):
        return copy.deepcopy(gguf_tokenizer(Path(source)))
    return AutoTokenizer.from_pretrained(source, trust_remote_code=False)


def load_config(source: str) -> Any:
    """The transformers configuration of a checkpoint.

    Args:
        source: The folder, GGUF file or hub id, from :func:`resolve`.
    """
    if is_gguf(source):
        return gguf_config(Path(source))
    return AutoConfig.from_pretrained(source, trust_remote_code=False)


def load_model(name: str, source: str, dtype: str) -> PreTrainedModel:
    """Read the weights of a causal language model, or of an encoder-decoder.

    Args:
        name: The name as the user gave it, for error messages.
        source: The folder, GGUF file or hub id, from :func:`resolve`.
        dtype: Name of a torch dtype, or ``"auto"`` for the checkpoint's own.

    Raises:
        ModelError: If it is missing, not a language model, incomplete or damaged
            (:func:`textgym.lm.loading.pretrained.load_pretrained`).
    """
    try:
        config = load_config(source)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"no model could be loaded from {name!r}: it is neither a folder here nor a hub id "
            f"that can be reached ({_first_line(error)})"
        ) from error
    seq2seq = bool(getattr(config, "is_encoder_decoder", False))
    kind = AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM
    weights = dtype if dtype == "auto" else getattr(torch, dtype)
    return load_pretrained(kind, name, source, dtype=weights, config=config).model


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep transformers from drawing progress bars for files of a few megabytes."""
    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

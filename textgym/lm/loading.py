"""Finding and reading the files of a checkpoint.

Only safetensors weights are read, and no code that comes with a checkpoint is run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    PreTrainedModel,
)
from transformers.utils import logging

import textgym.lm.lstm  # noqa: F401 (makes its type known to transformers)
from textgym.errors import ModelError, TokenizerError
from textgym.lm.pretrained import load_pretrained
from textgym.tokenization import TINY, TINY_DIR, is_ours, looks_local

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.*", "*.model")


def resolve(name: str) -> str:
    """The folder or hub id behind a name; a folder is checked for what it must hold.

    Raises:
        ModelError: If there is no such folder, or it holds no safetensors weights.
        TokenizerError: If it holds no tokenizer.
    """
    if name == TINY:
        if not (TINY_DIR / "model.safetensors").is_file():
            raise ModelError(
                f"the built-in model {TINY!r} is missing from this installation ({TINY_DIR}); "
                "reinstall textgym, or train it with: python -m textgym.lm.train"
            )
        return str(TINY_DIR)
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            inner = path / "lm"
            advice = "write one with save_pretrained(folder)"
            if (inner / "config.json").is_file():  # The folder of a run.
                advice = f"did you mean {str(inner)!r}?"
            raise ModelError(
                f"the folder {name!r} holds no config.json, so it is no transformers checkpoint; "
                f"{advice}"
            )
        if not any(path.glob("*.safetensors")):
            raise ModelError(
                f"the folder {name!r} holds no *.safetensors weights, and pickled weights (.bin) "
                "are not read because they can run code; convert the checkpoint with "
                "save_pretrained(folder)"
            )
        if not any(file for pattern in _TOKENIZER_FILES for file in path.glob(pattern)):
            # Transformers would make up an empty tokenizer.
            raise TokenizerError(
                f"the folder {name!r} holds no tokenizer (no tokenizer.json); write the one that "
                "the model was trained with there, with tokenizer.save_pretrained(folder)"
            )
        return str(path)
    if path.exists() or looks_local(name) or is_ours(name):
        raise ModelError(
            f"there is no model folder at {name!r}; give the folder of a transformers checkpoint, "
            f"a hub id, or {TINY!r}"
        )
    return name


def load_model(name: str, source: str, dtype: str) -> PreTrainedModel:
    """Read the weights of a causal language model, or of an encoder-decoder.

    Args:
        name: What the user called it, for error messages.
        source: The folder or hub id, from :func:`resolve`.
        dtype: Name of a torch dtype, or ``"auto"`` for the checkpoint's own.

    Raises:
        ModelError: If there is none, it is not a language model, or it is incomplete or damaged
            (:func:`textgym.lm.pretrained.load_pretrained`).
    """
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
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

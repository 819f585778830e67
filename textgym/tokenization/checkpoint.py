"""The files of a checkpoint that describe its tokenizer: special tokens and chat template."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from textgym.gguf import gguf_config
from textgym.tokenization.base import Tokenizer
from textgym.tokenization.chat import ChatTemplate

# Tokenizer classes of transformers that use tokenizer.json unchanged.
_GENERIC = (None, "PreTrainedTokenizerFast", "TokenizersBackend")

_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token")


class CheckpointFiles:
    """The files of a checkpoint that describe its tokenizer.

    Args:
        source: The folder, or the hub id.
    """

    def __init__(self, source: str) -> None:
        self.source = source

    @cached_property
    def tokenizer_config(self) -> dict[str, Any]:
        """``tokenizer_config.json``."""
        return self._read_json("tokenizer_config.json")

    @cached_property
    def config(self) -> dict[str, Any]:
        """``config.json``."""
        return self._read_json("config.json")

    @property
    def is_generic(self) -> bool:
        """Whether ``tokenizer.json`` alone determines how texts are encoded.

        For many models (Llama, T5, ...) transformers has tokenizer classes that replace parts of
        that file, so that transformers has to load them.
        """
        named = self.tokenizer_config.get("tokenizer_class")
        implied = named is None and "model_type" in self.config
        return named in _GENERIC and not implied

    @property
    def encoder_decoder(self) -> bool | None:
        """Whether the model is an encoder-decoder; None without a configuration."""
        if not self.config:
            return None
        return bool(self.config.get("is_encoder_decoder", False))

    @property
    def eos(self) -> str | None:
        """The eos token that the files name."""
        return self.special_tokens.get("eos_token")

    @cached_property
    def special_tokens(self) -> dict[str, str]:
        """The named special tokens, as strings."""
        found = {}
        older = self._read_json("special_tokens_map.json")
        for name in _SPECIAL:
            token = self.tokenizer_config.get(name) or older.get(name)
            if isinstance(token, dict):
                token = token.get("content")
            if isinstance(token, str):
                found[name] = token
        return found

    def chat_template(self, name: str) -> ChatTemplate | None:
        """The checkpoint's chat template, if any.

        Args:
            name: The tokenizer's name, for errors.
        """
        source: Any = self._read_text("chat_template.jinja")
        if source is None:
            source = self.tokenizer_config.get("chat_template")
        return as_template(source, self.special_tokens, name)

    def other_ends(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """Further ids that end a text, from ``generation_config.json`` and ``config.json``."""
        named: list[Any] = []
        for settings in (self._read_json("generation_config.json"), self.config):
            ids = settings.get("eos_token_id")
            named += ids if isinstance(ids, list) else [ids]
        return _distinct(named, tokenizer)

    def _read_json(self, file: str) -> dict[str, Any]:
        text = self._read_text(file)
        try:
            content = json.loads(text or "{}")
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}

    def _read_text(self, file: str) -> str | None:
        path = Path(self.source) / file
        try:
            if not Path(self.source).is_dir():
                from transformers.utils.hub import cached_file

                found = cached_file(
                    self.source,
                    file,
                    _raise_exceptions_for_gated_repo=False,
                    _raise_exceptions_for_missing_entries=False,
                    _raise_exceptions_for_connection_errors=False,
                )
                if found is None:
                    return None
                path = Path(found)
            return path.read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            return None


class GgufFiles(CheckpointFiles):
    """The same for a GGUF file, whose tokenizer contains the chat template.

    Args:
        source: The path of the file.
    """

    @cached_property
    def config(self) -> dict[str, Any]:
        """The configuration in the file."""
        return dict(gguf_config(Path(self.source)).to_dict())

    def _read_text(self, file: str) -> str | None:
        return None


def as_template(source: Any, special_tokens: dict[str, str], name: str) -> ChatTemplate | None:
    """A chat template in one of transformers' forms: a string, or several by name."""
    if isinstance(source, list):
        source = {entry.get("name"): entry.get("template") for entry in source}
    if isinstance(source, dict):
        source = source.get("default")
    if not isinstance(source, str):
        return None
    return ChatTemplate(source, special_tokens, name)


def template_ends(tokenizer: Tokenizer) -> tuple[int, ...]:
    """The token with which the chat template ends the assistant's turns, if any."""
    if tokenizer.chat_template is None:
        return ()
    ids = tokenizer.encode(tokenizer.chat_template.end_of_turn().strip())[:1]
    # Plain text after the turn, such as "User:", is not an end token.
    return _distinct([index for index in ids if tokenizer.is_added(index)], tokenizer)


def _distinct(ids: list[Any], tokenizer: Tokenizer) -> tuple[int, ...]:
    """The valid ids among some values that are not ends of the tokenizer already."""
    known = dict.fromkeys(tokenizer.ends)
    valid = [
        index
        for index in ids
        if isinstance(index, int)
        and not isinstance(index, bool)
        and 0 <= index < tokenizer.vocab_size
    ]
    return tuple(index for index in dict.fromkeys(valid) if index not in known)

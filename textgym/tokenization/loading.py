"""Loading a tokenizer from whatever describes one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import tokenizers

from textgym.errors import ModelError, TokenizerError, shown
from textgym.gguf import file_version, find_gguf, gguf_tokenizer
from textgym.hub import find_on_hub
from textgym.tokenization.base import TINY, TINY_DIR, Tokenizer
from textgym.tokenization.checkpoint import CheckpointFiles, GgufFiles, as_template, template_ends
from textgym.tokenization.fast import FastTokenizer, serialized
from textgym.tokenization.slow import SlowTokenizer
from textgym.tokenization.words import WordTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TokenizerSpec: TypeAlias = (
    "list[str] | tuple[str, ...] | str | Path | tokenizers.Tokenizer "
    "| PreTrainedTokenizerBase | Tokenizer | None"
)


def load_tokenizer(spec: TokenizerSpec = None, *, add_eos: bool = True) -> Tokenizer:
    """Get a :class:`Tokenizer` from whatever describes one.

    Args:
        spec: None or ``"textgym/tiny"`` for the built-in one; a list of words (a closed
            vocabulary); the path of a ``tokenizer.json``, of a GGUF file, or of a folder that holds
            either; a hub id; a ``tokenizers.Tokenizer``; a transformers tokenizer; or a
            :class:`Tokenizer`.
        add_eos: Whether a list of words without an eos token gets ``"<eos>"`` appended.

    Raises:
        TokenizerError: If there is no such tokenizer, or its file is broken.
        MissingDependencyError: If it is a GGUF file, and the extra ``gguf`` is not installed.
    """
    if isinstance(spec, Tokenizer):
        return spec
    if spec is None or (isinstance(spec, str) and spec == TINY):
        return _load_folder(TINY_DIR, TINY)
    if isinstance(spec, (list, tuple)):
        return WordTokenizer(spec, add_eos=add_eos)
    if isinstance(spec, tokenizers.Tokenizer):
        name = "a tokenizers.Tokenizer"
        return FastTokenizer(_copy(spec, name), name)
    if isinstance(spec, (str, Path)):
        try:
            path = Path(spec).expanduser()
            if path.exists():
                return _load_path(path, str(spec))
        except (OSError, RuntimeError):  # No name that a file could have.
            pass
        if isinstance(spec, Path) or looks_local(spec) or is_ours(spec):
            raise TokenizerError(
                f"there is no tokenizer at {str(spec)[:200]!r}; give the path of a tokenizer.json "
                f"or of a folder that holds one, a hub id, or {TINY!r}"
            )
        return _find_hub(spec)
    if callable(getattr(spec, "convert_ids_to_tokens", None)):
        origin = str(getattr(spec, "name_or_path", ""))
        files = CheckpointFiles(origin) if origin and Path(origin).is_dir() else None
        return _from_transformers(spec, origin or "a tokenizer", files)
    raise TokenizerError(
        f"a {type(spec).__name__} is no tokenizer; give None, a list of words, a path, a hub id, "
        "a tokenizers.Tokenizer or a transformers tokenizer"
    )


# Letters, digits, "-", "_" and "."; at most one slash, between owner and name.
_HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*(/[\w.-]+)?", re.ASCII)
_MAX_HUB_ID = 200
_FILE_TYPES = (".json", ".txt", ".model", ".safetensors", ".bin", ".gguf", ".pt")


def looks_local(name: str) -> bool:
    """Whether a name can only be meant for a file or folder: no id of the hub reads like it."""
    if len(name) > _MAX_HUB_ID or _HUB_ID.fullmatch(name) is None:
        return True
    return name.lower().endswith(_FILE_TYPES)


def is_ours(name: str) -> bool:
    """Whether a name is one of this library's own, which no hub has: a typo, if it is not known."""
    return name.startswith(TINY.partition("/")[0] + "/")


# Tokenizers with large vocabularies take seconds to load, and an environment, its models and their
# references all do. They are immutable, and so one is shared as long as the files stay the same.
_LARGE = 2**15
_MOST = 8
_LOADED: dict[tuple[Any, ...], Tokenizer] = {}
_FILES = {".json", ".jinja", ".txt", ".model", ".gguf"}


def _load_path(path: Path, name: str) -> Tokenizer:
    folder = path if path.is_dir() else path.parent
    files = [file for file in folder.iterdir() if file.suffix in _FILES and file.is_file()]
    key = (name, path.absolute(), *sorted(map(file_version, files)))
    if key in _LOADED:
        return _LOADED[key]
    if (gguf := _find_gguf(path)) is not None:
        tokenizer = _load_gguf(gguf, name)
    else:
        tokenizer = _load_folder(path, name) if path.is_dir() else _load_file(path, name)
    if tokenizer.vocab_size >= _LARGE:
        _LOADED[key] = tokenizer
        while len(_LOADED) > _MOST:
            del _LOADED[next(iter(_LOADED))]
    return tokenizer


def _find_gguf(path: Path) -> Path | None:
    try:
        return find_gguf(path)
    except ModelError as error:
        raise TokenizerError(str(error)) from error


def _load_gguf(path: Path, name: str) -> Tokenizer:
    try:
        return _from_transformers(gguf_tokenizer(path), name, GgufFiles(str(path)))
    except ModelError as error:
        raise TokenizerError(str(error)) from error


def _load_folder(folder: Path, name: str) -> Tokenizer:
    if (folder / "tokenizer.json").is_file():
        return _load_file(folder / "tokenizer.json", name)
    if (folder / "lm" / "tokenizer.json").is_file():  # The folder of a run.
        raise TokenizerError(
            f"the folder {name!r} holds no tokenizer; did you mean {str(folder / 'lm')!r}?"
        )
    return _load_hub(str(folder))


def _load_file(path: Path, name: str) -> Tokenizer:
    """A tokenizer.json, with what the files beside it say."""
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # The library raises bare Exception.
        raise TokenizerError(
            f"{path} is not a tokenizer.json that the tokenizers library can read: {error}"
        ) from error
    files = CheckpointFiles(str(path.parent))
    if path.name == "tokenizer.json" and not files.is_generic:
        try:
            return _load_hub(str(path.parent), name)
        except TokenizerError:
            if "tokenizer_class" in files.tokenizer_config:
                raise
            # The model is none that transformers knows; the file says all there is to know.
    _add_named(backend, files)
    tokenizer = FastTokenizer(backend, name, files.eos, files.encoder_decoder)
    tokenizer.chat_template = files.chat_template(name)
    return _with_ends(tokenizer, files)


def _add_named(backend: tokenizers.Tokenizer, files: CheckpointFiles) -> None:
    """Write bos and eos where ``tokenizer_config.json`` asks for them, as transformers does."""
    config, special = files.tokenizer_config, files.special_tokens
    if "add_bos_token" not in config and "add_eos_token" not in config:
        return
    wanted = {
        name: special[name]
        for name in ("bos_token", "eos_token")
        if config.get(f"add_{name}") and backend.token_to_id(special.get(name, "")) is not None
    }
    parts = [wanted.get("bos_token"), "$A", wanted.get("eos_token")]
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single=" ".join(part for part in parts if part),
        special_tokens=[(token, backend.token_to_id(token)) for token in wanted.values()],
    )


def _with_ends(tokenizer: Tokenizer, files: CheckpointFiles | None) -> Tokenizer:
    """A tokenizer that knows every end that its checkpoint names."""
    if files is not None:
        tokenizer.other_ends += files.other_ends(tokenizer)
    tokenizer.other_ends += template_ends(tokenizer)
    return tokenizer


def _find_hub(name: str) -> Tokenizer:
    """A tokenizer of the hub, or of what was downloaded from it."""
    try:
        source = find_on_hub(name, known=(TINY,))
    except OSError as error:
        raise TokenizerError(
            f"no tokenizer could be loaded from {shown(name)}: it is not a file or folder here, "
            f"and {error}"
        ) from error
    return _load_hub(name) if source == name else _load_folder(Path(source), name)


def _load_hub(source: str, name: str | None = None) -> Tokenizer:
    """A tokenizer that transformers has to make, of a folder or of the hub."""
    from transformers import AutoTokenizer

    name = source if name is None else name
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:
        raise TokenizerError(
            f"no tokenizer could be loaded from {name!r}: it is neither a file or folder here nor "
            f"a hub id that can be reached ({str(error).partition(chr(10))[0]})"
        ) from error
    return _from_transformers(tokenizer, name, CheckpointFiles(source))


def _from_transformers(tokenizer: Any, name: str, files: CheckpointFiles | None) -> Tokenizer:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    encoder_decoder = None if files is None else files.encoder_decoder
    ours: Tokenizer
    if isinstance(backend, tokenizers.Tokenizer):
        eos = tokenizer.eos_token
        ours = FastTokenizer(_copy(backend, name), name, eos, encoder_decoder)
        if eos is None:
            ours.eos_id = None  # The tokenizer's own word counts, also when it says "none".
    else:
        ours = SlowTokenizer(tokenizer, name, encoder_decoder)
    named = tokenizer.special_tokens_map.items()
    special = {key: str(token) for key, token in named if not isinstance(token, list)}
    ours.chat_template = as_template(getattr(tokenizer, "chat_template", None), special, name)
    return _with_ends(ours, files)


def _copy(backend: tokenizers.Tokenizer, name: str) -> tokenizers.Tokenizer:
    """A tokenizer of our own: its owner may add tokens to the first, or make it truncate."""
    return tokenizers.Tokenizer.from_str(serialized(backend, name))

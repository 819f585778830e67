"""Loading a tokenizer from any of its descriptions."""

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
    """Load a :class:`Tokenizer`.

    Args:
        spec: None or ``"textgym/tiny"`` for the built-in one; a list of words (a closed
            vocabulary); the path of a ``tokenizer.json``, of a GGUF file, or of a folder with
            either; a hub id; a ``tokenizers.Tokenizer``; a transformers tokenizer; or a
            :class:`Tokenizer`.
        add_eos: Whether to append ``"<eos>"`` to a list of words without an eos token.

    Raises:
        TokenizerError: If the tokenizer does not exist, or its file is invalid.
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
        except (OSError, RuntimeError):  # Not a valid file name.
            pass
        if isinstance(spec, Path) or looks_local(spec) or is_ours(spec):
            raise TokenizerError(
                f"there is no tokenizer at {str(spec)[:200]!r}; use the path of a tokenizer.json "
                f"or of a folder with one, a hub id, or {TINY!r}"
            )
        return _find_hub(spec)
    if callable(getattr(spec, "convert_ids_to_tokens", None)):
        origin = str(getattr(spec, "name_or_path", ""))
        files = CheckpointFiles(origin) if origin and Path(origin).is_dir() else None
        return _from_transformers(spec, origin or "a tokenizer", files)
    raise TokenizerError(
        f"tokenizer={shown(spec)} is not a tokenizer; use None, a list of words, a path, a hub id, "
        "a tokenizers.Tokenizer or a transformers tokenizer"
    )


# Letters, digits, "-", "_" and "."; at most one slash, between owner and name.
_HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*(/[\w.-]+)?", re.ASCII)
_MAX_HUB_ID = 200
_FILE_TYPES = (".json", ".txt", ".model", ".safetensors", ".bin", ".gguf", ".pt")


def looks_local(name: str) -> bool:
    """Whether a name can only be a file or folder, since it is not a valid hub id."""
    if len(name) > _MAX_HUB_ID or _HUB_ID.fullmatch(name) is None:
        return True
    return name.lower().endswith(_FILE_TYPES)


def is_ours(name: str) -> bool:
    """Whether a name starts like one of textgym's own tokenizers, which are not on the hub."""
    return name.startswith(TINY.partition("/")[0] + "/")


# Tokenizers with large vocabularies take seconds to load, and are loaded by an environment, its
# models and their references. They are immutable, so they are shared until their files change.
_MIN_CACHED_VOCABULARY = 2**15
_MAX_CACHED = 8
_CACHE: dict[tuple[Any, ...], Tokenizer] = {}
_FILES = {".json", ".jinja", ".txt", ".model", ".gguf"}


def _load_path(path: Path, name: str) -> Tokenizer:
    folder = path if path.is_dir() else path.parent
    files = [file for file in folder.iterdir() if file.suffix in _FILES and file.is_file()]
    key = (name, path.absolute(), *sorted(map(file_version, files)))
    if key in _CACHE:
        return _CACHE[key]
    if (gguf := _find_gguf(path)) is not None:
        tokenizer = _load_gguf(gguf, name)
    else:
        tokenizer = _load_folder(path, name) if path.is_dir() else _load_file(path, name)
    if tokenizer.vocab_size >= _MIN_CACHED_VOCABULARY:
        _CACHE[key] = tokenizer
        while len(_CACHE) > _MAX_CACHED:
            del _CACHE[next(iter(_CACHE))]
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
    """A tokenizer.json, configured by the other files of its folder."""
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
            # Transformers does not know the model; the file alone describes the tokenizer.
    _add_bos_and_eos(backend, files)
    tokenizer = FastTokenizer(backend, name, files.eos, files.encoder_decoder)
    tokenizer.chat_template = files.chat_template(name)
    return _with_ends(tokenizer, files)


def _add_bos_and_eos(backend: tokenizers.Tokenizer, files: CheckpointFiles) -> None:
    """Add bos and eos to texts if ``tokenizer_config.json`` says so, as transformers does."""
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
    """Add the ends that a checkpoint names to its tokenizer."""
    if files is not None:
        tokenizer.other_ends += files.other_ends(tokenizer)
    tokenizer.other_ends += template_ends(tokenizer)
    return tokenizer


def _find_hub(name: str) -> Tokenizer:
    """A tokenizer from the hub or its cache."""
    try:
        source = find_on_hub(name, known=(TINY,))
    except OSError as error:
        raise TokenizerError(
            f"no tokenizer could be loaded from {shown(name)}: it is not a file or folder here, "
            f"and {error}"
        ) from error
    return _load_hub(name) if source == name else _load_folder(Path(source), name)


def _load_hub(source: str, name: str | None = None) -> Tokenizer:
    """A tokenizer that transformers loads, from a folder or the hub."""
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
            ours.eos_id = None  # Not one of EOS_NAMES, since the tokenizer has no eos.
    else:
        ours = SlowTokenizer(tokenizer, name, encoder_decoder)
    named = tokenizer.special_tokens_map.items()
    special = {key: str(token) for key, token in named if not isinstance(token, list)}
    ours.chat_template = as_template(getattr(tokenizer, "chat_template", None), special, name)
    return _with_ends(ours, files)


def _copy(backend: tokenizers.Tokenizer, name: str) -> tokenizers.Tokenizer:
    """A copy, since the caller may add tokens to a tokenizer or make it truncate."""
    return tokenizers.Tokenizer.from_str(serialized(backend, name))

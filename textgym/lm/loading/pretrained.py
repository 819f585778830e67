"""Loading transformers checkpoints completely, or not at all.

Policies, references and reward models are all loaded here. Where transformers initializes missing
weights at random and logs it, this is an error, as are weights of other shapes and additional
layers. Only GGUF files and safetensors files inside the folder are read, and no code from a
checkpoint is run.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, PreTrainedModel
from transformers.utils import logging
from transformers.utils.hub import cached_file

from textgym.errors import ModelError, StorageError
from textgym.gguf import is_gguf, reading
from textgym.storage.digest import copy_with_digest, read_header, verify
from textgym.storage.files import replacing_folder

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

_PLAIN_NAME = re.compile(r"[^/\\:]+\.safetensors")
_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


class Loaded(NamedTuple):
    """A loaded model.

    Attributes:
        model: The model, in evaluation mode.
        fresh: Names of the missing weights, which were allowed and are random.
    """

    model: PreTrainedModel
    fresh: list[str]


def load_pretrained(
    kind: Any,
    name: str,
    source: str,
    *,
    dtype: Any = "auto",
    may_lack: Collection[str] = (),
    head_may_lack: bool = False,
    other_heads: bool = False,
    **options: Any,
) -> Loaded:
    """Load a checkpoint and check that all weights of the model came from it.

    Tied weights are needed once, and computed buffers are not needed.

    Args:
        kind: An auto class of transformers, such as ``AutoModelForCausalLM``.
        name: The name as the user gave it, for messages.
        source: Its folder, GGUF file or hub id.
        dtype: A torch dtype, or ``"auto"`` for the checkpoint's own.
        may_lack: Substrings of module names whose weights may be missing.
        head_may_lack: Whether weights outside the body may be missing.
        other_heads: Whether to ignore unused heads in the checkpoint, instead of a warning.
        options: Further arguments of ``from_pretrained``, such as ``config``.

    Raises:
        ModelError: If the checkpoint lacks weights, has other shapes or more layers than its
            config, is damaged, or cannot be loaded.
    """
    files = [] if is_gguf(source) else check_files(name, source)
    try:
        with _quiet(), reading(source) as place:
            model, report = kind.from_pretrained(
                **place,
                dtype=dtype,
                trust_remote_code=False,
                output_loading_info=True,
                **options,
            )
    except Exception as error:
        reshaped = _reshaped(kind, source, files, options.get("config"))
        if reshaped:
            raise ModelError(
                f"the checkpoint {name!r} does not fit its config.json: {_listed(reshaped)}; use "
                "the config.json that was saved with these weights"
            ) from error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        weights = "its GGUF file" if is_gguf(source) else "safetensors weights"
        raise ModelError(
            f"the model {name!r} could not be loaded from {weights} ({reason})"
        ) from error
    body = f"{model.base_model_prefix}."
    fresh = sorted(report["missing_keys"])
    lacking = [
        key
        for key in fresh
        if not any(part in key for part in may_lack)
        and not (head_may_lack and not key.startswith(body))
    ]
    if lacking:
        raise ModelError(
            f"cannot use the model {name!r}: the checkpoint lacks {_listed(map(repr, lacking))}, "
            f"which would be random; give a checkpoint of a {type(model).__name__}"
        )
    _check_unexpected(model, name, sorted(report["unexpected_keys"]), other_heads)
    return Loaded(model.eval(), fresh)


@contextmanager
def saving_checkpoint(folder: str | Path) -> Iterator[Path]:
    """Write a checkpoint, replacing the one in a folder, if there is one.

    Its safetensors files get a SHA-256 (:mod:`textgym.storage.digest`) that :func:`load_pretrained`
    checks and other software ignores. On an error, the old checkpoint stays intact.

    Args:
        folder: The folder; created if it does not exist.

    Yields:
        The folder to write to: ``model.save_pretrained(scratch)``.

    Raises:
        StorageError: If the files cannot be written.
    """
    folder = Path(folder)

    def move(source: Path, target: Path) -> None:
        if source.suffix == ".safetensors":
            copy_with_digest(source, target)
        else:
            os.replace(source, target)

    with replacing_folder(folder, move) as scratch:
        try:
            yield scratch
        except SafetensorError as error:
            cause = re.search(r"I/O error: (.*?) \(os error (\d+)\)", str(error))
            if cause is None:
                raise
            raise OSError(int(cause[2]), cause[1]) from error
        names = {path.name for path in scratch.iterdir()}
    # Shards, or the single file, of the old checkpoint; transformers prefers a single file.
    for old in [*folder.glob("model*.safetensors"), folder / INDEX]:
        if old.name not in names and (old.name == INDEX or _WEIGHTS.fullmatch(old.name)):
            old.unlink(missing_ok=True)


def check_files(name: str, source: str) -> list[Path]:
    """Check the names and the content of a checkpoint's local files.

    Args:
        name: The name as the user gave it, for messages.
        source: Its folder or hub id.

    Returns:
        The weight files, if it is a folder.

    Raises:
        ModelError: If a file is damaged, or weights would not be read from safetensors files in
            the folder.
    """
    folder = Path(source)
    if not folder.is_dir():
        index = _hub_index(source)
        if index is not None:
            _shards(name, index)
        return []
    _check_config(name, folder / "config.json")
    index = folder / INDEX
    shards = _shards(name, index) if index.is_file() else []
    # Transformers prefers the single file.
    names = [WEIGHTS] if (folder / WEIGHTS).is_file() or not shards else shards
    files = [folder / each for each in names]
    for file in files:
        if not file.is_file():
            where = f", which {INDEX} names," if shards else ""
            raise ModelError(f"the model {name!r} has no file {file.name}{where} in {folder}")
        try:
            read_header(file)
            verify(file)
        except StorageError as error:
            raise ModelError(f"the model {name!r} cannot be loaded: {error}") from error
    return files


def _check_config(name: str, path: Path) -> None:
    """Refuse a configuration that is not a JSON object, or names weight files elsewhere."""
    if not path.is_file():
        return
    config = _json(name, path)
    weights = config.get("transformers_weights")
    if weights is not None and not _is_plain(weights, ".safetensors.index.json"):
        raise ModelError(
            f"the model {name!r}: config.json has transformers_weights={weights!r}, and only "
            "*.safetensors files in the model's own folder are read"
        )


def _shards(name: str, index: Path) -> list[str]:
    """The files that an index names."""
    found = _json(name, index).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise ModelError(f"the model {name!r}: {index} has no weight_map from weights to files")
    for weight, file in found.items():
        if not _is_plain(file):
            raise ModelError(
                f"the model {name!r}: {index.name} looks for {weight!r} in {file!r}, and only "
                "*.safetensors files in the model's own folder are read"
            )
    return sorted(set(found.values()))


def _is_plain(file: Any, *endings: str) -> bool:
    """Whether this is the name of a safetensors file without a path."""
    if not isinstance(file, str) or "/" in file or "\\" in file:
        return False
    return bool(_PLAIN_NAME.fullmatch(file)) or file.endswith(tuple(endings))


def _json(name: str, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"the model {name!r}: {path} cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise ModelError(f"the model {name!r}: {path} is not a JSON object")
    return value


def _hub_index(source: str) -> Path | None:
    """The index of a checkpoint on the hub, if it has one that can be downloaded."""
    path = cached_file(
        source,
        INDEX,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if path is None else Path(path)


def _reshaped(kind: Any, source: str, files: list[Path], config: Any) -> list[str]:
    """Weights whose shapes differ from the configuration's."""
    if not files:
        return []
    try:
        config = config or AutoConfig.from_pretrained(source, trust_remote_code=False)
        with torch.device("meta"):
            model = kind.from_config(config, trust_remote_code=False)
    except Exception:  # The caller reports the first error.
        return []
    expected = {key: list(value.shape) for key, value in model.state_dict().items()}
    body = f"{model.base_model_prefix}."
    found = []
    for file in files:
        for key, entry in read_header(file).items():
            for known in (key, body + key, key.removeprefix(body)):
                if known in expected and entry.get("shape") != expected[known]:
                    found.append(f"{key!r} has shape {entry['shape']} instead of {expected[known]}")
                    break
    return sorted(found)


def _check_unexpected(
    model: PreTrainedModel, name: str, unexpected: list[str], other_heads: bool
) -> None:
    """Refuse additional layers, and warn of other unused weights."""
    body = f"{model.base_model_prefix}."
    known = {_pattern(key, body) for key in model.state_dict()}
    layers = [key for key in unexpected if _pattern(key, body) in known]
    if layers:
        raise ModelError(
            f"the checkpoint {name!r} has more layers than its config.json: "
            f"{_listed(map(repr, layers))}; use the config.json that was saved with these weights"
        )
    if other_heads:
        inside = {key.removeprefix(body).partition(".")[0] for key in model.state_dict()}
        unexpected = [
            key for key in unexpected if key.removeprefix(body).partition(".")[0] in inside
        ]
    if unexpected:
        warnings.warn(
            f"the checkpoint {name!r} has weights that {type(model).__name__} does not use: "
            f"{_listed(map(repr, unexpected))}",
            stacklevel=2,
        )


def _pattern(key: str, body: str) -> str:
    """A weight's name without layer numbers, and without the name of the body."""
    return _NUMBER.sub("*", key.removeprefix(body))


def _listed(names: Iterable[str], most: int = 3) -> str:
    """The first names, and the number of the others."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence reports of transformers that are errors here, and progress bars."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]

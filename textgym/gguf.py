"""GGUF files, llama.cpp's format for a model's weights, configuration and tokenizer in one file.

Transformers reads them (``from_pretrained(..., gguf_file=...)``) and dequantizes the weights, using
the ``gguf`` package, which the extra ``gguf`` installs. This module finds and checks the files, and
reads their metadata faster: a vocabulary of 262,144 tokens took 12 s, three times per model.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import copy
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from textgym.errors import ModelError, TextGymError, require

_MAGIC = b"GGUF"
# The format's numbers of metadata types, with numpy's names of the types.
_NUMBERS = {
    0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8",
    11: "<i8", 12: "<f8",
}  # fmt: skip
_STRING = 8
_ARRAY = 9
_PART_OF_SEVERAL = re.compile(r"-\d{5}-of-(?!00001)\d{5}\.gguf$", re.IGNORECASE)


def find_gguf(name: str | Path) -> Path | None:
    """The GGUF file with a name, or None.

    Args:
        name: A file whose name ends with ``.gguf``, or a folder with exactly one such file and no
            safetensors weights.

    Raises:
        ModelError: If a folder has several, or the file is damaged, in another format, or a part of
            a model that is split into several files.
        MissingDependencyError: If there is such a file, but the extra ``gguf`` is not installed.
    """
    path = Path(name).expanduser()
    if path.is_dir() and not any(path.glob("*.safetensors")):
        files = sorted(file for file in path.glob("*.gguf") if file.is_file())
        if len(files) > 1:
            raise ModelError(
                f"the folder {str(name)!r} holds {len(files)} GGUF files; name one of them, such "
                f"as {str(files[0])!r}"
            )
        if not files:
            return None
        path = files[0]
    elif path.suffix.lower() != ".gguf" or not path.is_file():
        return None
    _check(path)
    for package in ("gguf", "accelerate"):  # Transformers needs both.
        require(package, "gguf")
    return path


def is_gguf(source: str) -> bool:
    """Whether a checkpoint is a GGUF file rather than a folder or a hub id."""
    path = Path(source)
    return path.suffix.lower() == ".gguf" and path.is_file()


@contextmanager
def reading(source: str) -> Iterator[dict[str, Any]]:
    """The arguments of transformers' ``from_pretrained`` for the weights of a checkpoint.

    Args:
        source: A folder, a GGUF file or a hub id.

    Yields:
        The arguments. Within the block GGUF files are read faster.
    """
    if not is_gguf(source):
        yield {"pretrained_model_name_or_path": source, "use_safetensors": True}
        return
    import transformers

    # Weights are dequantized, to be trained. Older versions without this class always do so.
    config = getattr(transformers, "GgufConfig", None)
    options = {} if config is None else {"quantization_config": config(dequantize=True)}
    with _fast_reader():
        yield {**_location(Path(source)), **options}


def gguf_config(path: Path) -> Any:
    """The transformers configuration of a GGUF file.

    Raises:
        ModelError: If the file is damaged, or transformers does not know its architecture.
    """
    return copy.deepcopy(_config(*file_version(path)))


def gguf_tokenizer(path: Path) -> Any:
    """The transformers tokenizer of a GGUF file, which is shared; copy it before changing it.

    Raises:
        ModelError: If the file is damaged, or transformers cannot make a tokenizer from it.
    """
    # Copying a large tokenizer takes a second.
    return _tokenizer(*file_version(path))


def file_version(path: Path) -> tuple[Path, int, int]:
    """A cache key of a file, which changes when the file is replaced."""
    status = path.stat()
    return path.absolute(), status.st_mtime_ns, status.st_size


@cache
def _config(path: Path, modified: int, size: int) -> Any:
    from transformers import AutoConfig

    with _fast_reader(), _errors_of(path, "configuration"):
        return AutoConfig.from_pretrained(**_location(path), trust_remote_code=False)


@cache
def _tokenizer(path: Path, modified: int, size: int) -> Any:
    from transformers import AutoTokenizer

    with _fast_reader(), _errors_of(path, "tokenizer"):
        return AutoTokenizer.from_pretrained(**_location(path), trust_remote_code=False)


@contextmanager
def _errors_of(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except TextGymError:
        raise
    except Exception as error:  # A damaged file may raise any error.
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise ModelError(
            f"no {what} could be read from the GGUF file {str(path)!r} ({reason}); it is damaged, "
            "or its architecture is unknown to this version of transformers"
        ) from error


def _check(path: Path) -> None:
    """Check the first bytes and the name of a file.

    Raises:
        ModelError: If the file cannot be read, is not a GGUF file, or only a part of one.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_MAGIC))
    except OSError as error:
        raise ModelError(f"the GGUF file {str(path)!r} cannot be read: {error}") from error
    if start != _MAGIC:
        raise ModelError(
            f"{str(path)!r} is not a GGUF file: it starts with {start!r} instead of {_MAGIC!r}; "
            "download it again"
        )
    if _PART_OF_SEVERAL.search(path.name):
        raise ModelError(
            f"{str(path)!r} is one part of a model that is split into several files; join them "
            "with llama.cpp's llama-gguf-split --merge"
        )


def _location(path: Path) -> dict[str, str]:
    return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}


@contextmanager
def _fast_reader() -> Iterator[None]:
    """Make transformers read each metadata array of GGUF files as a whole.

    The library's reader makes several numpy views per token of a vocabulary.
    """
    gguf = require("gguf", "gguf")
    with mock.patch.object(
        gguf, "GGUFReader", _fast_reader_class(gguf.GGUFReader, gguf.GGUFValueType)
    ):
        yield


@cache
def _fast_reader_class(base: Any, types: Any) -> Any:
    """The library's reader, with faster metadata arrays."""

    def field_parts(self: Any, orig_offs: int, raw_type: int) -> Any:
        slow = base._get_field_parts
        if raw_type != _ARRAY or self.byte_order != "I":
            return slow(self, orig_offs, raw_type)
        data: Any = np.asarray(self.data)  # A memory map is slow to slice.
        at = orig_offs + 12
        kind, count = struct.unpack("<IQ", data[orig_offs:at].tobytes())
        values: list[Any]
        if kind in _NUMBERS:
            dtype = np.dtype(_NUMBERS[kind])
            values = list(np.frombuffer(data, dtype, count, at).reshape(-1, 1))
            at += dtype.itemsize * count
        elif kind == _STRING:
            values, at = _strings(memoryview(data), count, at)
        else:
            return slow(self, orig_offs, raw_type)
        head = [data[orig_offs : orig_offs + 4], data[orig_offs + 4 : orig_offs + 12]]
        places = list(range(len(head), len(head) + count))
        kinds = [types(_ARRAY), types(kind)] if count else [types(_ARRAY)]
        return at - orig_offs, head + values, places, kinds

    return type("FastReader", (base,), {"_get_field_parts": field_parts})


def _strings(data: memoryview, count: int, at: int) -> tuple[list[Any], int]:
    """``count`` length-prefixed strings, and the offset after them."""
    values = []
    for _ in range(count):
        (length,) = struct.unpack_from("<Q", data, at)
        at += 8 + length
        if at > len(data):
            raise ValueError("a string reaches beyond the end of the file")
        values.append(bytes(data[at - length : at]))
    return values, at

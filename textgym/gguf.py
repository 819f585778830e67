"""GGUF files: weights, configuration and tokenizer of a model in one file, llama.cpp's format.

Transformers reads them (``from_pretrained(..., gguf_file=...)``) and unpacks quantized weights,
with the help of the ``gguf`` package, which the extra ``gguf`` installs. This module finds and
checks the files, and makes reading them fast: a vocabulary of 262,144 tokens took 12 s each time
that it was read, and it was read three times for one model.

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
# Types of metadata values, as the format numbers them: numpy's names for numbers of fixed size.
_NUMBERS = {
    0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8",
    11: "<i8", 12: "<f8",
}  # fmt: skip
_STRING = 8
_ARRAY = 9
_PART_OF_SEVERAL = re.compile(r"-\d{5}-of-(?!00001)\d{5}\.gguf$", re.IGNORECASE)


def find_gguf(name: str | Path) -> Path | None:
    """The GGUF file that a name means, or None if it means something else.

    Args:
        name: A file whose name ends with ``.gguf``, or a folder that holds exactly one such file
            and no safetensors weights.

    Raises:
        ModelError: If a folder holds several, or the file is damaged, in another format, or a part
            of a model that is split over several files.
        MissingDependencyError: If there is one, and the extra ``gguf`` is not installed.
    """
    path = Path(name).expanduser()
    if path.is_dir() and not any(path.glob("*.safetensors")):
        files = sorted(file for file in path.glob("*.gguf") if file.is_file())
        if len(files) > 1:
            raise ModelError(
                f"the folder {str(name)!r} holds {len(files)} GGUF files; give one of them, such "
                f"as {str(files[0])!r}"
            )
        if not files:
            return None
        path = files[0]
    elif path.suffix.lower() != ".gguf" or not path.is_file():
        return None
    _check(path)
    for package in ("gguf", "accelerate"):  # Transformers asks for both.
        require(package, "gguf")
    return path


def is_gguf(source: str) -> bool:
    """Whether the place of a checkpoint is a GGUF file rather than a folder or a hub id."""
    path = Path(source)
    return path.suffix.lower() == ".gguf" and path.is_file()


@contextmanager
def reading(source: str) -> Iterator[dict[str, Any]]:
    """The arguments with which transformers' ``from_pretrained`` reads the weights of a checkpoint.

    Args:
        source: A folder, a GGUF file or a hub id.

    Yields:
        The arguments. Inside, GGUF files are read fast.
    """
    if not is_gguf(source):
        yield {"pretrained_model_name_or_path": source, "use_safetensors": True}
        return
    import transformers

    # Quantized weights are unpacked: they are trained, and saved as plain ones. Releases before
    # this class always unpack.
    unpack = getattr(transformers, "GgufConfig", None)
    options = {} if unpack is None else {"quantization_config": unpack(dequantize=True)}
    with _quick_reader():
        yield {**_place(Path(source)), **options}


def gguf_config(path: Path) -> Any:
    """The transformers configuration of a GGUF file.

    Raises:
        ModelError: If the file is damaged, or transformers does not know its architecture.
    """
    return copy.deepcopy(_config(*file_version(path)))


def gguf_tokenizer(path: Path) -> Any:
    """The transformers tokenizer of a GGUF file. It is shared: copy it before you change it.

    Raises:
        ModelError: If the file is damaged, or transformers cannot make a tokenizer of it.
    """
    # Each copy of a large one takes a second.
    return _tokenizer(*file_version(path))


def file_version(path: Path) -> tuple[Path, int, int]:
    """What a memo is kept by: another file under the same name is read again."""
    status = path.stat()
    return path.absolute(), status.st_mtime_ns, status.st_size


@cache
def _config(path: Path, modified: int, size: int) -> Any:
    from transformers import AutoConfig

    with _quick_reader(), _refusing(path, "configuration"):
        return AutoConfig.from_pretrained(**_place(path), trust_remote_code=False)


@cache
def _tokenizer(path: Path, modified: int, size: int) -> Any:
    from transformers import AutoTokenizer

    with _quick_reader(), _refusing(path, "tokenizer"):
        return AutoTokenizer.from_pretrained(**_place(path), trust_remote_code=False)


@contextmanager
def _refusing(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except TextGymError:
        raise
    except Exception as error:  # Anything can be wrong with a file.
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise ModelError(
            f"no {what} could be read from the GGUF file {str(path)!r} ({reason}); it is damaged, "
            "or its architecture is unknown to this version of transformers"
        ) from error


def _check(path: Path) -> None:
    """Refuse what can be seen at a glance.

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
            f"{str(path)!r} is not a GGUF file: it begins with {start!r} instead of {_MAGIC!r}; "
            "download it again"
        )
    if _PART_OF_SEVERAL.search(path.name):
        raise ModelError(
            f"{str(path)!r} is one part of a model that is split over several files; join them "
            "with llama.cpp's llama-gguf-split --merge"
        )


def _place(path: Path) -> dict[str, str]:
    return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}


@contextmanager
def _quick_reader() -> Iterator[None]:
    """Let transformers read GGUF files with arrays of metadata in one piece.

    The library's own reader makes several numpy views for each token of a vocabulary.
    """
    gguf = require("gguf", "gguf")
    with mock.patch.object(gguf, "GGUFReader", _quick(gguf.GGUFReader, gguf.GGUFValueType)):
        yield


@cache
def _quick(base: Any, types: Any) -> Any:
    """The library's reader, but for arrays of metadata."""

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

    return type("QuickReader", (base,), {"_get_field_parts": field_parts})


def _strings(data: memoryview, count: int, at: int) -> tuple[list[Any], int]:
    """``count`` strings, each behind its length, and the offset behind them."""
    values = []
    for _ in range(count):
        (length,) = struct.unpack_from("<Q", data, at)
        at += 8 + length
        if at > len(data):
            raise ValueError("a string reaches beyond the end of the file")
        values.append(bytes(data[at - length : at]))
    return values, at

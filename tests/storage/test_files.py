"""A failed write leaves the old file only, and names the file and the cause."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from textgym.errors import DataError, SettingsError, StorageError, TextGymError
from textgym.storage.digest import copy_with_digest, read_header, verify
from textgym.storage.files import append, replacing_folder, write_bytes, write_json, write_text
from textgym.storage.lock import locked
from textgym.storage.tensors import read_tensors, write_tensors
from textgym.storage.value_files import read_values, write_values

CAUSE = os.strerror(errno.ENOSPC)


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """Make the system refuse files above a size, like a full disk during a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, CAUSE)


WRITERS = {
    "bytes": lambda path: write_bytes(path, b"new" * 1000),
    "text": lambda path: write_text(path, "nü" * 1000),
    "json": lambda path: write_json(path, {"new": "x" * 1000}),
    "tensors": lambda path: write_tensors(path, {"new": torch.zeros(1000)}),
    "values": lambda path: write_values(path, {"new": torch.zeros(1000)}),
}


@pytest.mark.parametrize("failing", ["os.fsync", "os.replace"])
@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_leaves_the_old_file(
    kind: str, failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr(failing, full)
        with pytest.raises(StorageError, match=CAUSE) as caught:
            WRITERS[kind](path)
    assert str(caught.value).startswith(f"{path} could not be written: {CAUSE}")
    assert isinstance(caught.value, TextGymError)
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]
    WRITERS[kind](path)
    assert path.read_bytes() != b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("kind", WRITERS)
def test_a_write_that_the_system_cuts_off_leaves_the_old_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with file_limit(600), pytest.raises(StorageError, match=os.strerror(errno.EFBIG)):
        WRITERS[kind](path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("kind", WRITERS)
def test_a_folder_that_is_not_there(kind: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=os.strerror(errno.ENOENT)):
        WRITERS[kind](tmp_path / "none" / "file")


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_json(tmp_path / "file", object())
    with pytest.raises(DataError, match=r"file holds a builtins\.object"):
        write_values(tmp_path / "file", {"x": object()})
    with pytest.raises(DataError, match="characters"):
        write_values(tmp_path / "file", {"x": "y" * 100_000_001})
    assert os.listdir(tmp_path) == []


def test_appended_data_are_there_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lines"
    append(path, b"one\n")
    with file_limit(6), pytest.raises(StorageError, match=os.strerror(errno.EFBIG)) as caught:
        append(path, b"two is longer\n")
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"one\n"
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(StorageError, match=CAUSE):
            append(path, b"two\n", sync=True)
    append(path, b"three\n", sync=True)
    assert path.read_bytes() == b"one\nthree\n"


def test_a_folder_is_replaced_file_by_file_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "b").write_text("old")

    def fail() -> None:
        with replacing_folder(tmp_path) as scratch:
            (scratch / "a").write_text("new")
            full()

    with pytest.raises(StorageError, match=CAUSE):
        fail()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old", "b": "old"}
    with replacing_folder(tmp_path) as scratch:
        (scratch / "a").write_text("new")
        (scratch / "inner").mkdir()
        (scratch / "inner" / "c").write_text("new")
    found = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert found == {"a", "b", "inner/c"}
    assert (tmp_path / "a").read_text() == "new"


# ---------------------------------------------------------------------- digests

TENSORS = {
    "half": torch.arange(5, dtype=torch.bfloat16),
    "double": torch.arange(6.0, dtype=torch.float64).reshape(2, 3),
    "flags": torch.tensor([True, False, True]),
    "scalar": torch.tensor(7),
    "empty": torch.zeros(0, 4),
    "transposed": torch.arange(6, dtype=torch.int32).reshape(2, 3).T,
    "bytes": torch.arange(3, dtype=torch.uint8),
}


def test_the_library_reads_what_is_written(tmp_path: Path) -> None:
    path, note = tmp_path / "x.safetensors", 'é "sha256:" \\ ?'
    write_tensors(path, TENSORS, {"note": note})
    for found in (load_file(path), read_tensors(path)[0]):
        assert found.keys() == TENSORS.keys()
        for name, tensor in TENSORS.items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor), name
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    metadata.pop("textgym_digest")
    assert metadata == read_tensors(path)[1] == {"note": note}


@pytest.mark.parametrize("kind", ["written", "copied"])
def test_every_flipped_bit_and_every_cut_is_found(kind: str, tmp_path: Path) -> None:
    path, bad = tmp_path / "x.safetensors", tmp_path / "bad.safetensors"
    if kind == "written":
        write_tensors(path, TENSORS, {"values": '{"a": "sha256:b"}'})
    else:
        from safetensors.torch import save_file

        contiguous = {name: tensor.contiguous() for name, tensor in TENSORS.items()}
        save_file(contiguous, tmp_path / "theirs", metadata={"format": "pt"})
        copy_with_digest(tmp_path / "theirs", path)
        assert not verify(tmp_path / "theirs")
    data = path.read_bytes()
    assert verify(path)
    for at in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[at] ^= 1 << bit
            bad.write_bytes(damaged)
            with pytest.raises(StorageError, match=r"bad\.safetensors is damaged"):
                verify(bad)
    for size in range(len(data)):
        bad.write_bytes(data[:size])
        with pytest.raises(StorageError, match=r"bad\.safetensors is damaged"):
            verify(bad)
    bad.write_bytes(data + b"x")
    with pytest.raises(StorageError, match="damaged"):
        read_tensors(bad)


def plain_values(path: Path, header: Any) -> None:
    """A checkpoint of an older version, without a digest."""
    from safetensors.torch import save_file

    text = header if isinstance(header, str) else json.dumps(header)
    save_file({"0": torch.arange(4.0)}, path, metadata={"values": text})


def test_older_files_without_a_digest_are_read(tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    plain_values(path, {"a": {"$type": "tensor", "tensor": "0"}, "b": [1]})
    found = read_values(path)
    assert torch.equal(found["a"], torch.arange(4.0))
    assert found["b"] == [1]
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    for at in range(8 + length):
        for bit in (0, 3, 6):
            damaged = bytearray(data)
            damaged[at] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                read_values(path)
            except SettingsError as error:
                assert str(path) in str(error)  # noqa: PT017
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(SettingsError, match=r"old\.safetensors"):
            read_values(path)


@pytest.mark.parametrize(
    "header",
    [
        "", "nul", "null", "3", '"text"', "[]", "[" * 100_000,
        {"a": {"$type": "tensor"}}, {"a": {"$type": "tensor", "tensor": 0}},
        {"a": {"$type": "tensor", "tensor": ["0"]}}, {"a": {"$type": "tensor", "tensor": "9"}},
        {"a": {"$type": "numpy", "tensor": "0", "shape": [5]}},
        {"a": {"$type": "numpy", "tensor": "0", "shape": "x"}},
        {"a": {"$type": "tuple"}}, {"a": {"$type": "tuple", "items": 3}},
        {"a": {"$type": "dict", "items": [[1]]}}, {"a": {"$type": "dict", "items": [[[], 1]]}},
        {"a": {"$type": "scalar", "dtype": "no", "value": 1}}, {"a": {"$type": ["x"]}},
        {"a": {"$type": "array", "dtype": "<i8", "shape": [2], "items": ["x"]}},
        {"a": {"$type": "array", "dtype": "<i8", "shape": [10**30], "items": [1]}},
        {"a": {"$type": "other"}},
    ],
    ids=lambda header: str(header)[:40],
)  # fmt: skip
def test_values_of_a_wrong_form(header: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    plain_values(path, header)
    with pytest.raises(SettingsError, match=r"x\.safetensors.*cannot be read as a checkpoint"):
        read_values(path)


@pytest.mark.parametrize(
    "header",
    [b"null", b"[]", b'{"a": 3}', b'{"__metadata__": 3}', b'{"__metadata__": {"a": 3}}', b"{}"],
)
def test_headers_of_a_wrong_form(header: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(SettingsError, match=r"x\.safetensors"):
        read_values(path)
    path.unlink()
    path.mkdir()
    for read in (read_values, read_tensors, read_header, verify):
        with pytest.raises(TextGymError, match=r"x\.safetensors.*(directory|Errno)"):
            read(path)


# ---------------------------------------------------------------------- locks


HOLD = """
import sys, time
from textgym.storage.lock import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_locked_until_its_holder_ends_or_is_killed(tmp_path: Path) -> None:
    in_use = pytest.raises(SettingsError, match="in use by another run")
    with locked(tmp_path), in_use, locked(tmp_path):
        pass
    with locked(tmp_path):  # Released; the file alone means nothing.
        pass
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(root)}, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(SettingsError, match="in use by another run"), locked(tmp_path):
            pass
        process.kill()
    with locked(tmp_path):
        pass

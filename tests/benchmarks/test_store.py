"""cells.jsonl: whole lines or none, whoever writes and whoever dies."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.suites.store import CELLS, Key, Store, key_of, read
from textgym.errors import DataError, StorageError

ROOT = Path(__file__).parents[2]


def record(seed: int, text: str = "ein Süßwort\n", **others: Any) -> dict[str, Any]:
    what = {"suite": "s", "experiment": "E level=1", "agent": "a", "seed": seed}
    return {**what, "status": "done", "text": text, **others}


def python(code: str, *words: str) -> subprocess.Popen[str]:
    """A process that has the module at hand, and says when it is ready."""
    code = (
        f"import sys, time; from pathlib import Path; from benchmarks.suites.store import *\n{code}"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_what_was_put_is_there_later(tmp_path: Path) -> None:
    with Store(tmp_path / "new") as store:
        store.put(record(0))
        store.put(record(1))
        store.put(record(0, status="failed"))
        assert list(store.records().values()) == [record(0, status="failed"), record(1)]
    with Store(tmp_path / "new") as store:
        store.drop([key_of(record(0))])
    assert read(tmp_path / "new") == [record(1)]
    assert (tmp_path / "new" / CELLS).read_text().count("\n") == 1


@pytest.mark.parametrize("reopen", [True, False])
def test_half_a_last_line_is_cut_off_wherever_it_ends(reopen: bool, tmp_path: Path) -> None:
    lines = [json.dumps(record(seed)).encode() + b"\n" for seed in range(2)]
    file = tmp_path / CELLS
    with Store(tmp_path) as store:
        for cut in range(len(lines[1])):
            file.write_bytes(lines[0] + lines[1][:cut])
            assert read(tmp_path) == [record(0)], "a reader minds it no more than the runner"
            if reopen:
                # Locks are a process's, so that this gives up the other store's.
                with Store(tmp_path):
                    assert file.read_bytes() == lines[0]
            else:
                store.put(record(2))
                assert read(tmp_path) == [record(0), record(2)]


def test_a_full_disk_leaves_the_old_lines_and_is_named(tmp_path: Path) -> None:
    """The system itself refuses a longer file, for a new line and for another of the same key."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Store(tmp_path) as store:
        store.put(record(0))
        before = (tmp_path / CELLS).read_bytes()
        for new in (record(1), record(0, text="x" * 100)):
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
            try:
                with pytest.raises(StorageError, match=os.strerror(errno.EFBIG)) as caught:
                    store.put(new)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            assert str(tmp_path / CELLS) in str(caught.value)
            assert (tmp_path / CELLS).read_bytes() == before
        store.put(record(1))
        assert list(store.records().values()) == [record(0), record(1)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [CELLS, "cells.lock"]
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=rf"{tmp_path / 'file'}.*{os.strerror(errno.EEXIST)}"):
        Store(tmp_path / "file")


def test_what_is_no_cell_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / CELLS).write_text('{"suite": "s"}\n')
    with pytest.raises(DataError, match=r"suite.*remove it"):
        Store(tmp_path)
    with pytest.raises(DataError, match=rf"{tmp_path / 'nowhere'}.*--out"):
        read(tmp_path / "nowhere")


def test_numbers_that_json_has_not_are_refused_and_leave_no_trace(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.put(record(0))
        with pytest.raises(ValueError, match="JSON compliant"):
            store.put(record(1, mean=float("nan")))
    assert read(tmp_path) == [record(0)]


def test_a_claim_is_one_process_s_alone_and_ends_with_it(tmp_path: Path) -> None:
    mine, theirs = (Key("s", "e", "a", seed) for seed in range(2))
    code = f"""
store = Store(Path(sys.argv[1]))
print(store.claim({mine!r}), store.claim({theirs!r}), flush=True)
time.sleep(600)
"""
    with Store(tmp_path) as store:
        assert store.claim(mine)
        other = python(code, str(tmp_path))
        assert said(other) == "False True"
        assert not store.claim(theirs)
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert store.claim(theirs)
        store.release(mine)
        third = python(code, str(tmp_path))
        assert said(third) == "True False"
        third.kill()
        third.communicate()
        other.communicate()


def test_two_processes_write_at_once_and_no_line_is_lost_or_torn(tmp_path: Path) -> None:
    code = """
with Store(Path(sys.argv[1])) as store:
    print("ready", flush=True)
    for seed in range(40):
        store.put({"suite": "s", "experiment": "e", "agent": sys.argv[2], "seed": seed,
                   "text": sys.argv[2] * 9000})
        if seed % 10 == 9:
            store.drop([Key("s", "e", sys.argv[2], seed)])
"""
    writers = [python(code, str(tmp_path), name) for name in "ab"]
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    found = read(tmp_path)
    expected = {(name, seed) for name in "ab" for seed in range(40) if seed % 10 != 9}
    assert {(each["agent"], each["seed"]) for each in found} == expected
    assert all(each["text"] == each["agent"] * 9000 for each in found)

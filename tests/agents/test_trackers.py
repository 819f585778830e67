"""Trackers get the numbers of progress.csv."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.agents.runs import command, progress, start
from textgym.errors import MissingDependencyError, SettingsError


def expected(folder: Path) -> dict[str, list[float]]:
    """The values of progress.csv by name, in their order."""
    found: dict[str, list[float]] = {}
    for row in progress(folder):
        for name, value in row.items():
            found.setdefault(name, []).append(float(value))
    return found


def records(log: bytes) -> Iterator[bytes]:
    """The records of a file of wandb: LevelDB's log format, after a header of 7 bytes."""
    place, begun = 7, b""
    while place + 7 <= len(log):
        if 32_768 - place % 32_768 < 7:  # The rest of a block that holds no header.
            place += 32_768 - place % 32_768
        length, kind = struct.unpack("<HB", log[place + 4 : place + 7])
        begun += log[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # A whole record, or the last part of one.
            yield begun
            begun = b""


def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that `wandb sync` sends has the values."""
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder = start("ppo", tmp_path, "--track", "wandb", steps=96)
    assert not list(folder.glob("events.out.tfevents*"))
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    seen: dict[str, list[float]] = {}
    config: dict[str, Any] = {}
    for data in records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        for item in record.history.item:
            name = item.key or "/".join(item.nested_key)
            seen.setdefault(name, []).append(json.loads(item.value_json))
        config |= {one.key: json.loads(one.value_json) for one in record.run.config.update}
    for name, values in expected(folder).items():
        assert seen[name] == pytest.approx(values), name
    assert config["n_steps"] == 8
    assert max(seen["steps"]) == 96


class FakeRun:
    """Records what the interface of wandb and trackio is called with."""

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments
        self.rows: list[dict[str, Any]] = []
        self.finished = False

    def log(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def finish(self) -> None:
        self.finished = True


def test_trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[FakeRun] = []

    def init(**arguments: Any) -> FakeRun:
        runs.append(FakeRun(**arguments))
        return runs[-1]

    fake = ModuleType("trackio")
    fake.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trackio", fake)
    folder = start("ppo", tmp_path, "--track", "tensorboard", "trackio", steps=96)
    (run,) = runs
    assert run.finished
    assert run.arguments["project"] == "textgym"
    assert run.arguments["name"] == folder.name
    assert run.arguments["config"]["n_steps"] == 8
    for name, values in expected(folder).items():
        assert [row[name] for row in run.rows if name in row] == pytest.approx(values)
    assert list(folder.glob("events.out.tfevents*"))
    # A tracker may be added when a run is resumed.
    command("ppo", "--resume", str(folder), "--steps", "128", "--track", "trackio")
    assert len(runs) == 2
    assert runs[1].arguments["name"] == folder.name


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    folder = start("ppo", tmp_path, "--track", "mlflow", steps=96)
    client = mlflow.tracking.MlflowClient()
    experiment = client.get_experiment_by_name("textgym")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == folder.name
    assert run.info.status == "FINISHED"
    assert run.data.params["n_steps"] == "8"
    for name, values in expected(folder).items():
        history = sorted(client.get_metric_history(run.info.run_id, name), key=lambda m: m.step)
        assert [metric.value for metric in history] == pytest.approx(values)


def test_a_tracker_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingDependencyError, match=r"textgym\[wandb\]"):
        open_one("wandb", tmp_path)


def test_a_tracker_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: Any) -> None:
        raise RuntimeError("no api key")

    monkeypatch.setitem(sys.modules, "trackio", SimpleNamespace(init=init))
    with pytest.raises(SettingsError, match=r"--track trackio.*no api key"):
        open_one("trackio", tmp_path)


def open_one(name: Any, folder: Path) -> None:
    from agents.running.trackers import open_trackers

    open_trackers((name,), folder, {})

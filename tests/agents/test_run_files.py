"""The files of a run: one run at a time, whole rows, and damage that is named."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from agents.running.logs import open_logger
from agents.running.run_record import read_record
from tests.agents.runs import ENVIRONMENT, STEPS, command, start
from textgym.errors import StorageError
from textgym.sb3 import latest_checkpoint, load_agent, make_vec_env
from textgym.storage.digest import verify
from textgym.storage.lock import locked

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has ended."""
    return start("ppo", tmp_path_factory.mktemp("runs"), "--checkpoint-every", "64", steps=STEPS)


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """The error of the command line for a run that it refuses."""
    with pytest.raises(SystemExit) as caught:
        command("ppo", *args)
    assert caught.value.code == 2, "an error of textgym, not a traceback"
    return capsys.readouterr().err


HOLD = """
import sys
from textgym.storage.lock import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_the_second_run_of_a_folder_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--resume", str(folder), "--steps", str(2 * STEPS)]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert f"{folder} is in use by another run" in refused(capsys, *more)
        process.kill()  # A crash leaves nothing that would have to be cleared.
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert {p: t for p, t in after.items() if p.suffix != ".lock"} == {
        p: t for p, t in before.items() if p.suffix != ".lock"
    }
    with locked(folder):
        pass


def test_what_a_run_leaves_is_checked_and_runs_nothing(folder: Path) -> None:
    from stable_baselines3 import PPO

    checkpoint = latest_checkpoint(folder / "checkpoints")
    assert checkpoint is not None
    assert verify(checkpoint)
    assert verify(folder / "lm" / "model.safetensors")
    venv = make_vec_env("TextGen-v0", n_envs=4, **ENVIRONMENT)
    agent, theirs = load_agent(folder, PPO, venv, device="cpu"), PPO.load(folder / "model.zip")
    for name, weight in theirs.policy.state_dict().items():
        assert (agent.policy.state_dict()[name] == weight).all(), name
    assert agent.num_timesteps == theirs.num_timesteps


@pytest.mark.parametrize("text", ["", "[]", "3", '{"agent": 3, "settings": {}}', "[" * 9999,
                                  '{"agent": "ppo", "settings": []}'])  # fmt: skip
def test_a_damaged_record_is_named(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.json").write_text(text)
    message = refused(capsys, "--resume", str(tmp_path))
    assert f"--resume {tmp_path}: this is not a folder of a run" in message


def rewrite(path: Path, change: Any) -> None:
    """Change the header of a checkpoint, as an older version would have written it."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        values = json.loads(file.metadata()["values"])
    change(values)
    save_file(load_file(path), path, metadata={"values": json.dumps(values)})


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.pop("training"), lambda values: values.pop("generators"),
        lambda values: values.update(environment=3), lambda values: values.update(environment=[3]),
        lambda values: values.update(parameters=[]), lambda values: values.update(logged=None),
        lambda values: values.update(num_timesteps="x"), lambda values: values.update(counters=0),
        lambda values: values["generators"].pop("python"), lambda values: values.pop("last_obs"),
        lambda values: values["generators"]["numpy"].clear(),
        lambda values: values.update(extra=None), lambda values: values["extra"].pop("curve"),
        lambda values: values["extra"]["before"].clear(), lambda values: values.pop("waiting"),
        lambda values: values["parameters"].pop("policy"), lambda values: values.clear(),
        lambda values: values["environment"][-1].update(state={}),
        lambda values: values["logged"].update(x=3), lambda values: values.update(actions={}),
    ],
)  # fmt: skip
def test_a_damaged_checkpoint_of_an_older_version(
    change: Any, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(folder, tmp_path / "run")
    path = latest_checkpoint(copy / "checkpoints")
    assert path is not None
    rewrite(path, change)
    message = refused(capsys, "--resume", str(copy), "--steps", str(2 * STEPS))
    assert str(path) in message


def test_a_checkpoint_without_a_digest_goes_on(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "run")
    path = latest_checkpoint(copy / "checkpoints")
    assert path is not None
    rewrite(path, lambda values: None)
    assert not verify(path)
    command("ppo", "--resume", str(copy), "--steps", str(STEPS + 64))
    assert read_record(copy)["results"]["steps"] >= STEPS + 64


def test_progress_has_whole_rows(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    logger = open_logger(tmp_path, None, resumes=False)

    def log(step: int, **values: Any) -> None:
        for name, value in values.items():
            logger.record(name, value, exclude=("tensorboard",))
        logger.dump(step)

    log(1, a=1, text='x, "y"\nz')
    log(2, a=np.float32(0.5))
    log(3, a=2, b=True)
    expected = [
        {"a": "1", "text": 'x, "y"\nz', "b": ""}, {"a": "0.5", "text": "", "b": ""},
        {"a": "2", "text": "", "b": "True"},
    ]  # fmt: skip
    assert list(csv.DictReader(io.StringIO(path.read_text()))) == expected
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for values in ({"a": "x" * 100}, {"new": 1.0}):  # Appended; and a new column.
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 4, limits[1]))
        try:
            with pytest.raises(StorageError, match=os.strerror(errno.EFBIG)) as caught:
                log(4, **values)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert str(path) in str(caught.value)
        assert path.read_bytes() == before
        logger.name_to_value.clear()
    logger.close()

"""A resumed run has the results of an uninterrupted one, number for number."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import A2C, DQN, PPO

from agents import ppo, random_tokens
from agents.running import experiment, report
from agents.running import run as common
from tests.agents.runs import (
    ARGUMENTS,
    STEPS,
    CrashError,
    assert_same_run,
    at_step,
    board,
    command,
    crash,
    progress,
    start,
)
from textgym.errors import SettingsError
from textgym.sb3 import latest_checkpoint

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("ctrl_c_is_heard", "curves_as_numbers")
ALGORITHMS: dict[str, Any] = {"ppo": PPO, "a2c": A2C}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A run that nothing happened to, and that was never saved on its way."""
    known: dict[Any, Path] = {}

    def get(agent: str = "ppo", *args: str, steps: int = STEPS) -> Path:
        key = agent, steps, args
        if key not in known:
            out = tmp_path_factory.mktemp("whole")
            known[key] = start(agent, out, "--checkpoint-every", "0", *args, steps=steps)
        return known[key]

    return get


# ---------------------------------------------------------------------- the same result


def test_killed_and_resumed(
    whole: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL, at whatever moment it meets."""
    arguments = [*ARGUMENTS, "--steps", str(STEPS), "--out", str(tmp_path)]
    arguments += ["--dtype", "float32", "--reference-dtype", "float32"]
    with subprocess.Popen(
        [sys.executable, "-m", "agents.ppo", *arguments, "--checkpoint-every", "32"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        found: list[Path] = []
        while not found and process.poll() is None:
            # Most of its time it imports.
            time.sleep(0.005 if any(tmp_path.iterdir()) else 0.1)
            found = list(tmp_path.glob("TextGen-v0-ppo-*/checkpoints/*000[369][246].safetensors"))
        process.kill()
    assert found, "it was over before it could be killed"
    folder = found[0].parents[1]
    assert "results" not in json.loads((folder / "run.json").read_text())
    assert not (folder / "model.zip").exists()
    assert command("ppo", "--resume", str(folder)) == folder
    assert_same_run(folder, whole())
    assert "of 192 steps" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("agent", "crashes"), [("ppo", [76, 132]), ("a2c", [108])], ids=["ppo", "a2c"]
)
def test_crashes_after_a_checkpoint(
    agent: str,
    crashes: list[int],
    whole: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Some rollouts after it, which are then logged again; a run that was resumed as well."""
    every = [*ARGUMENTS, "--steps", str(STEPS), "--out", str(tmp_path), "--checkpoint-every", "64"]
    for number, steps in enumerate(crashes):
        with monkeypatch.context() as patch:
            at_step(patch, steps, crash)
            args = ["--resume", str(next(tmp_path.glob("TextGen*")))] if number else every
            with pytest.raises(CrashError):
                command(agent, *args)
    folder = command(agent, "--resume", str(next(tmp_path.glob("TextGen*"))))
    assert_same_run(folder, whole(agent), ALGORITHMS[agent])


def test_a_crash_before_the_first_checkpoint(
    whole: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without a checkpoint the run starts over, in the same folder."""
    with monkeypatch.context() as patch:
        at_step(patch, 60, crash)
        with pytest.raises(CrashError):
            start("ppo", tmp_path)
    folder = command("ppo", "--resume", str(next(tmp_path.glob("TextGen*"))))
    assert "no checkpoint yet" in capsys.readouterr().out
    assert_same_run(folder, whole())


def test_ctrl_c_in_the_last_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The agent is saved by then, and no traceback is printed."""
    evaluate, calls = experiment.evaluate, []

    def second(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(*args)

    monkeypatch.setattr(experiment, "evaluate", second)
    with pytest.raises(SystemExit) as caught:
        start("ppo", tmp_path, steps=32)
    assert caught.value.code == 130
    assert "interrupted" in capsys.readouterr().err
    (folder,) = tmp_path.glob("TextGen*")
    assert PPO.load(folder / "model.zip", device="cpu").num_timesteps == 32
    assert (folder / "lm" / "model.safetensors").is_file()


def test_ctrl_c(
    whole: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It saves at the end of the rollout, evaluates, and prints how to resume."""
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        at_step(patch, 76, lambda: signal.raise_signal(signal.SIGINT))
        folder = start("ppo", tmp_path)
    assert signal.getsignal(signal.SIGINT) is handler
    record = json.loads((folder / "run.json").read_text())
    assert record["results"]["interrupted"] is True
    assert record["results"]["steps"] == 96
    assert (folder / "model.zip").exists()
    assert f"python -m agents.ppo --resume {folder}" in capsys.readouterr().out
    command("ppo", "--resume", str(folder))
    (extra,) = [point for point in board(folder)["eval/reward"] if point[0] == 96]
    assert extra[1] == pytest.approx(record["results"]["eval_after"]["mean"])
    assert progress(folder) == progress(whole())
    assert "python -m agents.ppo --resume" not in capsys.readouterr().out


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice() -> None:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.01)  # Python runs handlers between calls; two signals at once are one.

    at_step(monkeypatch, 76, twice)
    folder = start("ppo", tmp_path, "--checkpoint-every", "64")
    results = json.loads((folder / "run.json").read_text())["results"]
    assert results["interrupted"] is True
    latest = latest_checkpoint(folder / "checkpoints")
    assert latest is not None
    assert latest.stem == "checkpoint-000000000064"


def test_more_steps(
    whole: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A complete run is trained on: the curve is that of one long run, at a constant rate."""
    constant = ("--lr-schedule", "constant")
    folder = start("ppo", tmp_path, *constant, steps=96)
    with pytest.raises(SystemExit):
        command("ppo", "--resume", str(folder))
    assert not (folder / "curve.png").exists()
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "plot", report.plot)
        command("ppo", "--resume", str(folder), "--steps", str(STEPS))
    assert (folder / "curve.png").stat().st_size > 1000, "drawn from what was restored"
    assert progress(folder) == progress(whole("ppo", *constant))
    record = json.loads((folder / "run.json").read_text())
    assert record["settings"]["steps"] == record["results"]["steps"] == STEPS


# ---------------------------------------------------------------------- what is refused


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is not complete."""
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, 100, crash)
        out = tmp_path_factory.mktemp("interrupted")
        with pytest.raises(CrashError):
            start("ppo", out, "--checkpoint-every", "32")
    return next(out.glob("TextGen*"))


@pytest.mark.parametrize(
    ("agent", "args", "words"),
    [
        (
            "ppo",
            ["--lr", "0.5"],
            [f"--lr 0.5 (it has {ppo.Settings().lr})", "leave these flags out"],
        ),
        ("ppo", ["--env", "TextGen/GoodBad-v0", "--seed", "7"], ["--env", "--seed 7 (it has 0)"]),
        ("ppo", ["--env-kwargs", "{}"], ["--env-kwargs {}"]),
        ("a2c", [], ["a run of the agent 'ppo'", "python -m agents.ppo"]),
        ("ppo", ["--steps", "96"], ["--steps 192", "not lowered to 96"]),
        ("ppo", ["--checkpoint-every", "-1"], ["--checkpoint-every -1", "0 for none"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_contradictions(
    agent: str,
    args: list[str],
    words: list[str],
    interrupted: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = sorted(interrupted.rglob("*"))
    with pytest.raises(SystemExit):
        command(agent, "--resume", str(interrupted), *args)
    message = capsys.readouterr().err
    assert [word for word in words if word not in message] == []
    assert sorted(interrupted.rglob("*")) == before


def test_what_does_not_contradict(interrupted: Path) -> None:
    """The same value again, and settings that are not about what is trained."""
    args = [
        "--lr",
        str(ppo.Settings().lr),
        "--threads",
        "1",
        "--checkpoint-every",
        "64",
        "--steps",
        "224",
    ]
    folder = command("ppo", "--resume", str(interrupted), *args)
    assert json.loads((folder / "run.json").read_text())["results"]["steps"] == 224


def test_no_folder_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command("ppo", "--resume", str(tmp_path))
    assert f"--resume {tmp_path}: " in capsys.readouterr().err


@pytest.mark.parametrize("asked", ["checkpoint_every", "resume"])
@pytest.mark.parametrize(
    ("kind", "why"), [("random", r"RandomTokens.*get_state\(\)"), ("DQN", "LMReplayBuffer")]
)
def test_agents_that_cannot_be_resumed(kind: str, why: str, asked: str, tmp_path: Path) -> None:
    def make_agent(venv: Any, seed: int) -> Any:
        if kind == "random":
            return random_tokens.make_agent(venv, seed)
        return DQN("MlpPolicy", venv, buffer_size=100, learning_starts=8, device="cpu")

    def settings(**others: Any) -> common.RunSettings:
        return common.RunSettings(
            env="TextGen/GoodBad-v0", steps=16, n_envs=4, eval_episodes=2, out=tmp_path, **others
        )

    folder = common.run("other", settings(), make_agent)
    assert not (folder / "checkpoints").exists()
    assert len(list(tmp_path.iterdir())) == 1
    others: dict[str, Any] = {"resume": folder} if asked == "resume" else {asked: 100}
    record = json.loads((folder / "run.json").read_text())
    record.pop("results")
    (folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(SettingsError, match=why):
        common.run("other", settings(**others), make_agent)
    assert len(list(tmp_path.iterdir())) == 1, "no folder is left behind"

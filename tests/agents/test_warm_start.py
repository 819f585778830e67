"""--warm-start: supervised fine-tuning first, in the same run; and --cpu-minutes."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from stable_baselines3.common.save_util import load_from_zip_file

import textgym
from agents import grpo, ppo, reinforce
from agents.running import command_line as cli
from agents.running import experiment, warm_start
from agents.running.report import TrainingLog
from agents.running.run import LMSettings, run
from benchmarks.suites.cell import Cell, run_cell
from benchmarks.suites.definitions import Experiment
from tests.agents.runs import command, progress
from tests.lm.checkpoints import write_checkpoint
from tests.pictures import Colour
from textgym.errors import SettingsError
from textgym.registry import TASKS
from textgym.rollouts import collect
from textgym.sb3 import make_vec_env

pytestmark = pytest.mark.usefixtures("ctrl_c_is_heard", "curves_as_numbers")

SMALL = [
    "--env", "TextGen/QA-v0", "--n-envs", "4", "--eval-episodes", "6", "--threads", "1",
    "--device", "cpu", "--steps", "160",
]  # fmt: skip
OWN = {"ppo": ["--n-steps", "8"], "grpo": ["--group-size", "2"], "reinforce": []}
WARM = ["--warm-start", "96", "--warm-start-lr", "1e-3"]


def weights(folder: Path) -> dict[str, Any]:
    """The language model of a run, and everything in its model.zip."""
    found: dict[str, Any] = dict(load_file(folder / "lm" / "model.safetensors"))
    if (folder / "model.zip").exists():
        _, parameters, _ = load_from_zip_file(folder / "model.zip", device="cpu")
        found |= dict((parameters or {})["policy"])
    return found


def assert_same_weights(folder: Path, truth: Path) -> None:
    ours, theirs = weights(folder), weights(truth)
    assert ours.keys() <= theirs.keys()  # A warm start has no model.zip.
    for name, value in ours.items():
        assert torch.equal(theirs[name], value), name


def results(folder: Path) -> dict[str, Any]:
    """The results of a run, without times."""
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())["results"]
    for part in (found, found.get("warm_start", {})):
        for name in ("seconds", "cpu_seconds"):
            part.pop(name, None)
    return found


# ---------------------------------------------------------------------- the same as two commands


@pytest.mark.parametrize("agent", OWN)
def test_it_is_sft_and_then_the_agent_from_its_model(agent: str, tmp_path: Path) -> None:
    sft = command("sft", *SMALL, "--steps", "96", "--lr", "1e-3", "--out", str(tmp_path / "a"))
    then = ["--lm", str(sft / "lm"), "--out", str(tmp_path / "b")]
    truth = command(agent, *SMALL, *OWN[agent], *then)
    folder = command(agent, *SMALL, *OWN[agent], *WARM, "--out", str(tmp_path / "c"))

    assert_same_weights(folder / "warm-start", sft)
    assert_same_weights(folder, truth)
    parts = [weights(folder), weights(folder / "warm-start")]
    assert not all(torch.equal(parts[0][name], parts[1][name]) for name in parts[1]), "it learned"
    assert progress(folder) == progress(truth)  # The KL is one of the columns.
    assert float(progress(folder)[1]["rollout/kl"]) == pytest.approx(0, abs=1e-5)
    ours, theirs, first = results(folder), results(truth), results(sft)
    assert ours["eval_warm_started"] == theirs["eval_before"]
    assert ours["eval_after"] == theirs["eval_after"]
    assert ours["warm_start"] == {"tokens": first["steps"]}
    assert ours["steps"] == theirs["steps"]
    lines = [
        [json.loads(line) for line in (f / "samples.jsonl").read_text().splitlines()]
        for f in (folder, truth)
    ]
    for line, other in zip(*lines, strict=True):
        assert line["prompt"] == other["prompt"]
        assert (line["warm_started"], line["after"]) == (other["before"], other["after"])


def test_times_are_counted_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = command("ppo", *SMALL, *OWN["ppo"], *WARM, "--out", str(tmp_path))
    found = json.loads((folder / "run.json").read_text())["results"]
    assert 0 < found["warm_start"]["cpu_seconds"] < 60
    assert 0 < found["cpu_seconds"] < 60
    assert "96 tokens of references in" in capsys.readouterr().out
    rows = progress(folder / "warm-start")
    assert {"train/loss", "episode/reward"} <= set().union(*rows)
    # The oracle's texts are worth 1; the first row is the evaluation before.
    assert float(rows[1]["episode/reward"]) == 1.0
    assert float(rows[0]["eval/reward"]) == pytest.approx(found["eval_before"]["mean"])
    title, steps, _, means = json.loads((folder / "curve.json").read_text())
    assert (title, steps[-1]) == ("ppo on TextGen/QA-v0", 160)
    assert [at for at, _ in means] == [-96, 0, 160]


# ---------------------------------------------------------------------- interruptions


def happening(patch: pytest.MonkeyPatch, steps: int, name: str, what: Callable[[], Any]) -> None:
    """Let something happen once, at a step of the warm start or of the training."""
    on_step, left = TrainingLog.on_step, [what]

    def watched(self: TrainingLog) -> bool:
        if self.name == name and self.num_timesteps >= steps and left:
            left.pop()()
        return on_step(self)

    patch.setattr(TrainingLog, "on_step", watched)


def crash(*_: Any, **__: Any) -> None:
    raise RuntimeError("the machine goes down")


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def test_interrupted_in_every_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    args = [*SMALL, *OWN["ppo"], *WARM, "--warm-start", "960"]
    every = ["--checkpoint-every", "64", "--out", str(tmp_path / "b")]
    # Texts per gradient step are 32, so a warm start of some hundred tokens has a few steps.
    truth = command("ppo", *args, "--checkpoint-every", "0", "--out", str(tmp_path / "a"))

    with monkeypatch.context() as patch:
        happening(patch, 560, "warm start", crash)
        with pytest.raises(RuntimeError, match="goes down"):
            command("ppo", *args, *every)
    (folder,) = (tmp_path / "b").glob("QA*")
    again = ["--resume", str(folder)]
    assert list((folder / "warm-start" / "checkpoints").glob("*.safetensors"))

    with monkeypatch.context() as patch:
        happening(patch, 300, "warm start", ctrl_c)
        with pytest.raises(SystemExit) as caught:
            command("ppo", *again)
    assert caught.value.code == 130
    assert f"resume: python -m agents.ppo --resume {folder}" in capsys.readouterr().out
    assert "results" not in json.loads((folder / "run.json").read_text())

    with monkeypatch.context() as patch:  # The warm start is over, but its record is missing.
        patch.setattr(warm_start, "write_json", crash)
        with pytest.raises(RuntimeError, match="goes down"):
            command("ppo", *again)
    with monkeypatch.context() as patch:  # It is recorded, and nothing else is done.
        patch.setattr(experiment, "_run_in_folder", crash)
        with pytest.raises(RuntimeError, match="goes down"):
            command("ppo", *again)
    with monkeypatch.context() as patch:
        happening(patch, 100, "training", ctrl_c)
        assert command("ppo", *again) == folder
    assert results(folder)["interrupted"]
    assert command("ppo", *again) == folder

    assert_same_weights(folder / "warm-start", truth / "warm-start")
    assert_same_weights(folder, truth)
    for part in ("", "warm-start"):
        assert progress(folder / part) == progress(truth / part)
    assert results(folder) == results(truth)
    assert (folder / "samples.jsonl").read_bytes() == (truth / "samples.jsonl").read_bytes()


def test_a_warm_start_is_not_done_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = command("ppo", *SMALL, *OWN["ppo"], *WARM, "--out", str(tmp_path))
    before = (folder / "warm-start" / "lm" / "model.safetensors").stat().st_mtime_ns
    command("ppo", "--resume", str(folder), "--steps", "224")
    assert (folder / "warm-start" / "lm" / "model.safetensors").stat().st_mtime_ns == before
    assert results(folder)["steps"] == 224
    capsys.readouterr()

    def refused(*args: str) -> str:
        with pytest.raises(SystemExit) as caught:
            command("ppo", *args)
        assert caught.value.code == 2
        return capsys.readouterr().err

    more = ["--resume", str(folder), "--steps", "300"]
    assert "--warm-start 97 (it has 96)" in refused(*more, "--warm-start", "97")
    (folder / "warm-start" / "warm_start.json").write_text('{"tokens": 3}')
    assert "warm_start.json is damaged" in refused(*more)
    plain = command("ppo", *SMALL, *OWN["ppo"], "--out", str(tmp_path / "plain"))
    record = json.loads((plain / "run.json").read_text())
    del record["settings"]["warm_start"]  # A run of an earlier version.
    (plain / "run.json").write_text(json.dumps(record))
    capsys.readouterr()
    assert "--warm-start 9 (it has 0)" in refused(
        "--resume", str(plain), "--steps", "300", "--warm-start", "9"
    )


# ---------------------------------------------------------------------- bad input


def test_numbers_are_spelled_in_two_ways() -> None:
    for module, one in (("ppo", ppo), ("grpo", grpo), ("reinforce", reinforce)):
        spelled = [
            cli.parse(f"agents.{module}", one.Settings(), None, ["--warm-start", words])
            for words in ("60_000", "60000")
        ]
        assert [settings.warm_start for settings in spelled] == [60_000, 60_000]
    assert cli.parse("agents.ppo", ppo.Settings(), None, []).warm_start == 0


@pytest.mark.parametrize("words", [["-1"], ["1.5"], ["many"], ["9", "--warm-start-lr", "-1"]])
def test_wrong_numbers_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command("ppo", "--warm-start", *words)
    assert caught.value.code == 2
    assert "warm-start" in capsys.readouterr().err


def test_without_references_there_is_no_warm_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {"prompts": ["a", "b"], "tokenizer": ["a", "b", "<eos>"], "max_new_tokens": 2}
    with pytest.raises(SystemExit) as caught:
        command(
            "ppo", "--env", "TextGen-v0", "--reward", "distinct", "--eval-share", "0",
            "--env-kwargs", json.dumps(environment), *WARM, "--out", str(tmp_path),
        )  # fmt: skip
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert "--warm-start 96" in message
    assert "give every row a column 'reference'" in message
    assert not list(tmp_path.glob("TextGen*")), "no folder is left of it"


def test_a_factory_has_to_take_settings(tmp_path: Path) -> None:
    settings = LMSettings(
        env="TextGen/GoodBad-v0", warm_start=8, n_envs=4, eval_episodes=4, out=tmp_path, steps=8,
        device="cpu",
    )  # fmt: skip
    with pytest.raises(SettingsError, match="--warm-start"):
        run("mine", settings, lambda venv, seed: ppo.make_agent(venv, seed))


# ---------------------------------------------------------------------- pictures, conversations


def test_pictures_are_learned_and_the_reference_sees_them(
    tmp_path: Path, register: Callable[..., str]
) -> None:
    """The answer is only in the picture: text alone is right half of the time."""
    lm = write_checkpoint(tmp_path / "lm", "gpt2")
    with TASKS.restored():
        textgym.register_task(Colour.id, Colour)
        settings = ppo.Settings(
            env=Colour.id, lm=lm, warm_start=3_000, warm_start_lr=3e-3, steps=32, n_envs=16,
            n_steps=2, eval_episodes=64, device="cpu", threads=1, out=tmp_path,
        )  # fmt: skip
        folder = run("ppo", settings, partial(ppo.make_agent, settings=settings))
        found = results(folder)
        assert found["eval_before"]["mean"] < 0.2
        assert found["eval_warm_started"]["mean"] > 0.95
        rows = progress(folder)
        assert float(rows[1]["rollout/kl"]) == pytest.approx(0, abs=1e-5)
        # Brute force: the reference is the warm-started model with its encoder.
        started = str(folder / "warm-start" / "lm")
        venv = make_vec_env(Colour.id, 8, 0, tokenizer=lm)
        agent = ppo.make_agent(venv, 0, ppo.Settings(lm=started, n_steps=2, device="cpu"))
        kl = agent.rollout_buffer.kl
        episodes = collect(venv, agent.policy)
        own = episodes.log_ratios(kl, agent.policy.sampler, agent.policy.lm)
        assert own.abs().max() < 1e-4
        batch = episodes.sequences._replace(images=255 - episodes.sequences.images)
        other = kl.log_ratios(batch, episodes.actions, episodes.log_probs, agent.policy.sampler,
                              agent.policy.lm)  # fmt: skip
        assert other.abs().max() > 1, "another picture, another text"


def test_conversations_are_learned(tmp_path: Path) -> None:
    args = ["--env", "TextGen/Dialogue-v0", "--n-envs", "4", "--eval-episodes", "4"]
    folder = command(
        "ppo", *args, "--n-steps", "16", "--steps", "64", "--warm-start", "400",
        "--threads", "1", "--device", "cpu", "--out", str(tmp_path),
    )  # fmt: skip
    rows = progress(folder / "warm-start")
    # The oracle's dialogues: 1 for the bookings, and what its turns earn on top.
    assert all(float(row["episode/reward"]) >= 1.0 for row in rows if "episode/reward" in row)
    assert results(folder)["warm_start"]["tokens"] == 400


# ---------------------------------------------------------------------- suites, and CPU minutes


def test_a_cell_of_a_suite_is_warmed_up(tmp_path: Path) -> None:
    experiment = Experiment("TextGen/GoodBad-v0", {}, 32, ("basic",), -1.0, 1.0)
    flags = "ppo --warm-start 640 --warm-start-lr 0.01 --lr 0"
    record = run_cell(Cell("test", experiment, flags, 0, 40, 16, "cpu", str(tmp_path)))
    assert record["before"]["mean"] < 0.6
    assert record["after"]["mean"] > 0.9, "its learning rate is 0: only references were learned"
    assert record["warm_start"]["tokens"] == 640


def test_cpu_minutes_end_a_training(tmp_path: Path) -> None:
    truth = command("ppo", *SMALL, *OWN["ppo"], "--out", str(tmp_path / "a"))
    args = [*SMALL, *OWN["ppo"], "--out", str(tmp_path / "b")]
    folder = command("ppo", *args, "--cpu-minutes", "1e-6")
    found = results(folder)
    assert found["out_of_time"]
    assert not found["interrupted"]
    assert found["steps"] < 160
    command("ppo", "--resume", str(folder), "--cpu-minutes", "60")
    assert results(folder) == results(truth)
    assert_same_weights(folder, truth)
    with pytest.raises(SystemExit):
        command("ppo", *args, "--cpu-minutes", "0")


def test_a_warm_start_counts_towards_cpu_minutes(tmp_path: Path) -> None:
    folder = command(
        "ppo", *SMALL, *OWN["ppo"], *WARM, "--cpu-minutes", "1e-6", "--out", str(tmp_path)
    )
    found = results(folder)
    assert found["warm_start"]["tokens"] == 96, "it is not cut short"
    assert found["out_of_time"]
    assert found["steps"] == 0

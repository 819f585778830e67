"""What suites hold, and what the hashes of tasks and models see."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from benchmarks.suites.definitions import SUITES, Experiment, Suite, make_suite
from benchmarks.suites.hashes import lm_hash, source_hash, task_hash
from textgym.errors import SettingsError
from textgym.registry import TASKS
from textgym.tasks import make_task, registered_tasks
from textgym.tasks.good_bad.task import GoodBad
from textgym.tasks.registry import built_in_tasks
from textgym.tokenization import TINY_DIR


class Own(GoodBad):
    """A task of a user's own."""

    id = "TextGen/Probe-Own-v0"


@pytest.mark.parametrize("name", ["smoke", "quick", "core"])
def test_experiments_name_what_can_be_made(name: str) -> None:
    suite = make_suite(name)
    assert suite.name == name
    for experiment in suite.experiments:
        assert make_task(experiment.id, **experiment.kwargs).level == experiment.kwargs["level"]
        assert f"{experiment.id} level=" in experiment.name
        assert len(experiment.tags) == 2


def test_core_has_every_task_except_probes_at_its_default_level() -> None:
    found = {each.id: each.kwargs["level"] for each in make_suite("core").experiments}
    tasks = [id for id in built_in_tasks() if "/Probe-" not in id]
    assert found == {id: make_task(id).default_level for id in tasks}


def test_probes_have_all_levels_and_their_own_scale() -> None:
    found = {each.name: each for each in make_suite("probes").experiments}
    probes = [make_task(id) for id in built_in_tasks() if "/Probe-" in id]
    assert len(found) == sum(len(probe.levels) for probe in probes)
    scales = {name: (each.floor, each.ceiling) for name, each in found.items()}
    assert scales["TextGen/Probe-Scale-v0 level=3"] == (1250.0, 10_000.0)
    assert scales["TextGen/Probe-Conditional-v0 level=1"] == (1 / 8, 1.0)
    assert found["TextGen/Probe-Noise-v0 level=2"].tags == ("noise",)


@pytest.mark.parametrize("name", SUITES)
def test_a_registered_task_changes_no_suite(name: str) -> None:
    before = make_suite(name)
    with TASKS.restored():
        TASKS.add(Own.id, Own)
        assert Own.id in registered_tasks()
        assert make_suite(name) == before


def test_a_mistyped_suite_gets_near_matches() -> None:
    with pytest.raises(SettingsError, match=r"--suite quikc: .*'quick'"):
        make_suite("quikc")
    assert list(SUITES) == ["smoke", "quick", "quick-long", "core", "probes"]


def test_suites_that_make_no_sense_are_refused() -> None:
    one = Experiment("TextGen/QA-v0", {"level": 1, "a": 2})
    assert one.name == "TextGen/QA-v0 a=2 level=1"
    with pytest.raises(SettingsError, match=r"'x'.*'TextGen/QA-v0 a=2 level=1'"):
        Suite("x", (one, one), 8, 8)
    with pytest.raises(SettingsError, match=r"TextGen/QA-v0.*floor.*1\.0.*ceiling.*1\.0"):
        Suite("x", (dataclasses.replace(one, floor=1.0),), 8, 8)


@pytest.mark.parametrize("name", ["GoodBad", "QA", "Moderate", "Sentiment"])
def test_floors_are_what_random_tokens_get(name: str) -> None:
    """Returns of the environment itself, whose scale GoodBad's score is not."""
    (one,) = (each for each in make_suite("core").experiments if each.id == f"TextGen/{name}-v0")
    envs = gym.make_vec(f"textgym:{one.id}", num_envs=256, split="eval", **one.kwargs)
    envs.reset(seed=0)
    rng, total, alive = np.random.default_rng(0), np.zeros(256), np.ones(256, bool)
    while alive.any():
        actions = rng.integers(envs.single_action_space.n, size=256)  # type: ignore[attr-defined]
        _, rewards, ended, cut, _ = envs.step(actions)
        total += rewards * alive
        alive &= ~(ended | cut)
    error = 4 * total.std() / 16 + 0.01
    assert total.mean() == pytest.approx(one.floor, abs=error)
    envs.close()


# -- hashes ----------------------------------------------------------------------------------------

ONE = Experiment("TextGen/QA-v0", {"level": 1})


def patched(name: str, change: Callable[[Any], Any]) -> Callable[[pytest.MonkeyPatch], None]:
    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        task = type(make_task(ONE.id))
        monkeypatch.setattr(task, name, change(getattr(task, name)))

    return patch


def test_a_task_keeps_its_hash_and_levels_have_their_own() -> None:
    assert task_hash(ONE) == task_hash(dataclasses.replace(ONE, timesteps=1, tags=("x",)))
    others = {task_hash(Experiment(ONE.id, {"level": level})) for level in (1, 2, 3)}
    assert len(others) == 3


@pytest.mark.parametrize(
    "change",
    [
        patched("score", lambda old: lambda self, text, row: 0.99 * old(self, text, row)),
        patched("score", lambda old: lambda self, text, row: float(text == row["reference"])),
        patched("generate", lambda old: lambda self, rng: (rng.random(), old(self, rng))[1]),
        patched("reward", lambda old: lambda self, *a, **k: [2 * r for r in old(self, *a, **k)]),
        patched("costs", lambda old: lambda self: {"one": lambda p, c, **_: [1.0] * len(p)}),
        patched("max_new_tokens", lambda old: old + 1),
        patched("stop", lambda old: (".",)),
    ],
    ids=["scale", "verifier", "generator", "reward", "costs", "budget", "stop"],
)
def test_a_task_that_changed_has_another_hash(
    change: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = task_hash(ONE)
    change(monkeypatch)
    assert task_hash(ONE) != before


@pytest.mark.parametrize("id", registered_tasks())
def test_every_task_has_a_hash(id: str) -> None:
    assert len(task_hash(Experiment(id, {"level": make_task(id).default_level}))) == 16


def test_the_hash_of_a_model_is_of_its_weights_and_its_tokenizer(tmp_path: Path) -> None:
    tiny = lm_hash(ONE, None)
    copy = shutil.copytree(TINY_DIR, tmp_path / "copy")
    assert lm_hash(ONE, str(copy)) == lm_hash(ONE, "textgym/tiny") == tiny
    (copy / "README.md").write_text("another card")
    assert lm_hash(ONE, str(copy)) == tiny
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert lm_hash(ONE, str(copy)) != tiny
    assert len({tiny, lm_hash(ONE, "gpt2"), lm_hash(Experiment(GoodBad.id), None)}) == 3


def test_the_hash_of_a_file_is_of_its_text(tmp_path: Path) -> None:
    file = tmp_path / "agent.py"
    hashes = []
    for text in ("a", "b", "a"):
        file.write_text(text)
        hashes.append(source_hash(file))
    assert hashes[0] == hashes[2] != hashes[1]

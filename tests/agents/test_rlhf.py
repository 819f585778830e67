"""RLHF: it learns from simulated annotators, survives kills, and notices when it is gaming."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agents import rlhf
from agents.running import feedback
from agents.running.overoptimization import Overoptimization
from tests.agents.runs import CrashError, assert_same_run, command, crash, progress
from textgym.errors import SettingsError
from textgym.feedback import Store
from textgym.feedback.simulated import SimulatedAnnotator
from textgym.rewards.preferences.ensemble import PreferenceEnsemble
from textgym.rewards.spans.reward import SpanReward
from textgym.sb3 import make_vec_env

pytestmark = pytest.mark.usefixtures("ctrl_c_is_heard", "curves_as_numbers")

ARGUMENTS = [
    "--env", "TextGen/Probe-LongHorizon-v0", "--level", "1", "--n-envs", "8", "--n-steps", "4",
    "--eval-episodes", "8", "--threads", "1", "--device", "cpu", "--no-tuned",
    "--candidates", "6", "--group-size", "3", "--items", "8", "--labels", "30",
    "--refit-every", "8", "--duels", "2",
]  # fmt: skip
SIMULATED = [*ARGUMENTS, "--simulate", "2", "--error-rate", "0.1", "--steps", "192"]


def judgements(folder: Path) -> list[tuple[Any, ...]]:
    """What is in a run's store, without times and random names."""
    store = Store(folder / feedback.STORE, create=False)
    texts = {item.id: (item.prompt, item.texts, item.columns) for item in store.items()}
    return [
        (one.item, one.annotator, one.value, one.order, texts[one.item])
        for one in store.judgements()
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    return command("rlhf", *SIMULATED, "--checkpoint-every", "0", "--out", str(out))


def test_what_a_run_logs_and_keeps(whole: Path) -> None:
    rows = progress(whole)
    last = rows[-2]  # The last one is the evaluation.
    assert float(last["feedback/labels"]) <= 30
    versions = [float(row["feedback/reward_version"]) for row in rows if "feedback/labels" in row]
    assert versions == sorted(versions)
    assert versions[-1] >= 3
    # A rollout has one version of the reward, that of the end of the rollout before.
    terms = [row.get("reward_terms/reward_version") for row in rows if "feedback/labels" in row]
    found = [
        (float(term), before) for term, before in zip(terms[1:], versions, strict=False) if term
    ]
    assert found
    assert all(term == before for term, before in found)
    assert {"reward_terms/score", "reward_terms/preferences"} <= set().union(*rows)
    loaded = PreferenceEnsemble.load(whole / feedback.REWARD, "cpu")
    assert loaded.version == versions[-1]
    made = judgements(whole)
    assert {annotator for _, annotator, *_ in made} == {"simulated 1", "simulated 2"}
    assert any("initial" in columns for *_, (_, _, columns) in made)


@pytest.mark.parametrize("moment", ["rollout", "judging"])
def test_a_killed_run_goes_on_with_the_same_curve(
    whole: Path, moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last checkpoint is some rollouts before the kill, and the store is ahead of it."""
    kill_at(moment, monkeypatch)
    with pytest.raises(CrashError):
        command("rlhf", *SIMULATED, "--checkpoint-every", "64", "--out", str(tmp_path))
    monkeypatch.undo()
    (folder,) = tmp_path.glob("*-rlhf-*")
    assert list((folder / "checkpoints").iterdir())
    ahead = len(judgements(folder))
    assert command("rlhf", "--resume", str(folder)) == folder
    assert_same_run(folder, whole, rlhf.RLHF)
    assert judgements(folder) == judgements(whole)
    assert ahead > 8


def kill_at(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"rollout": 4, "judging": 20}
    places = {
        "rollout": (feedback.FeedbackLoop, "_figures"), "judging": (SimulatedAnnotator, "answer")
    }  # fmt: skip
    kind, name = places[moment]
    original: Callable[..., Any] = getattr(kind, name)
    calls: list[int] = []

    def counted(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == counts[moment]:
            crash()
        return original(*args)

    monkeypatch.setattr(kind, name, counted)


def test_people_are_waited_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first fit there is nothing to learn; later, a training does not wait."""
    path, waits = tmp_path / "people.sqlite", []

    def person(seconds: float) -> None:
        store = Store(path)
        form = store.next_item("me", repeats=0)
        assert form is not None
        waits.append(form.item.policy_version)
        store.judge(form.token, "me", {"choice": "second"}, 1.0)

    monkeypatch.setattr(feedback, "sleep", person)
    out = tmp_path / "runs"
    folder = command("rlhf", *ARGUMENTS, "--store", str(path), "--steps", "96", "--out", str(out))
    assert len(waits) == 8
    assert {version.rpartition("/")[2] for version in waits} == {"1"}
    assert len(Store(path).items()) > 8
    assert float(progress(folder)[-2]["feedback/labels"]) == 8
    assert not (folder / feedback.STORE).exists()


@pytest.mark.parametrize("kind", ["spans", "edit"])
def test_other_kinds_of_feedback_reward_tokens(kind: str, tmp_path: Path) -> None:
    arguments = [*ARGUMENTS, "--kind", kind, "--simulate", "1", "--steps", "96"]
    out = ["--out", str(tmp_path), "--checkpoint-every", "0"]
    folder = command("rlhf", *arguments, *out)
    rows = [row for row in progress(folder) if "feedback/labels" in row]
    assert float(rows[-1]["feedback/reward_version"]) >= 1
    assert "feedback/held_out_accuracy" in rows[-1]
    assert SpanReward.load(folder / feedback.REWARD, "cpu").version >= 1
    assert {"reward_terms/spans", "reward_terms/step_reward"} <= set().union(*rows)


# ---------------------------------------------------------------------- over-optimization


def test_an_alarm_when_the_prediction_rises_and_people_prefer_it_less() -> None:
    watch = Overoptimization(size=20)
    said = [watch.add(0.6, won) for won in [1.0] * 14 + [0.0] * 6]
    said += [watch.add(0.7, won) for won in [1.0] * 12 + [0.0] * 8]  # Within chance.
    assert said == [None] * 40
    # 4 of 20 against 14 of 20: z = 0.5 / sqrt(0.45 * 0.55 * 0.1) = 3.18 > 1.645.
    said = [watch.add(0.8, won) for won in [1.0] * 4 + [0.0] * 16]
    assert said[:-1] == [None] * 19
    assert "win 80% of the comparisons with the initial one (60% before)" in said[-1]
    assert watch.alarms == 1
    again = Overoptimization(size=20)
    again.set_state(json.loads(json.dumps(watch.state())))
    for one in (watch, again):
        for _ in range(20):
            one.add(0.9, 0.0)
        assert one.alarms == 2
    # The same wins without a higher prediction are not over-optimization.
    for _ in range(20):
        watch.add(0.5, 0.0)
    assert watch.alarms == 0


def test_the_stop_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Overoptimization, "add", lambda self, *_: setattr(self, "alarms", 2))
    common = [*SIMULATED, "--checkpoint-every", "0", "--out", str(tmp_path)]
    stopped = progress(command("rlhf", *common))
    rollouts = [row for row in stopped if "feedback/labels" in row]
    assert len(rollouts) < 6
    warned = progress(command("rlhf", *common, "--stop-rule", "warn"))
    assert len([row for row in warned if "feedback/labels" in row]) == 6


# ---------------------------------------------------------------------- errors


def test_what_people_cannot_compare_is_refused() -> None:
    venv = make_vec_env("TextGen/GoodBad-v0", n_envs=2)
    with pytest.raises(SettingsError, match="not learned from judgements"):
        rlhf.make_agent(venv, 0)
    with pytest.raises(SettingsError, match="--labels 5"):
        rlhf.Settings(labels=5)
    settings = rlhf.Settings(env="TextGen/Dialogue-v0", device="cpu")
    venv = make_vec_env("TextGen/Dialogue-v0", n_envs=2, **settings.train_kwargs)
    with pytest.raises(SettingsError, match="several turns"):
        rlhf.make_agent(venv, 0, settings)

"""Tuned settings: which entries count, what is refused, and where they arrive."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import gymnasium
import pytest
import yaml

import textgym
from agents import ppo
from agents.running import command_line as cli
from agents.running import experiment, tuned
from agents.running.run import RunSettings
from agents.running.tuned import NOT_TUNED, tuned_settings
from benchmarks.suites.candidates import load_candidate, named_agents
from benchmarks.suites.cell import Cell, describe, run_cell
from benchmarks.suites.definitions import Experiment
from benchmarks.suites.runner import Options, differences, make_plans
from textgym.errors import SettingsError

SHIPPED = sorted(tuned.FOLDER.iterdir())
OWN = ppo.Settings()
"""The defaults of the agent's file."""

GOODBAD = """
"TextGen/GoodBad-*":
  source: chosen for a test
  lr: 0.25
  n_epochs: 3
"""
Files = Callable[..., None]


@dataclasses.dataclass
class Settings(RunSettings):
    """Every kind of value that agents have."""

    number: float = 1.0
    maybe: float | None = 1.0
    count: int = 1
    flag: bool = False
    words: tuple[str, ...] = ()
    pair: tuple[float, float] = (0.0, 0.0)
    loss: Literal["one", "two"] = "one"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """Write files of settings, in place of those that are there."""
    monkeypatch.setattr(tuned, "FOLDER", tmp_path / "settings")

    def write(**texts: str) -> None:
        tuned.FOLDER.mkdir(exist_ok=True)
        for name, text in texts.items():
            (tuned.FOLDER / f"{name}.yaml").write_text(text)

    return write


def entry(**values: Any) -> dict[str, Any]:
    return {"source": "here", **values}


# ---------------------------------------------------------------------- which entries count


@pytest.mark.parametrize("backwards", [False, True])
def test_the_more_is_said_the_more_it_counts(files: Files, backwards: bool) -> None:
    """Of the entries that match, wherever in the file they are."""
    entries = {
        "A/b-v0": entry(number=1),  # The id, though there are longer patterns of it.
        "A/b[-]v[0-9]": entry(number=2, count=2),
        "A/b-*": entry(number=3, count=3, flag=True, source="there"),
        "*": entry(number=4, count=4, flag=False, maybe=None),
        "a/*": entry(count=7),
        "A/c*": entry(count=8),
        "B/*": entry(count=9),
    }
    ordered = dict(reversed(entries.items())) if backwards else entries
    files(any=yaml.safe_dump(ordered, sort_keys=False))
    found = tuned_settings("any", "A/b-v0", Settings)
    assert found.values == {"number": 1.0, "count": 2, "flag": True, "maybe": None}
    assert list(found.sources.items()) == [
        ("*", "here"),
        ("A/b-*", "there"),
        ("A/b[-]v[0-9]", "here"),
        ("A/b-v0", "here"),
    ]
    assert tuned_settings("any", "my_module:A/b-v0", Settings) == found
    weakest = tuned_settings("any", "C-v0", Settings)
    assert weakest.values == {"number": 4.0, "count": 4, "flag": False, "maybe": None}
    assert weakest.sources == {"*": "here"}


def test_no_file_and_no_entry_say_nothing(files: Files) -> None:
    files(any=yaml.safe_dump({"A-v0": entry(count=2)}))
    assert tuned_settings("other", "A-v0", Settings) == tuned.Tuned()
    assert tuned_settings("any", "B-v0", Settings) == tuned.Tuned()


def test_values_arrive_as_the_settings_have_them(files: Files) -> None:
    text = "A: {source: s, number: 1, maybe: 2, words: [a, b], pair: [1, 0.5], loss: two}"
    files(any=text)
    values = tuned_settings("any", "A", Settings).values
    assert values == {
        "number": 1.0, "maybe": 2.0, "words": ("a", "b"), "pair": (1.0, 0.5), "loss": "two",
    }  # fmt: skip
    assert [type(values[key]) for key in ("number", "maybe")] == [float, float]
    files(any="A: {source: s, number: 2e-3}")  # YAML reads a string, and the flag a number.
    assert tuned_settings("any", "A", Settings).values == {"number": 2e-3}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A: {source: s, lr: [", ["YAML", "line 1"]),
        ("", ["has to be a mapping"]),
        ("- A", ["has to be a mapping"]),
        ("A: 3", ["entry 'A'", "a mapping below it"]),
        ("3: {source: s}", ["entry 3", "environment id"]),
        ("A: {count: 3}", ["entry 'A'", "`source:`"]),
        ("A: {count: 3, source: ' '}", ["`source:`"]),
        ("A: {count: 3, sorce: s}", ["'sorce'", "did you mean 'source'"]),
        ("A: {source: s, nunber: 3}", ["entry 'A'", "'nunber'", "did you mean 'number'"]),
        ("A: {source: s, 3: 3}", ["no setting 3"]),
        ("A: {source: s, seed: 3}", ["seed", "command line"]),
        ("A: {source: s, number: 2e-}", ["number: '2e-'", "type float"]),
        ("A: {source: s, steps: -1}", ["entry 'A'", "--steps -1", "at least 0"]),
        ("A: {source: s, number: true}", ["number: True", "type float"]),
        ("A: {source: s, number: null}", ["number: None", "type float"]),
        ("A: {source: s, maybe: x}", ["maybe: 'x'", "type float | None"]),
        ("A: {source: s, count: 1.5}", ["count: 1.5", "type int"]),
        ("A: {source: s, flag: 1}", ["flag: 1", "type bool"]),
        ("A: {source: s, words: a}", ["words: 'a'", "type tuple[str, ...]"]),
        ("A: {source: s, words: [1]}", ["words: [1]"]),
        ("A: {source: s, pair: [1]}", ["pair: [1]", "type tuple[float, float]"]),
        ("A: {source: s, loss: three}", ["loss: 'three'", "type Literal['one', 'two']"]),
        ("B: {source: s}\nA: {source: s}\nB: {source: s}", ["line 3", "'B' is there twice"]),
        ("A:\n  source: s\n  count: 3\n  count: 4\n", ["line 4", "'count' is there twice"]),
        ("Z: {source: s, nunber: 3}", ["entry 'Z'"]),
    ],
)
def test_refusals_name_file_and_entry(text: str, words: list[str], files: Files) -> None:
    files(any=text)
    with pytest.raises(SettingsError) as caught:
        tuned_settings("any", "A", Settings)
    message = str(caught.value)
    assert [word for word in [*words, str(tuned.FOLDER / "any.yaml")] if word not in message] == []


# ---------------------------------------------------------------------- what is there


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_shipped_settings_fit(file: Path) -> None:
    assert file.suffix == ".yaml"
    settings = importlib.import_module(f"agents.{file.stem}").Settings
    entries = tuned.read_entries(str(file), file.read_text(), settings)
    assert entries
    known = [*textgym.registered_tasks(), *gymnasium.registry]
    for pattern, found in entries.items():
        assert any(id == pattern or fnmatchcase(id, pattern) for id in known), pattern
        assert found.values, "an entry that says nothing"


@pytest.mark.parametrize("name", named_agents())
def test_every_setting_of_an_agent_can_be_tuned(name: str, files: Files) -> None:
    """Its defaults, written down and read again, are its defaults."""
    kind = load_candidate(name).settings_class
    defaults = {
        field.name: getattr(kind(), field.name)
        for field in dataclasses.fields(kind)
        if field.name not in NOT_TUNED
    }
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in defaults.items()}
    files(**{name: yaml.safe_dump({"A-v0": entry(**plain)})})
    assert tuned_settings(name, "A-v0", kind).values == defaults


def test_what_is_not_tuned_is_a_setting() -> None:
    assert {field.name for field in dataclasses.fields(RunSettings)} >= set(NOT_TUNED)


# ---------------------------------------------------------------------- the command line


def resolved(*args: str, module: str = "agents.ppo", defaults: Any = None) -> Any:
    """The settings that an agent's `main` gets."""
    got: list[Any] = []
    cli.command_line(module, defaults or ppo.Settings(), None, got.append, args)
    return got[0]


def test_defaults_then_tuned_then_flags(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    files(ppo=GOODBAD)
    s = resolved("--env", "TextGen/GoodBad-v0", "--n-epochs", "5")
    assert (s.lr, s.n_epochs, s.clip_range) == (0.25, 5, ppo.Settings().clip_range)
    assert s.tuned_from == {"TextGen/GoodBad-*": "chosen for a test"}
    line = "settings of agents/settings/ppo.yaml for TextGen/GoodBad-*: lr 0.25\n"
    said = capsys.readouterr().out
    assert said == line.replace("agents/", f"{tuned.FOLDER.parent.name}/")

    # A flag that repeats the agent's own default is a flag.
    s = resolved("--env", "TextGen/GoodBad-v0", "--lr", "5e-4", "--n-epochs", "2")
    assert (s.lr, s.n_epochs) == (5e-4, 2)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("args", "others"),
    [
        (["--env", "TextGen/GoodBad-v0", "--no-tuned"], {}),
        (["--env", "TextGen/Story-v0"], {}),
        ([], {}),
        (["--env", "TextGen/GoodBad-v0"], {"module": "agents.a2c"}),
        (["--env", "TextGen/GoodBad-v0"], {"module": "ppo"}),
        (["--env", "TextGen/GoodBad-v0"], {"module": "elsewhere.ppo"}),
    ],
)
def test_others_are_left_alone(
    args: list[str], others: Any, files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    files(ppo=GOODBAD)
    s = resolved(*args, **others)
    assert (s.lr, s.n_epochs, s.tuned_from) == (OWN.lr, OWN.n_epochs, {})
    assert capsys.readouterr().out == ""


def test_the_default_environment_is_one_too(files: Files) -> None:
    files(ppo="TextGen/Sentiment-v0: {source: s, lr: 0.25}")
    assert resolved().lr == 0.25
    assert resolved("--prompts", "my.jsonl").lr == OWN.lr


def test_a_broken_file_is_told_without_a_traceback(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    files(ppo="TextGen/QA-v0: {source: s, learning_rat: 1}")
    with pytest.raises(SystemExit) as caught:
        resolved()
    assert caught.value.code == 2
    assert "python -m agents.ppo: " in capsys.readouterr().err


def test_help_has_the_flag_and_not_the_note(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        resolved("--help")
    text = capsys.readouterr().out
    assert "--no-tuned" in text
    assert "tuned-from" not in text


def test_the_record_and_a_resumed_run(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed run keeps the settings that it was started with, even if the file has changed."""
    files(ppo=GOODBAD)
    monkeypatch.setattr(experiment, "plot", lambda *_, **__: None)
    short = ["--n-envs=4", "--n-steps=4", "--eval-episodes=2", "--threads=1", "--device=cpu"]
    started = ["--env", "TextGen/GoodBad-v0", "--steps=16", "--out", str(tmp_path), *short]
    cli.command_line("agents.ppo", ppo.Settings(), None, ppo.main, started)
    (folder,) = tmp_path.glob("GoodBad-v0-ppo-*")

    def record() -> Any:
        return json.loads((folder / "run.json").read_text())["settings"]

    first = record()
    assert (first["lr"], first["n_epochs"], first["tuned"]) == (0.25, 3, True)
    assert first["tuned_from"] == {"TextGen/GoodBad-*": "chosen for a test"}

    files(ppo=GOODBAD.replace("0.25", "0.5").replace("a test", "another"))
    resumed = ["--resume", str(folder), "--steps=32"]
    cli.command_line("agents.ppo", ppo.Settings(), None, ppo.main, resumed)
    assert record() == {**first, "steps": 32}


# ---------------------------------------------------------------------- the benchmark suites


def cell(agent: str, out: Path, **others: Any) -> Cell:
    one = Experiment("TextGen/GoodBad-v0", {"level": 1}, 64, ("basic",))
    return Cell("s", one, agent, 0, 4, 4, "cpu", str(out), **others)


def test_cells_take_them_but_for_what_the_suite_says(files: Files, tmp_path: Path) -> None:
    files(ppo=GOODBAD + "  n_envs: 64\n  steps: 7\n")
    record = run_cell(cell("ppo", tmp_path))
    s = record["settings"]
    assert (s["lr"], s["n_epochs"], s["n_envs"], s["steps"]) == (0.25, 3, 4, 64)
    assert record["tuned_from"] == {"TextGen/GoodBad-*": "chosen for a test"}
    assert differences(record, describe(cell("ppo", tmp_path))) == []

    plain = describe(cell("ppo", tmp_path, tuned=False))
    assert (plain["settings"]["lr"], plain["tuned_from"]) == (OWN.lr, {})
    different = differences(record, plain)
    assert different == [
        f"settings.lr 0.25 (now {OWN.lr})",
        f"settings.n_epochs 3 (now {OWN.n_epochs})",
    ]
    own = Cell.from_json(json.loads(json.dumps(cell("ppo", tmp_path, tuned=False).to_json())))
    assert own.tuned is False


def test_another_value_is_another_result_and_another_sentence_is_not(
    files: Files, tmp_path: Path
) -> None:
    files(ppo=GOODBAD)
    first = describe(cell("ppo", tmp_path))
    files(ppo=GOODBAD.replace("a test", "another"))
    assert differences(first, describe(cell("ppo", tmp_path))) == []
    files(ppo=GOODBAD.replace("0.25", "0.5"))
    assert differences(first, describe(cell("ppo", tmp_path))) == ["settings.lr 0.25 (now 0.5)"]
    # Where nothing was tuned, there is one kind of results.
    files(ppo="TextGen/QA-v0: {source: s, lr: 0.25}")
    plain = describe(cell("ppo", tmp_path, tuned=False))
    assert differences(plain, describe(cell("ppo", tmp_path))) == []


def test_a_file_of_the_same_name_is_another_agent(files: Files, tmp_path: Path) -> None:
    files(ppo=GOODBAD)
    (tmp_path / "ppo.py").write_text("from agents.ppo import Settings, make_agent\n")
    record = describe(cell(str(tmp_path / "ppo.py"), tmp_path))
    assert (record["agent"], record["settings"]["lr"], record["tuned_from"]) == ("ppo", OWN.lr, {})


def test_the_suite_s_command_line_leaves_them_out(files: Files, tmp_path: Path) -> None:
    files(ppo=GOODBAD)
    for wanted, lr in ((True, 0.25), (False, OWN.lr)):
        (plan,) = make_plans(Options("smoke", ("ppo",), 1, out=tmp_path, tuned=wanted))
        assert (plan.cell["tuned"], plan.record["settings"]["lr"]) == (wanted, lr)

"""The command line, as a person and as a pipe sees it."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from textgym.cli import main
from textgym.tasks import make_task, registered_tasks

ROOT = Path(__file__).parents[2]


def run(capsys, monkeypatch, *arguments, typed=""):
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    status = main(arguments)
    out, err = capsys.readouterr()
    return status, out, err


def test_list_has_a_line_for_each_task(capsys, monkeypatch):
    status, out, _ = run(capsys, monkeypatch, "list")
    assert status == 0
    lines = out.splitlines()
    for name in registered_tasks():
        (line,) = (line for line in lines if line.startswith(name + " "))
        task = make_task(name)
        assert f"{task.max_prompt_tokens} + {task.max_new_tokens}" in line


def test_show_has_page_samples_and_scores(capsys, monkeypatch):
    status, out, _ = run(capsys, monkeypatch, "show", "Story", "--rows", "20", "--level", "2")
    assert status == 0
    assert "Starting State" in out
    task = make_task("TextGen/Story-v0", 2)
    assert task.item(0)["prompt"].splitlines()[0] in out
    scores = {
        line.split("  ")[0].strip(): line.split()[-3] for line in out.splitlines() if "±" in line
    }
    assert float(scores["oracle"]) == 1.0
    assert float(scores["an empty text"]) == 0.0
    assert {*task.baselines()} < {*scores}


def test_show_judges_a_model(capsys, monkeypatch):
    status, out, _ = run(
        capsys, monkeypatch, "show", "TextGen/Sentiment-v0", "--lm", "textgym/tiny", "--rows", "16"
    )
    assert status == 0
    (line,) = (line for line in out.splitlines() if "textgym/tiny" in line and "±" in line)
    assert 0 < float(line.split()[-3]) < 1


def test_play_by_text(capsys, monkeypatch):
    oracle = make_task("TextGen/GoodBad-v0").oracle({"reference": "good"})
    status, out, _ = run(capsys, monkeypatch, "play", "GoodBad", typed=f"{oracle}\nbad\n")
    assert status == 0
    assert "score: 1.000" in out


def test_play_says_why(capsys, monkeypatch):
    status, out, _ = run(capsys, monkeypatch, "play", "QA", "--seed", "0", typed="I do not know.\n")
    assert status == 0
    assert "why the score:" in out
    (line,) = (line for line in out.splitlines() if "'I do not know.'" in line)
    assert "+0.020" in line
    assert "'kitchen'" in line  # The right answer.


def test_play_speaks_to_the_other_side(capsys, monkeypatch):
    status, out, _ = run(
        capsys, monkeypatch, "play", "tests.conversations:Parley", typed="a b\nbye\n"
    )
    assert status == 0
    assert "said a b :" in out
    assert "turn_reward: 0.250" in out
    assert "(task)" in out


def test_play_by_token(capsys, monkeypatch):
    typed = "a\na b\n#²\n#6\nbye\n\n"  # One token, two tokens (refused), eos by its id, then bye.
    status, out, _ = run(
        capsys, monkeypatch, "play", "tests.conversations:Parley", "--tokens", typed=typed
    )
    assert status == 0
    assert "is 2 tokens: ['a', 'b']" in out
    assert "said a :" in out
    assert "(task)" in out


def test_play_explains_what_cannot_be_typed(capsys, monkeypatch):
    status, out, _ = run(
        capsys, monkeypatch, "play", "tests.conversations:Parley", typed="xyzzy\nbye\n"
    )
    assert status == 0
    assert "xyzzy" in out
    assert "(task)" in out


def test_check_own_task(capsys, monkeypatch, tmp_path):
    (tmp_path / "parity_task.py").write_text(
        "from textgym.tasks import Task\n"
        "class Parity(Task):\n"
        "    id = 'TextGen/CliParity-v0'\n"
        "    max_prompt_tokens = 16\n"
        "    max_new_tokens = 8\n"
        "    cheat_ceiling = 0.7\n"
        "    def generate(self, rng):\n"
        "        n = int(rng.integers(10_000))\n"
        "        return {'prompt': f'{n} is', 'reference': ' odd' if n % 2 else ' even'}\n"
        "    def score(self, completion, row):\n"
        "        return 0.3\n"
        "    def baselines(self):\n"
        "        return {'coin': lambda row, rng: (' odd', ' even')[int(rng.integers(2))]}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    process = [sys.executable, "-m", "textgym", "check", "parity_task:Parity", "--rows", "20"]
    environment = {"PYTHONPATH": f"{tmp_path}:{':'.join(filter(None, sys.path))}", "PATH": ""}
    found = subprocess.run(process, capture_output=True, text=True, env=environment)
    assert found.returncode == 1
    assert "breaks the rule 'oracle'" in found.stderr
    source = (tmp_path / "parity_task.py").read_text()
    (tmp_path / "parity_task.py").write_text(
        source.replace("return 0.3", "return float(completion == row['reference'])")
    )
    found = subprocess.run(process, capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr
    assert "keeps the task contract" in found.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "TextGen/Stroy-v0"], "Did you mean|did you mean"),
        (["show", "Story", "--level", "9"], "level"),
        (["check", "no_such_module:Task"], "cannot be imported"),
        (["play", "tests.conversations:np"], "subclass"),
        (["show", ":X"], "cannot be imported"),
        (["show", "textgym.tasks:Task"], "has no id"),
    ],
)
def test_errors_are_one_line(capsys, monkeypatch, arguments, message):
    status, _, err = run(capsys, monkeypatch, *arguments)
    assert status == 1
    assert err.startswith("textgym: ")
    assert len(err.splitlines()) == 1


def test_it_works_in_a_pipe():
    command = f"{sys.executable} -m textgym list | head -n 1"
    found = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert found.stdout.split()[:2] == ["id", "levels"]
    assert "Traceback" not in found.stderr
    assert "\x1b" not in found.stdout


def new_task(capsys, monkeypatch, folder, name):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    return run(capsys, monkeypatch, "new-task", name)


def test_new_task_writes_a_package_whose_test_passes(capsys, monkeypatch, tmp_path):
    status, out, _ = new_task(capsys, monkeypatch, tmp_path, "WordSum")
    assert status == 0
    assert '"TextGen/WordSum-v0", "word_sum:WordSum"' in out
    test = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_word_sum.py"]
    found = subprocess.run(test, capture_output=True, text=True, cwd=tmp_path)
    assert found.returncode == 0, found.stdout


def test_new_task_of_a_checkout_has_its_line_in_the_registry(capsys, monkeypatch, tmp_path):
    registry = tmp_path / "textgym" / "tasks" / "registry.py"
    registry.parent.mkdir(parents=True)
    shutil.copy(ROOT / "textgym" / "tasks" / "registry.py", registry)
    before = registry.read_text().splitlines()
    status, out, _ = new_task(capsys, monkeypatch, tmp_path, "Ladder")
    assert status == 0
    after = registry.read_text().splitlines()
    (line,) = set(after) - set(before)
    assert line == '    "TextGen/Ladder-v0": "textgym.tasks.ladder.task:Ladder",'
    assert after[after.index(line) - 1] < line < after[after.index(line) + 1]
    for path in ("textgym/tasks/ladder/__init__.py", "textgym/tasks/ladder/task.py"):
        assert path in out
        assert "Ladder" in (tmp_path / path).read_text()
    test = tmp_path / "tests" / "tasks" / "test_ladder.py"
    assert "from textgym.tasks.ladder import Ladder" in test.read_text()


@pytest.mark.parametrize("name", ["word_sum", "1", "", "A B", "QA"])
def test_new_task_refuses_other_names_and_old_folders(capsys, monkeypatch, tmp_path, name):
    (tmp_path / "qa").mkdir()
    status, _, err = new_task(capsys, monkeypatch, tmp_path, name)
    assert status == 1
    assert err.startswith(f"textgym: new-task {name}" if name == "QA" else "textgym: new-task '")
    assert [path.name for path in tmp_path.iterdir()] == ["qa"]

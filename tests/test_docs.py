"""Every example in README.md, CONTRIBUTING.md and two pages of docs/ runs, and prints what it says.

* A ``python`` block runs as a script of its own in an empty folder.
* A ``text`` block that directly follows it is the script's exact standard output.
* Every ``make TARGET`` and ``python -m agents.NAME --flag ...`` in a ``bash`` block exists, and so
  does every ``python -m benchmarks.NAME`` anywhere.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import textgym
from agents.running import command_line as cli
from benchmarks import catalog
from textgym.tasks.registry import built_in_tasks

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "docs/rollouts.md", "docs/feedback.md")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Block:
    page: str
    line: int
    language: str
    text: str
    output: str | None = None

    @property
    def id(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    source = (ROOT / page).read_text()
    found: list[Block] = []
    end = 0
    for match in FENCE.finditer(source):
        language, text = match.groups()
        adjacent = not source[end : match.start()].strip()
        if language == "text" and found and found[-1].language == "python" and adjacent:
            found[-1].output = text
        else:
            found.append(Block(page, source.count("\n", 0, match.start()) + 1, language, text))
        end = match.end()
    return found


ALL = [block for page in PAGES for block in blocks(page)]
SCRIPTS = [block for block in ALL if block.language == "python"]
COMMANDS = [
    pytest.param(line.strip(), id=f"{block.page}:{line.strip()}")
    for block in ALL
    if block.language == "bash"
    for line in block.text.replace("\\\n", " ").splitlines()
]


def test_pages_have_examples() -> None:
    """Guards the two lists above: a changed fence style must not empty the tests below."""
    assert {block.page for block in SCRIPTS} == set(PAGES)
    assert len(COMMANDS) >= 3


@pytest.mark.parametrize("block", SCRIPTS, ids=lambda block: block.id)
def test_python_example(block: Block, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(block.text)
    done = subprocess.run(
        [sys.executable, script.name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{block.id} failed:\n{done.stderr}"
    if block.output is not None:
        assert done.stdout == block.output


@pytest.mark.parametrize(
    "block", [block for block in SCRIPTS if block.page == "CONTRIBUTING.md"], ids=lambda b: b.id
)
def test_contributing_examples_are_short(block: Block) -> None:
    assert block.text.count("\n") <= 30


@pytest.mark.parametrize("command", COMMANDS)
def test_command_exists(command: str) -> None:
    words = shlex.split(command, comments=True)
    if words[:1] == ["make"]:
        subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, check=True, capture_output=True)
    elif len(words) > 2 and words[1:2] == ["-m"] and words[2].startswith("agents."):
        agent = importlib.import_module(words[2])
        cli.parse(words[2], agent.Settings(), None, words[3:])


def test_benchmarks_that_are_named_exist() -> None:
    pages = [*(ROOT / page for page in PAGES), *(ROOT / "docs").glob("*.md")]
    text = "".join(page.read_text() for page in pages)
    names = set(re.findall(r"python -m (benchmarks\.\w+)", text))
    assert names
    for name in names:
        assert callable(importlib.import_module(name).main)


def test_tables_come_from_the_registries() -> None:
    tables = catalog.tasks_table() + catalog.probes_table()
    assert [name for name in built_in_tasks() if f"| `{name}` |" not in tables] == []
    names = [name for name in textgym.registered_rewards() if not name.startswith("test_")]
    rewards = catalog.rewards_table()
    for name in names:
        assert f"`{name}`" in rewards
        try:
            textgym.make_reward(name)
        except textgym.TextGymError:
            assert f"`{name}` *" in rewards
        else:
            assert f"`{name}` *" not in rewards


def test_check_notices_an_old_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in PAGES:
        shutil.copy(ROOT / name, tmp_path)
    page = tmp_path / "README.md"
    page.write_text(page.read_text().replace("| `TextGen/QA-v0` |", "| `TextGen/QB-v0` |"))
    monkeypatch.setattr(catalog, "ROOT", tmp_path)
    assert catalog.main(["--check"]) == 1
    assert "benchmarks.catalog" in capsys.readouterr().out
    assert catalog.main([]) == catalog.main(["--check"]) == 0
    assert "| `TextGen/QA-v0` |" in page.read_text()

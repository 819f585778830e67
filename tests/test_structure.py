"""The structure of the code: rooms in an order, no circle, folders and files of a readable size."""

from __future__ import annotations

import ast
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(
    path.relative_to(ROOT)
    for top in ("textgym", "agents", "benchmarks")
    for path in (ROOT / top).rglob("*.py")
)

# From the bottom to the top: a module imports from its own room and from those before it.
ROOMS = (
    "textgym.moved", "textgym.errors", "textgym.hub", "textgym.storage", "textgym.gguf",
    "textgym.data",
    "textgym.registry", "textgym.tokenization", "textgym.sandbox", "textgym.lm",
    "textgym.rewards", "textgym.tasks", "textgym.feedback", "textgym.testing", "textgym.pretrain",
    "textgym.envs", "textgym.rollouts", "textgym.wrappers", "textgym.sb3", "textgym",
    "textgym.serve", "textgym.cli", "textgym.__main__", "agents.running", "agents", "benchmarks",
)  # fmt: skip


def module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in FILES}


def imported(path: Path) -> set[str]:
    """The modules of this repository that a file names in import statements, wherever they are."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in MODULES else node.module)
    return found & MODULES.keys()


IMPORTS = {name: imported(path) - {name} for name, path in MODULES.items()}


def room(module: str) -> str:
    """The longest name of a room that a module is in."""
    parts = module.split(".")
    names = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next(name for name in names if name in ROOMS)


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_imports_from_the_rooms_below_it(name: str) -> None:
    above = ROOMS[ROOMS.index(name) + 1 :]
    assert [
        (module, other)
        for module, others in IMPORTS.items()
        for other in others
        if room(module) == name and room(other) in above
    ] == []


def test_no_circle_of_imports() -> None:
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' <- '.join(error.args[1])}")


def test_folders_and_files_have_a_readable_size() -> None:
    folders = Counter(str(path.parent) for path in FILES if path.parts[0] == "textgym")
    assert {folder: count for folder, count in folders.items() if count > 15} == {}
    lines = {str(path): len((ROOT / path).read_text("utf-8").splitlines()) for path in FILES}
    assert {path: count for path, count in lines.items() if count > 400} == {}


@pytest.mark.parametrize("agent", ["ppo", "grpo"])
def test_an_agent_is_read_from_its_own_file(agent: str) -> None:
    ours = {name for name in IMPORTS[f"agents.{agent}"] if name.startswith("agents")}
    assert {name for name in ours if room(name) != "agents.running"} == set()

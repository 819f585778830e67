"""The agents that are measured: the name of one in ``agents/``, or the path of a file.

A file defines ``make_agent(venv, seed)``, which returns anything with the `learn` and `predict` of
Stable-Baselines3. One that has settings takes them too, ``make_agent(venv, seed, settings)``, and
defines their class ``Settings``, a subclass of :class:`agents.running.run.RunSettings`: then
the environment is made by these settings (`train_kwargs`, `wrap`), and they are recorded with the
results.

After the name or the path there may be flags, which set these settings: ``lm --sampling greedy``.
An agent with other flags is another agent, and the flags are part of its name.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import agents
from agents.running.evaluation import Agent
from agents.running.run import RunSettings
from benchmarks.suites.hashes import source_hash
from textgym.errors import SettingsError, near_matches


@dataclass(frozen=True)
class Candidate:
    """An agent that is measured.

    Attributes:
        name: The name in ``agents/``, or the file's; then the flags.
        base: The name without the flags.
        flags: Flags of its settings.
        make_agent: Its factory.
        settings_class: The class of its settings; `RunSettings` if it takes none.
        takes_settings: Whether the factory takes settings.
        hash: Hash of its file, though not of what the file imports.
        ours: Whether it is one of ``agents/``, for which settings may have been tuned.
    """

    name: str
    base: str
    flags: tuple[str, ...]
    make_agent: Callable[..., Agent]
    settings_class: type[RunSettings]
    takes_settings: bool
    hash: str
    ours: bool


def label(spec: str) -> str:
    """The name of an agent that was given by name or by file, possibly with flags."""
    what, flags = _split(spec)
    return shlex.join([Path(what).stem if _is_file(what) else what, *flags])


def resolved(spec: str) -> str:
    """The same specification for any working directory: the path of a file is made absolute."""
    what, flags = _split(spec)
    if _is_file(what):
        what = str(Path(what).expanduser().resolve())
    return shlex.join([what, *flags])


@cache
def load_candidate(spec: str) -> Candidate:
    """Find an agent.

    Args:
        spec: A name in ``agents/``, or the path of a .py file, then optional flags, written as in a
            shell.

    Raises:
        SettingsError: If there is no such agent (with near matches), or it cannot be used.
    """
    what, flags = _split(spec)
    file = Path(what).expanduser() if _is_file(what) else _folder() / f"{what}.py"
    known = [path.name for path in file.parent.glob("*.py")] if _is_file(what) else named_agents()
    if not file.is_file() or (not _is_file(what) and what not in known):
        wanted = file.name if _is_file(what) else what
        raise SettingsError(
            f"--agent {spec}: there is no such agent{near_matches(wanted, known)}; give the "
            "path of a .py file that defines make_agent(venv, seed), or a name: "
            f"{', '.join(named_agents())}"
        )
    module = _load_file(file) if _is_file(what) else importlib.import_module(f"agents.{what}")
    make_agent = getattr(module, "make_agent", None)
    if not callable(make_agent):
        raise SettingsError(f"--agent {spec}: the file defines no make_agent(venv, seed)")
    takes_settings = "settings" in inspect.signature(make_agent).parameters
    if flags and not takes_settings:
        raise SettingsError(
            f"--agent {spec}: its make_agent(venv, seed) takes no settings, so flags have "
            "no effect; let it take them, make_agent(venv, seed, settings)"
        )
    settings_class = getattr(module, "Settings", None) if takes_settings else RunSettings
    if not (isinstance(settings_class, type) and issubclass(settings_class, RunSettings)):
        raise SettingsError(
            f"--agent {spec}: make_agent takes settings, so the file has to define their class, "
            "Settings, a dataclass below agents.running.run.RunSettings"
        )
    return Candidate(
        name=label(spec),
        base=file.stem,
        flags=tuple(flags),
        make_agent=make_agent,
        settings_class=settings_class,
        takes_settings=takes_settings,
        hash=source_hash(file),
        ours=not _is_file(what),
    )


def named_agents() -> list[str]:
    """The agents in ``agents/``."""
    return sorted(
        file.stem
        for file in _folder().glob("*.py")
        if "\ndef make_agent(" in file.read_text("utf-8")
    )


def _folder() -> Path:
    return Path(next(iter(agents.__path__)))


def _split(spec: str) -> tuple[str, list[str]]:
    """The name or path, and the flags."""
    if os.path.isfile(os.path.expanduser(spec)):  # There may be spaces in it.
        return spec, []
    try:
        words, wrong = shlex.split(spec), "it is empty"
    except ValueError as error:
        words, wrong = [], str(error)
    if not words:
        raise SettingsError(
            f"--agent {spec!r}: it has to be a name or the path of a .py file, and maybe flags "
            f"after it; {wrong}"
        )
    return words[0], words[1:]


def _is_file(what: str) -> bool:
    return what.endswith(".py") or "/" in what


def _load_file(file: Path) -> Any:
    """Import a file outside of packages; it can import modules of its folder."""
    name = f"benchmarked_{file.stem}"
    found = importlib.util.spec_from_file_location(name, file)
    assert found is not None
    assert found.loader is not None
    sys.path.insert(0, str(file.parent.resolve()))
    module = importlib.util.module_from_spec(found)
    # Dataclasses look their module up.
    sys.modules[name] = module
    try:
        found.loader.exec_module(module)
    except Exception as error:
        raise SettingsError(
            f"--agent {file}: the file cannot be imported ({type(error).__name__}: {error})"
        ) from error
    return module

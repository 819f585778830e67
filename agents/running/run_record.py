"""The folder of a run and its run.json: agent, settings, versions and results."""

from __future__ import annotations

import dataclasses
import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import textgym
from agents.running.validation import flag
from textgym.errors import SettingsError
from textgym.storage.files import write_json

MAY_CHANGE = {
    "resume", "steps", "cpu_minutes", "checkpoint_every", "device", "threads", "tuned_from", "track"
}  # fmt: skip
"""Settings that may change when a run is resumed: they do not affect what is learned."""

_EARLIER = {"warm_start": 0}
"""Settings that runs of earlier versions did not have, and what they did."""


class FolderSettings(Protocol):
    """The settings that determine a folder's name and record."""

    out: Path
    resume: Path | None
    steps: int

    @property
    def env_id(self) -> str:
        """The environment id."""


def check_run(folder: Path, settings: FolderSettings, name: str) -> None:
    """Check that a run can be resumed with these settings.

    Raises:
        SettingsError: If it is the run of another agent, has other settings, or is complete.
    """
    record = read_record(folder)
    if record["agent"] != name:
        raise SettingsError(
            f"--resume {folder}: this is a run of the agent {record['agent']!r}, not {name!r}; "
            f"use python -m agents.{record['agent']}"
        )
    theirs = _EARLIER | record["settings"]
    contradicting = [
        f"{flag(key)} {value} (it has {theirs[key]})"
        for key, value in settings_as_json(settings).items()
        if key not in MAY_CHANGE and key in theirs and theirs[key] != value
    ]
    if contradicting:
        raise SettingsError(
            f"--resume {folder}: the settings of the run contradict "
            f"{', '.join(contradicting)}; leave these flags out, or start a new run"
        )
    if settings.steps < theirs["steps"]:
        raise SettingsError(
            f"--resume {folder}: the run has --steps {theirs['steps']}, which may be raised, but "
            f"not lowered to {settings.steps}; Ctrl-C ends it earlier"
        )
    results = record.get("results")
    if results and not results["interrupted"] and settings.steps <= results["steps"]:
        raise SettingsError(
            f"--resume {folder}: the run is complete, with {results['steps']:,} steps; to continue "
            "the training, give more --steps than that"
        )


def new_folder(settings: FolderSettings, name: str) -> Path:
    """Make a new folder for the run."""
    task = settings.env_id.rpartition("/")[2]
    stem = f"{task}-{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    for number in range(1000):
        folder = settings.out / (f"{stem}-{number}" if number else stem)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"{settings.out / stem} and 999 more exist")


def settings_as_json(settings: Any) -> dict[str, Any]:
    """Settings as values of JSON, as in run.json, with the default environment resolved."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(settings), default=str))
    return {**plain, "env": settings.env_id}


def write_record(
    folder: Path, name: str, settings: FolderSettings, results: dict[str, Any] | None = None
) -> None:
    """Write run.json: agent, settings and versions, and after the run its results."""
    packages = ("gymnasium", "numpy", "stable-baselines3", "torch", "transformers")
    record = {
        "agent": name,
        "settings": {**settings_as_json(settings), "resume": None},
        **({"results": results} if results else {}),
        "versions": {"textgym": textgym.__version__, **{name: version(name) for name in packages}},
        "python": platform.python_version(),
    }
    write_json(folder / "run.json", record, indent=2)


def read_record(folder: Path) -> dict[str, Any]:
    """Read run.json.

    Raises:
        SettingsError: If it is missing or incomplete.
    """
    try:
        record: dict[str, Any] = json.loads((folder / "run.json").read_text("utf-8"))
        if not isinstance(record["agent"], str) or not isinstance(record["settings"], dict):
            raise TypeError("agent or settings are of another type")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise SettingsError(
            f"--resume {folder}: this is not a folder of a run ({type(error).__name__}: {error}); "
            "give the one that the run printed, such as runs/Sentiment-v0-ppo-20260101-120000"
        ) from error
    return record


def settings_of_run(folder: Path, defaults: Any) -> Any:
    """The settings that a run was started with, in the class of the defaults.

    Raises:
        SettingsError: If it is not the folder of a run, or the agent has no such settings.
    """
    record = read_record(folder)
    names = {field.name for field in dataclasses.fields(defaults)}
    unknown = sorted(set(record["settings"]) - names)
    if unknown:
        raise SettingsError(
            f"--resume {folder}: this is a run of the agent {record['agent']!r}, whose setting "
            f"{unknown[0]!r} is unknown here; use python -m agents.{record['agent']}, of the "
            f"version that made it ({record.get('versions', {}).get('textgym', 'unknown')})"
        )
    found = {
        key: type(default)(value) if isinstance(default, (Path, tuple)) else value
        for key, value in record["settings"].items()
        for default in [getattr(defaults, key)]
    }
    # Earlier versions held no prompts out.
    if "eval_share" in names and "eval_share" not in record["settings"]:
        settings = record["settings"]
        has_own = settings.get("prompts") or settings.get("env_kwargs", {}).get("prompts")
        found["eval_share"] = 0.0 if has_own else None
    return dataclasses.replace(defaults, **found)

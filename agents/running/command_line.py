"""The agents' command line: flags from a dataclass, and errors that say what to do about them."""

from __future__ import annotations

import dataclasses
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro
from tyro.constructors import PrimitiveConstructorSpec

import textgym
from agents.running.run_record import settings_of_run
from agents.running.tuned import told, tuned_settings
from textgym.errors import RewardError, TextGymError

SettingsT = TypeVar("SettingsT")


def parse(
    module: str, defaults: SettingsT, doc: str | None, args: Sequence[str] | None = None
) -> SettingsT:
    """Read a command line into settings; an unknown flag is answered with the nearest names.

    Args:
        module: The module that is run, for the usage line.
        defaults: The agent's settings, a dataclass, where the command line says nothing.
        doc: The head of the help page.
        args: The words of the command line; None takes the process's own.
    """
    return tyro.cli(
        type(defaults), default=defaults, args=args, description=doc, prog=f"python -m {module}"
    )


def command_line(
    module: str,
    defaults: SettingsT,
    doc: str | None,
    main: Callable[[SettingsT], object],
    args: Sequence[str] | None = None,
) -> None:
    """Read the command line and run; what textgym refuses is told without a traceback.

    Args:
        module: As for `parse`, like `doc` and `args`; ``agents.NAME`` has the tuned settings in
            ``agents/settings/NAME.yaml``, if there is such a file (:mod:`agents.running.tuned`).
        defaults: The agent's settings, a dataclass, where neither the command line nor what was
            tuned for the environment says anything.
        doc: The head of the help page.
        main: Called with the settings.
        args: The words of the command line; None takes the process's own.

    Raises:
        SystemExit: With code 2, after a `TextGymError`, and with 130, after a Ctrl-C that ended no
            training but the run.
    """
    try:
        settings = parse(module, defaults, doc, args)
        run = getattr(settings, "resume", None)
        if run is not None:  # Its settings are the defaults then: flags can only contradict them.
            settings = parse(module, settings_of_run(run, defaults), doc, args)
        elif module.startswith("agents.") and getattr(settings, "tuned", False):
            settings = _tuned(module, settings, defaults, doc, args)
        main(settings)
    except TextGymError as error:
        print(f"python -m {module}: {error}{_place(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"python -m {module}: interrupted", file=sys.stderr)
        sys.exit(130)


def _tuned(
    module: str, settings: Any, defaults: Any, doc: str | None, args: Sequence[str] | None
) -> Any:
    """Read the command line again, with what was tuned for its environment as the defaults."""
    name = module.removeprefix("agents.")
    found = tuned_settings(name, settings.env_id, type(defaults))
    if not found.values:
        return settings
    defaults = dataclasses.replace(defaults, **found.values, tuned_from=dict(found.sources))
    settings = parse(module, defaults, doc, args)
    line = told(name, found, settings)
    if line:
        print(line)
    return settings


def _place(error: TextGymError) -> str:
    """Where a reward function of the user's own raised, which no message knows."""
    if not isinstance(error, RewardError) or error.__cause__ is None:
        return ""
    frame = traceback.extract_tb(error.__cause__.__traceback__)[-1]
    if Path(frame.filename).is_relative_to(Path(textgym.__file__).parent):
        return ""
    return f"\n(raised at {frame.filename}:{frame.lineno})"


def _read_json(words: list[str]) -> dict[str, Any]:
    value = json.loads(words[0])
    if not isinstance(value, dict):
        raise ValueError('it has to be a JSON object, such as \'{"stop": ["."]}\'')
    return value


Json = Annotated[
    dict[str, Any],
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="JSON",
        instance_from_str=_read_json,
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [json.dumps(value)],
    ),
]
"""A dictionary that is written as one JSON object on the command line."""

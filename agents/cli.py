"""The agents' command line: flags from a dataclass, and errors that say what to do about them."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from agents.run_record import settings_of_run
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
        module: As for `parse`, like `defaults`, `doc` and `args`.
        defaults: The agent's settings, a dataclass, where the command line says nothing.
        doc: The head of the help page.
        main: Called with the settings.
        args: The words of the command line; None takes the process's own.

    Raises:
        SystemExit: With code 2, after a `TextGymError`.
    """
    settings = parse(module, defaults, doc, args)
    try:
        run = getattr(settings, "resume", None)
        if run is not None:  # Its settings are the defaults then: flags can only contradict them.
            settings = parse(module, settings_of_run(run, defaults), doc, args)
        main(settings)
    except TextGymError as error:
        print(f"python -m {module}: {error}{_place(error)}", file=sys.stderr)
        sys.exit(2)


def _place(error: TextGymError) -> str:
    """Where a reward function of the user's own raised, which no message knows."""
    if not isinstance(error, RewardError) or error.__cause__ is None:
        return ""
    frame = traceback.extract_tb(error.__cause__.__traceback__)[-1]
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

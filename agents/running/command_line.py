"""The command line of the agents: flags from a dataclass, and errors without a traceback."""

from __future__ import annotations

import dataclasses
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import tyro
from tyro.constructors import PrimitiveConstructorSpec

import textgym
from agents.running.run_record import settings_of_run
from agents.running.tuned import summary_line, tuned_settings
from textgym.errors import RewardError, TextGymError

SettingsT = TypeVar("SettingsT")

ALIASES = {
    # Stable-Baselines3 and its zoo.
    "learning-rate": "lr",
    "total-timesteps": "steps",
    "n-timesteps": "steps",
    "n-eval-episodes": "eval-episodes",
    # Gymnasium and CleanRL.
    "env-id": "env",
    "num-envs": "n-envs",
    # TRL.
    "model-name-or-path": "lm",
    "output-dir": "out",
    "reward-funcs": "reward",
    "max-prompt-length": "max-prompt-tokens",
    "max-completion-length": "max-new-tokens",
    "num-generations": "group-size",
    "num-ppo-epochs": "n-epochs",
    "num-train-epochs": "n-epochs",
    "num-mini-batches": "minibatches",
    "cliprange": "clip-range",
    "beta": "kl-coef",
    "loss-type": "loss",
    "rpo-alpha": "sft-coef",
}
"""Names that other libraries give to the same settings, and the names here."""


def parse(
    module: str, defaults: SettingsT, doc: str | None, args: Sequence[str] | None = None
) -> SettingsT:
    """Parse a command line into settings. The error for an unknown flag has the nearest names.

    Args:
        module: The module that is run, for the usage line.
        defaults: The agent's default settings, a dataclass.
        doc: The text at the top of the help page.
        args: The words of the command line; those of the process if None.
    """
    words = sys.argv[1:] if args is None else args
    return tyro.cli(
        type(defaults),
        default=defaults,
        args=_without_aliases(words, defaults),
        description=f"{doc or ''}\n{_other_spellings(defaults)}",
        prog=f"python -m {module}",
    )


def check_flags(module: str, defaults: object, doc: str | None) -> None:
    """Handle --help and wrong flags before the slow imports of an agent.

    Importing torch and Stable-Baselines3 takes several seconds. A file with classes that derive
    from theirs calls this after its settings and before these imports; `command_line` then parses
    the flags again.

    Args:
        module: As in `parse`.
        defaults: As in `parse`.
        doc: As in `parse`.

    Raises:
        SystemExit: After --help, and with code 2 after a wrong flag or value.
    """
    try:
        parse(module, defaults, doc)
    except TextGymError as error:
        _refuse(module, error)


def command_line(
    module: str,
    defaults: SettingsT,
    doc: str | None,
    main: Callable[[SettingsT], object],
    args: Sequence[str] | None = None,
) -> None:
    """Parse the command line and run; errors of textgym are printed without a traceback.

    Args:
        module: As for `parse`, like `doc` and `args`; ``agents.NAME`` has the tuned settings in
            ``agents/settings/NAME.yaml``, if there is such a file (:mod:`agents.running.tuned`).
        defaults: The agent's default settings, a dataclass; tuned settings and flags override them.
        doc: The text at the top of the help page.
        main: Called with the settings.
        args: The words of the command line; those of the process if None.

    Raises:
        SystemExit: With code 2 after a `TextGymError`, and with 130 after a Ctrl-C outside of the
            training.
    """
    try:
        settings = parse(module, defaults, doc, args)
        run = getattr(settings, "resume", None)
        if run is not None:  # Its settings are the defaults then, and flags can contradict them.
            settings = parse(module, settings_of_run(run, defaults), doc, args)
        elif module.startswith("agents.") and getattr(settings, "tuned", False):
            settings = _tuned(module, settings, defaults, doc, args)
        main(settings)
    except TextGymError as error:
        _refuse(module, error)
    except KeyboardInterrupt:
        print(f"python -m {module}: interrupted", file=sys.stderr)
        sys.exit(130)


def _aliases(defaults: Any) -> dict[str, str]:
    """The aliases of the settings that an agent has."""
    names = {field.name.replace("_", "-") for field in dataclasses.fields(defaults)}
    return {alias: name for alias, name in ALIASES.items() if name in names and alias not in names}


def _without_aliases(words: Sequence[str], defaults: Any) -> list[str]:
    """The words of a command line, with the flags' names here."""
    aliases = _aliases(defaults)
    own = []
    for word in words:
        flag, equals, value = word.partition("=")
        alias = flag.removeprefix("--").replace("_", "-")
        if flag.startswith("--") and alias in aliases:
            word = f"--{aliases[alias]}{equals}{value}"
        own.append(word)
    return own


def _other_spellings(defaults: Any) -> str:
    """The line of the help page about aliases."""
    pairs = [f"--{alias} (--{name})" for alias, name in _aliases(defaults).items()]
    return f"Other spellings of flags: {', '.join(pairs)}; and _ for -." if pairs else ""


def _tuned(
    module: str, settings: Any, defaults: Any, doc: str | None, args: Sequence[str] | None
) -> Any:
    """Parse the command line again, with the tuned settings of its environment as the defaults."""
    name = module.removeprefix("agents.")
    found = tuned_settings(name, settings.env_id, type(defaults))
    if not found.values:
        return settings
    defaults = dataclasses.replace(defaults, **found.values, tuned_from=dict(found.sources))
    settings = parse(module, defaults, doc, args)
    line = summary_line(name, found, settings)
    if line:
        print(line)
    return settings


def _refuse(module: str, error: TextGymError) -> NoReturn:
    print(f"python -m {module}: {error}{_place(error)}", file=sys.stderr)
    sys.exit(2)


def _place(error: TextGymError) -> str:
    """The line where a user's reward function raised an exception."""
    if not isinstance(error, RewardError) or error.__cause__ is None:
        return ""
    frame = traceback.extract_tb(error.__cause__.__traceback__)[-1]
    if Path(frame.filename).is_relative_to(Path(textgym.__file__).parent):
        return ""
    return f"\n(raised at {frame.filename}:{frame.lineno})"


def _read_json(words: list[str]) -> dict[str, Any]:
    value = json.loads(words[0])
    if not isinstance(value, dict):
        raise ValueError('expected a JSON object, such as \'{"stop": ["."]}\'')
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
"""A dictionary, written as one JSON object on the command line."""

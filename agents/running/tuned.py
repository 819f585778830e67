"""Tuned settings: an agent's defaults for one environment, from ``agents/settings/NAME.yaml``.

    "TextGen/Probe-*":           # an environment's id, or a pattern of ids with *, ? and [...]
      source: Where the values come from, in a sentence.
      lr: 2.0e-3                 # a number with an exponent needs its dot
      kl_target: null

The names are those of the agent's ``Settings``. Every entry that an id matches counts: a longer
pattern over a shorter one, and the id itself over all patterns, so that an entry only says what is
different. On the command line and in the benchmark suites they take the place of the defaults;
flags, and what a suite says, still win, and ``--no-tuned`` leaves them out. A script that makes
``Settings`` itself gets what it writes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from textgym.errors import SettingsError, near_matches

FOLDER = Path(__file__).parents[1] / "settings"

NOT_TUNED = (
    *("env", "prompts", "reward", "level", "max_prompt_tokens", "max_new_tokens", "env_kwargs"),
    *("eval_episodes", "seed", "device", "threads", "out", "checkpoint_every", "resume"),
    *("tuned", "tuned_from"),
)
"""Settings that say what is run, on what and what is written down, and not how it is learned."""

_PLAIN = (bool, int, float, str, NoneType)


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What is known of an agent in an environment.

    Attributes:
        values: The settings, by name.
        sources: Where they come from: the sentence of each entry that matches, the strongest last.
    """

    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)


def tuned_settings(name: str, env_id: str, settings_class: type[Any]) -> Tuned:
    """Look up the settings that were tuned for an agent in an environment.

    Args:
        name: The agent's name in ``agents/``.
        env_id: The environment's id; the module in ``module:id`` makes no difference.
        settings_class: The agent's settings, a dataclass.

    Raises:
        SettingsError: If the agent's file is no YAML, or any entry of it does not fit the settings.
    """
    file = FOLDER / f"{name}.yaml"
    if not file.is_file():
        return Tuned()
    entries = read_entries(str(file), file.read_text("utf-8"), settings_class)
    env_id = env_id.rpartition(":")[2]
    found = [pattern for pattern in entries if env_id == pattern or fnmatchcase(env_id, pattern)]
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for pattern in sorted(found, key=lambda pattern: (pattern == env_id, len(pattern))):
        values |= entries[pattern].values
        sources |= entries[pattern].sources
    return Tuned(values, sources)


def told(name: str, tuned: Tuned, settings: Any) -> str:
    """One line about the tuned settings that are in force; empty if flags overrule them all.

    Args:
        name: The agent's name.
        tuned: What was found.
        settings: The settings of the run.
    """
    used = [
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in tuned.values.items()
        if getattr(settings, key) == value
    ]
    if not used:
        return ""
    file = f"{FOLDER.parent.name}/{FOLDER.name}/{name}.yaml"
    return f"settings of {file} for {' and '.join(tuned.sources)}: {', '.join(used)}"


def read_entries(where: str, text: str, settings_class: type[Any]) -> Mapping[str, Tuned]:
    """Read a whole file.

    Args:
        where: The file, for messages.
        text: What is in it.
        settings_class: The agent's settings, a dataclass.

    Returns:
        The entries by their patterns.

    Raises:
        SettingsError: If it is no YAML, or an entry does not fit the settings.
    """
    try:
        _refuse_doubles(where, yaml.compose(text, yaml.SafeLoader))
        entries = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{where}: this is no YAML: {error}") from error
    if not isinstance(entries, dict):
        raise SettingsError(f"{where}: it has to be a mapping from environment ids to settings")
    hints = get_type_hints(settings_class)
    kinds = {
        field.name: hints[field.name]
        for field in dataclasses.fields(settings_class)
        if field.name not in NOT_TUNED
    }
    return {pattern: _entry(where, pattern, entries[pattern], kinds) for pattern in entries}


def _entry(where: str, pattern: Any, entry: Any, kinds: Mapping[str, Any]) -> Tuned:
    """One entry, if it fits the kinds of values that settings have."""
    where = f"{where}, entry {pattern!r}"
    if not isinstance(pattern, str) or not isinstance(entry, dict):
        raise SettingsError(
            f"{where}: an entry is an environment id, or a pattern of ids, with a mapping below it"
        )
    values = {}
    for key, value in entry.items():
        if key == "source":
            continue
        if key in NOT_TUNED:
            raise SettingsError(
                f"{where}: {key} says what is run and not how it is learned, and is no setting to "
                "tune; leave it to the command line"
            )
        if key not in kinds:
            near = near_matches(str(key), [*kinds, "source"])
            raise SettingsError(f"{where}: the agent has no setting {key!r}{near}")
        try:
            values[key] = _cast(value, kinds[key])
        except TypeError:
            kind = getattr(kinds[key], "__name__", "") if kinds[key] in _PLAIN else str(kinds[key])
            raise SettingsError(
                f"{where}: {key}: {value!r} is not of the type {kind.replace('typing.', '')}"
                f"{_missing_dot(value)}"
            ) from None
    source = entry.get("source")
    if not isinstance(source, str) or not source.strip():
        raise SettingsError(
            f"{where}: a sentence `source:` has to say where the values come from: the command and "
            "its seeds, or that they are untuned"
        )
    return Tuned(values, {pattern: source.strip()})


def _cast(value: Any, kind: Any) -> Any:
    """A value of YAML as the settings hold it.

    Raises:
        TypeError: If it is of another kind.
    """
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        for each in sorted(args, key=lambda each: type(value) is not each):
            try:
                return _cast(value, each)
            except TypeError:
                continue
    elif origin is Literal:
        if any(value == each and type(value) is type(each) for each in args):
            return value
    elif origin is tuple and isinstance(value, list):
        each = args[:1] * len(value) if args[1:] == (...,) else args
        if len(each) == len(value):
            return tuple(map(_cast, value, each))
    elif kind is float and type(value) is int:
        return float(value)
    elif kind in _PLAIN and type(value) is kind:
        return value
    raise TypeError


def _missing_dot(value: Any) -> str:
    """YAML takes 2e-3 for text."""
    try:
        number = float(value) if isinstance(value, str) else None
    except ValueError:
        number = None
    return "" if number is None else "; YAML takes it for text: write it with a dot, as 2.0e-3"


def _refuse_doubles(where: str, node: Any) -> None:
    """Refuse a key that is there twice, of which YAML would keep the last without a word."""
    if not isinstance(node, yaml.MappingNode):
        return
    seen = set()
    for key, value in node.value:
        if key.value in seen:
            raise SettingsError(
                f"{where}, line {key.start_mark.line + 1}: {key.value!r} is there twice; keep one"
            )
        seen.add(key.value)
        _refuse_doubles(where, value)

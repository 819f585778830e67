"""Tuned settings: an agent's defaults for one environment, from ``agents/settings/NAME.yaml``.

    "TextGen/Probe-*":           # an environment's id, or a pattern of ids with *, ? and [...]
      source: Where the values come from, in a sentence.
      lr: 2e-3
      kl_target: null

The names are those of the agent's ``Settings``, and values are parsed and checked as flags are. All
entries that match an id apply: a longer pattern overrides a shorter one, and the id itself
overrides all patterns, so that an entry only has to name what is different. On the command line and
in the benchmark suites they replace the defaults; flags and the suite's own settings still win, and
``--no-tuned`` ignores them. A script that makes ``Settings`` itself is not affected.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from textgym.errors import SettingsError, near_matches

FOLDER = Path(__file__).parents[1] / "settings"

NOT_TUNED = (
    *("env", "prompts", "reward", "level", "max_prompt_tokens", "max_new_tokens", "env_kwargs"),
    *(
        "eval_episodes",
        "eval_every",
        "cpu_minutes",
        "seed",
        "track",
        "device",
        "threads",
        "out",
        "checkpoint_every",
        "resume",
    ),
    *("tuned", "tuned_from"),
)
"""Settings about what is run and recorded, and not about how the agent learns."""


@dataclasses.dataclass(frozen=True)
class Tuned:
    """The tuned settings of an agent in an environment.

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
        SettingsError: If the agent's file is not YAML, or any entry does not fit the settings.
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


def summary_line(name: str, tuned: Tuned, settings: Any) -> str:
    """One line about the tuned settings in use; empty if flags override them all.

    Args:
        name: The agent's name.
        tuned: The tuned settings.
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
        text: The text of the file.
        settings_class: The agent's settings, a dataclass.

    Returns:
        The entries by their patterns.

    Raises:
        SettingsError: If it is not YAML, or an entry does not fit the settings.
    """
    try:
        _refuse_duplicates(where, yaml.compose(text, yaml.SafeLoader))
        entries = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{where}: this is not YAML: {error}") from error
    if not isinstance(entries, dict):
        raise SettingsError(f"{where}: it has to be a mapping from environment ids to settings")
    hints = get_type_hints(settings_class)
    kinds = {
        field.name: hints[field.name]
        for field in dataclasses.fields(settings_class)
        if field.name not in NOT_TUNED
    }
    found = {pattern: _entry(where, pattern, entries[pattern], kinds) for pattern in entries}
    for pattern, entry in found.items():
        try:
            settings_class(**entry.values)
        except SettingsError as error:
            raise SettingsError(f"{where}, entry {pattern!r}: {error}") from None
    return found


def _entry(where: str, pattern: Any, entry: Any, kinds: Mapping[str, Any]) -> Tuned:
    """One entry, if its values have the types of the settings."""
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
                f"{where}: {key} is about the run and not about learning, so it cannot be tuned; "
                "leave it to the command line"
            )
        if key not in kinds:
            near = near_matches(str(key), [*kinds, "source"])
            raise SettingsError(f"{where}: the agent has no setting {key!r}{near}")
        try:
            values[key] = _parse(value, kinds[key])
        except ValueError:
            kind = kinds[key].__name__ if isinstance(kinds[key], type) else str(kinds[key])
            raise SettingsError(
                f"{where}: {key}: {value!r} is not of the type {kind.replace('typing.', '')}"
            ) from None
    source = entry.get("source")
    if not isinstance(source, str) or not source.strip():
        raise SettingsError(
            f"{where}: the entry needs a sentence `source:` on where the values come from: the "
            "command and its seeds, or that they are untuned"
        )
    return Tuned(values, {pattern: source.strip()})


def _parse(value: Any, kind: Any) -> Any:
    """A value of YAML, parsed as the same words after a flag are.

    Raises:
        ValueError: If it is of another type.
    """
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(kind, set()))
    assert isinstance(spec, PrimitiveConstructorSpec)
    several = isinstance(value, list)
    words = list(map(str, value)) if several else [str(value)]
    if (
        several != (spec.nargs != 1)
        or spec.nargs not in (1, "*", len(words))
        or (spec.choices is not None and words[0] not in spec.choices)
    ):
        raise ValueError
    parsed = spec.instance_from_str(words)
    # On a command line everything is a string; in YAML a number in place of a string is a mistake.
    pairs = zip(parsed, value, strict=True) if several else [(parsed, value)]
    if any(isinstance(one, str) and not isinstance(given, str) for one, given in pairs):
        raise ValueError
    return parsed


def _refuse_duplicates(where: str, node: Any) -> None:
    """Refuse a duplicate key, of which YAML would silently use the last."""
    if not isinstance(node, yaml.MappingNode):
        return
    seen = set()
    for key, value in node.value:
        if key.value in seen:
            raise SettingsError(
                f"{where}, line {key.start_mark.line + 1}: {key.value!r} is there twice; keep one"
            )
        seen.add(key.value)
        _refuse_duplicates(where, value)

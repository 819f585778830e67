"""Texts to judge: from files, and from samples of a language model."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from textgym.data.files import read_file
from textgym.errors import DataError, shown
from textgym.feedback.items import Kind, NewItem
from textgym.rewards.preferences.pairs import plain_turns

_ONE = ("text", "response", "completion")


class Candidates(NamedTuple):
    """Texts for one prompt.

    Attributes:
        prompt: The prompt.
        texts: Continuations of it.
        policy_version: Identifies the policy that wrote them.
        columns: Further data for the items, as JSON.
    """

    prompt: str
    texts: tuple[str, ...]
    policy_version: str = ""
    columns: Mapping[str, Any] = MappingProxyType({})


def items_of(groups: Iterable[Candidates], kind: Kind) -> list[NewItem]:
    """Make items of texts.

    Pairs are neighbours among the different texts of a prompt, so that n texts make n - 1 pairs
    that connect them all. The other kinds make one item per text. The keys of items depend on their
    content alone: adding the same texts again adds nothing.

    Args:
        groups: The texts.
        kind: The kind of judgement.

    Returns:
        The items; prompts with a single text make no pair.
    """
    items = []
    for group in groups:
        texts = list({text.strip(): text for text in group.texts if text.strip()}.values())
        chosen = itertools.pairwise(texts) if kind == "pair" else ((one,) for one in texts)
        items += [
            NewItem(
                kind,
                group.prompt,
                some,
                group.columns,
                policy_version=group.policy_version,
                key=content_key(kind, group.prompt, *some, group.policy_version),
            )
            for some in chosen
        ]
    return items


def content_key(*parts: str) -> str:
    """Return a key that depends on strings, their order, and their boundaries."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def read_candidates(path: str | Path) -> list[Candidates]:
    """Read texts from a .jsonl, .csv or .parquet file.

    A row has a ``prompt`` (a string, or messages; it may be missing) and

    * ``texts``: a list of strings; or
    * ``chosen`` and ``rejected``, which are judged again; or
    * ``text``, ``response`` (as :class:`textgym.wrappers.RecordEpisodes` writes it) or
      ``completion``: one text; the rows with the same prompt belong together.

    and may have a ``policy_version``.

    Raises:
        DataError: If the file cannot be read, or a row is invalid; the message names the row.
    """
    path = Path(path).expanduser()
    rows = read_file(path)
    groups: dict[tuple[Any, ...], list[str]] = {}
    for number in range(len(rows)):
        where = f"row {number} of {path}"
        row = rows[number]
        if not isinstance(row, Mapping):
            raise DataError(f"{where} must be an object, not {type(row).__name__}")
        prompt, texts = _prompt(row, where), _texts(row, where)
        version = row.get("policy_version") or ""
        # A list of texts is a group by itself.
        own = None if len(texts) == 1 else number
        groups.setdefault((prompt, str(version), own), []).extend(texts)
    return [
        Candidates(prompt, tuple(texts), version) for (prompt, version, _), texts in groups.items()
    ]


def _prompt(row: Mapping[str, Any], where: str) -> str:
    prompt = row.get("prompt")
    if prompt is None:
        return ""
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, Sequence) and all(
        isinstance(one, Mapping) and {"role", "content"} <= one.keys() for one in prompt
    ):
        return plain_turns(prompt, reply=True)
    raise DataError(f"{where}: prompt must be a string or messages, not {shown(prompt)}")


def _texts(row: Mapping[str, Any], where: str) -> list[str]:
    found: Any
    if "texts" in row:
        found = row["texts"]
    elif "chosen" in row and "rejected" in row:
        found = [row["chosen"], row["rejected"]]
    else:
        name = next((name for name in _ONE if name in row), None)
        if name is None:
            raise DataError(
                f"{where} has no texts, only {', '.join(map(repr, row)) or 'nothing'}; give "
                "'texts' (a list), 'chosen' and 'rejected', or 'text'"
            )
        found = [row[name]]
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise DataError(f"{where}: texts must be strings, not {shown(found)}")
    return found

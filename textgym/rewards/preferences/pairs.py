"""Readers for preference pairs in published formats.

A row has ``chosen`` and ``rejected``, and may have ``prompt``, ``system``, ``margin``, ``weight``
and ``preference``. These formats are supported:

* strings: ``prompt``, and ``chosen`` and ``rejected`` that continue it;
* strings with an implicit prompt (Anthropic's hh-rlhf), which is their common beginning;
* lists of messages (``{"role": ..., "content": ...}``), with a prompt that is a list or a string,
  or an implicit prompt (TRL, UltraFeedback), which is their common messages;
* a system message in a separate column, ``system`` or ``system_prompt`` (Intel's orca_dpo_pairs):
  prompt and answers are then rendered as messages even if they are strings.

If both texts repeat the prompt of the column, it is removed from them. If it is ambiguous whether
they do, the row is rejected.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from textgym.data.files import read_file, read_hub
from textgym.data.messages import Message
from textgym.data.rows import is_missing
from textgym.errors import DataError, SettingsError, near_matches
from textgym.rewards.preferences.pair_texts import Render, is_list, texts_of

_PROMPTS = ("prompt", "question", "instruction", "query")
_SYSTEMS = ("system", "system_prompt")
_KNOWN = (*_PROMPTS, *_SYSTEMS, "chosen", "rejected", "margin", "weight", "preference")
_COINCIDENCE = 20
"""Answers may begin with a shorter prompt ("Hello") by coincidence."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two continuations of a prompt, of which the first was preferred.

    Attributes:
        prompt: The prompt; it may be empty.
        chosen: The preferred text.
        rejected: The other text.
        margin: The least desired difference of the rewards.
        weight: Weight of the pair in the loss.
        preference: The share of judges who preferred ``chosen``; 1 for a single judge.
    """

    prompt: str
    chosen: str
    rejected: str
    margin: float = 0.0
    weight: float = 1.0
    preference: float = 1.0


class Pairs(NamedTuple):
    """The result of reading pairs.

    Attributes:
        pairs: The pairs.
        ties: Number of rows left out because neither text is preferred.
        has_messages: Whether any row has messages.
    """

    pairs: list[Pair]
    ties: int
    has_messages: bool


def read_pairs(source: str | Path, render: Render | None = None, ties: str = "soft") -> Pairs:
    """Read pairs from a .jsonl, .csv or .parquet file, or from ``"hf:NAME[:CONFIG][:SPLIT]"``.

    Args:
        source: The file, or the hub data set.
        render: Renders lists of messages as text. Default: :func:`plain_turns`.
        ties: Treatment of rows with a ``preference`` of 0.5: ``"soft"`` keeps them as soft labels,
            ``"skip"`` leaves them out.

    Raises:
        DataError: If the file does not exist, or a row is not a pair; the message names the row.
        MissingDependencyError: If a required package is not installed.
    """
    if str(source).startswith("hf:"):
        rows, name, _ = read_hub(str(source), "train")
        return pairs_of(rows, name, render, ties)
    path = Path(source).expanduser()
    if not path.is_file():
        raise DataError(
            f"there is no file {path}; give a .jsonl, .csv or .parquet file with the columns "
            "'prompt', 'chosen' and 'rejected', or 'hf:NAME' for a data set of the hub"
        )
    if path.suffix.lower() not in (".jsonl", ".csv", ".parquet"):
        raise DataError(
            f"{path} has an unknown type; use .jsonl (a JSON object per line), .csv or .parquet"
        )
    return pairs_of(read_file(path), f"the file {path}", render, ties)


def pairs_of(
    rows: Sequence[Any], name: str, render: Render | None = None, ties: str = "soft"
) -> Pairs:
    """Convert rows to pairs; rows with two equal texts are left out.

    Args:
        rows: Dictionaries.
        name: Source of the rows, for errors.
        render: As for :func:`read_pairs`.
        ties: As for :func:`read_pairs`.

    Raises:
        DataError: If rows is empty, a row is not a pair, or all rows are ties.
        SettingsError: If `ties` is invalid.
    """
    if ties not in ("soft", "skip"):
        raise SettingsError(f"ties must be 'soft' or 'skip', not {ties!r}")
    render = render or plain_turns
    every = [_pair(rows[at], f"row {at} of {name}", render) for at in range(len(rows))]
    every = _without_repeated_prompts(rows, every, name)
    kept = [
        pair
        for pair in every
        if pair.chosen != pair.rejected and not (ties == "skip" and pair.preference == 0.5)
    ]
    if not kept:
        raise DataError(
            f"{name} has {len(every)} rows, but none in which one text is preferred; give rows "
            "with the columns 'prompt', 'chosen' and 'rejected'"
        )
    has_messages = any(_has_messages(row) for row in rows)
    return Pairs(kept, len(every) - len(kept), has_messages)


def plain_turns(messages: Sequence[Message], reply: bool) -> str:
    r"""Render messages in the format of the environments: ``"User: ...\nAgent: ..."``."""
    names = {"user": "User", "assistant": "Agent", "system": "System"}
    lines = [f"{names.get(one['role'], one['role'])}: {one['content']}" for one in messages]
    return "\n".join([*lines, "Agent:"] if reply else lines)


def split_key(pair: Pair) -> str:
    """Return the key by which pairs are split: the prompt, or the texts if it is empty."""
    return pair.prompt or "\0".join(sorted((pair.chosen, pair.rejected)))


def split_pairs(pairs: Sequence[Pair], held_out: float) -> tuple[list[Pair], list[Pair]]:
    """Split pairs by a hash of the prompt, so that no prompt is on both sides.

    Args:
        pairs: The pairs.
        held_out: Approximate share of held-out prompts.

    Returns:
        The training pairs and the held-out pairs; either may be empty.
    """
    sides: tuple[list[Pair], list[Pair]] = [], []
    for pair in pairs:
        digest = zlib.crc32(split_key(pair).encode("utf-8", "surrogatepass"))
        sides[digest < held_out * 2**32].append(pair)
    return sides


def _pair(row: Any, where: str, render: Render) -> Pair:
    """Convert a row to a pair; errors begin with `where`."""
    if not isinstance(row, Mapping):
        raise DataError(
            f"{where} must be an object with 'prompt', 'chosen' and 'rejected', not "
            f"{type(row).__name__}"
        )
    for column in ("chosen", "rejected"):
        if column not in row:
            unknown = [str(name) for name in row if name not in _KNOWN]
            raise DataError(
                f"{where} has no column {column!r}, only {', '.join(map(repr, row)) or 'none'}"
                f"{near_matches(column, unknown) or '.'} Name the preferred text 'chosen' and the "
                "other one 'rejected'"
            )
    values = {"prompt": _prompt_of(row)}
    values |= {name: _or_none(row[name]) for name in ("chosen", "rejected")}
    prompt, chosen, rejected = texts_of(values, _system_of(row, where), where, render)
    return Pair(
        prompt,
        chosen,
        rejected,
        margin=_number(row, "margin", 0.0, where),
        weight=_number(row, "weight", 1.0, where, low=0.0),
        preference=_number(row, "preference", 1.0, where, low=0.0, high=1.0),
    )


def _prompt_of(row: Mapping[str, Any]) -> Any:
    return next((row[name] for name in _PROMPTS if not is_missing(row.get(name))), None)


def _or_none(value: Any) -> Any:
    return None if is_missing(value) else value


def _system_of(row: Mapping[str, Any], where: str) -> str:
    """Return the text of a system column, or ""."""
    value = next((row[name] for name in _SYSTEMS if not is_missing(row.get(name))), "")
    if not isinstance(value, str):
        raise DataError(f"{where}: the system message must be a string, not {type(value).__name__}")
    return value


def _has_messages(row: Mapping[str, Any]) -> bool:
    """Whether a row has messages, or a system message, which has to be rendered as one."""
    texts = (row["chosen"], row["rejected"], _prompt_of(row))
    return any(is_list(one) or isinstance(one, Mapping) for one in texts) or bool(
        _system_of(row, "a row")
    )


def _without_repeated_prompts(rows: Sequence[Any], pairs: list[Pair], name: str) -> list[Pair]:
    """Remove the prompt from texts that repeat the prompt of its column.

    If the texts of all rows begin with their prompts, this is the format of the data. If only some
    do, it is taken for a coincidence with a short prompt ("Hello"), and rejected with a long one.
    """
    own = [
        at
        for at, row in enumerate(rows)
        if not _has_messages(row) and (_prompt_of(row) or "").strip()
    ]
    both = [
        at
        for at in own
        if pairs[at].chosen.startswith(pairs[at].prompt.rstrip())
        and pairs[at].rejected.startswith(pairs[at].prompt.rstrip())
    ]
    if own and both == own:
        repeating = set(own)
        return [_without_prompt(pair) if at in repeating else pair for at, pair in enumerate(pairs)]
    for at in both:
        if len(pairs[at].prompt) >= _COINCIDENCE:
            raise DataError(
                f"row {at} of {name}: 'chosen' and 'rejected' begin with the prompt of its column, "
                "unlike those of other rows; give the answers alone in all rows"
            )
    return pairs


def _without_prompt(pair: Pair) -> Pair:
    prompt = pair.prompt.rstrip()
    return replace(
        pair,
        prompt=prompt,
        chosen=pair.chosen[len(prompt) :],
        rejected=pair.rejected[len(prompt) :],
    )


def _number(
    row: Mapping[str, Any],
    column: str,
    default: float,
    where: str,
    low: float = -math.inf,
    high: float = math.inf,
) -> float:
    """Return a number from an optional column; numbers in a .csv are strings."""
    value = row.get(column)
    if value is None or value == "":
        return default
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or not low <= number <= high:
        limits = {(0.0, 1.0): " in [0, 1]", (0.0, math.inf): ", at least 0"}.get((low, high), "")
        raise DataError(
            f"{where}: {column!r} must be a finite number{limits}, or missing, not {value!r}"
        )
    return number

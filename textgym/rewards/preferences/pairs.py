"""Readers for preference pairs in published formats.

A row has ``chosen`` and ``rejected``, and may have ``prompt``, ``system``, ``margin``, ``weight``
and ``preference``. These formats are supported:

* strings: ``prompt``, and ``chosen`` and ``rejected`` that continue it;
* strings with an implicit prompt (Anthropic's hh-rlhf), which is their common beginning;
* lists of messages (``{"role": ..., "content": ...}``), with a prompt that is a list or a string,
  or an implicit prompt (TRL, UltraFeedback), which is their common messages;
* a system message in a separate column, ``system`` or ``system_prompt`` (Intel's orca_dpo_pairs):
  prompt and answers are then rendered as messages even if they are strings;
* several rejected texts, a list of strings or of lists of messages: a pair with each of them.

If both texts repeat the prompt of the column, it is removed from them. If it is ambiguous whether
they do, the row is rejected.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from textgym.data.files import read_file, read_hub
from textgym.data.messages import Message
from textgym.data.rows import is_missing
from textgym.errors import DataError, SettingsError, near_matches
from textgym.rewards.preferences.pair_texts import Part, Render, is_list, parts_of, rendered

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


@dataclass(frozen=True, slots=True)
class Comparison:
    """A row of preferences, whose messages are not rendered yet; see :class:`Pair`.

    Prompt and texts are all strings, or all lists of messages.

    Attributes:
        where: The row, for errors.
        prompt: The prompt.
        chosen: The preferred text.
        rejected: The other text.
        margin: The least desired difference of the rewards.
        weight: Weight of the pair in the loss.
        preference: The share of judges who preferred ``chosen``.
    """

    where: str
    prompt: Part
    chosen: Part
    rejected: Part
    margin: float = 0.0
    weight: float = 1.0
    preference: float = 1.0

    def rendered(self, render: Render) -> Pair:
        """The pair of strings.

        Raises:
            DataError: If messages cannot be rendered.
        """
        parts = (self.prompt, self.chosen, self.rejected)
        prompt, chosen, rejected = rendered(parts, self.where, render)
        return Pair(prompt, chosen, rejected, self.margin, self.weight, self.preference)


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
    return pairs_of(*read_rows(source), render, ties)


def read_rows(source: str | Path) -> tuple[Sequence[Any], str]:
    """Read the rows of a file or a hub data set, as for `read_pairs`, and their name for errors.

    Raises:
        DataError: If there is no such file, or it cannot be read.
        MissingDependencyError: If a required package is not installed.
    """
    if str(source).startswith("hf:"):
        rows, name, _ = read_hub(str(source), "train")
        return rows, name
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
    return read_file(path), f"the file {path}"


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
    comparisons = comparisons_of(rows, name)
    every = [one.rendered(render or plain_turns) for one in comparisons]
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
    has_messages = any(not isinstance(one.prompt, str) for one in comparisons)
    return Pairs(kept, len(every) - len(kept), has_messages)


def comparisons_of(rows: Sequence[Any], name: str) -> list[Comparison]:
    """Read rows without rendering their messages; a row with several rejected texts is several.

    Args:
        rows: Dictionaries.
        name: Source of the rows, for errors.

    Raises:
        DataError: If a row is not a pair.
    """
    spread = list(_spread(rows, name))
    every = [_comparison(row, where) for where, row in spread]
    return _without_repeated_prompts([row for _, row in spread], every)


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


def _spread(rows: Sequence[Any], name: str) -> Iterator[tuple[str, Any]]:
    """The rows with one rejected text each, and where they are."""
    for at in range(len(rows)):
        where, row = f"row {at} of {name}", rows[at]
        several = row.get("rejected") if isinstance(row, Mapping) else None
        if is_list(several) and several and all(isinstance(x, str) or is_list(x) for x in several):
            yield from ((where, {**row, "rejected": one}) for one in several)
        else:
            yield where, row


def _comparison(row: Any, where: str) -> Comparison:
    """Read a row; errors begin with `where`."""
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
    values = {"prompt": prompt_of(row)}
    values |= {name: _or_none(row[name]) for name in ("chosen", "rejected")}
    prompt, chosen, rejected = parts_of(values, system_of(row, where), where)
    return Comparison(
        where,
        prompt,
        chosen,
        rejected,
        margin=number_of(row, "margin", 0.0, where),
        weight=number_of(row, "weight", 1.0, where, low=0.0),
        preference=number_of(row, "preference", 1.0, where, low=0.0, high=1.0),
    )


def prompt_of(row: Mapping[str, Any]) -> Any:
    """The value of the column with the prompt; None without one."""
    return next((row[name] for name in _PROMPTS if not is_missing(row.get(name))), None)


def _or_none(value: Any) -> Any:
    return None if is_missing(value) else value


def system_of(row: Mapping[str, Any], where: str) -> str:
    """Return the text of a system column, or ""."""
    value = next((row[name] for name in _SYSTEMS if not is_missing(row.get(name))), "")
    if not isinstance(value, str):
        raise DataError(f"{where}: the system message must be a string, not {type(value).__name__}")
    return value


def _without_repeated_prompts(
    rows: Sequence[Mapping[str, Any]], read: list[Comparison]
) -> list[Comparison]:
    """Remove the prompt from texts that repeat the prompt of its column.

    If the texts of all rows begin with their prompts, this is the format of the data. If only some
    do, it is taken for a coincidence with a short prompt ("Hello"), and rejected with a long one.
    """
    own = [
        at
        for at, (row, one) in enumerate(zip(rows, read, strict=True))
        if isinstance(one.prompt, str) and (prompt_of(row) or "").strip()
    ]
    both = [at for at in own if _repeats_prompt(read[at])]
    if own and both == own:
        repeating = set(own)
        return [_without_prompt(one) if at in repeating else one for at, one in enumerate(read)]
    for at in both:
        if len(read[at].prompt) >= _COINCIDENCE:
            raise DataError(
                f"{read[at].where}: 'chosen' and 'rejected' begin with the prompt of its column, "
                "unlike those of other rows; give the answers alone in all rows"
            )
    return read


def _repeats_prompt(one: Comparison) -> bool:
    start = str(one.prompt).rstrip()
    return str(one.chosen).startswith(start) and str(one.rejected).startswith(start)


def _without_prompt(one: Comparison) -> Comparison:
    prompt = str(one.prompt).rstrip()
    chosen, rejected = str(one.chosen)[len(prompt) :], str(one.rejected)[len(prompt) :]
    return replace(one, prompt=prompt, chosen=chosen, rejected=rejected)


def number_of(
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

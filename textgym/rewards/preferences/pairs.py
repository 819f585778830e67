"""Pairs of texts of which one was preferred: reading them in the forms that people publish.

A row has ``chosen`` and ``rejected``, and may have ``prompt``, ``system``, ``margin``, ``weight``
and ``preference``. These forms are read:

* strings, ``chosen`` and ``rejected`` being what was written after ``prompt``;
* strings without a prompt, which begin alike (Anthropic's hh-rlhf): what they share is the prompt;
* lists of messages (``{"role": ..., "content": ...}``), with a prompt that is a list or a string,
  or without one (TRL's implicit prompt, UltraFeedback): the messages that they share are it;
* a system message in a column of its own, ``system`` or ``system_prompt`` (Intel's orca_dpo_pairs):
  prompt and answers are messages then, whether they are written as strings or not.

A prompt that is in a column of its own and also at the beginning of both texts stands once in what
is read. Where it is doubtful whether the texts repeat it, the row is refused.

Nothing here needs torch.
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
"""Two answers may begin with a shorter prompt ("Hello") by chance, if other rows' do not."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts after one prompt, and which of them was preferred.

    Attributes:
        prompt: What both texts follow; it may be empty.
        chosen: The preferred text.
        rejected: The other one.
        margin: By how much the reward of the chosen text is to be larger.
        weight: How much the pair counts in the loss.
        preference: The share of judges who preferred ``chosen``: 1 where one judge did.
    """

    prompt: str
    chosen: str
    rejected: str
    margin: float = 0.0
    weight: float = 1.0
    preference: float = 1.0


class Pairs(NamedTuple):
    """What was read.

    Attributes:
        pairs: The pairs.
        ties: Rows left out because they say nothing of the two texts.
        talks: Whether a row was written as messages.
    """

    pairs: list[Pair]
    ties: int
    talks: bool


def read_pairs(source: str | Path, render: Render | None = None, ties: str = "soft") -> Pairs:
    """Read pairs from a .jsonl, .csv or .parquet file, or from ``"hf:NAME[:CONFIG][:SPLIT]"``.

    Args:
        source: Where they are.
        render: Writes lists of messages as text. Default: :func:`plain_turns`.
        ties: What becomes of rows with a ``preference`` of 0.5: ``"soft"`` keeps them, so that the
            two rewards are drawn together, ``"skip"`` leaves them out.

    Raises:
        DataError: If there is no such file, or a row is no pair; the message names the row.
        MissingDependencyError: If reading needs a package that is not installed.
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
            f"{path} has an unknown type; pairs are read from .jsonl (a JSON object a line), .csv "
            "and .parquet"
        )
    return pairs_of(read_file(path), f"the file {path}", render, ties)


def pairs_of(
    rows: Sequence[Any], name: str, render: Render | None = None, ties: str = "soft"
) -> Pairs:
    """Turn rows into pairs; two equal texts say nothing, and are left out.

    Args:
        rows: Dictionaries.
        name: Where they come from, for errors.
        render: As for :func:`read_pairs`, like `ties`.
        ties: As for :func:`read_pairs`.

    Raises:
        DataError: If there are no rows, one is no pair, or all are ties.
        SettingsError: If `ties` is neither.
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
            f"{name} holds {len(every)} rows, but no pair in which one text is preferred to "
            "another; give rows with the columns 'prompt', 'chosen' and 'rejected'"
        )
    talks = any(_is_talk(row) for row in rows)
    return Pairs(kept, len(every) - len(kept), talks)


def plain_turns(messages: Sequence[Message], reply: bool) -> str:
    r"""Write messages as the environments write conversations: ``"User: ...\nAgent: ..."``."""
    names = {"user": "User", "assistant": "Agent", "system": "System"}
    lines = [f"{names.get(one['role'], one['role'])}: {one['content']}" for one in messages]
    return "\n".join([*lines, "Agent:"] if reply else lines)


def split_key(pair: Pair) -> str:
    """What must not stand on both sides of a split: the prompt, or the texts if there is none."""
    return pair.prompt or "\0".join(sorted((pair.chosen, pair.rejected)))


def split_pairs(pairs: Sequence[Pair], held_out: float) -> tuple[list[Pair], list[Pair]]:
    """Divide pairs by a hash of the prompt, so that no prompt is on both sides.

    Args:
        pairs: The pairs.
        held_out: About this share of the prompts is held out.

    Returns:
        Pairs to train on, pairs held out; either may be empty.
    """
    sides: tuple[list[Pair], list[Pair]] = [], []
    for pair in pairs:
        digest = zlib.crc32(split_key(pair).encode("utf-8", "surrogatepass"))
        sides[digest < held_out * 2**32].append(pair)
    return sides


def _pair(row: Any, where: str, render: Render) -> Pair:
    """One row's pair; errors begin with `where`, since the caller knows the row."""
    if not isinstance(row, Mapping):
        raise DataError(
            f"{where} is a {type(row).__name__}; a pair is an object with 'prompt', 'chosen' and "
            "'rejected'"
        )
    for column in ("chosen", "rejected"):
        if column not in row:
            unknown = [str(name) for name in row if name not in _KNOWN]
            raise DataError(
                f"{where} has no column {column!r}, only {', '.join(map(repr, row)) or 'none'}"
                f"{near_matches(column, unknown) or '.'} Name the preferred text 'chosen', and the "
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
    """The text of a system column; empty where there is none."""
    value = next((row[name] for name in _SYSTEMS if not is_missing(row.get(name))), "")
    if not isinstance(value, str):
        raise DataError(
            f"{where} has a {type(value).__name__} as its system message; give a string"
        )
    return value


def _is_talk(row: Mapping[str, Any]) -> bool:
    """Whether a row is written as messages, or needs them."""
    texts = (row["chosen"], row["rejected"], _prompt_of(row))
    return any(is_list(one) or isinstance(one, Mapping) for one in texts) or bool(
        _system_of(row, "a row")
    )


def _without_repeated_prompts(rows: Sequence[Any], pairs: list[Pair], name: str) -> list[Pair]:
    """Take the prompt off texts that begin with it although it has a column of its own.

    If all texts of the rows do, the rows are written that way. If only some do, a short prompt may
    be a coincidence ("Hello"), and a long one is refused.
    """
    own = [
        at for at, row in enumerate(rows) if not _is_talk(row) and (_prompt_of(row) or "").strip()
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
                f"row {at} of {name}: 'chosen' and 'rejected' begin with the whole prompt, which "
                "has a column of its own, and other rows' do not; give the answers alone, in all "
                "rows"
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
    """A column of numbers, which need not be there; those of a .csv are strings."""
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
            f"{where} has {value!r} as its {column!r}; give a finite number{limits}, or leave it "
            "out"
        )
    return number

"""Pairs of texts of which one was preferred: reading them in the forms that people publish.

A row has ``chosen`` and ``rejected``, and may have ``prompt``, ``margin``, ``weight`` and
``preference``. These forms are read:

* strings, ``chosen`` and ``rejected`` being what was written after ``prompt``;
* strings without a prompt, which begin alike (Anthropic's hh-rlhf): what they share is the prompt;
* lists of messages (``{"role": ..., "content": ...}``), with a prompt that is a list or a string,
  or without one (TRL's implicit prompt, UltraFeedback): the messages that they share are it.

Nothing here needs torch.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from textgym.errors import DataError, SettingsError, near_matches
from textgym.tasks.files import read_file, read_hub

Message: TypeAlias = Mapping[str, str]
Render: TypeAlias = Callable[[Sequence[Message], bool], str]
"""Writes messages as one text; with True, up to where the next turn of the assistant begins."""

_PROMPTS = ("prompt", "question", "instruction", "query")
_KNOWN = (*_PROMPTS, "chosen", "rejected", "margin", "weight", "preference")
_TURN = "\n\nAssistant:"  # What a turn of the assistant begins with in hh-rlhf.


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
        rows, name = read_hub(str(source), "train")
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
    talks = any(_is_list(row["chosen"]) or _is_list(row.get("prompt")) for row in rows)
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
    prompt = next((row[name] for name in _PROMPTS if row.get(name) is not None), None)
    values = {"prompt": prompt, "chosen": row["chosen"], "rejected": row["rejected"]}
    prompt, chosen, rejected = _texts(values, where, render)
    return Pair(
        prompt,
        chosen,
        rejected,
        margin=_number(row, "margin", 0.0, where),
        weight=_number(row, "weight", 1.0, where, low=0.0),
        preference=_number(row, "preference", 1.0, where, low=0.0, high=1.0),
    )


def _texts(values: dict[str, Any], where: str, render: Render) -> tuple[str, str, str]:
    """Prompt, chosen and rejected as strings."""
    talks = {name for name, value in values.items() if _is_list(value)}
    if not talks:
        for name, value in values.items():
            if not isinstance(value, str) and not (name == "prompt" and value is None):
                raise DataError(
                    f"{where} has a {type(value).__name__} as its {name!r}; it is to be a string, "
                    "or a list of messages {'role': ..., 'content': ...}"
                )
        chosen, rejected = values["chosen"], values["rejected"]
        if values["prompt"] is not None:
            return values["prompt"], chosen, rejected
        size = _shared(chosen, rejected)
        return chosen[:size], chosen[size:], rejected[size:]
    prompt = _messages(values["prompt"], "user", f"{where}: 'prompt'")
    chosen = _messages(values["chosen"], "assistant", f"{where}: 'chosen'")
    rejected = _messages(values["rejected"], "assistant", f"{where}: 'rejected'")
    # UltraFeedback's messages begin with the prompt that stands in a column of its own too.
    repeated = prompt and chosen[: len(prompt)] == prompt == rejected[: len(prompt)]
    if not prompt or repeated:
        size = 0
        while size < min(len(chosen), len(rejected)) - 1 and chosen[size] == rejected[size]:
            size += 1
        prompt, chosen, rejected = chosen[:size], chosen[size:], rejected[size:]
    if not chosen or not rejected:
        raise DataError(f"{where} has an empty list of messages; give each side its answer")
    try:
        first = render(prompt, True) if prompt else ""
        both = [render([*prompt, *said], False) for said in (chosen, rejected)]
    except Exception as error:  # A chat template is a program of its own.
        raise DataError(
            f"{where} cannot be written as text ({type(error).__name__}: {error}); change its "
            "messages into what the tokenizer's chat template takes, or give strings"
        ) from error
    # Some templates write an answer otherwise than they announce it: then less is shared.
    size = _common(first, *both)
    return both[0][:size], both[0][size:], both[1][size:]


def _shared(chosen: str, rejected: str) -> int:
    """Where the prompt ends that two texts share, in characters."""
    size = _common(chosen, rejected)
    turn = chosen.rfind(_TURN, 0, size)
    if turn >= 0:
        return turn + len(_TURN)
    # Answers that begin with the same letters are no part of the prompt: whole words are.
    while size > 0 and not (
        chosen[size : size + 1].isspace() and rejected[size : size + 1].isspace()
    ):
        size -= 1
    return size


def _common(*texts: str) -> int:
    """How many characters all texts begin with."""
    columns = zip(*texts, strict=False)
    alike = takewhile(lambda letters: len(set(letters)) == 1, columns)
    return sum(1 for _ in alike)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _messages(value: Any, role: str, where: str) -> list[dict[str, str]]:
    """A list of messages; a string is one message of a role."""
    if value is None:
        return []
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if not _is_list(value):
        raise DataError(f"{where} is a {type(value).__name__}; give a string or a list of messages")
    for number, message in enumerate(value):
        known = isinstance(message, Mapping)
        if not known or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise DataError(
                f"{where}: its message {number} is {str(message)[:60]!r}; a message is "
                "{'role': ..., 'content': ...}, both strings"
            )
    return [{"role": message["role"], "content": message["content"]} for message in value]


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

"""``textgym rescore``: stored episodes, scored with other rewards."""

from __future__ import annotations

import importlib
import json
import math
import sys
from array import array
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from textgym.errors import DataError, RewardError, naming
from textgym.rewards.combine import RewardSum
from textgym.rewards.registry import RewardFunction, make_reward, reward_name
from textgym.storage.files import replacing

SYNTAX = (
    "NAME[=WEIGHT][:OPTION=VALUE,...]: a registered reward, its weight (1), and its options, as "
    "in 'bleu', 'length=0.5:target=20' or 'rouge:variant=rouge2'. Values are JSON where they read "
    "as such (true, 3, null), else strings; options with commas are one JSON object: "
    """'regex:{"pattern": "a,b"}'"""
)

# The fields of a stored episode; every other key is a column of the row.
_OWN = {
    "episode", "row", "seed", "prompt", "response", "reward", "reward_terms", "cost", "cost_terms",
    "length", "columns", "before",
}  # fmt: skip
_WRONG_LINE = "each line has to be an object with the strings 'prompt' and 'response'"

Episode = dict[str, Any]


def rescore(
    console: Console,
    path: Path,
    specs: Sequence[str],
    out: Path | None = None,
    batch: int = 256,
    modules: Sequence[str] = (),
) -> None:
    """Score stored episodes, and print how the new terms compare with the stored ones.

    Texts are read batch by batch and not kept in memory; one number per term and episode is, for
    the rank correlations.

    Args:
        console: Where to.
        path: A JSONL file, as :class:`textgym.wrappers.RecordEpisodes` writes it.
        specs: Rewards, in the form of `SYNTAX`.
        out: Where to write the episodes with their new ``reward`` and ``reward_terms``; the stored
            ones are then in ``before``. None: nowhere.
        batch: Episodes that are scored in one call.
        modules: Modules to import first: those that register a user's rewards.

    Raises:
        DataError: If the file cannot be read, or a line is not an episode.
        StorageError: If `out` cannot be written; it is then unchanged.
        RewardError: If there is no such reward, it lacks a column, or fails.
    """
    for module in modules:
        _import(module)
    rewards, weights = _parse(specs, path)
    stored, new = _Columns(), _Columns()
    # A column of an earlier batch is None in a later batch without it, not missing.
    known: dict[str, None] = {}
    skipped = 0
    if out is not None and out.exists() and path.exists() and out.samefile(path):
        raise DataError(f"--out is {path} itself; name another file")
    with nullcontext() if out is None else replacing(out) as file:
        for numbers, episodes in _batches(path, batch):
            judged = [at for at, one in enumerate(episodes) if one["response"] is not None]
            skipped += len(episodes) - len(judged)
            some = [episodes[at] for at in judged]
            lines = [numbers[at] for at in judged]
            _judge(rewards, weights, some, lines, known, stored, new)
            if file is not None:
                texts = [json.dumps(one, ensure_ascii=False) + "\n" for one in episodes]
                file.write("".join(texts).encode("utf-8", "backslashreplace"))
    _print(console, stored, new)
    if skipped:
        console.print(f"{skipped} truncated episodes have no response and were left out")


def _parse(specs: Sequence[str], path: Path) -> tuple[RewardSum, list[float]]:
    """The terms of the specifications, and their weights."""
    functions: dict[str, str | RewardFunction] = {}
    weights = []
    for name, function, weight in map(parse_reward, specs):
        unique, copies = name, 1
        while unique in functions:
            copies += 1
            unique = f"{name}_{copies}"
        functions[unique] = function
        weights.append(weight)
    # The table says to how many episodes a term applies.
    return RewardSum.named(functions, str(path), warn=False), weights


def parse_reward(spec: str) -> tuple[str, RewardFunction, float]:
    """Parse a specification in the form of `SYNTAX`.

    Returns:
        The name of the term, the reward function, and its weight.

    Raises:
        RewardError: If it has another form.
    """
    head, _, rest = spec.partition(":")
    name, equals, weight = head.partition("=")
    try:
        number = float(weight) if equals else 1.0
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise RewardError(f"{spec!r}: the weight {weight!r} is not a finite number; write {SYNTAX}")
    options: dict[str, Any] = {}
    if rest.startswith("{"):
        try:
            options = json.loads(rest)
        except ValueError as error:
            raise RewardError(f"{spec!r}: the options are not JSON: {error}") from None
    elif rest:
        for part in rest.split(","):
            option, equals, value = part.partition("=")
            if not option or not equals:
                raise RewardError(f"{spec!r}: {part!r} is not OPTION=VALUE; write {SYNTAX}")
            try:
                options[option.strip()] = json.loads(value)
            except ValueError:
                options[option.strip()] = value
    with naming(repr(spec)):
        function = make_reward(name, **options)
    # Options may make another reward of it: rouge becomes rouge2.
    return reward_name(function, default=name) if options else name, function, number


def _import(module: str) -> None:
    # As in `python -m`: a module in the current folder is found.
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        importlib.import_module(module)
    except Exception as error:  # Whatever the module does when it is imported.
        raise RewardError(f"{module!r} cannot be imported: {error}") from error


def spearman(one: NDArray[np.float64], other: NDArray[np.float64]) -> float | None:
    """Spearman's rank correlation: Pearson's of the ranks, equal values sharing their mean rank.

    Returns:
        A number in [-1, 1]; None for fewer than two values, or where all of a side are equal.
    """
    first, second = (ranks - (len(ranks) - 1) / 2 for ranks in map(_ranks, (one, other)))
    scale = float(np.sqrt((first @ first) * (second @ second)))
    return float(np.clip(first @ second / scale, -1, 1)) if scale > 0 else None


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 0; equal values have the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts + 1) / 2)[place]
    return ranks


class _Columns:
    """Numbers by name, one per episode; NaN where an episode has none."""

    def __init__(self) -> None:
        self.count = 0
        self._arrays: dict[str, array[float]] = {}

    def add(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            column = self._arrays.setdefault(name, array("d"))
            column.extend([np.nan] * (self.count - len(column)))
            column.append(value if isinstance(value, int | float) else np.nan)
        self.count += 1

    def columns(self) -> dict[str, NDArray[np.float64]]:
        found = {}
        for name, column in self._arrays.items():
            column.extend([np.nan] * (self.count - len(column)))
            found[name] = np.array(column)
        return found


def _judge(
    rewards: RewardSum,
    weights: list[float],
    episodes: list[Episode],
    numbers: list[int],
    known: dict[str, None],
    stored: _Columns,
    new: _Columns,
) -> None:
    """Replace the rewards of some episodes, and record the old and the new ones."""
    if not episodes:
        return
    rows = [
        {name: value for name, value in one.items() if name not in _OWN} | one.get("columns", {})
        for one in episodes
    ]
    known.update(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in known}
    prompts = [one["prompt"] for one in episodes]
    responses = [one["response"] for one in episodes]
    # Errors name a row by its number, which is that of its line here.
    _, terms = rewards(prompts, responses, columns, numbers)
    for at, one in enumerate(episodes):
        before = {name: one[name] for name in ("reward", "reward_terms") if name in one}
        values = [float(term[at]) for term in terms.values()]
        # A term that does not apply is NaN, which JSON cannot hold.
        applies = [None if np.isnan(value) else value for value in values]
        one["reward_terms"] = dict(zip(terms, applies, strict=True))
        one["reward"] = sum(
            weight * value for weight, value in zip(weights, applies, strict=True)
            if value is not None
        )  # fmt: skip
        one["before"] = before
        stored.add({**before.get("reward_terms", {}), "": before.get("reward")})
        new.add({**one["reward_terms"], "": one["reward"]})


def _batches(path: Path, size: int) -> Iterator[tuple[list[int], list[Episode]]]:
    """The episodes of a file with the numbers of their lines, in batches of a size."""
    numbers: list[int] = []
    episodes: list[Episode] = []
    try:
        opened = path.open(encoding="utf-8")
    except OSError as error:
        raise DataError(str(error)) from error
    with opened as file:
        for number, episode in _episodes(path, file):
            numbers.append(number)
            episodes.append(episode)
            if len(episodes) == size:
                yield numbers, episodes
                numbers, episodes = [], []
    if episodes:
        yield numbers, episodes


def _episodes(path: Path, file: TextIO) -> Iterator[tuple[int, Episode]]:
    number = 0
    try:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                episode = json.loads(line)
            except (ValueError, RecursionError) as error:
                if not line.endswith("\n"):
                    print(
                        f"textgym: {where} is incomplete, as in a killed or unfinished run; "
                        "it is left out", file=sys.stderr,
                    )  # fmt: skip
                    return
                raise DataError(f"{where} is not JSON: {error}") from error
            _check(episode, where)
            yield number, episode
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, after line {number}: not UTF-8 ({error})") from error
    except OSError as error:
        raise DataError(str(error)) from error


def _check(episode: Any, where: str) -> None:
    if not isinstance(episode, dict):
        raise DataError(f"{where} is a {type(episode).__name__}; {_WRONG_LINE}")
    for name, kinds in (("prompt", (str,)), ("response", (str, type(None)))):
        if name not in episode:
            raise DataError(
                f"{where} has no {name!r} (it has: {', '.join(episode)}); {_WRONG_LINE}"
            )
        if not isinstance(episode[name], kinds):
            kind = type(episode[name]).__name__
            raise DataError(f"{where}: {name!r} is a {kind}; {_WRONG_LINE}")
    for name in ("columns", "reward_terms"):
        if not isinstance(episode.get(name, {}), dict):
            raise DataError(f"{where}: {name!r} has to be an object")


def _print(console: Console, stored: _Columns, new: _Columns) -> None:
    if not new.count:
        raise DataError("the file has no episodes")
    old = stored.columns()
    returns = old[""]
    table = Table(
        "", "reward", "mean ± 95 %", "rank correlation", "episodes",
        title=f"{new.count} episodes; rank correlation with the stored reward (Spearman)",
        box=None,
    )  # fmt: skip
    for kind, columns in (("stored", old), ("new", new.columns())):
        total = columns.pop("")
        if kind == "stored" or len(columns) > 1:
            columns["(weighted sum)" if kind == "new" else "(reward)"] = total
        for name, values in columns.items():
            there = ~np.isnan(values)
            both = there & ~np.isnan(returns)
            rank = spearman(values[both], returns[both])
            if there.any():
                table.add_row(
                    kind, escape(name), _interval(values[there]),
                    "-" if rank is None else f"{rank:+.3f}", str(int(there.sum())),
                )  # fmt: skip
    console.print(table)


def _interval(values: NDArray[np.float64]) -> str:
    """The mean, and half the width of its 95 % interval (normal approximation)."""
    error = 1.96 * values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return f"{values.mean():.4f} ± {error:.4f}"

"""The state of an environment in mid-episode, as plain values and arrays.

What is taken down is what the next call of ``step`` or ``reset`` reads: the texts, the rows that
they started from, how far stop strings have been matched, and each row's stream of prompts. What
follows from the settings (tables, the tokenizer, the rows of a file) is not; a fingerprint says
whether two environments agree on it. The encoded prompts of a finite list are a memo, and left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textgym.envs.batch import TextBatch
from textgym.envs.prompts.drawing import picture
from textgym.envs.prompts.fingerprint import accept_rows, mark_drawn, plain_row, rows_state
from textgym.envs.settings import Settings
from textgym.errors import SettingsError, TextGymError, shown
from textgym.storage.json_values import from_plain, to_plain
from textgym.tasks.sources.base import Source
from textgym.tokenization import Tokenizer

State = dict[str, Any]

_VERSION = 2

# Rows that a fingerprint reads: of a list (evenly spread if it has more), of an endless source.
_LIST_ROWS = 1000
_ENDLESS_ROWS = 16

_ARRAYS: dict[str, type[np.generic]] = {
    "tokens": np.int32,
    "length": np.int64,
    "prompt_length": np.int64,
    "stop_state": np.int32,
    "potential": np.float64,
    "shaping": np.float64,
}


def batch_state(batch: TextBatch, over: NDArray[np.bool_], begun: bool, **settings: Any) -> State:
    """Take down the state of a batch, and what the environment around it remembers.

    Args:
        batch: The batch.
        over: ``[N]``, whether a row's episode is over.
        begun: Whether there was a first reset.
        settings: What else the environment that goes on from the state has to share.

    Returns:
        Values that JSON can hold, and numpy arrays; nothing is shared with the batch.

    Raises:
        DataError: If a row has a column that JSON cannot hold.
    """
    name = batch.settings.name
    streams = batch.streams
    return {
        "version": _VERSION,
        "settings": {**fingerprint(batch), **settings},
        **rows_state(batch.settings.source),
        **{key: getattr(batch, key).astype(dtype) for key, dtype in _ARRAYS.items()},
        "rows": [plain_row(row, f"{name}, row {number}") for number, row in enumerate(batch.rows)],
        "talks": [] if batch.talk is None else batch.talk.state(),
        "seeds": list(streams.seeds),
        "generators": [
            None if rng is None else to_plain(rng.bit_generator.state, name) for rng in streams.rngs
        ],
        "over": over.copy(),
        "begun": begun,
    }


def set_batch_state(
    batch: TextBatch, state: Mapping[str, Any], **settings: Any
) -> tuple[NDArray[np.bool_], bool]:
    """Go on from a state that `batch_state` took down; nothing changes if an error is raised.

    Args:
        batch: A batch of the same settings.
        state: The state; it is copied.
        settings: As for `batch_state`.

    Returns:
        `over` and `begun`.

    Raises:
        SettingsError: If the state is of another environment, or is none at all.
    """
    name = batch.settings.name
    if not isinstance(state, Mapping) or not _equal(state.get("version"), _VERSION):
        raise SettingsError(
            f"{name}: this is not a state that get_state() of this version returned"
        )
    drawn = _check_same(batch, state, {**fingerprint(batch), **settings})
    count = len(batch.rows)
    try:
        arrays = {
            key: _array(key, state[key], getattr(batch, key), dtype)
            for key, dtype in _ARRAYS.items()
        }
        _check_ranges(batch, arrays)
        rows = [
            {column: from_plain(value) for column, value in row.items()} for row in state["rows"]
        ]
        generators = [_generator(each) for each in state["generators"]]
        seeds = [None if seed is None else int(seed) for seed in state["seeds"]]
        over = _array("over", state["over"], np.zeros(count, np.bool_), np.bool_)
        begun = bool(state["begun"])
        talks = list(state["talks"])
        if not len(rows) == len(generators) == len(seeds) == count:
            raise ValueError("the number of rows")
        if len(talks) != (0 if batch.talk is None else count):
            raise ValueError("the number of conversations")
        # What a row shows follows from it.
        task = batch.settings.pictures
        if task is not None and begun:
            images = [picture(task, row, batch.settings, at) for at, row in enumerate(rows)]
        if batch.talk is not None:
            batch.talk.set_state(talks)
    except Exception as error:  # Anything may stand anywhere in a damaged state.
        raise SettingsError(
            f"{name}: the state is damaged ({shown(error)}); take it from get_state() again"
        ) from error
    for key, array in arrays.items():
        setattr(batch, key, array)
    if batch.images is not None and begun:
        batch.images[:] = images
    batch.rows = rows
    mark_drawn(batch.settings.source, drawn)
    batch.streams.rngs, batch.streams.seeds = generators, seeds
    return over, begun


def fingerprint(batch: TextBatch) -> dict[str, Any]:
    """What two environments have to share for one to go on from the other's state.

    Functions (rewards, prompts) are told apart by their names alone.
    """
    settings = batch.settings
    return {
        "environment": settings.name,
        "num_envs": len(batch.rows),
        "group_size": batch.streams.group_size,
        "prompts": f"{settings.source.seed_key} {_content(settings.source)}",
        "split": settings.split,
        "tokenizer": _tokens(settings.tokenizer),
        **_chat(settings),
        "max_prompt_tokens": settings.max_prompt_tokens,
        "max_new_tokens": settings.max_new_tokens,
        "max_episode_steps": settings.max_episode_steps,
        "stop": list(settings.stops.stops),
        "stop_at_eos": settings.stop_at_eos,
        "prompt_overflow": settings.prompt_overflow,
        **_rewards(settings),
    }


def _tokens(tokenizer: Tokenizer) -> str:
    """The vocabulary, and what stands around prompts, which is no part of it."""
    before, behind = tokenizer.prompt_frame
    frame = f", prompts between {before} and {behind}" if before or behind else ""
    return f"{tokenizer.content_hash()}{frame}"


def _chat(settings: Settings) -> dict[str, str]:
    """A hash of the chat template that renders the prompts, if one does."""
    if settings.chat is None:
        return {}
    template = (settings.chat.source, sorted(settings.chat.special_tokens.items()))
    return {"chat": hashlib.sha256(repr(template).encode()).hexdigest()[:16]}


def _rewards(settings: Settings) -> dict[str, Any]:
    shaped = settings.step_reward is not None
    return {
        "reward": repr(settings.reward),
        "step_reward": repr(settings.step_reward),
        "step_reward_gamma": settings.step_reward_gamma if shaped else None,
        "costs": repr(settings.costs),
    }


def _content(source: Source) -> str:
    """A hash of a source's rows, or of some of them where there are many.

    If the first one cannot be written down, the others of the source hardly can either. That shows
    before any episode begins.
    """
    digest = hashlib.sha256(f"{source.size}".encode())
    if source.repeatable:
        size = source.size
        count = _ENDLESS_ROWS if size is None else min(size, _LIST_ROWS)
        for index in np.linspace(0, count - 1 if size is None else size - 1, count, dtype=int):
            try:
                row = plain_row(source.item(int(index)), f"{source.name}, row {index}")
            except TextGymError:  # One that cannot be used will say so when it is drawn.
                if index == 0:
                    raise
                continue
            digest.update(json.dumps([int(index), row], sort_keys=True).encode())
    return digest.hexdigest()[:16]


def _check_same(
    batch: TextBatch, state: Mapping[str, Any], ours: Mapping[str, Any]
) -> list[NDArray[np.bool_]]:
    """Which rows of the lists had been drawn, where that is known.

    Raises:
        SettingsError: If the state is of another environment.
    """
    name = batch.settings.name
    theirs = state.get("settings", {})
    different = [key for key, value in ours.items() if theirs.get(key) != value]
    kind = batch.settings.source.seed_key
    alike = str(theirs.get("prompts", "")).rpartition(" ")[0] == kind
    advice = "make the environment with the arguments and the data that it had when the state was "
    advice += "taken"
    if set(different) <= {"prompts"} and alike and "row_hashes" in state:
        # (Earlier versions did not write them down.)
        try:
            drawn = accept_rows(batch.settings.source, state, name)
        except (KeyError, TypeError, ValueError) as error:
            raise SettingsError(
                f"{name}: the state is damaged ({error}); take it from get_state() again"
            ) from error
        if drawn is not None:
            return drawn
        different = ["prompts"]
        advice += "; rows that no episode has started from may be other ones, and rows may be added"
    if different:
        found = "; ".join(
            f"{key} was {theirs.get(key)!r} and is {ours[key]!r}" for key in different
        )
        raise SettingsError(f"{name}: the state is of another environment: {found}; {advice}")
    return []


def _equal(theirs: object, ours: object) -> bool:
    """Whether two plain values are the same; an array is never a plain value."""
    return not isinstance(theirs, np.ndarray) and bool(theirs == ours)


def _array(key: str, value: Any, now: NDArray[Any], dtype: type[np.generic]) -> NDArray[Any]:
    """A copy of an array of a state, if it is one that fits."""
    array = np.array(value)
    if array.shape != now.shape or array.dtype.kind != np.dtype(dtype).kind:
        raise ValueError(f"{key} is {array.dtype} {array.shape}, not {now.dtype} {now.shape}")
    return array.astype(now.dtype)


def _check_ranges(batch: TextBatch, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Refuse numbers that no episode has, on which a later step would fail."""
    tokens, length, prompt = (arrays[key] for key in ("tokens", "length", "prompt_length"))
    written = np.arange(tokens.shape[1]) < length[:, None]
    size, final = batch.settings.tokenizer.vocab_size, batch.settings.stops.final or 0
    if not ((tokens >= 0) == written).all() or not (tokens < size).all():
        raise ValueError("tokens are not token ids from the left, -1 behind them")
    if not ((prompt >= 0) & (prompt <= length)).all():
        raise ValueError("prompt_length is not a part of length")
    if not ((arrays["stop_state"] >= 0) & (arrays["stop_state"] <= final)).all():
        raise ValueError("stop_state has no such state")


def _generator(state: Any) -> np.random.Generator | None:
    if state is None:
        return None
    rng = np.random.default_rng()
    rng.bit_generator.state = from_plain(state)
    return rng

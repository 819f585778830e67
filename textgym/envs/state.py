"""The state of an environment within an episode, as plain values and arrays.

The state holds all that the next call of ``step`` or ``reset`` depends on: the texts, the data rows
that they started from, the states of the stop automaton, and each row's stream of prompts. Objects
that follow from the arguments (the tokenizer, the rows of a file) are left out; a fingerprint of
them shows whether two environments share them.
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

# Number of rows in a fingerprint: of a list (evenly spaced), of an endless source.
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
    """The state of a batch and of the environment around it.

    Args:
        batch: The batch.
        over: ``[N]`` bool, whether a row's episode is over.
        begun: Whether the environment was reset before.
        settings: Further settings that an environment must share to restore the state.

    Returns:
        JSON-serializable values and numpy arrays, all copies.

    Raises:
        DataError: If a row has a column that JSON cannot represent.
    """
    name = batch.settings.name
    streams = batch.streams
    return {
        "version": _VERSION,
        "settings": {**fingerprint(batch), **settings},
        **rows_state(batch.settings.source),
        **{key: getattr(batch, key).astype(dtype) for key, dtype in _ARRAYS.items()},
        "rows": [plain_row(row, f"{name}, row {number}") for number, row in enumerate(batch.rows)],
        "talks": [] if batch.conversations is None else batch.conversations.state(),
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
    """Restore a state of `batch_state`; nothing changes if an error is raised.

    Args:
        batch: A batch with the same settings.
        state: The state, which is copied.
        settings: As for `batch_state`.

    Returns:
        `over` and `begun`.

    Raises:
        SettingsError: If the state is damaged, or of another environment.
    """
    name = batch.settings.name
    if not isinstance(state, Mapping) or str(state.get("version")) != str(_VERSION):
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
        conversations = list(state["talks"])
        if not len(rows) == len(generators) == len(seeds) == count:
            raise ValueError("wrong number of rows")
        if len(conversations) != (0 if batch.conversations is None else count):
            raise ValueError("wrong number of conversations")
        task = batch.settings.pictures
        if task is not None and begun:
            images = [picture(task, row, batch.settings, i) for i, row in enumerate(rows)]
        if batch.conversations is not None:
            batch.conversations.set_state(conversations)
    except Exception as error:  # A damaged state may hold any value anywhere.
        raise SettingsError(
            f"{name}: the state is damaged ({shown(error)}); save it again with get_state()"
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
    """The settings that two environments must share for one to restore the other's state.

    Functions (rewards, prompts) are compared by name only.
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
    """A hash of the vocabulary, and the special tokens added around prompts."""
    before, behind = tokenizer.prompt_frame
    frame = f", prompts between {before} and {behind}" if before or behind else ""
    return f"{tokenizer.content_hash()}{frame}"


def _chat(settings: Settings) -> dict[str, str]:
    """A hash of the chat template that renders the prompts, if any."""
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
    """A hash of a source's rows, or of a sample of them.

    A first row that cannot be serialized raises, because the others rarely can be either.
    """
    digest = hashlib.sha256(f"{source.size}".encode())
    if source.repeatable:
        size = source.size
        count = _ENDLESS_ROWS if size is None else min(size, _LIST_ROWS)
        for index in np.linspace(0, count - 1 if size is None else size - 1, count, dtype=int):
            try:
                row = plain_row(source.item(int(index)), f"{source.name}, row {index}")
            except TextGymError:  # An invalid row raises when it is drawn.
                if index == 0:
                    raise
                continue
            digest.update(json.dumps([int(index), row], sort_keys=True).encode())
    return digest.hexdigest()[:16]


def _check_same(
    batch: TextBatch, state: Mapping[str, Any], current: Mapping[str, Any]
) -> list[NDArray[np.bool_]]:
    """The rows of the lists that had been drawn, if known.

    Raises:
        SettingsError: If the state is of another environment.
    """
    name = batch.settings.name
    saved = state.get("settings", {})
    different = [key for key, value in current.items() if saved.get(key) != value]
    kind = batch.settings.source.seed_key
    same_kind = str(saved.get("prompts", "")).rpartition(" ")[0] == kind
    advice = "make the environment with the arguments and the data that it had when the state was "
    advice += "saved"
    # Earlier versions did not save row hashes.
    if set(different) <= {"prompts"} and same_kind and "row_hashes" in state:
        try:
            drawn = accept_rows(batch.settings.source, state, name)
        except (KeyError, TypeError, ValueError) as error:
            raise SettingsError(
                f"{name}: the state is damaged ({error}); save it again with get_state()"
            ) from error
        if drawn is not None:
            return drawn
        different = ["prompts"]
        advice += "; rows that no episode has started from may be changed, and rows may be added"
    if different:
        found = "; ".join(
            f"{key} was {saved.get(key)!r} and is {current[key]!r}" for key in different
        )
        raise SettingsError(f"{name}: the state is of another environment: {found}; {advice}")
    return []


def _array(key: str, value: Any, current: NDArray[Any], dtype: type[np.generic]) -> NDArray[Any]:
    """A copy of an array of a state, with the shape and dtype of the current one."""
    array = np.array(value)
    if array.shape != current.shape or array.dtype.kind != np.dtype(dtype).kind:
        raise ValueError(
            f"{key} is {array.dtype} {array.shape}, not {current.dtype} {current.shape}"
        )
    return array.astype(current.dtype)


def _check_ranges(batch: TextBatch, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Refuse values that no episode has, which would make a later step fail."""
    tokens, length, prompt = (arrays[key] for key in ("tokens", "length", "prompt_length"))
    written = np.arange(tokens.shape[1]) < length[:, None]
    size, final = batch.settings.tokenizer.vocab_size, batch.settings.stops.final or 0
    if not ((tokens >= 0) == written).all() or not (tokens < size).all():
        raise ValueError("tokens are not token ids from the left, padded with -1")
    if not ((prompt >= 0) & (prompt <= length)).all():
        raise ValueError("prompt_length is not between 0 and length")
    if not ((arrays["stop_state"] >= 0) & (arrays["stop_state"] <= final)).all():
        raise ValueError("stop_state is out of range")


def _generator(state: Any) -> np.random.Generator | None:
    if state is None:
        return None
    rng = np.random.default_rng()
    rng.bit_generator.state = from_plain(state)
    return rng

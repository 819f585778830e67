"""Rewards and costs of responses, and potentials of unfinished responses."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textgym.data.rows import Row
from textgym.envs.settings import Settings
from textgym.tokenization.base import Ids

Info = dict[str, Any]


def score(
    settings: Settings,
    indices: NDArray[np.intp],
    rows: Sequence[Row],
    response_ids: list[list[int]],
    prompt_ids: Sequence[Ids],
    reasons: list[str],
    conversations: list[Info] | None = None,
) -> tuple[NDArray[np.float64], list[Info]]:
    """Score the responses of rows whose episode is over.

    Args:
        settings: Rewards, costs, and the tokenizer.
        indices: Indices of the rows in the batch, for errors, ``[E]``.
        rows: The data rows that the episodes started from, E dictionaries.
        response_ids: Token ids of the responses, E lists.
        prompt_ids: Token ids of the prompts, E sequences.
        reasons: The finish reasons.
        conversations: For multi-turn tasks, ``response``, ``turns`` and ``replies`` of each row.

    Returns:
        The rewards ``[E]`` float64, and the ``info`` of each row.

    Raises:
        RewardError: If a reward or cost function raises, or returns an invalid value.
    """
    responses, columns = _columns(settings, rows, response_ids, prompt_ids, reasons, conversations)
    prompts = [row["prompt"] for row in rows]
    totals, terms = settings.reward(prompts, responses, columns, indices)
    infos: list[Info] = [
        {**row, "response": response, "finish_reason": reason}
        for row, response, reason in zip(rows, responses, reasons, strict=True)
    ]
    for info, conversation in zip(infos, conversations or (), strict=conversations is not None):
        info.update(conversation)
    _add_terms(infos, "reward_terms", terms)
    if settings.costs is not None:
        costs, cost_terms = settings.costs(prompts, responses, columns, indices)
        for info, cost in zip(infos, costs.tolist(), strict=True):
            info["cost"] = cost
        _add_terms(infos, "cost_terms", cost_terms)
    return totals, infos


def potential(
    settings: Settings,
    indices: NDArray[np.intp],
    rows: Sequence[Row],
    response_ids: list[list[int]],
    prompt_ids: Sequence[Ids],
    conversations: list[Info] | None = None,
) -> NDArray[np.float64]:
    """The potential of unfinished responses, ``[R]`` float64; see `score` for the arguments.

    Raises:
        RewardError: If the potential function raises, or returns an invalid value.
    """
    if settings.step_reward is None or not rows:
        return np.zeros(len(rows))
    reasons = [""] * len(rows)
    texts, columns = _columns(settings, rows, response_ids, prompt_ids, reasons, conversations)
    return settings.step_reward([row["prompt"] for row in rows], texts, columns, indices)[0]


def can_change(
    settings: Settings, tokens: NDArray[np.intp], turns: Collection[int]
) -> NDArray[np.bool_]:
    """Whether the potential of each row can have changed by the last token, ``[S]`` bool.

    Args:
        settings: The settings with the potential.
        tokens: The tokens that were appended, ``[S]``.
        turns: Indices of the rows whose turn has ended.
    """
    if settings.dense_at == "token":
        return np.ones(len(tokens), dtype=np.bool_)
    marks = settings.marks
    changed = np.zeros(len(tokens), dtype=np.bool_) if marks is None else marks.among(tokens)
    changed[list(turns)] = True
    return changed


def decode_response(settings: Settings, ids: list[int], before: Ids, reason: str) -> str:
    """A response's text: the text of all tokens minus the text of those before.

    Args:
        settings: The tokenizer and the stop strings.
        ids: Token ids of the response.
        before: Token ids that precede it.
        reason: Its finish reason; the eos token or stop string that ended it is left out.
    """
    if reason == "eos":
        ids = ids[:-1]
    text = settings.tokenizer.continuation(ids, before)
    return settings.stops.cut(text) if reason == "stop" else text


def _columns(
    settings: Settings,
    rows: Sequence[Row],
    response_ids: list[list[int]],
    prompt_ids: Sequence[Ids],
    reasons: list[str],
    conversations: list[Info] | None,
) -> tuple[list[str], dict[str, list[Any]]]:
    """The responses, and the other columns that reward functions get.

    A column that a row lacks is None there. Takes ``response`` out of `conversations`.
    """
    names = rows[0].keys()
    if not all(row.keys() == names for row in rows):
        names = dict.fromkeys(name for row in rows for name in row).keys()
    columns: dict[str, list[Any]] = {
        name: [row.get(name) for row in rows] for name in names if name != "prompt"
    }
    if conversations is None:
        texts = zip(response_ids, prompt_ids, reasons, strict=True)
        responses = [decode_response(settings, *text) for text in texts]
    else:
        responses = [conversation.pop("response") for conversation in conversations]
        for name in conversations[0]:
            columns[name] = [conversation[name] for conversation in conversations]
    columns["completion_ids"] = response_ids
    columns["finish_reason"] = list(reasons)
    return responses, columns


def _add_terms(infos: list[Info], key: str, terms: Mapping[str, NDArray[np.float64]]) -> None:
    """Give each info its own dictionary of terms."""
    names = list(terms)
    values = zip(*(term.tolist() for term in terms.values()), strict=True)
    for info, row_values in zip(infos, values, strict=True):
        info[key] = dict(zip(names, row_values, strict=True))

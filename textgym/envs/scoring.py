"""What texts are worth: rewards and costs of responses, and the potential of unfinished ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textgym.data.rows import Row
from textgym.envs.settings import Settings
from textgym.tokenization.base import Ids

Info = dict[str, Any]


def score(
    settings: Settings,
    at: NDArray[np.intp],
    rows: Sequence[Row],
    ids: list[list[int]],
    befores: Sequence[Ids],
    reasons: list[str],
    talks: list[Info] | None = None,
) -> tuple[NDArray[np.float64], list[Info]]:
    """Judge the responses of rows whose episode is over.

    Args:
        settings: Rewards, costs, and the tokenizer.
        at: The rows' numbers, for errors, ``[E]``.
        rows: The prompts and columns that their episodes started from, E dictionaries.
        ids: What was written, E lists of token ids.
        befores: What preceded, the prompts' token ids, E sequences.
        reasons: Why each ended.
        talks: Of conversations: ``response``, ``turns`` and ``replies`` of each.

    Returns:
        The rewards ``[E]`` float64, and what each row reports in its ``info``.

    Raises:
        RewardError: If a reward or cost function raises, or returns something that is no reward.
    """
    columns = _columns(rows)
    if talks is None:
        responses = [text_of(settings, *each) for each in zip(ids, befores, reasons, strict=True)]
    else:
        responses = [talk.pop("response") for talk in talks]
        columns |= {name: [talk[name] for talk in talks] for name in talks[0]}
    columns["completion_ids"] = ids
    columns["finish_reason"] = reasons
    prompts = [row["prompt"] for row in rows]
    totals, terms = settings.reward(prompts, responses, columns, at)
    reports: list[Info] = [
        {**row, "response": response, "finish_reason": reason}
        for row, response, reason in zip(rows, responses, reasons, strict=True)
    ]
    for report, talk in zip(reports, talks or (), strict=talks is not None):
        report.update(talk)
    _attach(reports, "reward_terms", terms)
    if settings.costs is not None:
        costs, cost_terms = settings.costs(prompts, responses, columns, at)
        for report, cost in zip(reports, costs.tolist(), strict=True):
            report["cost"] = cost
        _attach(reports, "cost_terms", cost_terms)
    return totals, reports


def potential(
    settings: Settings,
    at: NDArray[np.intp],
    rows: Sequence[Row],
    ids: list[list[int]],
    befores: Sequence[Ids],
    talks: list[Info] | None = None,
) -> NDArray[np.float64]:
    """The potential of unfinished responses, ``[R]`` float64; see `score` for the arguments.

    Raises:
        RewardError: If the potential function raises, or returns something that is no number.
    """
    if settings.step_reward is None or not rows:
        return np.zeros(len(rows))
    columns = _columns(rows)
    columns["completion_ids"] = ids
    columns["finish_reason"] = [""] * len(rows)
    if talks is None:
        texts = [text_of(settings, *each, "") for each in zip(ids, befores, strict=True)]
    else:
        texts = [talk.pop("response") for talk in talks]
        columns |= {name: [talk[name] for talk in talks] for name in talks[0]}
    return settings.step_reward([row["prompt"] for row in rows], texts, columns, at)[0]


def text_of(settings: Settings, ids: list[int], before: Ids, reason: str) -> str:
    """A response's text: the text of all tokens less the text of those before.

    Args:
        settings: The tokenizer and the stop strings.
        ids: What was written.
        before: The token ids that precede.
        reason: Why it ended; the eos token or stop string that ended it is left out.
    """
    if reason == "eos":
        ids = ids[:-1]
    text = settings.tokenizer.continuation(ids, before)
    return settings.stops.cut(text) if reason == "stop" else text


def _columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """The rows' columns other than the prompt, one list each; None where a row lacks one."""
    names = rows[0].keys()
    if not all(row.keys() == names for row in rows):
        names = dict.fromkeys(name for row in rows for name in row).keys()
    return {name: [row.get(name) for row in rows] for name in names if name != "prompt"}


def _attach(reports: list[Info], key: str, terms: Mapping[str, NDArray[np.float64]]) -> None:
    """Give each report its own dictionary of terms."""
    names = list(terms)
    values = zip(*(term.tolist() for term in terms.values()), strict=True)
    for report, row_values in zip(reports, values, strict=True):
        report[key] = dict(zip(names, row_values, strict=True))

"""Step some rows of the batch, each by several tokens, while the others wait.

``step`` goes in lockstep: under every autoreset mode a row that is over either starts anew in the
next step or forbids it. Underneath, :class:`textgym.envs.batch.TextBatch` steps any subset of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textgym.envs.batch import Outcome, TextBatch
from textgym.envs.scoring import Info
from textgym.errors import ActionError


@dataclass(frozen=True)
class RowSteps:
    """What several steps of some rows did.

    Attributes:
        texts: ``[N, L]``, a new array.
        rewards: ``[N]``, the sum over the steps.
        terminated: ``[N]``.
        truncated: ``[N]``.
        told: The rows that report something, ``[R]``.
        reports: What each of them reports.
    """

    texts: NDArray[np.int32]
    rewards: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    told: NDArray[np.intp]
    reports: list[Info]


def step_rows(
    batch: TextBatch, over: NDArray[np.bool_], tokens: Any, stepping: NDArray[np.bool_]
) -> RowSteps:
    """What :meth:`textgym.envs.TextGenVectorEnv.step_rows` does.

    Args:
        batch: The batch.
        over: ``[N]``, whether each row's episode is over; changed in place.
        tokens: See there.
        stepping: See there.
    """
    rows = len(over)
    tokens = np.asarray(tokens)
    if tokens.ndim != 2 or len(tokens) != rows or tokens.dtype.kind not in "iu":
        raise ActionError(
            f"{batch.settings.name}: tokens are {tokens.dtype} {tokens.shape}; give integers of "
            f"shape ({rows}, m), -1 after the last one of a row"
        )
    rewards = np.zeros(rows)
    terminated, truncated = np.zeros(rows, np.bool_), np.zeros(rows, np.bool_)
    reports: dict[int, Info] = {}
    # What was meant for this turn is not written into the next one.
    before = None if batch.talk is None else batch.talk.turn.copy()
    for column in tokens.T:
        going = stepping & (column >= 0) & ~terminated & ~truncated
        if batch.talk is not None:
            going &= batch.talk.turn == before
        going = np.flatnonzero(going)
        if not len(going):
            break
        outcome = batch.step(batch.check_actions(column, going), going)
        rewards += outcome.rewards
        terminated |= outcome.terminated
        truncated |= outcome.truncated
        reports.update(zip(outcome.told.tolist(), outcome.reports, strict=True))
        over[going] = (outcome.terminated | outcome.truncated)[going]
    if batch.settings.costs is not None:
        for row in np.flatnonzero(stepping).tolist():
            reports.setdefault(row, {}).setdefault("cost", 0.0)
    told = sorted(reports)
    return RowSteps(
        batch.tokens.copy(),
        rewards,
        terminated,
        truncated,
        np.array(told, dtype=np.intp),
        [reports[row] for row in told],
    )


def with_costs(stepping: NDArray[np.intp], outcome: Outcome) -> list[Info]:
    """What each row reports that took one step: no cost before its end."""
    found = dict(zip(outcome.told.tolist(), outcome.reports, strict=True))
    return [{"cost": 0.0, **found.get(row, {})} for row in stepping.tolist()]

"""Step some rows of the batch by several tokens each, while the others wait.

``step`` moves all rows at once, whereas :class:`textgym.envs.batch.TextBatch` can step any subset.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textgym.envs.batch import Outcome, TextBatch
from textgym.envs.observations import check_actions
from textgym.envs.scoring import Info
from textgym.errors import ActionError


@dataclass(frozen=True)
class RowSteps:
    """The result of several steps of some rows.

    Attributes:
        texts: ``[N, L]`` int32, a new array.
        rewards: ``[N]`` float64, summed over the steps.
        terminated: ``[N]`` bool.
        truncated: ``[N]`` bool.
        info_rows: Indices of the rows that have an ``info``, ``[R]``.
        infos: The ``info`` of each of these rows.
    """

    texts: NDArray[np.int32]
    rewards: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    info_rows: NDArray[np.intp]
    infos: list[Info]


def step_rows(
    batch: TextBatch, over: NDArray[np.bool_], tokens: Any, stepping: NDArray[np.bool_]
) -> RowSteps:
    """Append tokens to some rows; see :meth:`textgym.envs.TextGenVectorEnv.step_rows`.

    Args:
        batch: The batch.
        over: ``[N]``, whether each row's episode is over; changed in place.
        tokens: Integers ``[N, m]``, -1 after the last token of a row.
        stepping: ``[N]`` bool, the rows that step.
    """
    rows = len(over)
    tokens = np.asarray(tokens)
    if tokens.ndim != 2 or len(tokens) != rows or tokens.dtype.kind not in "iu":
        raise ActionError(
            f"{batch.settings.name}: tokens are {tokens.dtype} {tokens.shape}; pass integers of "
            f"shape ({rows}, m), -1 after the last one of a row"
        )
    rewards = np.zeros(rows)
    terminated, truncated = np.zeros(rows, np.bool_), np.zeros(rows, np.bool_)
    infos: dict[int, Info] = {}
    # Tokens that follow the end of a turn are not written into the next turn.
    turn = None if batch.conversations is None else batch.conversations.turn.copy()
    for column in tokens.T:
        active = stepping & (column >= 0) & ~terminated & ~truncated
        if batch.conversations is not None:
            active &= batch.conversations.turn == turn
        indices = np.flatnonzero(active)
        if not len(indices):
            break
        outcome = batch.step(check_actions(batch, column, indices), indices)
        rewards += outcome.rewards
        terminated |= outcome.terminated
        truncated |= outcome.truncated
        infos.update(zip(outcome.info_rows.tolist(), outcome.infos, strict=True))
        over[indices] = (outcome.terminated | outcome.truncated)[indices]
    if batch.settings.costs is not None:
        for row in np.flatnonzero(stepping).tolist():
            infos.setdefault(row, {}).setdefault("cost", 0.0)
    info_rows = sorted(infos)
    return RowSteps(
        batch.tokens.copy(),
        rewards,
        terminated,
        truncated,
        np.array(info_rows, dtype=np.intp),
        [infos[row] for row in info_rows],
    )


def with_costs(stepping: NDArray[np.intp], outcome: Outcome) -> list[Info]:
    """The ``info`` of each row that took one step, with a cost of 0 unless its episode ended."""
    infos = dict(zip(outcome.info_rows.tolist(), outcome.infos, strict=True))
    return [{"cost": 0.0, **infos.get(row, {})} for row in stepping.tolist()]

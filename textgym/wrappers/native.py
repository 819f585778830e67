"""Step some rows of the native batch, each by several tokens, while the others wait.

The batch steps in lockstep: under every autoreset mode a row that is over either starts anew in the
next step or forbids it. Underneath, :class:`textgym.envs.batch.TextBatch` steps any subset of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textgym.envs.vector import TextGenVectorEnv


@dataclass(frozen=True)
class Steps:
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
    reports: list[dict[str, Any]]


def step_rows(
    env: TextGenVectorEnv, tokens: NDArray[np.int32], stepping: NDArray[np.bool_]
) -> Steps:
    """Append tokens to some rows, one after the other, until each row's are used up or it ends.

    No row starts anew.

    Args:
        env: The batch.
        tokens: ``[N, m]``, -1 after the last token of a row.
        stepping: ``[N]``, the rows that step.

    Raises:
        TextGymError: As the batch does; the tokens before it are written.
    """
    batch = env._batch
    rows = env.num_envs
    rewards = np.zeros(rows)
    terminated, truncated = np.zeros(rows, np.bool_), np.zeros(rows, np.bool_)
    reports: dict[int, dict[str, Any]] = {}
    if env.settings.costs is not None:
        reports = {row: {"cost": 0.0} for row in np.flatnonzero(stepping).tolist()}
    for column in tokens.T:
        going = np.flatnonzero(stepping & (column >= 0) & ~terminated & ~truncated)
        if not len(going):
            break
        outcome = batch.step(batch.check_actions(column, going), going)
        rewards += outcome.rewards
        terminated |= outcome.terminated
        truncated |= outcome.truncated
        reports.update(zip(outcome.scored.tolist(), outcome.reports, strict=True))
        env._over[going] = (outcome.terminated | outcome.truncated)[going]
        if env.render_mode == "human":
            env._show()
    return Steps(
        batch.tokens.copy(),
        rewards,
        terminated,
        truncated,
        np.array(sorted(reports), dtype=np.intp),
        [reports[row] for row in sorted(reports)],
    )

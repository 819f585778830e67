"""Checks for built-in and third-party tasks and environments.

``check_task`` checks a task against the task contract, ``check_vector_env`` compares a native batch
with Gymnasium's ``SyncVectorEnv``, ``attack_task`` searches for junk that a scorer pays, and
``best_constants`` for a fixed answer that a policy could collapse to.
"""

from textgym.testing.attack import Attack, Finding, attack_task
from textgym.testing.constants import Constant, best_constants
from textgym.testing.task import check_task
from textgym.testing.vector import assert_same, check_vector_env

__all__ = [
    "Attack",
    "Constant",
    "Finding",
    "assert_same",
    "attack_task",
    "best_constants",
    "check_task",
    "check_vector_env",
]

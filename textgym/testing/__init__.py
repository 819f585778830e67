"""Checks for built-in and third-party tasks and environments.

``check_task`` checks a task against the task contract, ``check_vector_env`` compares a native batch
with Gymnasium's ``SyncVectorEnv``, and ``attack_task`` searches for junk that a scorer pays.
"""

from textgym.testing.attack import Attack, Finding, attack_task
from textgym.testing.task import check_task
from textgym.testing.vector import assert_same, check_vector_env

__all__ = ["Attack", "Finding", "assert_same", "attack_task", "check_task", "check_vector_env"]

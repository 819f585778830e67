"""Checks that other people's tasks and environments can run too.

``check_task`` holds a task to the task contract, ``check_vector_env`` holds a native batch to
Gymnasium's own ``SyncVectorEnv``.
"""

from textgym.testing.task import check_task
from textgym.testing.vector import assert_same, check_vector_env

__all__ = ["assert_same", "check_task", "check_vector_env"]

"""Registration of the environment ids.

Entry points are strings, so that a spec can be written as JSON, pickled, and made in a worker
process (as ``"textgym:TextGen-v0"``).
"""

from __future__ import annotations

import gymnasium

from textgym.errors import TaskError
from textgym.tasks import registry
from textgym.tasks.base import Task

_ENTRY_POINT = "textgym.envs:TextGenEnv"


def register_task(id: str, task: type[Task] | str) -> None:
    """Register a task, and the environment of the same id.

    Args:
        id: The environment's id, e.g. ``"TextGen/MyTask-v0"``.
        task: The task's class, or ``"module:Class"``, which is imported on first use and which
            worker processes can import.

    Raises:
        TaskError: If the task is not a task, or another task or environment has this id.
    """
    taken = gymnasium.registry.get(id)
    if taken is not None and (taken.entry_point, taken.kwargs.get("task")) != (_ENTRY_POINT, id):
        raise TaskError(
            f"cannot register a task as {id!r}: Gymnasium has another environment with this id "
            f"({taken.entry_point}); choose another name or a new version"
        )
    registry.register_task(id, task)
    _register(id, {"task": id})


def register_environments() -> None:
    """Register ``TextGen-v0`` and an id for each built-in task."""
    _register("TextGen-v0", {})
    for id in registry.registered_tasks():
        _register(id, {"task": id})


def _register(id: str, kwargs: dict[str, str]) -> None:
    if id in gymnasium.registry:
        return
    gymnasium.register(
        id=id,
        entry_point=_ENTRY_POINT,
        vector_entry_point="textgym.envs:TextGenVectorEnv",
        kwargs=kwargs,
        # Gymnasium's passive checker fails after a first `reset` that raises: in 1.4 the next
        # `step` raises an error of the checker itself.
        disable_env_checker=True,
    )

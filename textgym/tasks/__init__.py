"""Tasks: prompts with a verifiable score, a token budget and baselines. One folder per task."""

from textgym.data.rows import Row
from textgym.tasks.base import Baseline, Reply, Task
from textgym.tasks.judgement import Judgement
from textgym.tasks.registry import make_task, register_task, registered_tasks

__all__ = [
    "Baseline",
    "Judgement",
    "Reply",
    "Row",
    "Task",
    "make_task",
    "register_task",
    "registered_tasks",
]

"""Tasks: prompts with a verifiable score, a token budget and baselines.

One folder per built-in task, whose class is in ``task.py``; :mod:`textgym.tasks.registry` lists
them, and ``textgym new-task NAME`` writes a new one. :mod:`textgym.tasks.mix` combines tasks, and
:mod:`textgym.tasks.sources` draws rows from tasks, lists, files and data sets.
"""

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

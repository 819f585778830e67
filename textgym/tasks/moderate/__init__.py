"""The task ``TextGen/Moderate-v0``."""

from textgym.tasks.moderate.task import Moderate

__all__ = ["Moderate"]

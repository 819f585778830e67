"""The task ``TextGen/Translate-v0``."""

from textgym.tasks.translate.task import Translate

__all__ = ["Translate"]

"""The task ``TextGen/Code-v0``."""

from textgym.tasks.code.task import Code

__all__ = ["Code"]

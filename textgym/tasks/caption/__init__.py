"""The task ``TextGen/Caption-v0``."""

from textgym.tasks.caption.task import Caption

__all__ = ["Caption"]

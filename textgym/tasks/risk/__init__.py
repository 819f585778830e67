"""The task ``TextGen/Risk-v0``."""

from textgym.tasks.risk.task import Risk

__all__ = ["Risk"]

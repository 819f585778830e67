"""The task ``TextGen/QA-v0``."""

from textgym.tasks.qa.task import QA

__all__ = ["QA"]

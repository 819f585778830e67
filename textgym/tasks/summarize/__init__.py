"""The task ``TextGen/Summarize-v0``."""

from textgym.tasks.summarize.task import Summarize

__all__ = ["Summarize"]

"""The task ``TextGen/Story-v0``."""

from textgym.tasks.story.task import Story

__all__ = ["Story"]

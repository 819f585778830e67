"""The task ``TextGen/GoodBad-v0``."""

from textgym.tasks.good_bad.task import GoodBad

__all__ = ["GoodBad"]

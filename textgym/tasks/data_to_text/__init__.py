"""The task ``TextGen/DataToText-v0``."""

from textgym.tasks.data_to_text.task import DataToText

__all__ = ["DataToText"]

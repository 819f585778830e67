"""The task ``TextGen/Sentiment-v0``."""

from textgym.tasks.sentiment.task import Sentiment

__all__ = ["Sentiment"]

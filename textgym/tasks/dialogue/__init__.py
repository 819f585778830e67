"""The task ``TextGen/Dialogue-v0``."""

from textgym.tasks.dialogue.task import Dialogue

__all__ = ["Dialogue"]

"""The command line: ``textgym list | show ID | play ID | check ID``."""

from textgym.cli.main import main

__all__ = ["main"]

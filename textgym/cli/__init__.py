"""The command line: ``textgym list | show ID | play ID | check ID | rescore FILE``."""

from textgym.cli.main import main

__all__ = ["main"]

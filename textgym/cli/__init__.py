"""The command line: ``textgym list | show | play | check | new-task | rescore``."""

from textgym.cli.main import main

__all__ = ["main"]

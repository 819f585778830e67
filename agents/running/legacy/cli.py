"""The old place of ``agents.running.command_line``; agents of users import from here."""

from agents.running.command_line import Json, command_line, parse

__all__ = ["Json", "command_line", "parse"]

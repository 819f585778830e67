"""The old place of ``agents.running.run``; agents of users import from here."""

from agents.running.run import RunSettings, run

__all__ = ["RunSettings", "run"]

"""The old place of ``agents.running.word_model``; agents of users import from here."""

from agents.running.word_model import starting_model

__all__ = ["starting_model"]

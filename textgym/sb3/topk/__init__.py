"""Policies that choose among a language model's proposals."""

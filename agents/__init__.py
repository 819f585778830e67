"""Agents to run, read and copy: one file an algorithm, ``python -m agents.ppo --help``.

This package is not part of the wheel; it runs from a checkout.
"""

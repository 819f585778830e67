"""Probes: tiny tasks whose best and whose random reward are known in closed form."""

from textgym.tasks.probes.base import Probe

__all__ = ["Probe"]

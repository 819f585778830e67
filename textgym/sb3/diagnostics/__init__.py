"""Diagnostics of a training: is there anything to learn from, and is it still learning it?

:class:`DiagnosticsCallback` logs them for every algorithm, and warns in plain words.

* :mod:`~textgym.sb3.diagnostics.callback`: the callback, with the list of logged values.
* :mod:`~textgym.sb3.diagnostics.estimates`: their formulas and sources.
* :mod:`~textgym.sb3.diagnostics.cross_scoring`: scores of each response after each prompt.
* :mod:`~textgym.sb3.diagnostics.watch`: the warnings, with their thresholds.
"""

from __future__ import annotations

from textgym.sb3.diagnostics.callback import DiagnosticsCallback, DiagnosticsWarning

__all__ = ["DiagnosticsCallback", "DiagnosticsWarning"]

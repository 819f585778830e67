"""Measurements of textgym; every published figure comes from a script in this folder."""

from pathlib import Path

# `python -m benchmarks.topk` runs a study in any subfolder.
__path__.append(str(Path(__file__).parent / "studies"))

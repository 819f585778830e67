"""Reports of a folder of benchmark runs: statistics and plots, and comparisons of two folders.

The statistics are those of Agarwal et al., "Deep Reinforcement Learning at the Edge of the
Statistical Precipice" (2021): https://arxiv.org/abs/2108.13264.
"""

from benchmarks.report.compare import compare
from benchmarks.report.page import report

__all__ = ["compare", "report"]

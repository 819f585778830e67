"""Rewards and metrics that compare texts with references, or count."""

from textgym.rewards.metrics.corpus import Metric, evaluate

__all__ = ["Metric", "evaluate"]

"""Sources of prompts: tasks, lists, files, data sets, functions, and mixtures of them."""

from textgym.tasks.sources.base import (
    CallableSource,
    CompletedSource,
    FiniteSource,
    Source,
    Table,
    TaskPotential,
    TaskReward,
    TaskSource,
    natural_index,
    read_row,
)

__all__ = [
    "CallableSource",
    "CompletedSource",
    "FiniteSource",
    "Source",
    "Table",
    "TaskPotential",
    "TaskReward",
    "TaskSource",
    "natural_index",
    "read_row",
]

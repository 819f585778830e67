"""The task ``TextGen/KnowledgeGraph-v0``."""

from textgym.tasks.knowledge_graph.task import KnowledgeGraph

__all__ = ["KnowledgeGraph"]

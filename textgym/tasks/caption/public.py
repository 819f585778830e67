"""Public caption data: conversion of rows with photographs, and their scorer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from textgym.data.literals import from_array
from textgym.data.rows import Row
from textgym.errors import DataError
from textgym.tasks.caption.world import QUESTIONS
from textgym.tasks.on_topic import overlap

_COLUMNS = ("captions", "caption", "sentences_raw", "sentences", "text")
_WORD = re.compile(r"[a-z0-9]+")
_LONGER = 2
"""Texts with more than this many times the words of the longest reference score 0."""


def prompt_of(question: str) -> str:
    """The prompt for a question about the picture."""
    return f"Picture. {question}\nCaption:"


def convert(row: Row) -> Row:
    """Add a prompt and references to a row with a picture and captions; return others unchanged.

    Raises:
        DataError: If the caption column is empty and the row has no prompt.
    """
    column = next((name for name in _COLUMNS if row.get(name) is not None), None)
    if column is None or row.get("image") is None or "scene" in row:
        return row
    texts = [f" {' '.join(text.split())}" for text in _captions(row[column]) if text.strip()]
    if not texts:
        if "prompt" in row:
            return row
        raise DataError(
            f"column {column!r} holds no caption ({row[column]!r:.60}), so its picture cannot be "
            "scored: use a split that has captions, or add a prompt column and pass another reward="
        )
    prompt = row.get("prompt", prompt_of(QUESTIONS[0]))
    return {**row, "prompt": prompt, "reference": texts[0], "references": texts}


def _captions(value: Any) -> list[str]:
    """The texts in a column: a string, a list, or dictionaries with a text each."""
    value = from_array(value)
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        named = (value.get(name) for name in ("raw", "caption", "text"))
        return _captions(next((one for one in named if one is not None), []))
    if isinstance(value, list | tuple):
        return [text for one in value for text in _captions(one)]
    return []


def score_public(completion: str, references: str | list[str]) -> float:
    """ROUGE-L (Lin 2004), the maximum over the references; 0 for a much longer text.

    Raises:
        MissingDependencyError: If rouge-score (``textgym[metrics]``) is not installed.
    """
    texts = [references] if isinstance(references, str) else list(references)
    words = len(_WORD.findall(completion.lower()))
    longest = max((len(_WORD.findall(text.lower())) for text in texts), default=0)
    if not 0 < words <= _LONGER * longest:
        return 0.0
    return overlap("rouge", completion, texts, variant="rougeL")

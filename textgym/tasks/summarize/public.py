"""Public summarization data as prompts of the summary task, and the scores of summaries of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textgym.data.rows import Row
from textgym.data.words import is_unspaced, words_of
from textgym.tasks.judgement import Judgement
from textgym.tasks.on_topic import on_topic, overlap

_ROOM = 2
"""Maximum length of a summary of public data, as a multiple of the reference's."""

_FORMATS = (
    ("article", "highlights"), ("article", "summary"), ("article", "abstract"),
    ("document", "summary"), ("document", "target"), ("dialogue", "summary"),
    ("report", "summary"), ("text", "summary"), ("source", "summary"), ("source", "target"),
)  # fmt: skip
"""Columns of text and summary in CNN/DailyMail, XSum, SAMSum, GovReport, BillSum, ..."""


def judge_public(completion: str, row: Mapping[str, Any]) -> Judgement:
    """Judge a summary by ROUGE against the reference, times the factor `on_topic`.

    A text of more than twice as many words as the longest reference scores 0.
    """
    reference = row["reference"]
    references = [reference] if isinstance(reference, str) else reference
    words = len(words_of(completion))
    value = 0.0
    if 0 < words <= _ROOM * max((len(words_of(text)) for text in references), default=0):
        prompt = str(row.get("prompt", ""))
        value = overlap("rouge", completion, reference) * on_topic(completion, references, prompt)
    return Judgement().add("the text", "ROUGE, times the on-topic factor", value)


def convert(row: dict[str, Any]) -> Row:
    """Convert a row with a text and a summary; other rows are returned unchanged."""
    for source, target in () if "prompt" in row else _FORMATS:
        text, summary = row.get(source), row.get(target)
        if isinstance(text, str) and isinstance(summary, str):
            reference = " ".join(summary.split())
            budget = _ROOM * len(words_of(reference))
            unit = "characters" if is_unspaced(reference) else "words"
            # SAMSum has carriage returns.
            text = text.replace("\r\n", "\n").strip()
            return {
                **row,
                "prompt": f"Summarize in {budget} {unit}:\n{text}\nSummary:",
                "reference": f" {reference}",
            }
    return row

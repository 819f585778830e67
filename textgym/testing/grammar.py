"""Whether a text is grammatical, however good or bad its content is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textgym.tasks.base import Task
from textgym.tasks.moderate.reader import is_grammatical
from textgym.tasks.qa.answers import ABSTENTIONS
from textgym.tasks.qa.world import NUMBERS
from textgym.tasks.words import MEN, PLACES, THINGS, WOMEN

_REMARKS = (
    "incomplete",
    "neither answers nor refuses",
    "no full stop",
    "no program of the language",
    "no sentence",
    "nonsense",
    "not a program",
    "not a sentence",
    "not of the form",
    "not understood",
)
"""How the built-in tasks' remarks on ungrammatical parts begin (:meth:`Task.explain`)."""

_ANSWERS = (*MEN, *WOMEN, *PLACES, *THINGS, *NUMBERS, "yes", "no", "nobody", "none")


def grammatical(task: Task, completion: str, row: Mapping[str, Any]) -> bool:
    """Whether a completion consists of whole sentences (or a program) of its task's grammar.

    A lower bound: repetitions in Caption count as ungrammatical.

    Args:
        task: A built-in task with open text.
        completion: The completion; in a conversation all turns, one per line.
        row: The row that it completes.

    Example:
        >>> from textgym.tasks import make_task
        >>> story = make_task("TextGen/Story-v0")
        >>> grammatical(story, " Anna sang.", story.item(0))
        True
        >>> grammatical(story, " Anna sang and.", story.item(0))
        False
    """
    if not completion.strip():
        return False
    if task.id == "TextGen/QA-v0":
        return _is_answer(task, completion, row)
    if task.id == "TextGen/Moderate-v0":
        return is_grammatical(completion)
    if task.id == "TextGen/Caption-v0":
        return not any("unreadable" in part.part for part in task.explain(completion, row))
    return not any(part.what.startswith(_REMARKS) for part in task.explain(completion, row))


def _is_answer(task: Task, completion: str, row: Mapping[str, Any]) -> bool:
    """Whether a text is an accepted form of any answer to the row's question."""
    if completion.strip().rstrip(".") in ABSTENTIONS:
        return True
    return any(
        task.score(completion, {**row, "answers": [answer], "unanswerable": False}) > 0
        for answer in _ANSWERS
    )

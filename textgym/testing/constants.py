"""Constant texts: what a policy earns that writes the same text whatever the prompt is.

Reinforcement learning finds a safe constant answer before it learns to read ("I do not know."), so
a task where one is well paid teaches nothing. `best_constants` tries the texts that a language
model of the task's documents is likely to collapse to.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.base import Task
from textgym.testing.attack import TEMPLATES

_SENTENCE = re.compile(r"[^.!?\u3002\n]+[.!?\u3002\n]*")
_LONGEST_BEGINNING = 4
"""Words of the longest beginning of an answer that is tried."""

_SCREENED = 60
"""Rows by which the texts are ranked first."""

_FINALISTS = 25
"""Texts that are scored on all rows."""


class Constant(NamedTuple):
    """A constant text.

    Attributes:
        text: The text; in a conversation, every turn of the agent.
        mean: Its mean return over the rows.
        error: Standard error of the mean.
    """

    text: str
    mean: float
    error: float


def best_constants(
    task: Task, *, rows: int = 2_000, most: int = 200, scored: int = 1_000, seed: int = 0
) -> list[Constant]:
    """Find the constant texts with the highest mean return.

    Tried are the empty text, templates ("Yes.", "I'm sorry, but I cannot help with that."), and the
    `most` most frequent answers, sentences, beginnings of up to four words, and words, of both the
    oracle and the task's documents.

    Args:
        task: The task, whose level and split count.
        rows: Rows, and documents, whose texts are counted.
        most: Texts of each kind.
        scored: Rows over which the mean is taken, other than those counted.
        seed: Seed of the rows.

    Returns:
        The best 25, the best first; none in a closed vocabulary, where every text is an answer.

    Example:
        >>> from textgym.tasks import make_task
        >>> task = make_task("TextGen/QA-v0")
        >>> best = best_constants(task, rows=200, most=20, scored=200)[0]
        >>> 0.05 < best.mean < 0.25  # abstaining is right for some questions
        True
    """
    if task.tokenizer is not None:
        return []
    rng = np.random.default_rng([seed, 1])
    texts = constant_texts(task, [task.sample(rng) for _ in range(rows)], most, seed)
    return ranked(task, texts, [task.sample(rng) for _ in range(scored)])


def constant_texts(task: Task, rows: Sequence[Row], most: int, seed: int) -> list[str]:
    """The texts that `best_constants` tries, without repetition.

    Args:
        task: The task.
        rows: Rows whose oracles are counted; as many documents are drawn.
        most: Texts of each kind.
        seed: Seed of the documents.
    """
    texts = dict.fromkeys(("", *TEMPLATES))
    oracles = _turns(task, map(task.oracle, rows))
    written = _turns(task, _continuations(task, len(rows), seed))
    for answers in (oracles, written):
        counts: list[Counter[str]] = [Counter(answers), Counter(), Counter(), Counter()]
        for answer in answers:
            counts[1].update(_SENTENCE.findall(answer))
            words = answer.split(" ")
            counts[2].update(
                {" ".join(words[: size + 1]) for size in range(1, _LONGEST_BEGINNING + 1)}
            )
            counts[3].update({f" {word}" for word in re.findall(r"\w+", answer)})
        for count in counts:
            texts.update(dict.fromkeys(text for text, _ in count.most_common(most)))
    return list(texts)


def ranked(task: Task, texts: Iterable[str], rows: Sequence[Row]) -> list[Constant]:
    """The best texts by their mean return over rows, the best first.

    All texts are ranked by the first 60 rows, and the best 25 of them by all rows.
    """
    screened = [_scored(task, text, rows[:_SCREENED]) for text in texts]
    finalists = sorted(screened, key=lambda one: -one.mean)[:_FINALISTS]
    return sorted((_scored(task, one.text, rows) for one in finalists), key=lambda one: -one.mean)


def constant_return(task: Task, text: str, row: Row) -> float:
    """The return of an episode in which the agent writes one text, in every turn if it has several.

    Args:
        task: The task.
        text: The text.
        row: The row that the episode starts from.
    """
    if task.max_turns == 1:
        return task.score(text, row)
    turns: list[str] = []
    rewards = 0.0
    for _ in range(task.max_turns):
        turns.append(text)
        reply = task.reply(row, turns)
        rewards += reply.reward
        if reply.done:
            break
    return rewards + task.score("\n".join(turns), {**row, "turns": turns})


def _scored(task: Task, text: str, rows: Sequence[Row]) -> Constant:
    returns = np.array([constant_return(task, text, row) for row in rows])
    return Constant(text, float(returns.mean()), float(returns.std() / len(rows) ** 0.5))


def _turns(task: Task, texts: Iterable[str]) -> list[str]:
    """The answers; in a conversation, the single turns of the agent."""
    if task.max_turns == 1:
        return list(texts)
    return [turn for text in texts for turn in text.split("\n")]


def _continuations(task: Task, count: int, seed: int) -> list[str]:
    """The answers in documents; in a conversation, the turns of the agent, one per line."""
    found = []
    for number in range(count):
        # `document` draws its row first, so that the same seed gives the row.
        prompt = task.sample(np.random.default_rng([seed, 2, number]))["prompt"]
        pieces = task.turns_document(np.random.default_rng([seed, 2, number]))
        if len(pieces) > 1:
            # A turn follows the last label ("Agent:") of the text before it.
            label = prompt.rpartition("\n")[2]
            pieces = [piece.rpartition(label)[2] for piece in pieces]
            found.append("\n".join(pieces))
        elif pieces[0].startswith(prompt):
            found.append(pieces[0].removeprefix(prompt))
    return found

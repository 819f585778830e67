"""The documents that textgym/tiny is trained on: sampled from the tasks, clean or mediocre.

A clean document ends with the oracle's completion, a mediocre one with a fluent completion that
has errors (:meth:`Task.document`). Recall documents (:mod:`textgym.pretrain.recall`) belong to no
task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from textgym.pretrain.recall import recall_lesson
from textgym.tasks import Task, make_task
from textgym.tasks.mix import Mix
from textgym.tasks.registry import built_in_tasks

HARD = (
    "TextGen/QA-v0",
    "TextGen/KnowledgeGraph-v0",
    "TextGen/Translate-v0",
    "TextGen/Summarize-v0",
    "TextGen/DataToText-v0",
    "TextGen/Caption-v0",
    "TextGen/Dialogue-v0",
)
"""Tasks that need more documents than the others before a model masters them."""

LATE = (
    "TextGen/QA-v0",
    "TextGen/KnowledgeGraph-v0",
    "TextGen/DataToText-v0",
    "TextGen/Dialogue-v0",
    "TextGen/Risk-v0",
    "TextGen/Sentiment-v0",
)
"""Tasks that it has mastered least when the learning rate begins to fall."""

_QUESTIONS = 10
"""Maximum number of questions in a recall document."""

_BLIND_EVERY = 8
"""One in this many documents with a picture comes without it, so that the model can also write
without one (as the reference of a KL penalty does)."""


class Document(NamedTuple):
    """A training text.

    Attributes:
        prompt: The prompt, a prefix of the first piece, or empty.
        pieces: The text in pieces, with eos after each.
        image: The picture before the text, uint8 ``[3, H, W]``, or None.
        more: Further prompts with their continuations, which follow the only piece before its eos.
    """

    prompt: str
    pieces: list[str]
    image: NDArray[np.uint8] | None = None
    more: Sequence[tuple[str, str]] = ()


class Proportions(NamedTuple):
    """What the documents of a step are drawn from.

    Attributes:
        clean: The share of clean documents among those of tasks.
        recall: The share of recall documents among all.
        favoured: Ids of tasks that are drawn more often.
        weight: The weight of each of them; the others have 1.
        easy: Level ``n`` is drawn with a weight of ``n ** -easy``.
    """

    clean: float = 0.0
    recall: float = 0.0
    favoured: tuple[str, ...] = ()
    weight: float = 1.0
    easy: float = 1.0


@cache
def training_tasks(split: str) -> list[Task]:
    """All built-in tasks with free text, in each of their forms, without mixtures."""
    tasks = [make_task(name) for name in built_in_tasks() if name != Mix.id]
    return [form for task in tasks if task.tokenizer is None for form in task.variants(split)]


def draw_documents(
    entropy: list[int], proportions: Proportions, split: str = "train"
) -> Iterator[Document]:
    """Sample documents without end, as a function of the arguments alone.

    Args:
        entropy: Seeds the generator.
        proportions: What they are drawn from.
        split: Of the tasks.
    """
    rng = np.random.default_rng(np.random.SeedSequence(entropy))
    forms = training_tasks(split)
    weights: dict[str, float] = {}
    for form in forms:
        weights[form.id] = weights.get(form.id, 0.0) + form.level**-proportions.easy
    shares = np.array(
        [
            form.level**-proportions.easy
            / weights[form.id]
            * (proportions.weight if form.id in proportions.favoured else 1.0)
            for form in forms
        ]
    ).cumsum()
    while True:
        kind, which, quality = rng.random(3).tolist()
        if kind < proportions.recall:
            first, *others = recall_lesson(rng, 1 + int(rng.integers(_QUESTIONS)))
            yield Document(first.prompt, [first.prompt + first.answer], more=others)
            continue
        form = forms[int(np.searchsorted(shares, which * shares[-1], side="right"))]
        yield document_of(form, rng, clean=quality < proportions.clean)


def document_of(task: Task, rng: np.random.Generator, clean: bool) -> Document:
    """A clean or mediocre document of a task."""
    # A document starts with the same random numbers as its row, so a copy gives the row.
    twin = np.random.default_rng()
    twin.bit_generator.state = rng.bit_generator.state
    row = task.sample(rng if clean else twin)
    prompt = str(row["prompt"])
    pieces = clean_pieces(task, row) if clean else task.turns_document(rng)
    image = None
    if task.image_shape is not None and rng.random() * _BLIND_EVERY >= 1:
        image = task.image(row)
    return Document(prompt if pieces[0].startswith(prompt) else "", pieces, image)


def clean_pieces(task: Task, row: dict[str, object]) -> list[str]:
    """A row's prompt with the oracle's completion; in a conversation, with the other's turns."""
    prompt, completion = str(row["prompt"]), task.oracle(row)
    if task.max_turns == 1:
        return [prompt + completion]
    turns = completion.split("\n")
    pieces = [prompt + turns[0]]
    for number in range(1, len(turns)):
        reply = task.reply(row, turns[:number])
        pieces.append(reply.text + turns[number])
    return pieces

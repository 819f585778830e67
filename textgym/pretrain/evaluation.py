"""How well a language model does the tasks without further training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from textgym.lm.model import LanguageModel
from textgym.pretrain.recall import recall_accuracy
from textgym.pretrain.writing import writer
from textgym.tasks import Task
from textgym.testing.grammar import grammatical
from textgym.testing.standings import Played, play

_ROWS = 128
"""Texts that are written at once. Four times as many need no less CPU time, and 9 GB."""


class Ability(NamedTuple):
    """The scores of a model on one task, on prompts of the task's split.

    Attributes:
        sampled: Mean score at temperature 1.
        error: Half the width of its 95 % interval over prompts.
        best: Mean over prompts of the best of the samples.
        greedy: Mean score of the likeliest tokens.
        grammatical: Share of grammatical texts among the first samples
            (:func:`textgym.testing.grammar.grammatical`).
        texts: The first sample for each prompt.
    """

    sampled: float
    error: float
    best: float
    greedy: float
    grammatical: float
    texts: list[Played]


def ability(lm: LanguageModel, task: Task, prompts: int = 256, samples: int = 16) -> Ability:
    """Let a model write for a task.

    Args:
        lm: The model.
        task: The task, whose level and split count.
        prompts: Number of prompts N.
        samples: Samples for each prompt.
    """
    # Other tokenizers may need more tokens than the task's own limit.
    room = (lm.context_length or 1024) - task.max_new_tokens
    torch.manual_seed(0)

    def written(samples: int, deterministic: bool = False) -> Iterator[Played]:
        # In parts: the decoder's memory grows with the rows.
        part = max(1, _ROWS // samples)
        for start in range(0, prompts, part):
            act, tokenizer = writer(lm, deterministic)
            count = min(part, prompts - start)
            yield from play(
                task,
                act,
                count,
                repeats=samples,
                start=start,
                tokenizer=tokenizer,
                max_prompt_tokens=room,
            )

    sampled = list(written(samples))
    scores = np.array([played.score for played in sampled]).reshape(prompts, samples)
    greedy = [played.score for played in written(1, deterministic=True)]
    means = scores.mean(1)
    first = sampled[::samples]
    whole = [
        grammatical(task, played.response, task.item(index)) for index, played in enumerate(first)
    ]
    error = 1.96 * means.std(ddof=1) / prompts**0.5 if prompts > 1 else 0.0
    return Ability(
        float(means.mean()),
        float(error),
        float(scores.max(1).mean()),
        float(np.mean(greedy)),
        float(np.mean(whole)),
        first,
    )


def recall(lm: LanguageModel, count: int = 256) -> float:
    """The share of recall documents that a model completes exactly, by its likeliest tokens."""

    def complete(prompts: list[str], max_new_tokens: int) -> list[str]:
        tokenizer = lm.tokenizer
        eos = tokenizer.eos_id
        ids = [tokenizer.encode(prompt) for prompt in prompts]
        width = max(map(len, ids)) + max_new_tokens
        texts = np.full((len(ids), width), -1, np.int32)
        lengths = np.array([len(one) for one in ids])
        for row, one in enumerate(ids):
            texts[row, : len(one)] = one
        act, _ = writer(lm, deterministic=True)
        going = np.ones(len(ids), bool)
        for _ in range(max_new_tokens):
            chosen = act(texts)
            going &= chosen != eos
            rows = np.flatnonzero(going)
            texts[rows, lengths[rows]] = chosen[rows]
            lengths[rows] += 1
        return [
            tokenizer.decode(text[len(one) : length].tolist())
            for text, one, length in zip(texts, ids, lengths, strict=True)
        ]

    return recall_accuracy(complete, count)

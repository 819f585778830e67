"""Hashes of tasks, models and files: results with different hashes must not be mixed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.suites.definitions import Experiment
from textgym.data.rows import Row
from textgym.tasks import make_task
from textgym.tasks.base import SPLITS, Task
from textgym.testing.cheats import cheats
from textgym.tokenization import TINY, TINY_DIR

ITEMS = 12
"""Items of each split that a task's hash covers."""


def task_hash(experiment: Experiment) -> str:
    """Hash of a task's behaviour: its budgets, its first items, and scores of texts about them.

    The texts are the oracle's, the baselines' and the cheats of the task contract, some of them
    right in part; scores, rewards, costs and the other side's replies are rounded to 9 digits. So a
    task keeps its hash if its code is moved or made faster, and gets another one if its generator
    or verifier changes, unless none of these texts shows the change.
    """
    kwargs = dict(experiment.kwargs)
    digest = hashlib.sha256(_plain([experiment.id, kwargs]))
    for split in SPLITS:
        task = make_task(experiment.id, kwargs.get("level"), split)
        budgets = (task.max_prompt_tokens, task.max_new_tokens, task.max_turns)
        digest.update(_plain([*budgets, task.stop, task.stop_at_eos, task.tokenizer]))
        rows = [task.item(index) for index in range(ITEMS)]
        words = sorted({word for row in rows for word in str(row["reference"]).split()})
        for index, row in enumerate(rows):
            digest.update(_plain([row, *_judged(task, row, words, index)]))
            if task.image_shape is not None:
                digest.update(task.image(row).tobytes())
    return digest.hexdigest()[:16]


def lm_hash(experiment: Experiment, lm: str | None) -> str:
    """Hash of the language model that an agent starts from, or of the vocabulary without one.

    Args:
        experiment: A closed vocabulary has no pretrained model: the hash is that of its words.
        lm: A folder, whose weights, settings and tokenizer are hashed; the name of a hub model is
            hashed as it is; None is textgym/tiny.
    """
    words = make_task(experiment.id).tokenizer
    if lm is None and words is not None:
        return hashlib.sha256(_plain(words)).hexdigest()[:16]
    folder = TINY_DIR if lm in (None, TINY) else Path(str(lm))
    if not folder.is_dir():
        return hashlib.sha256(_plain(lm)).hexdigest()[:16]
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in (".json", ".safetensors", ".bin", ".model", ".txt"):
            digest.update(_plain([file.name, hashlib.sha256(file.read_bytes()).hexdigest()]))
    return digest.hexdigest()[:16]


def source_hash(file: Path) -> str:
    """Hash of a file's text."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def _judged(task: Task, row: Row, words: list[str], index: int) -> list[Any]:
    """Texts about a row, with their scores, rewards, costs and replies."""
    rng = np.random.default_rng(index)
    oracle = task.oracle(row)
    texts = [oracle, *(text for _, text in cheats(row, oracle, words, rng))]
    texts += [write(row, rng) for write in task.baselines().values()]
    columns = {name: [value] * len(texts) for name, value in row.items() if name != "prompt"}
    prompts = [row["prompt"]] * len(texts)
    verdicts = [
        _rounded([task.score(text, row) for text in texts]),
        _rounded(task.reward(prompts, texts, **columns)),
        {name: _rounded(cost(prompts, texts, **columns)) for name, cost in task.costs().items()},
    ]
    replies = []
    if task.max_turns > 1:
        turns = oracle.split("\n")
        for count in range(1, min(len(turns), task.max_turns) + 1):
            reply = task.reply(row, turns[:count])
            replies.append([reply.text, round(float(reply.reward), 9), reply.done])
            if reply.done:
                break
    return [texts, *verdicts, replies]


def _rounded(numbers: Sequence[Any]) -> list[float]:
    return [round(float(number), 9) for number in numbers]


def _plain(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode() + b"\n"

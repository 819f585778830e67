"""The model card of textgym/tiny: description, training, and scores on the tasks."""

from __future__ import annotations

import hashlib
import multiprocessing
import platform
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from textgym.lm.model import LanguageModel
from textgym.pretrain.evaluation import ability, recall
from textgym.storage.files import write_text
from textgym.tasks import Task


def write_card(
    folder: Path,
    *,
    tasks: list[Task],
    settings: Mapping[str, Any],
    parameters: int,
    cpu_seconds: float,
    validation_loss: float,
    prompts: int = 256,
    samples: int = 16,
    training: str | None = None,
    processes: int = 1,
) -> None:
    """Write ``README.md`` to a checkpoint folder.

    Args:
        folder: The checkpoint folder.
        tasks: The tasks (eval split) that the model is scored on.
        settings: The settings of the training.
        parameters: Number of parameters, without the picture encoder.
        cpu_seconds: CPU time of the training, summed over threads.
        validation_loss: Nats per token on documents of the eval split.
        prompts: Number of prompts per task at level 1; an eighth at the other levels.
        samples: Number of responses per prompt.
        training: How the model was trained. Default: by one command with these settings.
        processes: Number of processes that measure, each with one thread of torch.
    """
    measure = partial(_measure, folder, prompts=prompts, samples=samples)
    if processes > 1:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(
            processes, context, torch.set_num_threads, (1,), max_tasks_per_child=1
        ) as pool:
            measured = list(pool.map(measure, tasks))
    else:
        measured = [measure(task) for task in tasks]
    lm = LanguageModel.load(str(folder), device="cpu")
    name = "textgym/tiny" if settings["finish"] == "mediocre" else "textgym/tiny, clean"
    text = _TEMPLATE.format(
        name=name,
        purpose=_PURPOSES[settings["finish"]],
        parameters=f"{parameters:,}",
        training=training or _training(settings, cpu_seconds),
        validation_loss=f"{validation_loss:.3f}",
        perplexity=f"{np.exp(validation_loss):.2f}",
        vocabulary=lm.tokenizer.vocab_size,
        context=lm.context_length,
        layers=settings["layers"],
        width=settings["width"],
        heads=settings["heads"],
        recall=f"{recall(lm, prompts):.0%}",
        grammatical=f"{np.mean([one.grammatical for one in measured]):.0%}",
        hashes="\n".join(
            f"* `{file.name}`: {hashlib.sha256(file.read_bytes()).hexdigest()}"
            for file in sorted(folder.glob("*.safetensors"))
        ),
        prompts=prompts,
        fewer=prompts_at(2, prompts),
        samples=samples,
        scores="\n".join(one.row for one in measured),
        examples="\n".join(one.example for one in measured),
    )
    write_text(folder / "README.md", text)


def prompts_at(level: int, prompts: int) -> int:
    """Number of prompts that a card's figures of a level rest on; level 1 matters most."""
    return prompts if level == 1 else max(1, prompts // 8)


class _Measured(NamedTuple):
    """The lines of a card about one task, and the share of its grammatical texts."""

    row: str
    example: str
    grammatical: float


def _measure(folder: Path, task: Task, *, prompts: int, samples: int) -> _Measured:
    lm = LanguageModel.load(str(folder), device="cpu")
    count = prompts_at(task.level, prompts)
    empty = np.mean([task.score("", task.item(index)) for index in range(count)])
    found = ability(lm, task, count, samples)
    prompt, response, score = found.texts[0]
    return _Measured(
        row=f"| {task} | {empty:.2f} | {found.sampled:.2f} ± {found.error:.2f} "
        f"| {found.best:.2f} | {found.greedy:.2f} | {found.grammatical:.0%} | 1.00 |",
        example=f"* {task}, score {score:.2f}: {prompt.replace(chr(10), ' / ')} "
        f"**{response.strip()}**",
        grammatical=found.grammatical,
    )


def _training(settings: Mapping[str, Any], cpu_seconds: float) -> str:
    tokens = settings["steps"] * settings["batch_size"] * settings["row_length"]
    return _TRAINING.format(
        tokens=f"{tokens / 1e6:.0f}",
        command=_command(settings),
        minutes=f"{cpu_seconds / 60:.0f}",
        torch=version("torch"),
        transformers=version("transformers"),
        python=platform.python_version(),
        finish=_FINISHES[settings["finish"]],
        sharpness=settings["sharpness"],
    )


def _command(settings: Mapping[str, Any]) -> str:
    words = [
        f"--{name} {' '.join(map(str, value)) if isinstance(value, tuple) else value}"
        for name, value in settings.items()
        if name not in ("out", "threads", "install", "save_every", "card_prompts", "first_part")
    ]
    return "python -m textgym.lm.train " + " ".join(words)


_PURPOSES = {
    "mediocre": "It writes the simple English (and Chinese) of textgym's built-in tasks, fluently "
    "and with\nmediocre scores by choice, and is meant as an initial policy for reinforcement "
    "learning on a laptop.",
    "clean": "It is what supervised learning alone achieves: the same training as textgym/tiny, "
    "but to its end on\nthe oracles' completions.",
}
_FINISHES = {
    "mediocre": "a mixture of right and wrong ones (`Task.document`), so that there is something "
    "left to learn",
    "clean": "still the oracles' completions",
}

_TRAINING = """\
From scratch, on {tokens} million tokens of documents that the tasks generate (training split; no
collected text), by

    {command}

which took {minutes} minutes of CPU time (torch {torch}, transformers {transformers}, Python
{python}). In the first part the completions are the oracles', with some documents that train
recall (`textgym.pretrain.recall`); in the second part they are {finish}. After the training the
logits were multiplied by {sharpness}."""

_TEMPLATE = """---
library_name: transformers
license: mit
language: [en, zh]
---
# {name}

The language model that ships with textgym: a Llama of {parameters} parameters ({layers} layers,
width {width}, {heads} heads, context {context}) with a byte-level BPE tokenizer of {vocabulary}
tokens, in which digits and Chinese characters stand alone, and a small encoder of pictures
(`picture_encoder.safetensors`) for TextGen/Caption-v0. {purpose}
It is not useful as a general language model.

## Training

{training}

Each document starts at position 0 and ends with `<|endoftext|>`; one in eight also begins with it.
The weights are stored in bfloat16.

SHA-256 of the weights that the figures below were measured with:

{hashes}

## Evaluation

Cross-entropy of completions on documents of the eval split: {validation_loss} nats per token
(perplexity {perplexity}). In-prompt recall, by the likeliest tokens: {recall}. Grammatical texts
at temperature 1, over all tasks: {grammatical}.

Scores on {prompts} prompts of the eval split of each task at level 1, and {fewer} at the others:
of an empty text; of responses at temperature 1, with the 95 % confidence interval of the mean over
prompts; of the best of {samples} responses; of the likeliest tokens; the share of grammatical
responses at temperature 1; of the oracle.

| task | empty | sampled | best of {samples} | greedy | grammatical | oracle |
|---|---:|---:|---:|---:|---:|---:|
{scores}

Samples (the model's part in bold):

{examples}
"""

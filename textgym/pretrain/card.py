"""The model card of textgym/tiny: description, training, and scores on the tasks."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from textgym.lm.model import LanguageModel
from textgym.pretrain.writing import writer
from textgym.storage.files import write_text
from textgym.tasks import Task
from textgym.testing.standings import Standing, play


def write_card(
    folder: Path,
    *,
    tasks: list[Task],
    settings: Mapping[str, Any],
    parameters: int,
    cpu_seconds: float,
    validation_loss: float,
    samples: int = 256,
) -> None:
    """Write ``README.md`` to a checkpoint folder.

    Args:
        folder: The checkpoint folder.
        tasks: The tasks (eval split) that the model is scored on.
        settings: The settings of the training.
        parameters: Number of parameters.
        cpu_seconds: CPU time of the training, summed over threads.
        validation_loss: Nats per token on documents of the eval split.
        samples: Number of responses per task.
    """
    lm = LanguageModel.load(str(folder), device="cpu")
    torch.manual_seed(0)
    rows, examples = [], []
    for task in tasks:
        # A smaller vocabulary needs more tokens than the task's own limit.
        room = (lm.context_length or 1024) - task.max_new_tokens
        act, tokenizer = writer(lm)
        written = list(play(task, act, samples, tokenizer=tokenizer, max_prompt_tokens=room))
        tiny = Standing.of("textgym/tiny", "model", [played.score for played in written])
        empty = np.mean([task.score("", task.item(index)) for index in range(samples)])
        rows.append(f"| {task} | {empty:.2f} | {tiny.mean:.2f} ± {tiny.error:.2f} | 1.00 |")
        prompt, response, score = written[0]
        prompt = prompt.replace("\n", " / ")
        examples.append(f"* {task}, score {score:.2f}: {prompt} **{response.strip()}**")
    text = _TEMPLATE.format(
        parameters=f"{parameters:,}",
        command=_command(settings),
        minutes=f"{cpu_seconds / 60:.0f}",
        torch=version("torch"),
        transformers=version("transformers"),
        python=platform.python_version(),
        validation_loss=f"{validation_loss:.3f}",
        perplexity=f"{np.exp(validation_loss):.2f}",
        vocabulary=lm.tokenizer.vocab_size,
        context=lm.context_length,
        layers=settings["layers"],
        width=settings["width"],
        heads=settings["heads"],
        sharpness=settings["sharpness"],
        samples=samples,
        scores="\n".join(rows),
        examples="\n".join(examples),
    )
    write_text(folder / "README.md", text)


def _command(settings: Mapping[str, Any]) -> str:
    words = [
        f"--{name} {value}"
        for name, value in settings.items()
        if name not in ("out", "threads", "install", "save_every", "card_samples")
    ]
    return "python -m textgym.lm.train " + " ".join(words)


_TEMPLATE = """---
library_name: transformers
license: mit
language: en
---
# textgym/tiny

The language model that ships with textgym: a Llama of {parameters} parameters ({layers} layers,
width {width}, {heads} heads, context {context}) with a byte-level BPE tokenizer of {vocabulary}
tokens. It writes the simple English of textgym's built-in tasks, fluently and with mediocre scores,
and is meant as an initial policy for reinforcement learning on a laptop. It is not useful as a
general language model.

## Training

From scratch, on documents that the tasks generate (`Task.document`, training split; no collected
text), by

    {command}

which took {minutes} minutes of CPU time (torch {torch}, transformers {transformers}, Python
{python}). Each document starts at position 0 and ends with `<|endoftext|>`; one in eight also
begins with it. After the training the logits were multiplied by {sharpness}, for more fluent
samples at temperature 1. The weights are stored in bfloat16.

## Evaluation

Cross-entropy on documents of the eval split, before the multiplication, with a weight of 0.1 for
prompt tokens: {validation_loss} nats per token (perplexity {perplexity}).

Scores of {samples} sampled responses (temperature 1) to prompts of the eval split, with the 95 %
confidence interval of the mean, next to the scores of an empty text and of the oracle:

| task | empty | textgym/tiny | oracle |
|---|---:|---:|---:|
{scores}

Samples (the model's part in bold):

{examples}
"""

"""The model card of a trained model: what it is, how it was made, and how well it writes."""

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
    """Write ``README.md`` beside a checkpoint.

    Args:
        folder: The checkpoint.
        tasks: The tasks (eval split) whose prompts it is judged on.
        settings: The settings of the training.
        parameters: Number of weights.
        cpu_seconds: CPU time of the training, all threads together.
        validation_loss: Nats a token on documents of the eval split.
        samples: Responses to judge for each task.
    """
    lm = LanguageModel.load(str(folder), device="cpu")
    torch.manual_seed(0)
    rows, examples = [], []
    for task in tasks:
        # A smaller vocabulary needs more tokens than the task allows for.
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

The language model that ships with textgym: a Llama of {parameters} weights ({layers} layers,
width {width}, {heads} heads, context {context}) with a byte-level BPE tokenizer of {vocabulary}
tokens. It writes the small English of textgym's built-in tasks, fluently and with mediocre success,
and is meant as a starting policy for reinforcement learning on a laptop. It knows nothing else, and
is of no use as a general language model.

## How it was made

From scratch, on documents that the tasks generate (`Task.document`, training split; no collected
text), by

    {command}

which took {minutes} minutes of CPU time (torch {torch}, transformers {transformers}, Python
{python}). Each document stands at position 0 and ends with `<|endoftext|>`; one in eight begins
with it. After the training the logits were multiplied by {sharpness}, so that what is sampled at
temperature 1 is as fluent as the model can be. The weights are stored in bfloat16.

## How well it writes

Cross-entropy on documents of the eval split, before the multiplication, where a token of a prompt
counts a tenth of one of its continuation: {validation_loss} nats a token (perplexity {perplexity}).

Scores of {samples} sampled responses (temperature 1) to prompts of the eval split, with the 95 %
interval of the mean, between the score of an empty text and the oracle's:

| task | empty | textgym/tiny | oracle |
|---|---:|---:|---:|
{scores}

Samples (the model's part in bold):

{examples}
"""

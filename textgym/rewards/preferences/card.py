"""The model card of a reward that was trained on preferences."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from textgym.rewards.preferences.calibration import Calibration, wilson
from textgym.rewards.preferences.settings import TrainSettings
from textgym.storage.files import write_text


def write_card(
    folder: Path,
    settings: TrainSettings,
    metrics: Mapping[str, Any],
    table: Calibration,
    plotted: bool,
) -> None:
    """Write the ``README.md`` of a checkpoint.

    Args:
        folder: The checkpoint.
        settings: The settings of the training.
        metrics: The content of ``metrics.json``.
        table: The calibration on the held-out pairs.
        plotted: Whether there is a ``calibration.svg``.
    """
    low, high = wilson(metrics["accuracy"], metrics["held_out_pairs"])
    lines = [
        f"| {one.low:.2f} to {one.high:.2f} | {one.pairs} | {one.predicted:.3f} | "
        f"{one.observed:.3f} | {one.interval[0]:.3f} to {one.interval[1]:.3f} |"
        for one in table.bins
    ]
    text = _TEMPLATE.format(
        lm=settings.lm,
        command=_command(settings),
        torch=version("torch"),
        transformers=version("transformers"),
        python=platform.python_version(),
        low=f"{low:.3f}",
        high=f"{high:.3f}",
        bins="\n".join(lines),
        plot="![Calibration](calibration.svg)\n\n" if plotted else "",
        **{
            name: f"{value:.3f}" if isinstance(value, float) else value
            for name, value in metrics.items()
        },
    )
    write_text(folder / "README.md", text)


def _command(settings: TrainSettings) -> str:
    words = [
        f"--{name} {value}"
        for name, value in asdict(settings).items()
        if name not in ("out", "threads", "device") and value is not None
    ]
    return "python -m textgym.rewards.train " + " ".join(words)


_TEMPLATE = """---
library_name: transformers
pipeline_tag: text-classification
---
# A reward learned from preferences

`{lm}` with a scalar head on the last token, trained on pairs of texts of which one was preferred
(Bradley-Terry; Christiano et al. 2017, Stiennon et al. 2020, Ouyang et al. 2022). Of two texts for
the same prompt, the one with the higher reward is preferred with the probability
sigmoid(difference); the absolute value has no meaning.

    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    reward = model(**tokenizer(prompt + completion, return_tensors="pt")).logits[0, 0]

No end-of-sequence token is added after the completion. Messages are rendered with the tokenizer's
chat template, or, without one, as lines `User: ...` and `Agent: ...`. As a reward of textgym, with
the mean and the standard deviation of the held-out texts:

    make_reward(
        "reward_model", model=folder, form="{form}", center={reward_mean}, scale={reward_std}
    )

## Training

    {command}

on {pairs} pairs ({ties_left_out} rows with ties were left out; {texts_cut} texts longer than the
model's context were truncated on the left), with torch {torch}, transformers {transformers},
Python {python}. The weights are those of step {best_step} of {steps}, which had the lowest loss on
the held-out pairs.

## Evaluation

On {held_out_pairs} held-out pairs, whose prompts were not trained on (they selected the step, so
the numbers are slightly optimistic):

| measure | value |
|---|---:|
| accuracy (95 % interval) | {accuracy} ({low} to {high}) |
| accuracy of preferring the longer text | {accuracy_of_the_longer_text} |
| log-loss, nats (a coin: 0.693) | {log_loss} |
| Brier score (a coin: 0.250) | {brier} |
| expected calibration error | {ece} |
| expected calibration error of a perfectly calibrated reward | {ece_by_chance} |
| mean and standard deviation of the rewards | {reward_mean}, {reward_std} |

Calibration: the share of pairs that the favourite won, by its predicted probability.

| bin | pairs | predicted | observed | 95 % interval |
|---|---:|---:|---:|---:|
{bins}

{plot}## Limitations

It predicts what the judges of these pairs preferred among texts like these. A policy that is
trained on it finds texts that it overrates (Gao, Schulman and Hilton 2023): keep the policy close
to the model that wrote the pairs (a KL penalty), stop early, and read samples.
"""

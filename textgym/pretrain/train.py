"""Train the built-in language model on documents of the built-in tasks.

``python -m textgym.lm.train --out runs/tiny`` samples documents from every task, trains a
byte-level BPE tokenizer on them, then a small Llama with a picture encoder from scratch, and writes
a transformers checkpoint with a model card. ``--install`` writes it into the package as
``textgym/tiny``.

The training has two parts. In the first, at a constant learning rate, the documents are clean, so
that the model learns to read: to find words of its prompt again, and who did what. In the second,
while the learning rate falls to 0, it learns what to write: fluent and mediocre texts
(``Task.document``), as an initial policy should, or, with ``--finish clean``, the oracle's.
docs/tiny.md has the measurements behind the defaults.

The batch of a step depends only on the seed and the step, so an interrupted run resumes from its
last checkpoint in ``--out`` with the same result. ``--first_part FOLDER`` reuses the first part of
another training.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from dataclasses import asdict
from pathlib import Path

import tokenizers
import torch
import tyro
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerFast

from textgym.errors import SettingsError
from textgym.lm.pictures import save_pictures
from textgym.lm.training_state import claim, resume, save_state
from textgym.pretrain.card import write_card
from textgym.pretrain.documents import draw_documents, training_tasks
from textgym.pretrain.learner import (
    Learner,
    make_model,
    make_optimizers,
    sharpen,
    train_step,
    weighted_mean,
)
from textgym.pretrain.packing import pack
from textgym.pretrain.settings import TrainSettings, learning_rate_at, proportions_at
from textgym.pretrain.tokenizer import EOS, train_tokenizer
from textgym.tokenization import TINY_DIR, Tokenizer, load_tokenizer

# Independent random streams: the first word of the seed. The tokenizer's is 0.
_TRAIN_STREAM, _VALIDATION_STREAM = 1, 2

# Settings that do not affect the trained weights.
_FREE = ("out", "threads", "install", "save_every", "card_prompts", "sharpness", "compile")


def train(settings: TrainSettings) -> Path:
    """Train, or resume an interrupted training.

    Returns:
        The folder of the finished checkpoint.

    Raises:
        SettingsError: If the folder has a training with other settings, or the sharpness is
            invalid.
    """
    if not 0 < settings.sharpness < math.inf:
        raise SettingsError(
            f"--sharpness {settings.sharpness} must be above 0 and finite: it multiplies the "
            "logits; 1 has no effect"
        )
    if settings.threads:
        torch.set_num_threads(settings.threads)
    out = Path(settings.out)
    claim(out, {key: value for key, value in asdict(settings).items() if key not in _FREE})
    tokenizer_file = out / "tokenizer.json"
    if settings.first_part and not tokenizer_file.exists():
        _copy_first_part(Path(settings.first_part), out)
    if not tokenizer_file.exists():
        train_tokenizer(settings).save(str(tokenizer_file))
    tokenizer = load_tokenizer(tokenizer_file)

    torch.manual_seed(settings.seed)
    learner = Learner(make_model(tokenizer, settings), settings.compile)
    optimizers = make_optimizers(learner, settings)
    progress = resume(out, learner, optimizers)
    bar = tqdm(
        range(progress["step"], settings.steps),
        initial=progress["step"],
        total=settings.steps,
        unit="step",
    )
    started = time.process_time() - progress["cpu_seconds"]
    recent: list[float] = []
    for step in bar:
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(step, settings)
        texts = draw_documents([_TRAIN_STREAM, settings.seed, step], proportions_at(step, settings))
        batch = pack(
            texts, tokenizer, settings.batch_size, settings.row_length, learner.pictures.positions
        )
        recent.append(train_step(learner, optimizers, batch, settings))
        if step % 10 == 0:
            bar.set_postfix(loss=f"{recent[-1]:.3f}")
        done = step + 1
        if done % settings.save_every == 0 or done in (settings.first_steps, settings.steps):
            progress = {"step": done, "cpu_seconds": time.process_time() - started}
            save_state(out, learner, optimizers, progress)
            if done == settings.first_steps:
                (out / "first_part").mkdir(exist_ok=True)
                shutil.copy2(out / "training.safetensors", out / "first_part")
            with (out / "log.jsonl").open("a", encoding="utf-8") as log:
                line = {**progress, "loss": sum(recent) / len(recent)}
                log.write(json.dumps(line) + "\n")
            recent.clear()
    return _finish(out, learner, tokenizer, settings, progress["cpu_seconds"])


def _copy_first_part(source: Path, out: Path) -> None:
    """Start where another training has ended its first part."""
    state = source / "first_part" / "training.safetensors"
    if not state.is_file():
        raise SettingsError(
            f"--first_part {source}: no training there has ended its first part ({state})"
        )
    shutil.copy2(state, out)
    shutil.copy2(source / "tokenizer.json", out)


def validation_loss(learner: Learner, tokenizer: Tokenizer, settings: TrainSettings) -> float:
    """The mean cross-entropy of the tokens after prompts, in nats, on the eval split."""
    texts = draw_documents(
        [_VALIDATION_STREAM, 0], proportions_at(settings.steps, settings), "eval"
    )
    batch = pack(texts, tokenizer, 64, settings.row_length, learner.pictures.positions)
    with torch.no_grad():
        return float(weighted_mean(learner(batch), batch.weights == 1))


def _finish(
    out: Path,
    learner: Learner,
    tokenizer: Tokenizer,
    settings: TrainSettings,
    cpu_seconds: float,
) -> Path:
    """Write the final checkpoint and its model card."""
    folder = TINY_DIR if settings.install else out / "model"
    folder.mkdir(parents=True, exist_ok=True)
    loss = validation_loss(learner, tokenizer, settings)
    model = learner.model
    sharpen(model, settings.sharpness)
    # bfloat16 halves the package; the model card is of the rounded weights.
    model.bfloat16().save_pretrained(folder)
    save_pictures(learner.pictures.bfloat16(), folder)
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizers.Tokenizer.from_file(str(out / "tokenizer.json")),
        eos_token=EOS,
        bos_token=EOS,
        pad_token=EOS,
        model_max_length=settings.context,
    ).save_pretrained(folder)
    if settings.card_prompts:
        write_card(
            folder,
            tasks=training_tasks("eval"),
            settings=asdict(settings),
            parameters=sum(weight.numel() for weight in model.parameters()),
            cpu_seconds=cpu_seconds,
            validation_loss=loss,
            prompts=settings.card_prompts,
        )
    return folder


def main() -> None:
    """Parse the command line and train."""
    settings = tyro.cli(TrainSettings, description=__doc__, prog="python -m textgym.lm.train")
    print(f"wrote {train(settings)}")


if __name__ == "__main__":
    main()

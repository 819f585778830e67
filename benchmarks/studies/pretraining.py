"""What makes textgym/tiny better? Trainings that differ in one choice, at equal CPU time.

    python -m benchmarks.pretraining                 # all variants, about ten CPU hours
    python -m benchmarks.pretraining --only base layers_6 --cpu_minutes 20

Each variant trains a model with the settings of :mod:`textgym.pretrain.train`, but for the one
named, and as many steps as take `cpu_minutes`, which is measured first. It ends on clean documents,
so that a score shows what the model can do. Finished variants are in `results`: started again, the
command does the missing ones, and writes the table into docs/tiny.md.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from textgym.lm.model import LanguageModel
from textgym.pretrain.documents import draw_documents, training_tasks
from textgym.pretrain.evaluation import ability, recall
from textgym.pretrain.learner import Learner, make_model, make_optimizers, train_step
from textgym.pretrain.packing import pack
from textgym.pretrain.settings import TrainSettings, proportions_at
from textgym.pretrain.tokenizer import train_tokenizer
from textgym.pretrain.train import train
from textgym.storage.files import write_json, write_text
from textgym.tokenization import load_tokenizer

ROOT = Path(__file__).parents[2]

VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "float32": {"bfloat16": False},
    "not_compiled": {"compile": False},
    "layers_6": {"layers": 6},
    "width_320": {"width": 320, "heads": 5},
    "width_192": {"width": 192, "heads": 3},
    "rows_32": {"batch_size": 32},
    "rows_8": {"batch_size": 8},
    "rate_15e-4": {"learning_rate": 1.5e-3},
    "rate_6e-3": {"learning_rate": 6e-3},
    "no_recall": {"recall": 0.0, "recall_later": 0.0},
    "equal_shares": {"hard": 1.0},
    "vocabulary_2048": {"vocab_size": 2048},
    "short_finish": {"finish_share": 0.1},
    "long_finish": {"finish_share": 0.5},
}
"""The variants: the settings in which each differs from the defaults."""


@dataclass
class Args:
    """Settings of the measurement."""

    only: tuple[str, ...] = tuple(VARIANTS)
    """Variants to train."""
    cpu_minutes: float = 20.0
    """CPU time of each training."""
    prompts: int = 128
    """Evaluation prompts per task."""
    seed: int = 0
    """Seed of the trainings."""
    threads: int = 1
    """CPU threads."""
    runs: Path = Path("runs/pretraining")
    """Folder of the trainings."""
    results: Path = ROOT / "benchmarks" / "results" / "pretraining.json"
    """The finished variants."""
    page: Path = ROOT / "docs" / "tiny.md"
    """The page with the table."""


def seconds_per_step(settings: TrainSettings, count: int = 8) -> float:
    """CPU seconds of a training step, without compilation."""
    tokenizer = load_tokenizer(Path(settings.out) / "tokenizer.json")
    learner = Learner(make_model(tokenizer, settings), settings.compile)
    optimizers = make_optimizers(learner, settings)
    began = 0.0
    for step in range(count + 3):
        if step == 3:
            began = time.process_time()
        texts = draw_documents([9, step], proportions_at(step, settings))
        batch = pack(
            texts, tokenizer, settings.batch_size, settings.row_length, learner.pictures.positions
        )
        train_step(learner, optimizers, batch, settings)
    return (time.process_time() - began) / count


def measure(name: str, args: Args) -> dict[str, Any]:
    """Train and evaluate a variant."""
    folder = args.runs / f"{name}-{args.cpu_minutes:g}-{args.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    common = TrainSettings(
        out=str(folder), finish="clean", seed=args.seed, threads=args.threads, card_prompts=0
    )
    settings = replace(common, **VARIANTS[name])
    tokenizer_file = folder / "tokenizer.json"
    if not tokenizer_file.exists():
        train_tokenizer(settings).save(str(tokenizer_file))
    plan = folder / "plan.json"
    if not plan.exists():
        seconds = seconds_per_step(settings)
        write_json(plan, {"steps": int(args.cpu_minutes * 60 / seconds), "seconds": seconds})
        torch.compiler.reset()
    planned = json.loads(plan.read_text("utf-8"))
    steps = planned["steps"]
    shorter = round(settings.constant * steps / settings.steps)
    settings = replace(settings, steps=steps, constant=shorter)
    lm = LanguageModel.load(str(train(settings)))
    found = {
        str(task): ability(lm, task, args.prompts, 1).greedy
        for task in training_tasks("eval")
        if task.level == 1
    }
    lines = (folder / "log.jsonl").read_text("utf-8").splitlines()
    last = json.loads(lines[-1])
    tokens = settings.batch_size * settings.row_length
    return {
        "parameters": sum(weight.numel() for weight in lm.parameters()),
        "tokens": planned["steps"] * tokens,
        "tokens_per_cpu_second": tokens / planned["seconds"],
        "cpu_minutes": last["cpu_seconds"] / 60,
        "loss": last["loss"],
        "recall": recall(lm),
        "greedy": found,
    }


def table(results: dict[str, Any]) -> str:
    """The finished variants in Markdown."""
    lines = [
        "| variant | weights | tokens | tokens per CPU s | loss | recall | greedy, mean | worst |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name, found in results.items():
        scores = found["greedy"]
        worst = min(scores, key=scores.__getitem__)
        lines.append(
            f"| {name} | {found['parameters'] / 1e6:.1f} M | {found['tokens'] / 1e6:.1f} M "
            f"| {found['tokens_per_cpu_second']:,.0f} | {found['loss']:.3f} "
            f"| {found['recall']:.0%} | {np.mean(list(scores.values())):.2f} "
            f"| {worst.removeprefix('TextGen/')}: {scores[worst]:.2f} |"
        )
    return "\n".join(lines)


def main(args: Args) -> None:
    """Do the missing variants, and write the table."""
    torch.set_num_threads(args.threads)
    results: dict[str, Any] = {}
    if args.results.exists():
        results = json.loads(args.results.read_text("utf-8"))
    for name in args.only:
        key = f"{name}, {args.cpu_minutes:g} CPU minutes"
        if key not in results:
            results[key] = measure(name, args)
            write_json(args.results, results)
    before, start, rest = args.page.read_text("utf-8").partition("<!-- variants -->\n")
    _, end, after = rest.partition("<!-- end of variants -->")
    write_text(args.page, f"{before}{start}{table(results)}\n{end}{after}")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))

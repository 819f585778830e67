"""TRL's side of :mod:`benchmarks.studies.trl`; runs in an environment with TRL.

``python -m benchmarks.studies.trl_side FILE`` trains TRL's GRPO as the JSON file says, and writes
``points.json`` next to the weights that it saves. Of textgym it takes the tasks: their prompts and
their scores.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from textgym.tasks import make_task
from textgym.tokenization import load_tokenizer


class Clock:
    """CPU and wall seconds of the training, without pauses."""

    def __init__(self) -> None:
        self._cpu, self._wall = self._now()
        self._paused = self._now()

    def pause(self) -> tuple[float, float]:
        """Stop the clock; returns the CPU and wall seconds so far."""
        self._paused = self._now()
        return self._paused[0] - self._cpu, self._paused[1] - self._wall

    def resume(self) -> None:
        """Start the clock again."""
        cpu, wall = self._now()
        self._cpu += cpu - self._paused[0]
        self._wall += wall - self._paused[1]

    @staticmethod
    def _now() -> tuple[float, float]:
        return sum(os.times()[:4]), time.perf_counter()


class Snapshots:
    """Saves the model at equal distances, measured in tokens of texts.

    Args:
        folder: Each snapshot is a folder in this one.
        budget: Tokens of the training.
        count: Number of snapshots, if no rollout is longer than their distance; the model before
            the training is not one of them.

    Attributes:
        tokens: Tokens of the texts that were completed.
        points: For each snapshot its folder, tokens, CPU and wall seconds.
        done: Whether the last snapshot is taken.
    """

    def __init__(self, folder: Path, budget: int, count: int) -> None:
        self.folder = folder
        self.tokens = 0
        self.points: list[dict[str, Any]] = []
        self.done = False
        self._budget, self._every = budget, budget / count
        self._next = self._every
        self._clock = Clock()

    def take(self, save: Callable[[str], Any]) -> None:
        """Save a snapshot if it is time, by ``save(folder)``; the clock stands still."""
        if self.tokens < self._next:
            return
        cpu, wall = self._clock.pause()
        name = f"snapshot-{self.tokens}"
        save(str(self.folder / name))
        self.points.append({"folder": name, "tokens": self.tokens, "cpu": cpu, "wall": wall})
        self._next = (self.tokens // self._every + 1) * self._every
        self.done = self.tokens >= self._budget
        self._clock.resume()


def train(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train, and save snapshots.

    Args:
        job: ``lm`` (path of the model), ``task``, ``prompts`` (their number), ``seed``,
            ``tokens`` (the budget), ``points`` (number of snapshots), ``settings`` (of GRPOConfig).
        folder: For the snapshots.

    Returns:
        The points and TRL's version.

    Raises:
        ValueError: If TRL's tokenizer gives a prompt other tokens than textgym.
    """
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback

    trl: Any = importlib.import_module("trl")
    torch.set_num_threads(1)
    task = make_task(job["task"])
    rng = np.random.default_rng(np.random.SeedSequence([job["seed"], 0]))
    rows = [task.sample(rng) for _ in range(job["prompts"])]
    tokenizer = AutoTokenizer.from_pretrained(job["lm"], padding_side="left")
    ours = load_tokenizer(job["lm"])
    for row in rows[:100]:
        theirs = tokenizer(text=row["prompt"])["input_ids"]
        if list(theirs) != list(ours.prompt_ids(row["prompt"])):
            raise ValueError(f"TRL reads other tokens of the prompt {row['prompt']!r}")

    def score(completions: list[str], index: list[int], completion_ids: Any, **_: Any) -> Any:
        snapshots.tokens += sum(map(len, completion_ids))
        return [task.score(text, rows[at]) for text, at in zip(completions, index, strict=True)]

    def save(path: str) -> None:
        trainer.model.save_pretrained(path)
        tokenizer.save_pretrained(path)

    class Save(TrainerCallback):
        """Saves snapshots between two rollouts, and ends the training."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            # The steps on one rollout: the last one is before the next rollout.
            if state.global_step % job["steps_per_rollout"] == 0:
                snapshots.take(save)
                control.should_training_stop |= snapshots.done

    config = trl.GRPOConfig(
        output_dir=str(folder / "trainer"),
        max_completion_length=task.max_new_tokens,
        max_steps=10**6,
        lr_scheduler_type="constant",
        seed=job["seed"],
        use_cpu=True,
        # Without checkpointing and mixed precision TRL is faster here.
        gradient_checkpointing=False,
        bf16=False,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        **job["settings"],
    )
    data = {"prompt": [row["prompt"] for row in rows], "index": list(range(len(rows)))}
    trainer = trl.GRPOTrainer(
        model=job["lm"],
        reward_funcs=score,
        args=config,
        train_dataset=Dataset.from_dict(data),
        processing_class=tokenizer,
        callbacks=[Save()],
    )
    snapshots = Snapshots(folder, job["tokens"], job["points"])
    trainer.train()
    return {"points": snapshots.points, "trl": version("trl")}


def main(path: str) -> None:
    """Do the job in a file."""
    file = Path(path)
    found = train(json.loads(file.read_text("utf-8")), file.parent)
    (file.parent / "points.json").write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])

"""A reward learned from preferences, on pairs with a known judge.

    python -m benchmarks.preferences
    python -m benchmarks.preferences --pairs 8000 --out runs/preferences

A judge who knows the score of TextGen/Sentiment-v0 compares two reviews of one prompt and prefers
the better one with the Bradley-Terry probability ``sigmoid(sharpness * (score - other score))``. A
reward is trained on the preferences, with `textgym.rewards.train`, and then compared with the
hidden score. No reward can agree with such a judge more often than the judge agrees with the score,
which is the ceiling in the table.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agents.running.command_line import command_line
from textgym.rewards.preferences.calibration import calibration_of, plot_calibration, scores_of
from textgym.rewards.preferences.model import PreferenceModel
from textgym.rewards.preferences.pairs import Pair
from textgym.rewards.preferences.settings import TrainSettings
from textgym.rewards.preferences.training import train
from textgym.storage.files import write_text
from textgym.tasks import Row, make_task

TASK = "TextGen/Sentiment-v0"
"""The task whose score the judge knows."""


@dataclass
class Settings:
    """Settings of the benchmark."""

    pairs: int = 4000
    """Pairs to train on; a tenth of their prompts chooses the step."""
    test_pairs: int = 1000
    """Pairs of the task's eval split to judge the reward on."""
    sharpness: float = 8.0
    """How sharply the judge distinguishes two scores."""
    lm: str = "textgym/tiny"
    """Language model that the reward is trained from."""
    epochs: int = 3
    """Times that each pair is read, at most."""
    learning_rate: float = 1e-3
    """Peak learning rate of the reward."""
    seed: int = 0
    """Seed of the pairs and of the training."""
    threads: int = 1
    """CPU threads of torch."""
    device: str = "auto"
    """Device of the model."""
    out: Path = Path("runs/preferences")
    """Folder of the pairs and of the reward, which are replaced."""
    plot: Path | None = None
    """Where to draw the calibration on the test pairs, .png or .svg."""


@dataclass(frozen=True)
class Judged:
    """A pair, and the scores of its two texts, which only the judge knows."""

    pair: Pair
    better: float
    worse: float


def judged_pairs(count: int, sharpness: float, seed: int, split: str) -> list[Judged]:
    """Pairs of mediocre reviews, as a judge with Bradley-Terry noise preferred them."""
    task = make_task(TASK, split=split)
    write = task.baselines()["mediocre"]
    rng = np.random.default_rng(np.random.SeedSequence([seed, split == "eval"]))
    made: list[Judged] = []
    while len(made) < count:
        row: Row = task.sample(rng)
        texts = write(row, rng), write(row, rng)
        first, second = (task.score(text, row) for text in texts)
        wins = rng.random() < 1 / (1 + np.exp(sharpness * (second - first)))
        if texts[0] == texts[1]:
            continue
        if wins:
            made.append(Judged(Pair(row["prompt"], *texts), first, second))
        else:
            made.append(Judged(Pair(row["prompt"], *texts[::-1]), second, first))
    return made


def compare(settings: Settings) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Make the pairs, and train; draw the calibration if that is asked for.

    Returns:
        On the test pairs the rewards, and the scores that only the judge knows; both ``[n, 2]``, of
        the preferred and of the other texts.
    """
    shutil.rmtree(settings.out / "reward", ignore_errors=True)
    settings.out.mkdir(parents=True, exist_ok=True)
    file = settings.out / "pairs.jsonl"
    learn = judged_pairs(settings.pairs, settings.sharpness, settings.seed, "train")
    write_text(file, "".join(json.dumps(asdict(one.pair)) + "\n" for one in learn))
    folder = train(
        TrainSettings(
            pairs=str(file),
            lm=settings.lm,
            out=str(settings.out / "reward"),
            epochs=settings.epochs,
            learning_rate=settings.learning_rate,
            seed=settings.seed,
            threads=settings.threads,
            device=settings.device,
        )
    )
    test = judged_pairs(settings.test_pairs, settings.sharpness, settings.seed, "eval")
    model = PreferenceModel.load(str(folder), settings.device)
    rewards = model.judge(model.encode_pairs([one.pair for one in test]))
    latent = np.array([(one.better, one.worse) for one in test])
    if settings.plot is not None:
        table = calibration_of(rewards[:, 0] - rewards[:, 1], np.ones(len(test)))
        title = f"reward from {settings.pairs:,} preferences, {TASK}"
        plot_calibration(table, settings.plot, title)
    return rewards, latent


def main(settings: Settings) -> None:
    """Compare, and print."""
    for line in report(*compare(settings), settings.sharpness):
        print(line)
    if settings.plot is not None:
        print(f"wrote {settings.plot}")


def figures(
    rewards: NDArray[np.float64], latent: NDArray[np.float64], sharpness: float
) -> dict[str, float]:
    """How often reward and score agree with the judge, and the reward ranks as the score does."""
    learned = rewards[:, 0] - rewards[:, 1]
    known = sharpness * (latent[:, 0] - latent[:, 1])
    one = np.ones(len(known))
    return {
        "agrees": scores_of(learned, one)["accuracy"],
        "ceiling": scores_of(known, one)["accuracy"],
        "ranks": scores_of(learned, (np.sign(known) + 1) / 2)["accuracy"],
    }


def report(
    rewards: NDArray[np.float64], latent: NDArray[np.float64], sharpness: float
) -> list[str]:
    """The table, from rewards and scores ``[n, 2]`` of the preferred and of the other texts."""
    learned = rewards[:, 0] - rewards[:, 1]
    known = sharpness * (latent[:, 0] - latent[:, 1])
    one = np.ones(len(known))
    ours, ceiling = scores_of(learned, one), scores_of(known, one)
    lines = ["", f"{len(known)} pairs of prompts of the eval split", ""]
    lines += ["| | learned reward | the judge's score (ceiling) |", "|---|---:|---:|"]
    names = {
        "accuracy": "agrees with the judge",
        "log_loss": "log-loss, nats",
        "brier": "Brier score",
        "ece": "expected calibration error",
        "ece_by_chance": "the same, by chance",
    }
    lines += [f"| {what} | {ours[key]:.3f} | {ceiling[key]:.3f} |" for key, what in names.items()]
    ranking = figures(rewards, latent, sharpness)["ranks"]
    lines.append(f"| ranks two texts as the score does | {ranking:.3f} | 1.000 |")
    together = float(np.corrcoef(learned, known)[0, 1])
    lines.append(f"| correlation with the difference of scores | {together:.3f} | 1.000 |")
    return lines


if __name__ == "__main__":
    command_line("benchmarks.preferences", Settings(), __doc__, main)

"""The gate of textgym/tiny: fluent, able to read, and mediocre, so that RL has something to do."""

import hashlib
import re

import numpy as np
import pytest

from textgym.lm import LanguageModel
from textgym.pretrain.card import prompts_at
from textgym.pretrain.documents import training_tasks
from textgym.pretrain.evaluation import ability, recall
from textgym.tokenization import TINY_DIR

CARD = (TINY_DIR / "README.md").read_text("utf-8")
ROW = re.compile(
    r"^\| (TextGen/.*?) \| [\d.]+ \| ([\d.]+) ± ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| (\d+)% \|", re.M
)
FIGURES = {name: tuple(map(float, values)) for name, *values in ROW.findall(CARD)}
LOWEST = {1: 0.25, 2: 0.1, 3: 0.05}
TASKS = {str(task): task for task in training_tasks("eval")}


def test_the_card_has_every_task():
    assert list(FIGURES) == list(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_begins_with_mediocre_scores(name):
    sampled, _, best, greedy, _ = FIGURES[name]
    level = TASKS[name].level
    assert sampled >= LOWEST[level]
    if level == 1:
        assert sampled <= 0.6
        assert best >= 0.8
    assert best >= sampled
    assert greedy > 0


def test_texts_are_fluent():
    found = [figures[4] for name, figures in FIGURES.items() if TASKS[name].level == 1]
    assert np.mean(found) >= 90


def test_prompts_are_read():
    found = re.search(r"recall, by the likeliest tokens: (\d+)%", CARD)
    assert found
    assert int(found[1]) >= 95


def test_the_card_is_of_these_weights():
    for name in ("model.safetensors", "picture_encoder.safetensors"):
        digest = hashlib.sha256((TINY_DIR / name).read_bytes()).hexdigest()
        assert digest in CARD
    assert sum(file.stat().st_size for file in TINY_DIR.iterdir()) < 16e6


@pytest.mark.parametrize("task", ["Caption", "Dialogue", "QA", "Sentiment"])
def test_a_few_prompts_confirm_the_card(task):
    """32 prompts: the mean may differ by 4 of its own standard errors."""
    name = f"TextGen/{task}-v0, level 1"
    found = ability(LanguageModel.load(device="cpu"), TASKS[name], 32, 2)
    assert found.sampled == pytest.approx(FIGURES[name][0], abs=2 * found.error + 0.02)


def test_recall_of_the_shipped_model():
    assert recall(LanguageModel.load(device="cpu"), 64) >= 0.9


@pytest.mark.full
@pytest.mark.parametrize("name", TASKS)
def test_the_card_can_be_measured_again(name):
    """Kernels of another machine round differently, so single texts differ, and means hardly."""
    sampled, error, best, greedy, _ = FIGURES[name]
    task = TASKS[name]
    found = ability(LanguageModel.load(device="cpu"), task, prompts_at(task.level, 256), 16)
    assert found.sampled == pytest.approx(sampled, abs=error + 0.01)
    assert found.best == pytest.approx(best, abs=0.03)
    assert found.greedy == pytest.approx(greedy, abs=0.03)

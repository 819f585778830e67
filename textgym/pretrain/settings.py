"""Settings of the training of textgym/tiny, and its schedules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from textgym.pretrain.documents import Proportions


@dataclass
class TrainSettings:
    """Settings of a training; the defaults made ``textgym/tiny``."""

    out: str = "runs/tiny"
    """Folder of the checkpoints."""
    steps: int = 3600
    """Optimizer steps."""
    batch_size: int = 32
    """Rows of a batch; each is packed with documents."""
    row_length: int = 256
    """Tokens of a row."""
    learning_rate: float = 3e-3
    """Learning rate after the warm-up, for matrices and the rest."""
    warmup: int = 100
    """Steps of linear warm-up."""
    finish_share: float = 0.25
    """Share of the steps in which the learning rate falls to 0."""
    finish: Literal["mediocre", "clean"] = "mediocre"
    """Documents of that part: mediocre, for an initial policy, or clean."""
    finish_clean: float = 0.0
    """Share of clean documents among the mediocre ones."""
    hard: float = 3.0
    """Weight of tasks that are learned late; the others have 1."""
    easy: float = 2.0
    """Level n of a task has the weight n ** -easy."""
    recall: float = 0.2
    """Share of documents that train recall in the first step."""
    recall_steps: int = 1250
    """Steps in which that share falls to a tenth, linearly."""
    weight_decay: float = 0.05
    """Weight decay, on matrices only."""
    vocab_size: int = 3072
    """Maximum size of the vocabulary."""
    layers: int = 4
    """Transformer blocks."""
    width: int = 256
    """Size of a hidden state."""
    heads: int = 4
    """Attention heads."""
    context: int = 384
    """Longest text in tokens."""
    tokenizer_documents: int = 50_000
    """Documents that the BPE tokenizer is trained on."""
    first_part: str = ""
    """Folder of a training that has done the first part with the same settings; empty for none."""
    save_every: int = 100
    """Steps between checkpoints."""
    card_prompts: int = 256
    """Prompts per task and level that are evaluated for the model card. 0: no card."""
    sharpness: float = 1.0
    """Factor that the trained logits are multiplied by in the checkpoint."""
    bfloat16: bool = True
    """Compute in bfloat16; the weights are float32."""
    compile: bool = True
    """Compile the model, which needs a C++ compiler."""
    seed: int = 0
    """Seed of the data and of the initial weights."""
    threads: int = 0
    """CPU threads of torch. 0: torch's own choice."""
    install: bool = False
    """Write the checkpoint into the package, as textgym/tiny."""

    @property
    def first_steps(self) -> int:
        """Steps of the first part."""
        return self.steps - round(self.finish_share * self.steps)


def learning_rate_at(step: int, settings: TrainSettings) -> float:
    """Linear warm-up, then constant, then a linear fall to 0 ("warm-up, stable, decay")."""
    left = (settings.steps - step) / max(1, settings.steps - settings.first_steps)
    return settings.learning_rate * min(1.0, (step + 1) / max(1, settings.warmup), left)


def proportions_at(step: int, settings: TrainSettings) -> Proportions:
    """What the documents of a step are drawn from."""
    recall = settings.recall * max(0.1, 1 - step / settings.recall_steps)
    clean = 1.0
    if step >= settings.first_steps and settings.finish == "mediocre":
        clean = settings.finish_clean
    return Proportions(clean, recall, settings.hard, settings.easy)

"""Settings of the training of textgym/tiny, and its schedules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from textgym.pretrain.documents import HARD, LATE, Proportions


@dataclass
class TrainSettings:
    """Settings of a training; the defaults made ``textgym/tiny``."""

    out: str = "runs/tiny"
    """Folder of the checkpoints."""
    steps: int = 9000
    """Optimizer steps."""
    batch_size: int = 16
    """Rows of a batch; each is packed with documents."""
    row_length: int = 256
    """Tokens of a row."""
    learning_rate: float = 3e-3
    """Learning rate after the warm-up, for matrices and the rest."""
    warmup: int = 100
    """Steps of linear warm-up."""
    constant: int = 3200
    """Steps after which the learning rate falls, linearly to 0 in the last step."""
    finish_share: float = 0.3
    """Share of the steps in the second part of the training, which ends it."""
    finish: Literal["mediocre", "clean"] = "mediocre"
    """Documents of that part: mediocre, for an initial policy, or clean."""
    finish_clean: float = 0.0
    """Share of clean documents among the mediocre ones."""
    hard: float = 3.0
    """Weight of tasks that are learned late, in the first part; the others have 1."""
    finish_hard: float = 1.5
    """The same in the second part."""
    easy: float = 2.0
    """Level n of a task has the weight n ** -easy."""
    recall: float = 0.5
    """Share of documents that train recall while the learning rate is constant."""
    recall_later: float = 0.15
    """That share in the rest of the first part; in the second part it is a third of this."""
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
    offsets: tuple[int, ...] = (1, 2)
    """The first heads of the first layer initially attend to the token this many places before
    (`textgym.pretrain.offset_heads`)."""
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
    left = (settings.steps - step) / max(1, settings.steps - settings.constant)
    return settings.learning_rate * min(1.0, (step + 1) / max(1, settings.warmup), left)


def proportions_at(step: int, settings: TrainSettings) -> Proportions:
    """What the documents of a step are drawn from."""
    if step < settings.first_steps:
        early = step < settings.constant
        recall = settings.recall if early else settings.recall_later
        return Proportions(1.0, recall, HARD if early else LATE, settings.hard, settings.easy)
    clean = 1.0 if settings.finish == "clean" else settings.finish_clean
    recall = settings.recall_later / 3
    return Proportions(clean, recall, LATE, settings.finish_hard, settings.easy)

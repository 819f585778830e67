"""The settings of a training on preferences."""

from __future__ import annotations

from dataclasses import dataclass, field

from textgym.errors import SettingsError


@dataclass
class TrainSettings:
    """Settings of a training; the defaults suit ``textgym/tiny`` and some thousand pairs."""

    pairs: str = field(metadata={"help": ".jsonl, .csv or .parquet file of pairs, or hf:NAME"})
    lm: str = field(
        default="textgym/tiny", metadata={"help": "language model to put a head on: folder or id"}
    )
    out: str = field(default="runs/reward", metadata={"help": "folder of the checkpoints"})
    eval_pairs: str | None = field(
        default=None, metadata={"help": "pairs of their own to judge on; else some are held out"}
    )
    held_out: float = field(default=0.1, metadata={"help": "share of the prompts to judge on"})
    ties: str = field(
        default="soft", metadata={"help": "rows with a preference of 0.5: soft (a label) or skip"}
    )
    epochs: int = field(default=3, metadata={"help": "times that each pair is read, at most"})
    batch_size: int = field(default=32, metadata={"help": "pairs a step"})
    learning_rate: float = field(
        default=1e-3, metadata={"help": "peak, after warm-up; large models want about 1e-5"}
    )
    warmup: int = field(default=20, metadata={"help": "steps of linear warm-up"})
    weight_decay: float = field(default=0.05, metadata={"help": "AdamW's, on matrices"})
    centering: float = field(
        default=0.0, metadata={"help": "draws rewards to 0, and their differences with them"}
    )
    max_tokens: int = field(
        default=0, metadata={"help": "longest text, its end is kept; 0: the model's context"}
    )
    eval_every: int = field(default=25, metadata={"help": "steps between evaluations and saves"})
    patience: int = field(
        default=6, metadata={"help": "evaluations without a better loss before it stops"}
    )
    seed: int = field(default=0, metadata={"help": "of the order of the pairs"})
    threads: int = field(default=0, metadata={"help": "CPU threads; 0: torch's choice"})
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda, ..."})

    def check(self) -> None:
        """Refuse values that cannot be meant.

        Raises:
            SettingsError: It names the option.
        """
        for name in ("epochs", "batch_size", "eval_every", "patience"):
            if getattr(self, name) < 1:
                raise SettingsError(f"--{name} must be at least 1, not {getattr(self, name)}")
        for name in ("warmup", "weight_decay", "centering", "max_tokens", "threads"):
            if not getattr(self, name) >= 0:
                raise SettingsError(f"--{name} must be at least 0, not {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise SettingsError(f"--learning_rate must be above 0, not {self.learning_rate}")
        if not 0 < self.held_out < 1:
            raise SettingsError(
                f"--held_out is a share of the prompts, above 0 and below 1, not {self.held_out}"
            )
        if self.ties not in ("soft", "skip"):
            raise SettingsError(f"--ties must be 'soft' or 'skip', not {self.ties!r}")

"""The settings of a training on preferences."""

from __future__ import annotations

from dataclasses import dataclass

from textgym.errors import SettingsError


@dataclass
class TrainSettings:
    """Settings of a training; the defaults suit ``textgym/tiny`` and some thousand pairs."""

    pairs: str
    """File of pairs (.jsonl, .csv or .parquet), or hf:NAME."""
    lm: str = "textgym/tiny"
    """Language model that gets the scalar head: a folder or hub name."""
    out: str = "runs/reward"
    """Folder of the checkpoints."""
    eval_pairs: str | None = None
    """Pairs to evaluate on, in the same forms. Default: some of --pairs are held out."""
    held_out: float = 0.1
    """Share of the prompts that is held out for evaluation."""
    ties: str = "soft"
    """Rows with a preference of 0.5: soft keeps them as a soft label, skip leaves them out."""
    epochs: int = 3
    """Maximum number of passes over the pairs."""
    batch_size: int = 32
    """Pairs per optimizer step."""
    learning_rate: float = 1e-3
    """Peak learning rate, after warm-up; about 1e-5 for large models."""
    warmup: int = 20
    """Steps of linear warm-up."""
    weight_decay: float = 0.05
    """Weight decay of AdamW, on matrices only."""
    centering: float = 0.0
    """Weight of a loss that pulls rewards towards 0, and shrinks their differences."""
    max_tokens: int = 0
    """Longest text in tokens; longer ones keep their end. 0: the model's context."""
    eval_every: int = 25
    """Steps between two evaluations, each of which saves the training."""
    patience: int = 6
    """Evaluations without a better loss before the training stops."""
    seed: int = 0
    """Seed of the order of the pairs."""
    threads: int = 0
    """CPU threads of torch. 0: torch's own choice."""
    device: str = "auto"
    """Device of the model: auto, cpu, cuda, ..."""

    def check(self) -> None:
        """Refuse impossible values.

        Raises:
            SettingsError: If there is one; it names the flag.
        """
        for name in ("epochs", "batch_size", "eval_every", "patience"):
            if getattr(self, name) < 1:
                raise SettingsError(
                    f"--{name.replace('_', '-')} must be at least 1, not {getattr(self, name)}"
                )
        for name in ("warmup", "weight_decay", "centering", "max_tokens", "threads"):
            if not getattr(self, name) >= 0:
                raise SettingsError(
                    f"--{name.replace('_', '-')} must be at least 0, not {getattr(self, name)}"
                )
        if not self.learning_rate > 0:
            raise SettingsError(f"--learning-rate must be above 0, not {self.learning_rate}")
        if not 0 < self.held_out < 1:
            raise SettingsError(
                f"--held-out is a share of the prompts, above 0 and below 1, not {self.held_out}"
            )
        if self.ties not in ("soft", "skip"):
            raise SettingsError(f"--ties must be 'soft' or 'skip', not {self.ties!r}")

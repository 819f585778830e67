"""Supervised fine-tuning: the language model learns to write the references. A warm start for RL.

    python -m agents.sft --env TextGen/Story-v0 --steps 50_000
    python -m agents.sft --env TextGen/Story-v0 --data demonstrations.jsonl
    python -m agents.ppo --env TextGen/Story-v0 --lm runs/FOLDER/lm

The first and the last command in one: ``agents.ppo --env TextGen/Story-v0 --warm-start 50_000``.

Behavioural cloning, the first stage of Ziegler et al. 2019 (https://arxiv.org/abs/1909.08593) and
Ouyang et al. 2022 (https://arxiv.org/abs/2203.02155): cross-entropy on the completions, eos
included, and on nothing else.

The demonstrations are played: the oracle (agents/oracle.py) writes the references in the
environment, for its prompts, and those texts are learned. So the token ids are those that a policy
would see and write: prompts are truncated, completions are tokenised apart from them, and in
conversations only the agent's turns are learned, between the other side's real answers. A step is
one token that is learned, as a step of PPO is one token that is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from agents.running.command_line import check_flags, command_line
from agents.running.run import ModelSettings, run
from agents.running.validation import at_least
from agents.running.word_model import starting_model


@dataclass
class Settings(ModelSettings):
    """Settings of supervised fine-tuning; `steps` counts the tokens that are learned."""

    lm: str | None = None
    """Language model to train, a folder or hub name; the environment uses its tokenizer too.
    Default: textgym/tiny, or for a closed vocabulary a small new model of its words."""
    lr: float = 5e-4
    """Learning rate of Adam."""
    lr_schedule: Literal["linear", "cosine", "constant"] = "constant"
    """Keep the learning rate constant, or let it fall over --steps, to a tenth."""
    data: str | None = None
    """Demonstrations of your own, a .jsonl, .csv or .parquet file.
    Its rows have prompt and completion (or reference). Default: the environment's references."""
    batch_size: int = 32
    """Texts per gradient step."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""

    def __post_init__(self) -> None:
        """Refuse impossible numbers."""
        super().__post_init__()
        at_least(1, batch_size=self.batch_size)


if __name__ == "__main__":
    check_flags("agents.sft", Settings(), __doc__)  # Before the slow imports.

from stable_baselines3.common.vec_env import VecEnv

from agents.running.supervised import SFT, demonstrations
from textgym.sb3 import LMPolicy

__all__ = ["SFT", "Settings", "demonstrations", "main", "make_agent"]


def make_agent(venv: VecEnv, seed: int, settings: Settings | None = None) -> SFT:
    """Build the agent.

    Args:
        venv: Environment of token ids, from `textgym.sb3.make_vec_env`.
        seed: Seed of prompts and sampling, and of a new model's weights.
        settings: Settings; the defaults if None.
    """
    s = settings or Settings()
    return SFT(
        LMPolicy,
        venv,
        learning_rate=s.learning_rate,
        batch_size=s.batch_size,
        max_grad_norm=s.max_grad_norm,
        data=s.data,
        policy_kwargs=s.policy_kwargs(starting_model(venv, s.lm, seed, s.out)),
        seed=seed,
        device=s.device,
    )


def main(settings: Settings) -> None:
    """Train and evaluate."""
    run("sft", settings, partial(make_agent, settings=settings))


if __name__ == "__main__":
    command_line("agents.sft", Settings(), __doc__, main)

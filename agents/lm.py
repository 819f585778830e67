"""The language model without any training: sampling or greedy decoding.

    python -m agents.lm --env TextGen/Sentiment-v0
    python -m agents.lm --sampling greedy
    python -m agents.lm --temperature 0.7 --top-p 0.9 --lm runs/FOLDER/lm

The baseline of every trained agent, and a way to evaluate a trained model again under other
sampling settings. Top-k sampling is Fan et al. 2018 (https://arxiv.org/abs/1805.04833), top-p
sampling Holtzman et al. 2020 (https://arxiv.org/abs/1904.09751).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from agents.running.command_line import command_line
from agents.running.run import RunSettings, run
from agents.running.word_model import starting_model

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

    from agents.running.lm_agent import LMAgent


@dataclass
class Settings(RunSettings):
    """Settings of decoding, on top of those of every run."""

    lm: str | None = None
    """Language model that writes, a folder or hub name; the environment uses its tokenizer too.
    Default: textgym/tiny, or for a closed vocabulary a small new model of its words."""
    sampling: Literal["sample", "greedy"] = "sample"
    """Sample tokens, or always take the likeliest."""
    temperature: float = 1.0
    """Logits are divided by it; below 1 is sharper."""
    top_k: int | None = None
    """Sample from this many of the likeliest tokens only. Default: all."""
    top_p: float | None = None
    """Sample from the likeliest tokens that reach this probability together. Default: all."""


def make_agent(venv: VecEnv, seed: int, settings: Settings | None = None) -> LMAgent:
    """Build the agent.

    Args:
        venv: Environment of token ids, from `textgym.sb3.make_vec_env`.
        seed: Seed of sampling, and of a new model's weights.
        settings: Settings; the defaults if None.
    """
    # Imported here, so that --help does not wait for torch.
    from agents.running.lm_agent import LMAgent
    from textgym.sb3 import LMPolicy

    s = settings or Settings()
    sampling = {"temperature": s.temperature, "top_k": s.top_k, "top_p": s.top_p}
    return LMAgent(
        LMPolicy,
        venv,
        greedy=s.sampling == "greedy",
        policy_kwargs={"lm": starting_model(venv, s.lm, seed, s.out), "sampling": sampling},
        seed=seed,
        device=s.device,
    )


def main(settings: Settings) -> None:
    """Evaluate; there is nothing to train."""
    run("lm", settings, partial(make_agent, settings=settings))


if __name__ == "__main__":
    command_line("agents.lm", Settings(), __doc__, main)

"""A language model as it is: it samples, or takes the likeliest token, and learns nothing.

    python -m agents.lm --env TextGen/Sentiment-v0
    python -m agents.lm --sampling greedy
    python -m agents.lm --temperature 0.7 --top-p 0.9 --lm runs/FOLDER/lm

What every trained agent has to beat, and how a trained model is judged once more under other
sampling. Top-k sampling is Fan et al. 2018 (https://arxiv.org/abs/1805.04833), top-p sampling
Holtzman et al. 2020 (https://arxiv.org/abs/1904.09751).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from stable_baselines3.common.vec_env import VecEnv

from agents.running.command_line import command_line
from agents.running.lm_agent import LMAgent
from agents.running.run import RunSettings, run
from agents.running.word_model import starting_model
from textgym.sb3 import LMPolicy


@dataclass
class Settings(RunSettings):
    """Settings of writing."""

    lm: str | None = None
    """Language model that writes, a folder or hub name; the environment uses its tokenizer too.
    Default: textgym/tiny, or for a closed vocabulary a small new model of its words."""
    sampling: Literal["sample", "greedy"] = "sample"
    """Draw tokens, or always take the likeliest."""
    temperature: float = 1.0
    """Logits are divided by it; below 1 is sharper."""
    top_k: int | None = None
    """Only so many of the likeliest tokens are possible. Default: all."""
    top_p: float | None = None
    """Only the likeliest tokens are possible, as many as reach this probability. Default: all."""


def make_agent(venv: VecEnv, seed: int, settings: Settings | None = None) -> LMAgent:
    """Build the agent.

    Args:
        venv: Environment of token ids, from `textgym.sb3.make_vec_env`.
        seed: Seed of sampling, and of a new model's weights.
        settings: Settings; the defaults if None.
    """
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

"""The two-minute demonstration, `make demo`: PPO makes a small language model write happier texts.

It is `python -m agents.ppo` with the settings below, on the built-in language model.
"""

from __future__ import annotations

from agents.common import run
from agents.ppo import Settings, make_agent

SETTINGS = Settings(env="TextGen/Sentiment-v0", steps=50_000, eval_episodes=256, threads=1)
"""Chosen to end within about two minutes. The model is so small that a second thread only waits."""

if __name__ == "__main__":
    run("demo", SETTINGS, make_agent)

"""The two-minute demo, `make demo`: PPO trains a small language model to write happier texts.

It is `python -m agents.ppo` with other defaults (`SETTINGS` below; tuned settings are not used),
and two more numbers at the end: the share of texts that are grammatical, since a policy could also
trade grammar for praise, and the CPU time of the training. `python -m agents.demo --help` lists the
settings; `make demo DEMO_ARGS="..."` passes them on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from agents.ppo import Settings, make_agent
from agents.running.command_line import command_line
from agents.running.run import run
from textgym.tasks.sentiment.reader import read
from textgym.tasks.sentiment.task import Sentiment

SETTINGS = Settings(
    env="TextGen/Sentiment-v0",
    dense=True,
    sampling_top_p=0.97,
    steps=53_000,
    eval_episodes=256,
    threads=1,
)
"""Ends within about two minutes. The model is too small for a second thread to help. `dense` pays
each opinion when it is written, so that the value function learns which words earned the reward.
The unlikeliest tokens, 3 % in all, are never drawn, as they would spoil one text in ten."""


def grammatical(prompt: str, response: str) -> bool:
    """Whether a response completes a prompt of `Sentiment` into sentences of its grammar."""
    row = Sentiment().complete_row({"prompt": prompt})
    return read(response, row["subject"], row["opening"]).lost_points == 0


def grammatical_share(texts: Iterable[tuple[str, str]]) -> float:
    """Share of pairs (prompt, response) without any grammatical error."""
    results = [grammatical(prompt, response) for prompt, response in texts]
    return sum(results) / len(results)


def main(settings: Settings) -> None:
    """Train and evaluate, then count the grammatical texts."""
    folder = run("demo", settings, partial(make_agent, settings=settings))
    if settings.env_id == Sentiment.id:
        before, after = grammar(folder)
        results = json.loads((folder / "run.json").read_text("utf-8"))["results"]
        # A warm start counts: it is part of the way to the texts after.
        stages = (results, results.get("warm_start", {}))
        seconds = sum(stage.get("cpu_seconds", 0.0) for stage in stages)
        print(f"grammatical to the last word: {before:.0%} of the texts before, {after:.0%} after")
        print(f"CPU time of the training: {seconds:.0f} s")


def grammar(folder: Path) -> tuple[float, float]:
    """The share of grammatical texts among the evaluation samples of a run, before and after."""
    lines = (folder / "samples.jsonl").read_text("utf-8").splitlines()
    samples = [json.loads(line) for line in lines]
    before, after = (
        grammatical_share((sample["prompt"], sample[when]) for sample in samples)
        for when in ("before", "after")
    )
    return before, after


if __name__ == "__main__":
    command_line("agents.demo", SETTINGS, __doc__, main)

"""Choosing among a language model's proposals: the benefit of learning to choose.

    python -m benchmarks results --only topk
    python -m benchmarks.topk --seeds 0 1 2 --steps 50000

Fixed rules (the likeliest proposal, a random one, sampling from the language model) compared with
agents that learn to choose (DQN, QR-DQN, tabular Q-learning), on a task whose only reward
comes at the end of a text. Every agent answers the same prompts of the eval split, with every seed:
intervals are of the mean over prompts of each prompt's mean over the seeds (normal approximation).
The means of the seeds are next to them, as they also differ by luck in training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv

from agents import dqn_topk, q_learning
from agents.running.command_line import command_line
from agents.running.environments import make_env
from agents.running.evaluation import Agent, evaluate
from agents.running.run import RunSettings
from benchmarks.campaign.study import Findings, Scale, Study, job
from benchmarks.suites.runner import Plan
from textgym.wrappers.proposals import fillers

Choose = Callable[[Any, np.random.Generator], Any]


@dataclass
class Settings:
    """Settings of the comparison."""

    env: str = "TextGen/Sentiment-v0"
    """Environment id."""
    lm: str | None = None
    """Language model that proposes. Default: textgym/tiny."""
    k: int = 8
    """Number of proposals."""
    steps: int = 50_000
    """Length of each training in tokens."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of training; fixed rules use them for their choices."""
    episodes: int = 256
    """Evaluation episodes for each seed."""
    agents: tuple[str, ...] = ("greedy", "random", "sampling", "dqn", "qrdqn", "q_learning")
    """The agents to compare."""
    threads: int = 1
    """CPU threads of torch."""
    device: str = "auto"
    """Device of the models."""


@dataclass
class Rule:
    """An agent that chooses by a fixed rule."""

    choose: Choose
    rng: np.random.Generator

    def learn(self, total_timesteps: int, callback: Any = None) -> Rule:
        """Learn nothing."""
        return self

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: Any = 0
    ) -> tuple[Any, Any]:
        """Choose one proposal per row."""
        return self.choose(observation, self.rng), None


def greedy(observation: Any, rng: np.random.Generator) -> Any:
    """The likeliest proposal."""
    return np.zeros(len(observation["candidates"]), np.int64)


def uniform(observation: Any, rng: np.random.Generator) -> Any:
    """Any proposal."""
    return rng.integers((~fillers(observation["candidates"])).sum(1))


def sampled(observation: Any, rng: np.random.Generator) -> Any:
    """A proposal in proportion to its probability."""
    log_probs = np.where(fillers(observation["candidates"]), -np.inf, observation["logprobs"])
    return (log_probs + rng.gumbel(size=log_probs.shape)).argmax(1)


@dataclass(frozen=True)
class Contestant:
    """One row of the table: its name, its settings, and how it is made."""

    name: str
    settings: RunSettings
    make: Callable[[VecEnv, int, Any], Agent]


def contestants(s: Settings) -> dict[str, Contestant]:
    """All that can be compared, by name."""
    common: dict[str, Any] = {
        "env": s.env, "lm": s.lm, "k": s.k, "steps": s.steps, "device": s.device
    }  # fmt: skip

    def rule(choose: Choose) -> Callable[[VecEnv, int, Any], Agent]:
        return lambda venv, seed, _: Rule(choose, np.random.default_rng(seed))

    idle = q_learning.Settings(**{**common, "steps": 0})
    everything = replace(idle, k=2**62)  # All tokens are proposals: the language model itself.
    dqn = dqn_topk.Settings(**common)
    return {
        "greedy": Contestant("likeliest proposal (greedy decoding)", idle, rule(greedy)),
        "random": Contestant("random proposal", idle, rule(uniform)),
        "sampling": Contestant("sampling from the language model", everything, rule(sampled)),
        "dqn": Contestant("DQN", dqn, dqn_topk.make_agent),
        "qrdqn": Contestant("QR-DQN", replace(dqn, algorithm="qrdqn"), dqn_topk.make_agent),
        "q_learning": Contestant(
            "tabular Q-learning", q_learning.Settings(**common), q_learning.make_agent
        ),
    }


def measure(
    who: Contestant, seeds: Sequence[int], episodes: int
) -> tuple[list[list[float]], float]:
    """Train and evaluate with each seed; returns the returns by seed, and seconds of training."""
    returns, seconds = [], 0.0
    for seed in seeds:
        settings = replace(who.settings, seed=seed)
        venv = make_env(settings, settings.n_envs, seed, "train")
        agent = who.make(venv, seed, settings)
        began = time.perf_counter()
        agent.learn(settings.steps)
        seconds += time.perf_counter() - began
        venv.close()

        def make_eval_env(rows: int, first: int, settings: RunSettings = settings) -> VecEnv:
            return make_env(settings, rows, first, "eval")

        returns.append(evaluate(agent, make_eval_env, episodes, episodes).returns)
    return returns, seconds


def main(settings: Settings) -> None:
    """Print the table, row by row as they are done."""
    torch.set_num_threads(settings.threads)
    print(f"{settings.env}, k = {settings.k}, {settings.steps:,} tokens of training,")
    print(f"seeds {list(settings.seeds)}, {settings.episodes} episodes each\n")
    print("| agent | reward (95% interval) | by seed | training, seconds a seed |")
    print("|---|---|---|---|", flush=True)
    known = contestants(settings)
    for name in settings.agents:
        who = known[name]
        returns, seconds = measure(who, settings.seeds, settings.episodes)
        every = np.mean(returns, axis=0)  # A prompt counts once, however many seeds answered it.
        half = 1.96 * every.std(ddof=1) / np.sqrt(len(every))
        means = " ".join(f"{np.mean(own):.3f}" for own in returns)
        took = f"{seconds / len(returns):.0f}" if who.settings.steps else "-"
        row = f"| {who.name} | {every.mean():.3f} ± {half:.3f} | {means} | {took} |"
        print(row, flush=True)


# -- the study -------------------------------------------------------------------------------------

NAME = "topk"
_TITLES = {
    "qrdqn": "QR-DQN (`python -m agents.dqn_topk --algorithm qrdqn`)",
    "dqn": "DQN (`python -m agents.dqn_topk`)",
    "q_learning": "a table of Q values (`python -m agents.q_learning`)",
    "sampling": "sampling from the model",
    "greedy": "the likeliest proposal",
    "random": "a random proposal",
}


def plans(scale: Scale) -> list[Plan]:
    """Every agent with every seed."""
    agents = scale.choose(("greedy", "q_learning"), Settings().agents)
    spec = {
        "env": Settings().env,
        "k": Settings().k,
        "steps": scale.choose(512, 50_000),
        "episodes": scale.choose(8, 512),
    }
    return [
        job(NAME, spec["env"], agent, seed, {"agent": agent, "seed": seed, **spec},
            (spec["env"], None))
        for seed, agent in product(range(scale.choose(1, 3)), agents)
    ]  # fmt: skip


def measure_job(spec: Mapping[str, Any], scratch: Path) -> dict[str, Any]:
    """Train and evaluate an agent with one seed."""
    settings = Settings(spec["env"], None, spec["k"], spec["steps"], device="cpu")
    who = contestants(settings)[spec["agent"]]
    (returns,), taken = measure(who, (spec["seed"],), spec["episodes"])
    return {"returns": returns, "seconds": taken, "learns": bool(who.settings.steps)}


def write(findings: Findings) -> None:
    """Fill in the README's table."""
    spec = findings.plans[0].record["kwargs"]
    seeds = len({plan.key.seed for plan in findings.plans})
    rows = []
    for agent, title in _TITLES.items():
        records = findings.of(agent=agent)
        if records:
            every = np.mean([record["result"]["returns"] for record in records], axis=0)
            half = 1.96 * every.std(ddof=1) / np.sqrt(len(every))
            minutes = np.mean([record["cpu_seconds"] for record in records]) / 60
            spent = f"{minutes:.1f}" if records[0]["result"]["learns"] else "-"
            rows.append((every.mean(), f"| {title} | {every.mean():.3f} ± {half:.3f} | {spent} |"))
    lines = [
        f"After {spec['steps']:,} tokens (k = {spec['k']}, {seeds} seeds, {spec['episodes']} "
        "evaluation texts):",
        "",
        f"| chooses | reward on `{spec['env']}` | CPU minutes a run |",
        "|---|---|---:|",
        *(row for _, row in sorted(rows, reverse=True)),
    ]
    findings.fill("README.md", "topk", "\n".join(lines) if rows else "")


STUDIES = {
    NAME: Study(
        name=NAME,
        title="agents that choose among the model's proposals, three seeds",
        plans=plans,
        write=write,
        seconds=lambda plan: 300.0 if plan.key.agent in ("dqn", "qrdqn", "q_learning") else 30.0,
        measure=measure_job,
        pages=("README.md",),
    )
}


if __name__ == "__main__":
    command_line("benchmarks.topk", Settings(), __doc__, main)

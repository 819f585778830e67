"""Every agent learns the probes that it should, with the settings that are shipped for them.

A probe is solved halfway between what random words get and the optimum, both known in closed form
(:mod:`textgym.tasks.probes.base`): an agent that lacks the ability in question stays below.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from stable_baselines3.common.vec_env import VecEnv

from agents.running.environments import make_env
from agents.running.evaluation import evaluate
from agents.running.tuned import tuned_settings
from textgym.tasks import make_task, registered_tasks
from textgym.tasks.probes.base import Probe

PROBES = {name.split("-")[1]: name for name in registered_tasks() if "Probe" in name}
LEARNERS = (
    *("ppo", "a2c", "nlpo", "maskable_ppo", "trpo", "grpo", "rloo", "reinforce"),
    *("expert_iteration", "sft", "dpo", "dqn_topk", "qrdqn", "q_learning", "ppo_lagrangian"),
)
FLAGS = {"qrdqn": ("dqn_topk", {"algorithm": "qrdqn"})}
"""Learners that are another one with other settings."""

# Abilities that an agent does not have, by its nature.
NOT_THEIRS = {
    # Its critic reads the hidden states of a frozen model, which here is a random one: it cannot
    # learn to look at a certain place of a prompt, and right words are not among the proposals.
    "dqn_topk": ("ManyPrompts", "LargeVocabulary"),
    "qrdqn": ("ManyPrompts", "LargeVocabulary"),
    # A table of written words, and of proposals that serve as the prompt's fingerprint.
    "q_learning": ("ManyPrompts", "LargeVocabulary"),
    # It learns from texts of the initial policy, of which few are right after each of many prompts.
    "dpo": ("ManyPrompts",),
    # It takes an environment with costs.
    "ppo_lagrangian": tuple(name for name in PROBES if name != "Masks"),
}
ROUNDS = 6


def settings_of(agent: str, probe: str, out: Path, seed: int) -> Any:
    agent, flags = FLAGS.get(agent, (agent, {}))
    module = importlib.import_module(f"agents.{agent}")
    found = tuned_settings(agent, PROBES[probe], module.Settings)
    own = {"env": PROBES[probe], "level": 1, "seed": seed, "threads": 1, "out": out}
    return module.Settings(**{**found.values, **flags, **own})


def score(agent: Any, settings: Any) -> float:
    def make(n_envs: int, seed: int) -> VecEnv:
        return make_env(settings, n_envs, seed, "eval")

    return evaluate(agent, make, 256, 256).mean


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.mark.parametrize(
    ("agent", "probe"),
    [
        (agent, probe)
        for agent in LEARNERS
        for probe in PROBES
        if probe not in NOT_THEIRS.get(agent, ())
    ],
)
def test_learns(agent: str, probe: str, models: Path) -> None:
    seed = crc32(f"{agent} {probe}".encode()) % 1_000  # Nobody has chosen it.
    settings = settings_of(agent, probe, models, seed)
    venv = make_env(settings, settings.n_envs, seed, "train", **settings.train_kwargs)
    module = importlib.import_module(type(settings).__module__)
    learner = module.make_agent(venv, seed, settings)
    task: Any = make_task(PROBES[probe], 1)
    found = [score(learner, settings)]
    # Before the training it knows nothing: not solved, with room for 256 episodes' chance.
    assert found[0] < 0.9 * task.threshold
    while not task.solved(found[-1]) and len(found) <= ROUNDS:
        learner.learn(2_048 * min(task.max_new_tokens, 8))
        found.append(score(learner, settings))
    assert task.solved(found[-1]), f"reward {found}, solved from {task.threshold} on"


@pytest.mark.parametrize("probe", PROBES)
def test_random_words_do_not_solve_it(probe: str, models: Path) -> None:
    settings = settings_of("random_tokens", probe, models, 0)
    venv = make_env(settings, settings.n_envs, 0, "train")
    agent = importlib.import_module("agents.random_tokens").make_agent(venv, 0)
    agent.learn(2_048)
    task: Any = make_task(PROBES[probe], 1)
    assert isinstance(task, Probe)
    assert not task.solved(score(agent, settings))


@pytest.mark.parametrize("probe", PROBES)
def test_the_oracle_gets_the_optimum(probe: str, models: Path) -> None:
    settings = settings_of("oracle", probe, models, 0)
    venv = make_env(settings, settings.n_envs, 0, "train")
    agent = importlib.import_module("agents.oracle").make_agent(venv, 0, settings)
    task: Any = make_task(PROBES[probe], 1)
    # Noise's reward is noisy, and its optimum a mean.
    assert score(agent, settings) == pytest.approx(task.optimum, rel=0.25)

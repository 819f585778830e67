"""The tasks of each suite, the length of training, and the scale of the scores.

A suite is a list of experiments; an experiment is an environment and a budget of training. Its
floor is the expected return of uniformly random tokens, its ceiling the oracle's: on this scale
0 is chance and 1 is the best possible score.

Tags, floor and ceiling are attributes of the task's class. The floors are known: 0.00 ± 0.00 on
200 prompts of every task in open text (``python -m benchmarks.tasks --rows 200``, docs/tasks.md),
and in closed form for GoodBad, whose reward is +1 or -1, and for the probes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from textgym.errors import SettingsError, near_matches
from textgym.tasks import make_task
from textgym.tasks.registry import built_in_tasks

PROBES = "TextGen/Probe-"
"""How the ids of probes begin."""


@dataclass(frozen=True)
class Experiment:
    """An environment, and the length of training in it.

    Attributes:
        id: The environment's id, a registered task's.
        kwargs: JSON-able arguments of the environment, above all the level.
        timesteps: Length of the training in environment steps, which are tokens.
        tags: What the task requires of an agent.
        floor: Expected return of uniformly random tokens.
        ceiling: Return of the oracle.
    """

    id: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    timesteps: int = 16_384
    tags: tuple[str, ...] = ()
    floor: float = 0.0
    ceiling: float = 1.0

    @property
    def name(self) -> str:
        """Id and arguments, unique in the suite."""
        return " ".join([self.id, *(f"{key}={self.kwargs[key]}" for key in sorted(self.kwargs))])


@dataclass(frozen=True)
class Suite:
    """Experiments that are run with the same protocol.

    Attributes:
        name: Its name.
        experiments: The experiments.
        eval_episodes: Evaluation prompts, before and after training.
        n_envs: Number of parallel environments.

    Raises:
        SettingsError: If two experiments have the same name, or one has no scale.
    """

    name: str
    experiments: tuple[Experiment, ...]
    eval_episodes: int
    n_envs: int

    def __post_init__(self) -> None:
        names = [experiment.name for experiment in self.experiments]
        for experiment in self.experiments:
            if names.count(experiment.name) > 1:
                raise SettingsError(
                    f"suite {self.name!r} has two experiments {experiment.name!r}; give them "
                    "different kwargs"
                )
            if experiment.ceiling <= experiment.floor:
                raise SettingsError(
                    f"suite {self.name!r}: {experiment.name} has a floor of {experiment.floor} and "
                    f"a ceiling of {experiment.ceiling}, which has to be higher"
                )


def make_suite(name: str) -> Suite:
    """The suite of a name.

    Raises:
        SettingsError: If there is no such suite (with near matches).
    """
    if name not in SUITES:
        raise SettingsError(
            f"--suite {name}: there is no such suite{near_matches(name, SUITES)}; "
            f"suites: {', '.join(SUITES)}"
        )
    return SUITES[name]()


def smoke() -> Suite:
    """A check that everything runs, in less than a minute; its scores are not meaningful."""
    return Suite("smoke", (_experiment("TextGen/GoodBad-v0"),), eval_episodes=16, n_envs=16)


def quick() -> Suite:
    """Six tasks at their easiest level: one agent and five seeds in less than an hour on two cores.

    With a quarter of core's rows and tokens, an agent makes the same number of updates.
    """
    return Suite("quick", _quick_tasks(16_384), eval_episodes=128, n_envs=32)


def quick_long() -> Suite:
    """The tasks of quick for four times as many tokens, as many as in core."""
    return Suite("quick-long", _quick_tasks(65_536), eval_episodes=128, n_envs=32)


def core() -> Suite:
    """Every built-in task at its default level, as long as in ``studies.improvement``."""
    names = [id for id in built_in_tasks() if not id.startswith(PROBES)]
    return Suite("core", tuple(map(_experiment, names)), eval_episodes=256, n_envs=128)


def probes() -> Suite:
    """Every probe at every level: which abilities does the agent have?"""
    found = []
    for id in built_in_tasks():
        if id.startswith(PROBES):
            for level in make_task(id).levels:
                # One word takes one step, a long text many: all have about as many episodes.
                steps = 8_192 * min(4, make_task(id, level).max_new_tokens)
                found.append(_experiment(id, steps, level))
    return Suite("probes", tuple(found), eval_episodes=128, n_envs=16)


SUITES: dict[str, Callable[[], Suite]] = {
    "smoke": smoke,
    "quick": quick,
    "quick-long": quick_long,
    "core": core,
    "probes": probes,
}
"""The suites by name."""


def _quick_tasks(timesteps: int) -> tuple[Experiment, ...]:
    names = ("Sentiment", "Story", "Summarize", "QA", "DataToText", "Moderate")
    return tuple(_experiment(f"TextGen/{name}-v0", timesteps) for name in names)


def _experiment(id: str, timesteps: int | None = None, level: int | None = None) -> Experiment:
    """A task's experiment, with the tags and the scale that its class gives."""
    task = make_task(id, level)
    if timesteps is None:  # A closed vocabulary is learned in few steps.
        timesteps = 65_536 if task.tokenizer is None else 2_048
    kwargs = {"level": task.level}
    return Experiment(id, kwargs, timesteps, task.tags, task.floor, task.ceiling)

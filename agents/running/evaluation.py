"""The evaluation of an agent: one response to each of a fixed set of prompts, with an interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from textgym.rollouts import collect

EVAL_SEED = 1_000_000
"""Seed of the evaluation prompts: the same before and after training, for every training seed."""


class Agent(Protocol):
    """The part of Stable-Baselines3's interface that a run needs.

    An agent that has ``save(path)`` as well is saved; the ending of the file is the agent's own.
    One that reads more of its environment than observations has ``use_env(venv)``, and gets each
    environment before it acts in it.
    """

    def learn(self, total_timesteps: int, callback: BaseCallback | None = None) -> Any:
        """Train for this many environment steps."""

    def predict(
        self,
        observation: NDArray[np.int32],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], Any]:
        """Choose one action per row, and carry the agent's own state on."""


@dataclass
class Evaluation:
    """Finished episodes, in an order that depends on the seed alone.

    Attributes:
        prompts: The prompts, one per episode.
        responses: The responses of the agent.
        returns: Sum of the rewards of each episode. A KL penalty is the training algorithm's own
            and not part of it.
        costs: Sum of the costs of each episode, ``info["cost"]``; empty where the environment
            reports no costs.
        terms: The reward's terms of each episode, if there are several; NaN where a term does not
            apply.
    """

    prompts: list[str] = field(default_factory=list)
    responses: list[str] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    terms: dict[str, list[float]] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))

    @property
    def half_width(self) -> float:
        """Half the width of the 95% confidence interval of the mean (normal approximation)."""
        return float(1.96 * np.std(self.returns, ddof=1) / np.sqrt(len(self.returns)))

    def summary(self) -> dict[str, float]:
        """Mean return and half its interval, and the means of costs and terms, if there are any."""
        costs = {"cost": float(np.mean(self.costs))} if self.costs else {}
        terms = {f"reward_terms/{name}": mean for name, mean in self.term_means().items()}
        return {"mean": self.mean, "ci95": self.half_width, **costs, **terms}

    def term_means(self) -> dict[str, float]:
        """Mean of each term over the episodes that it applies to."""
        values = {name: np.array(found)[~np.isnan(found)] for name, found in self.terms.items()}
        return {name: float(found.mean()) for name, found in values.items() if len(found)}

    def __str__(self) -> str:
        costs = f" at a cost of {np.mean(self.costs):.3f}" if self.costs else ""
        terms = ", ".join(f"{name} {mean:.3f}" for name, mean in self.term_means().items())
        return f"{self.mean:.3f} ± {self.half_width:.3f}{costs}{f' ({terms})' if terms else ''}"


def evaluate(
    agent: Agent, make_venv: Callable[[int, int], VecEnv], episodes: int, batch: int
) -> Evaluation:
    """Let an agent write one response to each of the first `episodes` prompts.

    The prompts are the same whatever the agent writes: each row of an environment counts with its
    first episode only. (The episodes that end first of all would mostly be short ones.) Actions
    are sampled, as in training.

    Args:
        agent: The agent.
        make_venv: From number of rows and seed to an environment of `textgym.sb3.make_vec_env`.
        episodes: Number of episodes.
        batch: The most episodes that are written at the same time.
    """
    result = Evaluation()
    for start in range(0, episodes, batch):
        rows = min(batch, episodes - start)
        venv: Any = make_venv(rows, EVAL_SEED + start)
        # Prompt k is the same whatever the batch size is.
        venv.seed([EVAL_SEED + start + row for row in range(rows)])
        if hasattr(agent, "use_env"):
            agent.use_env(venv)
        written = collect(venv, agent)
        venv.close()
        result.prompts += written.prompts
        result.responses += written.responses
        for info, cost in zip(written.infos, written.sums(written.costs).tolist(), strict=True):
            # VecMonitor sums the rewards in float32.
            result.returns.append(round(float(info["episode"]["r"]), 6))
            if "cost" in info:
                result.costs.append(round(cost, 6))
            terms = info.get("reward_terms", {})
            if len(terms) > 1:
                for name, value in terms.items():
                    result.terms.setdefault(name, []).append(float(value))
    return result

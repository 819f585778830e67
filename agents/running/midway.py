"""What happens between the updates of a training: evaluations, and an average of the weights.

Both are callbacks with a state for checkpoints, so that a resumed training continues them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor, nn

from agents.running.evaluation import Evaluation
from textgym.errors import DataError
from textgym.sb3.checkpoints.model_state import generator_states, set_generator_states
from textgym.storage.files import replacing_folder, write_json

BEST = "best"
"""Name of the folder of the best agent in that of the run."""


class WeightAverage(BaseCallback):
    """An exponential moving average of the trained weights, over the updates of a training.

    After each update, ``average = decay * average + (1 - decay) * weights`` (Polyak and Juditsky
    1992). The training itself continues with the weights as they are.

    Args:
        policy: The module whose trainable weights are averaged.
        decay: Share of the average that is kept, from 0 to below 1.
    """

    def __init__(self, policy: nn.Module, decay: float) -> None:
        super().__init__()
        self._decay = decay
        self._weights = {n: p for n, p in policy.named_parameters() if p.requires_grad}
        self._average = {name: weight.detach().clone() for name, weight in self._weights.items()}
        self._seen = 0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self._include_last()

    def update(self) -> None:
        """Include the weights after an update."""
        with torch.no_grad():
            for name, weight in self._weights.items():
                self._average[name].lerp_(weight.detach(), 1 - self._decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """A context in which the policy has the averaged weights."""
        kept = {name: weight.detach().clone() for name, weight in self._weights.items()}
        self._copy(self._average)
        try:
            yield
        finally:
            self._copy(kept)

    def finish(self) -> None:
        """Give the policy the averaged weights, the last update included."""
        self._include_last()
        self._copy(self._average)

    def get_state(self) -> dict[str, Any]:
        """The average so far."""
        return {"seen": self._seen, "average": dict(self._average)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state of `get_state`.

        Raises:
            DataError: If it is of other weights.
        """
        if state["average"].keys() != self._average.keys():
            raise DataError("the average in the checkpoint is of other weights")
        self._seen = int(state["seen"])
        for name, average in self._average.items():
            average.copy_(state["average"][name])

    def _include_last(self) -> None:
        """Include the last update, once: an interrupted training ends where a rollout starts."""
        steps = self.model.num_timesteps
        if steps > self._seen:
            self._seen = steps
            self.update()

    def _copy(self, values: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(values[name])


@dataclasses.dataclass(frozen=True)
class Point:
    """An evaluation during the training.

    Attributes:
        steps: Environment steps so far.
        mean: Mean reward.
        half_width: Half the width of its 95 % confidence interval.
    """

    steps: int
    mean: float
    half_width: float


class Evaluations(BaseCallback):
    """Evaluates the agent at intervals, and keeps the best one.

    An evaluation changes nothing in the training: random generators are as before it.

    Args:
        every: Environment steps between two evaluations, rounded up to the end of an update.
        evaluate: Evaluates the agent.
        key: Name of the evaluations in the logs.
        save: Writes the agent to a folder.
        folder: The folder of the run; the best agent is in its subfolder ``best``.
        console: Prints each evaluation.
        average: The average that is evaluated and saved instead of the weights, if there is one.

    Attributes:
        points: The evaluations so far.
    """

    def __init__(
        self,
        every: int,
        evaluate: Callable[[], Evaluation],
        key: str,
        save: Callable[[Path], None],
        folder: Path,
        console: Console,
        average: WeightAverage | None = None,
    ) -> None:
        super().__init__()
        self.points: list[Point] = []
        self._every, self._evaluate, self._key, self._save = every, evaluate, key, save
        self._folder, self._console, self._average = folder, console, average

    @property
    def best(self) -> Point | None:
        """The evaluation with the highest mean reward, the first of several."""
        return max(self.points, key=lambda point: point.mean, default=None)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        last = self.points[-1].steps if self.points else 0
        if self.num_timesteps - last < self._every:
            return
        generators = generator_states()
        applied: AbstractContextManager[None] = nullcontext()
        if self._average is not None:
            applied = self._average.applied()
        with applied:
            found = self._evaluate()
            point = Point(self.num_timesteps, found.mean, found.half_width)
            is_best = self.best is None or point.mean > self.best.mean
            self.points.append(point)
            if is_best:
                with replacing_folder(self._folder / BEST) as scratch:
                    self._save(scratch)
                    write_json(scratch / "evaluation.json", dataclasses.asdict(point), indent=2)
        set_generator_states(generators)
        # A separate row: values of the last update are written with the next rollout.
        name = f"{self._key}/reward"
        for output in self.logger.output_formats:
            output.write({name: point.mean}, {name: ()}, point.steps)
        self._console.print(
            f"\n{point.steps:,} steps: reward {found}{', the best so far' if is_best else ''}"
        )

    def get_state(self) -> dict[str, Any]:
        """The evaluations so far."""
        return {"points": [dataclasses.astuple(point) for point in self.points]}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state of `get_state`."""
        self.points = [Point(int(steps), mean, width) for steps, mean, width in state["points"]]

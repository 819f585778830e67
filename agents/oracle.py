"""The oracle: writes the text that the task itself knows to be right, token by token.

    python -m agents.oracle --env TextGen/Story-v0
    python -m agents.oracle --prompts capitals.jsonl

The ceiling of an environment, measured by the code that measures agents: about 1 on the built-in
tasks, and 100 on TextGen/Probe-Scale-v0. Its texts are the task's (`Task.oracle`), or the column
``reference`` of a user's own prompts. In a conversation they are the agent's turns by lines, and
eos ends each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from agents.running.command_line import command_line
from agents.running.planning import Batches, Planner, Plans, PlanSettings
from agents.running.run import run
from textgym.data.rows import Row
from textgym.envs.prompts.chat import task_row
from textgym.errors import SettingsError
from textgym.storage.files import write_json


@dataclass
class Settings(PlanSettings):
    """Settings of the oracle: those of every run."""


class Oracle(Planner):
    """Writes references. There is nothing to learn, and so nothing that could be resumed.

    Args:
        venv: The environment.
        batches: Other environments that it may be asked about.

    Raises:
        SettingsError: If the environment knows no right texts.
    """

    learns = False

    def __init__(self, venv: VecEnv, batches: Batches | None = None) -> None:
        super().__init__(venv, batches)
        settings = self._own.settings
        self.settings = settings
        self._end = settings.end_id if settings.stop_at_eos else None
        # A user's own prompts bring references; only a conversation needs its task for them.
        self.task = getattr(settings.source, "task", None) or settings.conversation
        if settings.source.repeatable:
            self.text(settings.source.item(0))

    def learn(self, total_timesteps: int, callback: BaseCallback | None = None, **_: Any) -> Oracle:
        """Do nothing."""
        return self

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """Write the next token of each row's reference; see `Planner.predict`."""
        return super().predict(observation, state, episode_start)

    def text(self, row: Row) -> str:
        """The right text for a row.

        Raises:
            SettingsError: If nobody knows it.
        """
        try:
            if self.task is None:
                return str(row["reference"])
            return self.task.oracle(task_row(row, self.settings.chat))
        except KeyError as error:
            raise SettingsError(
                f"{self.settings.name}: there is no oracle for the prompt {row['prompt'][:40]!r}, "
                f"whose row has no {error}; give every row a column 'reference', or take a "
                "built-in task with its own prompts"
            ) from error

    def plan(self, rows: list[Row]) -> Plans:
        """The tokens of the rows' references, each tokenised apart from its prompt."""
        return [self._tokens(row) for row in rows]

    def _tokens(self, row: Row) -> list[int]:
        tokenizer = self.settings.tokenizer
        ending: list[int] = []
        if self._end is not None:
            ending = [self._end]
        elif self.settings.stops:
            ending = tokenizer.encode_continuation(self.settings.stops.stops[0])
        write = tokenizer.encode_continuation
        return [token for turn in self._turns(row) for token in (*write(turn), *ending)]

    def _turns(self, row: Row) -> list[str]:
        text, other = self.text(row), self.settings.conversation
        lines = text.split("\n")
        # In a mixture of tasks, a text of several lines may be all that is asked for.
        row = task_row(row, self.settings.chat)
        if other is None or (len(lines) > 1 and other.reply(row, lines[:1]).done):
            return [text]
        return lines

    def save(self, path: str) -> None:
        """Write what there is to know about the oracle, to ``path`` with the ending .json."""
        known = {"environment": self.settings.name, "task": self.task and self.task.id}
        write_json(Path(path).with_suffix(".json"), known, indent=None)


def make_agent(venv: VecEnv, seed: int, settings: Settings | None = None) -> Oracle:
    """Build the agent; nothing in it is random.

    Args:
        venv: Environment of token ids, from `textgym.sb3.make_vec_env`.
        seed: Not used.
        settings: Settings; the defaults if None.
    """
    return Oracle(venv, settings.batches if settings else None)


def main(settings: Settings) -> None:
    """Evaluate; there is nothing to train."""
    run("oracle", settings, partial(make_agent, settings=settings))


if __name__ == "__main__":
    command_line("agents.oracle", Settings(), __doc__, main)

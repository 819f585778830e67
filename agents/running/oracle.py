"""The agent that writes the reference texts of an environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from agents.running.planning import Planner, Plans
from textgym.data.rows import Row
from textgym.envs.prompts.chat import task_row
from textgym.errors import SettingsError
from textgym.storage.files import write_json


class Oracle(Planner):
    """Writes references. It learns nothing, and cannot be resumed.

    Args:
        venv: The environment.

    Raises:
        SettingsError: If the environment has no references.
    """

    learns = False

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        settings = self.envs.settings
        self.settings = settings
        self._end = settings.end_id if settings.stop_at_eos else None
        # A user's prompts come with references; only a conversation needs its task for them.
        self.task = getattr(settings.source, "task", None) or settings.conversation
        if settings.source.repeatable:
            self.text(settings.source.item(0))

    def learn(self, total_timesteps: int, callback: BaseCallback | None = None, **_: Any) -> Oracle:
        """Do nothing: there is nothing to learn."""
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
        """The reference answer of a row.

        Raises:
            SettingsError: If there is none.
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
        """The tokens of the rows' references, each tokenized apart from its prompt."""
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
        # In a mixture of tasks, a text of several lines may be a single turn.
        row = task_row(row, self.settings.chat)
        if other is None or (len(lines) > 1 and other.reply(row, lines[:1]).done):
            return [text]
        return lines

    def save(self, path: str) -> None:
        """Write the names of environment and task, to ``path`` with the ending .json."""
        known = {"environment": self.settings.name, "task": self.task and self.task.id}
        write_json(Path(path).with_suffix(".json"), known, indent=None)

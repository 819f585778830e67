"""The oracle: writes the task's own reference answers, token by token.

    python -m agents.oracle --env TextGen/Story-v0
    python -m agents.oracle --prompts capitals.jsonl

The highest reward of an environment, measured by the code that measures agents: about 1 on the
built-in tasks, and 100 on TextGen/Probe-Scale-v0. Its texts are the task's (`Task.oracle`), or the
column ``reference`` of a user's own prompts. In a conversation each line is a turn of the agent,
which eos ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agents.running.command_line import command_line
from agents.running.run import RunSettings, run

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

    from agents.running.oracle import Oracle


@dataclass
class Settings(RunSettings):
    """Settings of the oracle: those of every run."""


def make_agent(venv: VecEnv, seed: int, settings: Settings | None = None) -> Oracle:
    """Build the agent; nothing in it is random.

    Args:
        venv: Environment of token ids, from `textgym.sb3.make_vec_env`.
        seed: Not used.
        settings: Not used.
    """
    # Imported here, so that --help does not wait for torch.
    from agents.running.oracle import Oracle

    return Oracle(venv)


def main(settings: Settings) -> None:
    """Evaluate; there is nothing to train."""
    run("oracle", settings, make_agent)


if __name__ == "__main__":
    command_line("agents.oracle", Settings(), __doc__, main)

"""The prompts that an agent is evaluated on: none of the training prompts, unless asked for.

Built-in tasks, data sets of the hub and rows with a column ``split`` have an evaluation split. For
other prompts there is ``--eval-prompts``, or a share of them is held out by a hash of each prompt
(``--eval-share``, by default 0.1). With ``--eval-share 0`` none is held out: the reward on the
training prompts is measured, and reported under that name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from agents.running.environments import EnvSettings, make_env, own_prompts
from textgym.data.rows import prompt_hash
from textgym.errors import SettingsError, SplitError
from textgym.tasks import Task


@dataclass(frozen=True)
class EvalPrompts:
    """The prompts of the evaluations before and after training.

    Attributes:
        settings: The settings of the run.
        split: The split of the prompts.
        own: Whether they are those of ``--eval-prompts``.
    """

    settings: EnvSettings
    split: str
    own: bool = False

    @property
    def held_out(self) -> bool:
        """Whether no episode of the training starts from them."""
        return self.own or self.split == "eval"

    @property
    def key(self) -> str:
        """The name of the results in run.json and in the logs."""
        return "eval" if self.held_out else "training_prompts"

    def __str__(self) -> str:
        if self.own:
            return f"prompts of {self.settings.eval_prompts}"
        return "eval prompts" if self.held_out else "training prompts, none is held out"

    def make_env(self, n_envs: int, seed: int) -> VecEnv:
        """An environment of them."""
        prompts = self.settings.eval_prompts if self.own else None
        return make_env(self.settings, n_envs, seed, self.split, prompts)


def eval_prompts(settings: EnvSettings, venv: VecEnv) -> EvalPrompts:
    """Choose the prompts to evaluate on.

    Args:
        settings: The settings of the run.
        venv: The training environment.

    Raises:
        SettingsError: If training prompts are among the evaluation prompts.
        DataError: If no prompts can be held out.
    """
    prompts = own_prompts(settings)
    if prompts is None and settings.eval_prompts is None:
        return EvalPrompts(settings, "eval")
    if isinstance(prompts, Task) and settings.eval_prompts is None:  # It has a split.
        return EvalPrompts(settings, "eval" if prompts.split == "eval" else "train")
    own = settings.eval_prompts is not None
    chosen = EvalPrompts(settings, "eval", own)
    try:
        other = chosen.make_env(1, 0)
    except SplitError:
        chosen = EvalPrompts(settings, "train", own)
        if not own:
            return chosen
        other = chosen.make_env(1, 0)
    if not str(prompts).startswith("hf:"):  # Published splits may overlap.
        _check_unseen(venv, other)
    other.close()
    return chosen


def _check_unseen(venv: VecEnv, other: VecEnv) -> None:
    trained = {prompt_hash(prompt) for prompt in _prompts(venv)}
    seen = {prompt_hash(prompt): prompt for prompt in _prompts(other)}
    shared = [prompt for key, prompt in seen.items() if key in trained]
    if shared:
        raise SettingsError(
            f"{len(shared)} of {len(seen)} evaluation prompts are trained on as well, such as "
            f"{str(shared[0])[:60]!r}; remove them from one of the two, or hold prompts out with "
            "--eval-share"
        )


def _prompts(venv: VecEnv) -> Iterator[Any]:
    """The prompts of the finite lists that an environment draws from."""
    for rows in venv.get_attr("settings", [0])[0].source.lists():
        for index in rows.checked():
            yield rows.item(index)["prompt"]

"""Checkpoints: a training that is interrupted goes on as if nothing had happened.

A checkpoint holds everything that the rest of a training depends on
(:mod:`textgym.sb3.checkpoints.model_state`). It is taken between an update and the next rollout.
There the rollout buffer is empty, but for episodes that wait for their end, and the decoder's cache
is cold: training has changed the weights, so that both the training that goes on and the one that
is resumed read the texts under way anew. The curve is then the same number for number, on the same
machine with the same versions and threads.

What can be resumed: SB3's on-policy algorithms, its off-policy ones with an `LMReplayBuffer`, and
any agent with ``get_state()`` and ``set_state(state)``
(:mod:`textgym.sb3.checkpoints.model_state`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from textgym.errors import SettingsError, TextGymError, naming
from textgym.sb3.checkpoints.model_state import (
    Resumable,
    check_resumable,
    cool,
    get_model_state,
    keep_kl_coef,
    set_logged,
    set_model_state,
)
from textgym.sb3.checkpoints.state_types import check_form
from textgym.storage.files import partial_name
from textgym.storage.value_files import read_values, write_values

_NAME = re.compile(r"checkpoint-(\d+)\.safetensors")


def save_checkpoint(
    model: Resumable, folder: str | Path, extra: dict[str, Any] | None = None
) -> Path:
    """Write a training down, between two rollouts: after ``learn``, or as `Checkpoints` does.

    Args:
        model: PPO, A2C, or whatever else can be resumed, in an environment of
            :func:`textgym.sb3.make_vec_env`.
        folder: Where to; made if there is none. The file is named after the timesteps so far.
        extra: What else to keep: strings, numbers, lists, dictionaries, arrays, tensors.

    Returns:
        The file. It is complete: one that is being written has another name.

    Raises:
        SettingsError: If this algorithm or environment cannot be resumed, or the environment has
            gone on since the algorithm saw it: where a callback ended the training within a rollout
            (in its very first step this shows only if no layer changes the observations, but for
            ``VecNormalize``), or where something else used it.
        DataError: If the environment's rows, or `extra`, hold something that cannot be written.
    """
    values = {**get_model_state(model), "extra": extra or {}}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"checkpoint-{model.num_timesteps:012d}.safetensors"
    write_values(path, values)
    return path


def load_checkpoint(model: Resumable, path: str | Path) -> dict[str, Any]:
    """Bring a new model to where another one was saved; most use `resume`.

    Args:
        model: A model made as the saved one was: same algorithm, policy and environment, with the
            same sampling, adapter, precision, discounts, optimizer and KL penalty. Its device may
            be another one; so may ``cache``, ``compile`` and ``gradient_checkpointing``, but the
            numbers are then the same up to rounding. ``learning_rate`` and the other figures of the
            algorithm are those of this model.
        path: The checkpoint, or a folder, of which the latest is taken.

    Returns:
        What was given to `save_checkpoint` as `extra`.

    Raises:
        SettingsError: If there is no checkpoint, or it is of another training; then nothing
            changes.
    """
    file = latest_checkpoint(path) if Path(path).is_dir() else Path(path)
    if file is None:
        raise SettingsError(f"there is no checkpoint in {path}; Checkpoints(folder) saves them")
    values = read_values(file)
    with naming(str(file)):
        try:
            set_model_state(model, values)
        except TextGymError:
            raise
        except Exception as error:  # An older file, without a digest, that is damaged deep inside.
            raise SettingsError(
                f"the checkpoint is damaged ({type(error).__name__}: {error}); make the model "
                "again, and if there is an older one in its folder, delete this one"
            ) from error
    extra = values.get("extra", {})
    return extra if isinstance(extra, dict) else {}


def resume(model: Resumable, folder: str | Path, total_timesteps: int) -> int:
    """Go on from the latest checkpoint of a folder, if there is one.

    The same script starts a training and goes on with one, however it ended::

        model = make_model()  # the same one every time
        left = resume(model, "checkpoints", 100_000)
        model.learn(left, callback=Checkpoints("checkpoints"), reset_num_timesteps=False)

    ``reset_num_timesteps=False`` keeps SB3 from starting episodes and counters anew; it then adds
    the timesteps so far to those of ``learn``, so that schedules see the whole training. Call
    `resume` right before ``learn``: it sets the random generators of Python, numpy and torch.

    What cannot be restored: the state of other callbacks, and of functions that remember something
    (rewards, prompts, schedules). ``time/iterations`` starts at 1 again.

    Args:
        model: A model made as the saved one was.
        folder: The folder of `Checkpoints`.
        total_timesteps: The length of the whole training.

    Returns:
        The timesteps that are left of it, for ``learn``.

    Raises:
        SettingsError: As `load_checkpoint` does, but for an empty folder.
    """
    if latest_checkpoint(folder) is not None:
        load_checkpoint(model, folder)
    return max(0, total_timesteps - model.num_timesteps)


def latest_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint of most timesteps in a folder; None if it has none."""
    found = _all(Path(folder))
    return found[max(found)] if found else None


class Checkpoints(BaseCallback):
    """Saves a training at regular intervals, and at its end. See `resume`.

    The folder belongs to one training; a new one in it is refused. It also lets ``model.save`` keep
    the adapted KL coefficient of an :class:`LMRolloutBuffer`.

    Args:
        folder: Where to.
        every: Timesteps between two; the next end of an update is taken.
        keep: So many are kept, the older ones are deleted.
        extra: Called for what else to keep in each.

    Raises:
        SettingsError: When training starts: if it cannot be resumed, or the folder holds later
            checkpoints than it.
    """

    def __init__(
        self,
        folder: str | Path,
        every: int = 20_000,
        keep: int = 2,
        extra: Callable[[], dict[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("every", every), ("keep", keep)):
            if value < 1:
                raise SettingsError(f"Checkpoints: {name}={value!r} has to be at least 1")
        self.folder = Path(folder)
        self.every = every
        self.keep = keep
        self._extra = extra
        self._between = True  # Between an update and the next rollout.
        self._stops = False

    def stop(self) -> None:
        """End the training at the next chance: save it there, and raise `KeyboardInterrupt`.

        For signals: ``signal.signal(signal.SIGTERM, lambda *_: checkpoints.stop())``.
        """
        self._stops = True

    def _on_training_start(self) -> None:
        check_resumable(self.model)
        now = self.model.num_timesteps
        self._saved_at, self._between, self._stops = now, True, False
        latest = latest_checkpoint(self.folder)
        if latest is None:
            return
        steps = _steps(latest)
        if steps > now:
            raise SettingsError(
                f"{self.folder} holds a training of {steps:,} timesteps, and this one is at "
                f"{now:,}: go on with the former by textgym.sb3.resume(model, folder, total), or "
                "choose another folder"
            )
        if steps == now:
            # The logger may have been made just now, by `learn`.
            state = read_values(latest)
            with naming(str(latest)):
                check_form(self.model, state)
            set_logged(self.model, state)
        for partial in self.folder.glob(partial_name(Path("checkpoint-*")).name):
            partial.unlink()

    def _on_rollout_start(self) -> None:
        new = self.model.num_timesteps - self._saved_at
        if new >= self.every or (self._stops and new):
            self._save()
        if self._stops:
            raise KeyboardInterrupt
        self._between = False

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self._between = True
        keep_kl_coef(self.model)

    def _on_training_end(self) -> None:
        # A callback may have ended the training in the middle of a rollout: the last one holds.
        if self._between and self.model.num_timesteps > self._saved_at:
            self._save()

    def _save(self) -> None:
        save_checkpoint(self.model, self.folder, self._extra() if self._extra else None)
        self._saved_at = self.model.num_timesteps
        found = _all(self.folder)
        for steps in sorted(found)[: -self.keep]:
            found[steps].unlink()
        cool(self.model)


def _all(folder: Path) -> dict[int, Path]:
    """The checkpoints of a folder, by their timesteps."""
    files = folder.iterdir() if folder.is_dir() else ()
    return {_steps(file): file for file in files if _NAME.fullmatch(file.name)}


def _steps(file: Path) -> int:
    match = _NAME.fullmatch(file.name)
    assert match is not None
    return int(match[1])

"""Checkpoints: an interrupted training resumes with the same learning curve, number for number.

A checkpoint contains everything that the rest of a training depends on
(:mod:`textgym.sb3.checkpoints.model_state`). It is taken between an update and the next rollout,
where the rollout buffer contains unfinished episodes at most, and the KV cache is empty: the saved
and the resumed run both start by a prefill. The curves are identical on the same machine with the
same versions and number of threads.

Resumable are SB3's on-policy algorithms, its off-policy ones with an `LMReplayBuffer`, and any
agent with ``get_state()`` and ``set_state(state)``
(:class:`textgym.sb3.checkpoints.model_state.OwnState`).
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
    empty_kv_cache,
    get_model_state,
    keep_kl_coef,
    set_logged,
    set_model_state,
)
from textgym.sb3.checkpoints.validation import check_complete
from textgym.storage.files import partial_name
from textgym.storage.value_files import read_values, write_values

_NAME = re.compile(r"checkpoint-(\d+)\.safetensors")


def save_checkpoint(
    model: Resumable, folder: str | Path, extra: dict[str, Any] | None = None
) -> Path:
    """Save a training between two rollouts: after ``learn``, or as `Checkpoints` does.

    Args:
        model: A resumable agent, such as PPO or A2C, in an environment of
            :func:`textgym.sb3.make_vec_env`.
        folder: Created if it does not exist. The file is named after ``model.num_timesteps``.
        extra: Further values to save: strings, numbers, lists, dictionaries, arrays, tensors.

    Returns:
        The path of the file. It is written under another name first, so it is always complete.

    Raises:
        SettingsError: If the algorithm or environment cannot be resumed, or the environment has
            been stepped since the algorithm's last observation: a callback stopped the training
            within a rollout (in its first step, this is detected only if no layer other than
            ``VecNormalize`` changes the observations), or something else used the environment.
        DataError: If the environment's rows, or `extra`, contain a value that cannot be saved.
    """
    values = {**get_model_state(model), "extra": extra or {}}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"checkpoint-{model.num_timesteps:012d}.safetensors"
    write_values(path, values)
    return path


def load_checkpoint(model: Resumable, path: str | Path) -> dict[str, Any]:
    """Load a checkpoint into a new model; most use `resume`.

    Args:
        model: A model with the same algorithm, policy, environment, sampling, adapter, precision,
            discounts, optimizer and KL penalty as the saved one. Its device may differ; so may
            ``cache``, ``compile`` and ``gradient_checkpointing``, which change results by rounding.
            ``learning_rate`` and the other hyperparameters of the algorithm are this model's.
        path: The checkpoint, or a folder, whose latest checkpoint is loaded.

    Returns:
        The argument `extra` of `save_checkpoint`.

    Raises:
        SettingsError: If the checkpoint is missing or of another training; the model is not changed
            then.
    """
    file = latest_checkpoint(path) if Path(path).is_dir() else Path(path)
    if file is None:
        raise SettingsError(f"path={str(path)!r} has no checkpoint; Checkpoints(folder) saves them")
    values = read_values(file)
    with naming(str(file)):
        try:
            set_model_state(model, values)
        except TextGymError:
            raise
        except Exception as error:  # A damaged file from before files had digests.
            raise SettingsError(
                f"the checkpoint is damaged ({type(error).__name__}: {error}); make the model "
                "again, and if its folder has an older one, delete this one"
            ) from error
    extra = values.get("extra", {})
    return extra if isinstance(extra, dict) else {}


def resume(model: Resumable, folder: str | Path, total_timesteps: int) -> int:
    """Resume a training from the latest checkpoint of a folder, if there is one.

    The same script starts a training and resumes it::

        model = make_model()  # with the same arguments every time
        left = resume(model, "checkpoints", 100_000)
        model.learn(left, callback=Checkpoints("checkpoints"), reset_num_timesteps=False)

    With ``reset_num_timesteps=False``, SB3 keeps episodes and counters, and adds the timesteps so
    far to those of ``learn``, so that schedules see the whole training. Call `resume` right before
    ``learn``: it sets the random generators of Python, numpy and torch.

    Not restored: the state of other callbacks, and of stateful functions (rewards, prompts,
    schedules). ``time/iterations`` starts at 1 again.

    Args:
        model: A model made with the arguments of the saved one.
        folder: The folder of `Checkpoints`. It may be empty.
        total_timesteps: Length of the whole training.

    Returns:
        The number of timesteps left, for ``learn``.

    Raises:
        SettingsError: If the latest checkpoint is damaged or of another training.
    """
    if latest_checkpoint(folder) is not None:
        load_checkpoint(model, folder)
    return max(0, total_timesteps - model.num_timesteps)


def latest_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint with the most timesteps in a folder; None if it has none."""
    found = _all(Path(folder))
    return found[max(found)] if found else None


class Checkpoints(BaseCallback):
    """A callback that saves a training at regular intervals, and at its end. See `resume`.

    A folder belongs to one training; a new training in it is refused. The callback also keeps the
    adapted KL coefficient of an :class:`LMRolloutBuffer` for ``model.save``.

    Args:
        folder: Folder of the checkpoints.
        every: Timesteps between checkpoints, rounded up to the end of an update.
        keep: Number of checkpoints to keep; older ones are deleted.
        extra: Function that returns further values to save.

    Raises:
        SettingsError: When training starts, if it cannot be resumed, or the folder has checkpoints
            of more timesteps.
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
        self._between = True  # The training is between an update and the next rollout.
        self._stops = False

    def stop(self) -> None:
        """Save at the end of the current update, and raise `KeyboardInterrupt` there.

        For signals: ``signal.signal(signal.SIGTERM, lambda *_: checkpoints.stop())``.
        """
        self._stops = True

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stops

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
                f"{self.folder} contains a training of {steps:,} timesteps, and this one is at "
                f"{now:,}: resume it with textgym.sb3.resume(model, folder, total), or choose "
                "another folder"
            )
        if steps == now:
            # `learn` may have created the logger after `resume`.
            state = read_values(latest)
            with naming(str(latest)):
                check_complete(self.model, state)
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
        # A callback may have stopped the training within a rollout, where it cannot be saved.
        if self._between and self.model.num_timesteps > self._saved_at:
            self._save()

    def _save(self) -> None:
        save_checkpoint(self.model, self.folder, self._extra() if self._extra else None)
        self._saved_at = self.model.num_timesteps
        found = _all(self.folder)
        for steps in sorted(found)[: -self.keep]:
            found[steps].unlink()
        empty_kv_cache(self.model)


def _all(folder: Path) -> dict[int, Path]:
    """The checkpoints of a folder, by their timesteps."""
    files = folder.iterdir() if folder.is_dir() else ()
    return {_steps(file): file for file in files if _NAME.fullmatch(file.name)}


def _steps(file: Path) -> int:
    match = _NAME.fullmatch(file.name)
    assert match is not None
    return int(match[1])

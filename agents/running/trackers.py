"""Experiment trackers by name, as outputs of Stable-Baselines3's logger.

A tracker gets the numbers that progress.csv has, under the name of the run's folder, with the
settings of the run as its configuration. A run that is resumed continues its entry where the
tracker can do that. Texts stay in the run's folder.
"""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import KVWriter

from agents.running.settings import Tracker
from textgym.errors import SettingsError, naming, require

PROJECT = "textgym"
"""The project or experiment of all runs, unless the tracker's own variable names another."""


def open_trackers(
    names: tuple[Tracker, ...], folder: Path, settings: Mapping[str, Any]
) -> list[KVWriter]:
    """The outputs for some trackers; TensorBoard's is :mod:`agents.running.logs`'.

    Args:
        names: The trackers.
        folder: The folder of the run.
        settings: Its settings, as in run.json.

    Raises:
        SettingsError: If a tracker cannot be opened.
        MissingDependencyError: If one is not installed.
    """
    found: list[KVWriter] = []
    try:
        for name in names:
            if name in ("wandb", "trackio"):
                found.append(_Wandb(name, folder, settings))
            elif name == "mlflow":
                found.append(_MLflow(folder, settings))
    except BaseException:
        for writer in found:
            writer.close()
        raise
    return found


def _numbers(
    values: Mapping[str, Any], excluded: Mapping[str, tuple[str, ...] | None]
) -> dict[str, float]:
    """The finite numbers of a row of the log that progress.csv has too."""
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, numbers.Real)
        and math.isfinite(value)
        and "csv" not in (excluded.get(name) or ())
    }


class _Wandb(KVWriter):
    """Weights & Biases, or Trackio, which has the same interface.

    The steps are logged as a value: a tracker's step may not fall, as it does when a run is resumed
    from a checkpoint.
    """

    def __init__(self, name: str, folder: Path, settings: Mapping[str, Any]) -> None:
        module = require(name, name)
        own = {"dir": str(folder), "id": folder.name} if name == "wandb" else {}
        with naming(f"--track {name}"):
            try:
                self._run = module.init(
                    project=os.environ.get("WANDB_PROJECT", PROJECT),
                    name=folder.name,
                    config=dict(settings),
                    resume="allow",
                    **own,
                )
            except Exception as error:
                raise SettingsError(
                    f"it could not be started ({type(error).__name__}: {error}); log in, or set "
                    "WANDB_MODE=offline to keep the values in the run's folder"
                ) from error
        if name == "wandb":
            self._run.define_metric("*", step_metric="steps")

    def write(
        self,
        key_values: dict[str, Any],
        key_excluded: dict[str, tuple[str, ...]],
        step: int = 0,
    ) -> None:
        """Send a row."""
        self._run.log({"steps": step, **_numbers(key_values, key_excluded)})

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


class _MLflow(KVWriter):
    """MLflow, at MLFLOW_TRACKING_URI, or in its default store."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._mlflow = require("mlflow", "mlflow")
        client = require("mlflow.tracking", "mlflow").MlflowClient()
        with naming("--track mlflow"):
            try:
                name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
                experiment = client.get_experiment_by_name(name)
                number = experiment.experiment_id if experiment else client.create_experiment(name)
                query = f"attributes.run_name = '{folder.name}'"
                runs = client.search_runs([number], query, max_results=1)
                run = runs[0] if runs else client.create_run(number, run_name=folder.name)
            except Exception as error:
                raise SettingsError(
                    f"it could not be started ({type(error).__name__}: {error}); check "
                    "MLFLOW_TRACKING_URI"
                ) from error
        self._client, self._id = client, run.info.run_id
        for key, value in settings.items():
            # A parameter cannot change, as --steps may when a run is resumed.
            with suppress(self._mlflow.exceptions.MlflowException):
                client.log_param(self._id, key, value)

    def write(
        self,
        key_values: dict[str, Any],
        key_excluded: dict[str, tuple[str, ...]],
        step: int = 0,
    ) -> None:
        """Send a row."""
        for name, value in _numbers(key_values, key_excluded).items():
            self._client.log_metric(self._id, name, value, step=step)

    def close(self) -> None:
        """Finish the run."""
        self._client.set_terminated(self._id)

"""The logs of a run, progress.csv and TensorBoard, continued when the run is resumed.

An interrupted run has logged steps after its last checkpoint, and will log them again. So the
checkpoint contains progress.csv, and later events of TensorBoard are purged.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import KVWriter, Logger, TensorBoardOutputFormat
from torch.utils.tensorboard import SummaryWriter

from agents.running.resuming import PROGRESS, Saved
from agents.running.settings import Tracker
from agents.running.trackers import open_trackers
from textgym.storage.files import append, write_text


class _ContinuedCSV(KVWriter):
    """progress.csv, continued; a crash leaves whole rows.

    A value that is logged for the first time is a new column, for which the file is rewritten.

    Args:
        path: The file.
        text: Its rows so far.
    """

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        write_text(path, text)
        self._keys = next(csv.reader(io.StringIO(text)), [])

    def write(
        self,
        key_values: dict[str, Any],
        key_excluded: dict[str, tuple[str, ...]],
        step: int = 0,
    ) -> None:
        """Append a row.

        Raises:
            StorageError: If it cannot be written; the rows before it are intact.
        """
        values = {
            key: value
            for key, value in key_values.items()
            if "csv" not in (key_excluded.get(key) or ())
        }
        row = io.StringIO()
        new = [key for key in sorted(values) if key not in self._keys]
        keys = [*self._keys, *new]
        csv.writer(row, lineterminator="\n").writerow([values.get(key, "") for key in keys])
        if new:
            earlier = list(csv.reader(io.StringIO(self._path.read_text("utf-8"))))[1:]
            table = io.StringIO()
            rows = [keys, *([*line, *([""] * len(new))] for line in earlier)]
            csv.writer(table, lineterminator="\n").writerows(rows)
            write_text(self._path, table.getvalue() + row.getvalue())
            self._keys = keys
        else:
            append(self._path, row.getvalue().encode())

    def close(self) -> None:
        """Do nothing: the file is not open between two rows."""


class _ContinuedTensorBoard(TensorBoardOutputFormat):
    """TensorBoard's events, where earlier ones from a step on are purged."""

    def __init__(self, folder: Path, forget_from: int) -> None:
        self.writer = SummaryWriter(log_dir=str(folder), purge_step=forget_from)
        self._is_closed = False


def open_logger(
    folder: Path,
    saved: Saved | None,
    resumes: bool,
    trackers: tuple[Tracker, ...] = ("tensorboard",),
    settings: Mapping[str, Any] | None = None,
) -> Logger:
    """Log to progress.csv and to trackers.

    Args:
        folder: The run's folder.
        saved: The run as its last checkpoint has it; None without a checkpoint.
        resumes: Whether the run is resumed, so that events after the checkpoint are purged.
        trackers: Names of trackers.
        settings: The settings of the run, for trackers.

    Raises:
        SettingsError: If a tracker cannot be opened.
        MissingDependencyError: If one is not installed.
    """
    outputs = open_trackers(trackers, folder, settings or {})
    if "tensorboard" in trackers:
        outputs.insert(0, _board(folder, saved, resumes))
    progress = saved.progress if saved else ""
    return Logger(str(folder), [_ContinuedCSV(folder / PROGRESS, progress), *outputs])


def _board(folder: Path, saved: Saved | None, resumes: bool) -> TensorBoardOutputFormat:
    # Step 0 is the evaluation; values at a step are of the rollout that ended there.
    forget_from = saved.steps + 1 if saved else 0
    if resumes:
        return _ContinuedTensorBoard(folder, forget_from)
    return TensorBoardOutputFormat(str(folder))

"""The logs of a run: progress.csv and TensorBoard, which go on when the run is resumed.

A run that was interrupted has logged more than its last checkpoint knows of, and will log it again.
So the checkpoint carries progress.csv as it was, and TensorBoard is told to forget what came after.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import KVWriter, Logger, TensorBoardOutputFormat
from torch.utils.tensorboard import SummaryWriter

from agents.running.resuming import PROGRESS, Saved
from textgym.storage.files import append, write_text


class _ContinuedCSV(KVWriter):
    """progress.csv, with the rows that are there already; whole rows, whatever happens.

    A figure that is logged for the first time is a new column, for which the file is replaced.

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
        """Nothing is kept open between two rows."""


class _ContinuedTensorBoard(TensorBoardOutputFormat):
    """TensorBoard's events, without those from a step on."""

    def __init__(self, folder: Path, forget_from: int) -> None:
        self.writer = SummaryWriter(log_dir=str(folder), purge_step=forget_from)
        self._is_closed = False


def open_logger(folder: Path, saved: Saved | None, resumes: bool) -> Logger:
    """Log to progress.csv and TensorBoard.

    Args:
        folder: The run's folder.
        saved: What a checkpoint knows of the run so far, which is to be in the logs.
        resumes: Whether there may be more in them, which is to go: it will be logged again.
    """
    # At 0 it was evaluated; what is logged at a step belongs to the rollout that ended there.
    forget_from = saved.steps + 1 if saved else 0
    board = (
        _ContinuedTensorBoard(folder, forget_from)
        if resumes
        else TensorBoardOutputFormat(str(folder))
    )
    progress = saved.progress if saved else ""
    return Logger(str(folder), [_ContinuedCSV(folder / PROGRESS, progress), board])

"""The logs of a run: progress.csv and TensorBoard, which go on when the run is resumed.

A run that was interrupted has logged more than its last checkpoint knows of, and will log it again.
So the checkpoint carries progress.csv as it was, and TensorBoard is told to forget what came after.
"""

from __future__ import annotations

from pathlib import Path

from stable_baselines3.common.logger import CSVOutputFormat, Logger, TensorBoardOutputFormat
from torch.utils.tensorboard import SummaryWriter

from agents.resuming import PROGRESS, Saved


class _ContinuedCSV(CSVOutputFormat):
    """progress.csv, with the rows that are there already."""

    def __init__(self, path: Path, text: str) -> None:
        super().__init__(str(path))
        self.file.write(text)
        self.file.flush()
        self.keys = text.partition("\n")[0].split(self.separator) if text else []


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

"""What tests of whole runs share."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.running import experiment as common
from agents.running.report import TrainingLog


@pytest.fixture(scope="module")
def ctrl_c_is_heard() -> Iterator[None]:
    """Also where the tests run as a background job of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def curves_as_numbers() -> Iterator[None]:
    """Curves as numbers, which can be compared, and are made in no time."""

    def write(path: Path, title: str, log: TrainingLog, places: Any, prompts: str) -> None:
        means = [(steps, evaluation.mean) for steps, evaluation in places]
        curve = [title, log.steps, log.rewards, means]
        path.with_suffix(".json").write_text(json.dumps(curve))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "plot", write)
        yield
